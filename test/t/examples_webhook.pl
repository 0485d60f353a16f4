# The consumer of examples/webhook delivers every committed event, in the order of
# the feed and rightly signed, to a receiver that is slow and fails at random, and
# although it is killed again and again; told apart by their ids, none comes twice
# with another body. A second consumer waits for the first. Skipped where there is
# neither node nor its package pg to be had.
use strict;
use warnings;

use Cwd qw(abs_path);
use FindBin;
use IPC::Run qw(run start);
use MIME::Base64;
use lib $FindBin::RealBin;

use ApikeysTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $examples = abs_path("$FindBin::RealBin/../../examples/webhook");
my $work = PostgreSQL::Test::Utils::tempdir();

plan skip_all => 'node is not installed' if system('command -v npm node >/dev/null 2>&1') != 0;
run([ 'cp', '-r', "$examples/.", $work ]) or die;
my $installed;
run([ 'npm', 'ci', '--prefix', $work, '--no-audit', '--no-fund', '--cache', "$work/cache" ], '>&', \$installed)
  or plan skip_all => "npm cannot install: $installed";

my $node = new_server('main');
$node->append_conf('postgresql.conf', "listen_addresses = ''\n");
$node->start;
install($node);
$node->safe_psql('postgres', <<'EOS');
CREATE ROLE webhook LOGIN;
SELECT apikey_grant_application('webhook');
CREATE TABLE webhook_position (name text PRIMARY KEY, position text, delivered_at timestamptz);
GRANT SELECT, UPDATE ON webhook_position TO webhook;
INSERT INTO webhook_position VALUES ('default', NULL);
EOS

# ----- the receiver: what it has taken is in a file, a line for each -----

my $key = 'a secret of 24 bytes....';
my $secret = 'whsec_' . encode_base64($key, '');
append_to_file("$work/receiver.mjs", <<'EOF2');
import { createHmac } from 'node:crypto';
import { appendFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';

const [, , dir, key] = process.argv;
createServer((request, response) => {
	let body = '';
	request.on('data', (data) => { body += data; });
	request.on('end', async () => {
		const id = request.headers['webhook-id'];
		const at = request.headers['webhook-timestamp'];
		const signature = 'v1,' + createHmac('sha256', key).update(`${id}.${at}.${body}`).digest('base64');
		const right = request.headers['webhook-signature'] === signature && Math.abs(Date.now() / 1000 - at) < 60;
		await new Promise((resolve) => setTimeout(resolve, Math.random() * 10));
		// refused; taken and not told so; taken
		const luck = Math.random();
		if (luck > 0.2)
			appendFileSync(`${dir}/taken`, JSON.stringify({ id, right, body: JSON.parse(body) }) + '\n');
		response.statusCode = luck > 0.3 ? 204 : 503;
		response.end();
	});
}).listen(0, '127.0.0.1', function () {
	writeFileSync(`${dir}/port`, String(this.address().port));
});
EOF2
my $receiver = start([ 'node', "$work/receiver.mjs", $work, $key ], '>', "$work/receiver.log", '2>&1');
for (1 .. 300) { last if -s "$work/port"; sleep 0.1 }
my $port = slurp_file("$work/port");

sub consumer
{
	my %settings = (
		PGHOST => $node->host, PGPORT => $node->port, PGUSER => 'webhook', PGDATABASE => 'postgres',
		WEBHOOK_URL => "http://127.0.0.1:$port/", WEBHOOK_SECRET => $secret,
		WEBHOOK_POLL_MS => 50, WEBHOOK_RETRY_MIN_MS => 5, WEBHOOK_RETRY_MAX_MS => 50, @_);
	return start([ 'env', (map { "$_=$settings{$_}" } keys %settings), 'node', "$work/consumer.mjs" ],
		'>>', "$work/consumer.log", '2>&1');
}

# ----- changes, while the consumer is killed -----

my $consumer = consumer();
my $spare = consumer();
my @writers = map {
	start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-v', 'ON_ERROR_STOP=1', '-f', '-' ],
		'<', \join('', map { <<EOS } 1 .. 15), '>', "$work/writer$_.log", '2>&1');
BEGIN;
SELECT apikey_act_as('acme', 'ann') \\g /dev/null
SELECT apikey_suffix(apikey_create('made')) AS suffix \\gset
SELECT pg_sleep(random() * 0.1) \\g /dev/null
COMMIT;
BEGIN;
SELECT apikey_act_as('acme', 'ann') \\g /dev/null
SELECT apikey_update(:'suffix', 'renamed') \\g /dev/null
ROLLBACK;
BEGIN;
SELECT apikey_act_as('acme', 'ann') \\g /dev/null
SELECT apikey_delete(:'suffix') \\g /dev/null
COMMIT;
EOS
} 1 .. 4;
for (1 .. 6)
{
	sleep(0.2 + rand(0.8));
	$consumer->kill_kill(grace => 0);
	$consumer = consumer();
}
is(scalar(grep { $_->finish } @writers), 4, 'the writers have done all');

my $last = $node->safe_psql('postgres', 'SELECT position FROM apikey_feed(NULL, 100000) OFFSET (SELECT count(*) - 1 FROM apikey_feed(NULL, 100000))');
ok($node->poll_query_until('postgres', "SELECT position = '$last' FROM webhook_position"), 'all is delivered in the end');

# ----- what has come -----

my (@ids, %bodies, $wrong, $changed);
for my $line (split /\n/, slurp_file("$work/taken"))
{
	my ($id, $right, $body) = $line =~ /^\{"id":"([^"]+)","right":(true|false),"body":(.*)\}$/ or die $line;
	$wrong++ if $right ne 'true';
	$changed++ if exists $bodies{$id} && $bodies{$id} ne $body;
	push @ids, $id unless exists $bodies{$id};
	$bodies{$id} = $body;
}
is($wrong, undef, 'all signatures are right');
is($changed, undef, 'an id has one body');
my @wanted = split /\n/, $node->safe_psql('postgres', 'SELECT position FROM apikey_feed(NULL, 100000)');
cmp_ok(scalar(@wanted), '>=', 120, 'there were many events');
is(join(' ', map { (split /_/)[1] } @ids), join(' ', @wanted), 'each event has come, in the order of the feed');
unlike(slurp_file("$work/taken"), qr/\@|digest/, 'without email addresses and digests');

# ----- ending it -----

# the one of both that has the lock ends after the delivery in hand, and the other takes over
$_->signal('TERM') for $consumer, $spare;
$_->finish for $consumer, $spare;
is($consumer->result(0), 0, 'SIGTERM ends it');
like(slurp_file("$work/consumer.log"), qr/another consumer has position "default"/, 'a second one had waited');
$consumer = consumer(WEBHOOK_SECRET => 'none');
$consumer->finish;
is($consumer->result(0), 1, 'a secret that is none is refused');
like(slurp_file("$work/consumer.log"), qr/WEBHOOK_SECRET must be/, 'and the reason told');

$receiver->kill_kill;
$node->stop;
done_testing();
