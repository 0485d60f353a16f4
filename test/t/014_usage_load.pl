# Many keys and many uses: verification writes no WAL, a flush little; lists are
# true while a flush is under way; and a million verifications by eight clients
# are counted exactly, each key's, though workers and the launcher are
# terminated again and again.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use ApikeysTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use UsageTest;

my $keys = 10_000;
my $clients = 8;
my $node = usage_server('main', conf => <<'EOC');
max_wal_size = 1GB
checkpoint_timeout = 1h
EOC
$node->start;
install($node);

# Their values, numbered from 0, out of reach of anybody else's eyes.
my @values = make_keys($node, $keys);
append_to_file($node->basedir . '/values', join("\n", @values) . "\n");
sql($node, <<EOS);
CREATE TABLE plain (i serial PRIMARY KEY, value text);
ALTER SEQUENCE plain_i_seq MINVALUE 0 RESTART 0;
\\copy plain (value) FROM '@{[ $node->basedir ]}/values'
CREATE TABLE stop ();
CREATE TABLE killed (pid int);
EOS
sql($node, 'VACUUM ANALYZE');

# One use of each key.
my $each = "SELECT count(*) FILTER (WHERE apikey_check_level(value, 'standard')) FROM plain";

# Bytes of WAL that something writes.
sub wal_of
{
	my ($what) = @_;
	my $lsn = sql($node, 'SELECT pg_current_wal_insert_lsn()');

	$what->();
	return sql($node, "SELECT pg_current_wal_insert_lsn() - '$lsn'::pg_lsn");
}

#
# WAL
#
sql($node, $each);
is(wal_of(sub { sql($node, $each) for 1 .. 5 }), 0, 'verification writes no WAL');

# A checkpoint makes the first change of each page expensive. The second flush
# finds rows to update.
my $uses = 6;
for my $flush ('inserts', 'updates', 'updates again')
{
	sql($node, $each), $uses++ if $flush ne 'inserts';
	sql($node, 'CHECKPOINT');
	my $bytes = wal_of(sub { flush($node) }) / $keys;
	note("WAL of a flush ($flush) after a checkpoint: $bytes bytes a key");
	cmp_ok($bytes, '<', 300, "WAL of a flush: $flush");
	is(sql($node, 'SELECT count(*), min(uses), max(uses) FROM apikeys_private.apikey_usage'),
		"$keys|$uses|$uses", 'which wrote them all');
}
sql($node, $each);
$uses++;
note('without a checkpoint: ' . wal_of(sub { flush($node) }) / $keys . ' bytes a key');
is( sql($node,
		"SELECT n_tup_hot_upd > 0.95 * n_tup_upd FROM pg_stat_user_tables WHERE relname = 'apikey_usage'"),
	't', 'nearly all rows are rewritten in their pages');

#
# What is being written is seen neither twice nor not at all: while one session
# uses all keys and another has it written all the time, what a third one sees
# of a key never falls. It is one of the last to be subtracted.
#
sub run_until_stopped
{
	my ($statement) = @_;
	my $session = $node->background_psql('postgres');

	$session->query_until(qr/began/, <<EOS);
\\echo began
SET client_min_messages = error;
DO \$\$ BEGIN WHILE NOT EXISTS (SELECT FROM stop) LOOP
	$statement;
	COMMIT;
END LOOP; END \$\$;
EOS
	return $session;
}

my @sessions = (
	run_until_stopped("PERFORM count(*) FILTER (WHERE apikey_check_level(value, 'standard')) FROM plain; PERFORM pg_sleep(0.01)"),
	run_until_stopped('PERFORM apikey_usage_flush()'));
my $flushes = stats($node, 'flushes');
my $suffix = substr($values[-10], -7);
my @seen;
while (stats($node, 'flushes') < $flushes + 10)
{
	push @seen, split /\n/,
	  $node->safe_psql('postgres', "SELECT uses FROM apikeys_private.apikey_usage_of('acme', '$suffix');\n" x 1000);
}
is(scalar(grep { $seen[$_] < $seen[ $_ - 1 ] } 1 .. $#seen), 0, 'what is seen never falls');
cmp_ok($seen[-1], '>', $seen[0], 'and it rises');
sql($node, 'INSERT INTO stop DEFAULT VALUES');
$_->quit for @sessions;
flush($node);
is(sql($node, 'SELECT sum(uses) FROM apikeys'), stats($node, 'ok'), 'all is counted');
is(sql($node, 'SELECT sum(uses) FROM apikeys_private.apikey_usage'), stats($node, 'ok'), 'all is written');
is(stats($node, 'dropped'), 0, 'nothing was dropped');

#
# A million
#
sql($node, 'TRUNCATE stop, apikeys_private.apikey_usage');
$node->append_conf('postgresql.conf', "apikeys.usage_flush_interval = 1\nlog_min_messages = panic");
$node->reload;

# A client uses a thousand of the keys, then a thousand times one and the same,
# and so on, with pauses, so that there is time for the rest of it.
my $check = "INSERT INTO counted SELECT count(*) FILTER (WHERE apikey_check_level(value, 'standard'))";
@sessions = map { $node->background_psql('postgres') } 1 .. $clients;
for my $session (@sessions)
{
	$session->query_until(qr/began/, <<EOS);
\\echo began
CREATE TEMP TABLE counted (n bigint);
DO \$\$ BEGIN FOR n IN 0 .. 62 LOOP
	$check FROM plain WHERE i / 1000 = n % 10;
	$check FROM plain, generate_series(1, 1000) WHERE i = 5000;
	COMMIT;
	PERFORM pg_sleep(0.1);
END LOOP; END \$\$;
EOS
}
my $killer = run_until_stopped(
	"WITH worker AS MATERIALIZED (SELECT pid FROM pg_stat_activity"
	  . " WHERE backend_type = 'apikeys usage worker' AND random() < 0.2)"
	  . " INSERT INTO killed SELECT pid FROM worker WHERE pg_terminate_backend(pid);"
	  . " PERFORM pg_sleep(0.001)");
my $flusher = run_until_stopped('PERFORM apikey_usage_flush()');
for (1 .. 2)
{
	sql($node, 'SELECT pg_sleep(2)');
	sql($node, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'apikeys usage launcher'");
}
my $counted = 0;
$counted += $_->query('SELECT sum(n) FROM counted') for @sessions;
$_->quit for @sessions;
sql($node, 'INSERT INTO stop DEFAULT VALUES');
$_->quit for $killer, $flusher;
is($counted, $clients * 63 * 2000, 'a million verifications, each accepted');
cmp_ok(sql($node, 'SELECT count(*) FROM killed'), '>', 10, 'workers were terminated meanwhile');
flush($node);
is(sql($node, 'SELECT sum(uses) FROM apikeys_private.apikey_usage'), $counted, 'a million uses');
is( sql($node, <<EOS), '', 'each of its key');
SELECT string_agg(format('%s: %s', i, uses), ', ') FROM plain
	JOIN apikeys_private.apikey_key ON suffix = apikey_suffix(value) LEFT JOIN apikeys_private.apikey_usage USING (key_id)
WHERE uses IS DISTINCT FROM CASE WHEN i < 3000 THEN 7 ELSE 6 END * $clients
	+ CASE WHEN i = 5000 THEN 63 * 1000 * $clients ELSE 0 END
EOS

hang_up($node);
$node->stop;
done_testing();
