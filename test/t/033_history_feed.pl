# The feed under load: eight writers of transactions that take as long as chance
# wants, some rolled back, one prepared; two readers, each of which reads every
# event that was committed once, in the same order.  Meanwhile events are sealed
# by workers, which are killed in the middle, and the server crashes once; the
# chain verifies all the same, and each committed event is there.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use ApikeysTest;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $writers = 8;
my $seconds = 10;
my $dir = PostgreSQL::Test::Utils::tempdir();

my $node = new_server('main');
$node->append_conf('postgresql.conf', <<'EOC');
shared_preload_libraries = 'apikeys'
apikeys.seal_interval = '1s'
max_prepared_transactions = 10
listen_addresses = '127.0.0.1'
restart_after_crash = on
EOC
$node->start;
install($node);
sub sql { return $node->safe_psql('postgres', $_[0]); }

# ----- writers and readers -----

# What each writer has committed is what it says on its standard output.
append_to_file("$dir/writer.sql", <<'EOS');
\set ON_ERROR_STOP 1
CREATE TEMP TABLE t (n int);
SET client_min_messages = error;
CREATE PROCEDURE pg_temp.work(me int, until timestamptz) LANGUAGE plpgsql AS $$
DECLARE
	i int := 0;
	fate float8;
BEGIN
	WHILE clock_timestamp() < until LOOP
		i := i + 1;
		fate := random();
		FOR j IN 1 .. 1 + (random() * 3)::int LOOP
			PERFORM apikey_save_member('acme', format('w%s-%s-%s', me, i, j), 'w@acme.example');
			IF random() < 0.3 THEN
				PERFORM pg_sleep(random() * 0.05);
			END IF;
		END LOOP;
		IF fate < 0.2 THEN
			ROLLBACK;
		ELSE
			INSERT INTO written SELECT me, i;
			COMMIT;
		END IF;
	END LOOP;
END $$;
CALL pg_temp.work(:me, :'until');
EOS
sql('CREATE TABLE written (me int, i int)');
my $until = sql("SELECT clock_timestamp() + interval '$seconds s'");
my @writers = map {
	IPC::Run::start(
		[ 'psql', '-XqAt', '-d', $node->connstr('postgres'), '-v', "me=$_", '-v', "until=$until", '-f', "$dir/writer.sql" ],
		'>', "$dir/writer$_.out", '2>', "$dir/writer$_.err")
} 1 .. $writers;

my (@position, @read) = ('', '');
sub read_on
{
	my ($reader, $max) = @_;
	my $after = $position[$reader] ? "'$position[$reader]'" : 'NULL';
	my @rows = split /\n/, sql("SELECT position, owner_id FROM apikey_feed($after, $max) WHERE kind = 'member.role'");

	push @{ $read[$reader] }, map { (split /\|/)[1] } @rows;
	($position[$reader]) = split /\|/, $rows[-1] if @rows;
	return scalar @rows;
}
@position = ('', '');
@read = ([], []);

my $prepared = 0;
my $end = time + $seconds;
while (time < $end)
{
	read_on(0, 1000);
	read_on(1, 7);
	# one is prepared for a while, and holds the readers back
	sql("BEGIN; SELECT apikey_save_member('acme', 'prepared', 'p\@acme.example'); PREPARE TRANSACTION 'p'") if $prepared == 5;
	sql("COMMIT PREPARED 'p'") if $prepared == 25;
	$prepared++;
	usleep(20_000);
}
$_->finish for @writers;
sql("COMMIT PREPARED 'p'") if $prepared > 5 && $prepared <= 25;
is(join('', map { slurp_file("$dir/writer$_.err") } 1 .. $writers), '', 'no writer failed');
for my $reader (0, 1)
{
	while (read_on($reader, 1000)) { }
}
my $committed = sql("SELECT count(*) FROM apikeys_private.apikey_member WHERE user_id ~ '^w|prepared'");
my @all = grep { /^w|prepared/ } @{ $read[0] };
my %once = map { $_ => 1 } @all;
cmp_ok($committed, '>', 100, "$committed members were committed");
is(scalar @all, $committed, 'a reader read as many events');
is(scalar keys %once, $committed, 'each once');
is(join(' ', sort keys %once),
	join(' ', sort split /\n/, sql("SELECT user_id FROM apikeys_private.apikey_member WHERE user_id ~ '^w|prepared'")),
	'of each that was committed');
is(join(' ', @{ $read[1] }), join(' ', @{ $read[0] }), 'the other reader read the same, in the same order');
# that it could have been otherwise: numbers alone are in another order
isnt(sql("SELECT string_agg(owner_id, ' ' ORDER BY event_id) FROM apikeys_private.apikey_event WHERE owner_id ~ '^w|prepared'"),
	join(' ', @all), 'which is not that of the numbers');

# ----- seals, and who is killed while making them -----

sub verified { return sql('SELECT ok FROM apikey_verify_history()'); }

ok($node->poll_query_until('postgres', "SELECT count(*) > 0 FROM apikeys_private.apikey_seal"), 'events are sealed in the background');
is(verified(), 't', 'and verify');
sql(<<'EOS');
INSERT INTO apikeys_private.apikey_event (event_id, xid, at, kind, actor_kind, db_role)
SELECT nextval('apikeys_private.apikey_event_id_seq'), (SELECT max(xid) FROM apikeys_private.apikey_event), now(), 'limit.change', 'role', 'x'
FROM generate_series(1, 200000);
EOS
my $killed = 0;
for (1 .. 200)
{
	my $pid = sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'apikeys history worker' AND query ~ 'sealing' LIMIT 1");

	if ($pid)
	{
		sql("SELECT pg_terminate_backend($pid)");
		$killed++;
	}
	last if $killed >= 3;
	usleep(20_000);
}
cmp_ok($killed, '>', 0, "$killed workers were killed");
is(verified(), 't', 'what they left verifies');
ok($node->poll_query_until('postgres', "SELECT sum(events) = (SELECT count(*) FROM apikeys_private.apikey_event) FROM apikeys_private.apikey_seal"),
	'the next ones seal the rest');
is(verified(), 't', 'and all of it verifies');

# a crash, while somebody writes
my $seal = sql("SELECT encode(seal, 'hex') FROM apikeys_private.apikey_seal ORDER BY seal_id DESC LIMIT 1");
$until = sql("SELECT clock_timestamp() + interval '60 s'");
my $out = '';
my $writer = IPC::Run::start([ 'psql', '-XqAt', '-d', $node->connstr('postgres'), '-v', 'me=9', '-v', "until=$until", '-f', "$dir/writer.sql" ],
	'>', \$out, '2>', "$dir/writer9.err");
$node->poll_query_until('postgres', 'SELECT count(*) > 5 FROM written WHERE me = 9');
$node->stop('immediate');
$writer->finish;
$node->start;
is(sql("SELECT count(*) FROM apikeys_private.apikey_member m WHERE user_id ~ '^w' AND NOT EXISTS
	(SELECT FROM apikeys_private.apikey_event e WHERE e.owner_id = m.user_id AND e.kind = 'member.role')"),
	0, 'after a crash, each member has its event');
is(sql("SELECT count(*) FROM apikeys_private.apikey_event e WHERE owner_id ~ '^w' AND kind = 'member.role' AND NOT EXISTS
	(SELECT FROM apikeys_private.apikey_member m WHERE e.owner_id = m.user_id)"),
	0, 'and each event its member');
is(sql("SELECT ok FROM apikey_verify_history(decode('$seal', 'hex'))"), 't', 'the chain goes on from the seal before it');
cmp_ok(sql("SELECT count(*) FROM (SELECT owner_id FROM apikeys_private.apikey_event WHERE kind = 'member.role' GROUP BY owner_id HAVING count(*) > 1) x"),
	'==', 0, 'nothing twice');

# ----- where it came from, and a key's expiry -----

my $port = $node->port;
$node->safe_psql('postgres', "SELECT apikey_save_member('acme', 'far', 'f\@acme.example')",
	connstr => "host=127.0.0.1 port=$port dbname=postgres");
is(sql("SELECT DISTINCT coalesce(host(client_addr), '-') FROM apikeys_private.apikey_event WHERE owner_id IN ('far', 'ann') ORDER BY 1"),
	"-\n127.0.0.1", 'the address of the client, if it has one');

my $key = make_key($node);
as_acme($node, 'ann', "SELECT apikey_update(apikey_suffix('$key'), expires_at => now() + interval '3 days')");
my $warned = "SELECT count(*) FROM apikeys_private.apikey_event WHERE kind = 'key.expiring' AND suffix = apikey_suffix('$key')";
ok($node->poll_query_until('postgres', $warned, '1'), 'a warning of its expiry');
is(sql("SELECT actor_kind, actor_id IS NULL, changes -> 'expires_at' ->> 'new' = to_char(k.expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US+00:00')
	FROM apikeys_private.apikey_event e JOIN apikeys_private.apikey_key k USING (suffix) WHERE kind = 'key.expiring'") =~ /^worker\|t\|/, 1, 'by the worker');
sleep 3;
is(sql($warned), 1, 'once');
as_acme($node, 'ann', "SELECT apikey_update(apikey_suffix('$key'), expires_at => now() + interval '4 days')");
ok($node->poll_query_until('postgres', $warned, '2'), 'and again for another expiry');
as_acme($node, 'ann', "SELECT apikey_update(apikey_suffix('$key'), expires_at => now() + interval '40 days')");
sleep 3;
is(sql($warned), 2, 'not long before');

$node->stop;
done_testing();
