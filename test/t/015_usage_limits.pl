# What happens when there is no room left, when a worker is held up, and who
# waits for whom: verification, creation and deletion of keys for nobody, and
# nobody for them.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use ApikeysTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use UsageTest;

my $node = usage_server('main', conf => 'apikeys.usage_max_keys = 8');
$node->start;
install($node);
my @values = make_keys($node, 40);
my $array = join ',', map { "'$_'" } @values;
my $all = "SELECT count(*) FILTER (WHERE apikey_check_level(value, 'standard')) FROM unnest(ARRAY[$array]) value";

# Uses are either written, or waiting to be, or known to have been dropped.
sub is_accounted_for
{
	my ($name) = @_;

	is( sql($node, 'SELECT ok - dropped - (SELECT sum(uses) FROM apikeys) FROM apikey_stats'),
		0, $name);
	return;
}

#
# More keys than there is room for
#
is(sql($node, $all), 40, 'every key is accepted');
is(stats($node, 'ok, dropped, tracked_keys, max_keys'), '40|32|8|8', 'the first ones are counted');
is_accounted_for('the others are dropped');
ok($node->poll_query_until('postgres', 'SELECT count(*) = 8 FROM apikeys_private.apikey_usage'),
	'which has made the launcher write them, long before its time');
ok($node->poll_query_until('postgres', 'SELECT tracked_keys = 0 FROM apikey_stats'),
	'and there is room again');
is(sql($node, $all), 40, 'once more');
is_accounted_for('nothing is counted twice');

# A key that is in use all the time is not crowded out, and what is counted is
# exact.
sql($node, "SELECT apikey_check_level('$values[0]', 'standard')") for 1 .. 5;
flush($node);
my $before = uses($node, $values[0]);
my $dropped = stats($node, 'dropped');
is(verify($node, $values[0], 1000), 1000, 'a key that has room');
is(sql($node, $all), 40, 'among others');
cmp_ok(uses($node, $values[0]), '>=', $before + 1000, 'is counted');
is_accounted_for('also while the others come and go');

# Being full all the time wakes the launcher once in a while, not all the time.
my $flushes = stats($node, 'flushes');
my $until = time + 3;
my $rounds = 0;
$rounds++, sql($node, $all) while time < $until;
cmp_ok($rounds, '>', 10, 'some hundred uses without room');
cmp_ok(stats($node, 'flushes') - $flushes, '<=', 5, 'ask for room once a second');
is_accounted_for('and are accounted for');

#
# A transaction that deletes a key is open: the worker does not wait for it, nor
# it for the worker, whichever comes first.
#
flush($node);
hang_up($node);
$node->append_conf('postgresql.conf', 'apikeys.usage_max_keys = 1000');
$node->restart;
sql($node, 'TRUNCATE apikeys_private.apikey_usage');
my $deleter = session($node, user => 'postgres');

sub suffix_of { return substr($values[ $_[0] ], -7) }

sub begin_delete
{
	my ($i) = @_;

	$deleter->query_safe("BEGIN; SELECT apikey_act_as('acme', 'ann'); SELECT apikey_delete('" . suffix_of($i) . "')");
	return;
}

verify($node, $values[0], 2);
begin_delete(0);
is(verify($node, $values[0], 1), 1, 'a key is used until its deletion is committed');
flush($node);
is(written($node, $values[0]), 3, 'usage is written while the key is being deleted');
$deleter->query_safe('ROLLBACK');
is(uses($node, $values[0]), 3, 'the key is not deleted after all');
begin_delete(0);
flush($node);
$deleter->query_safe('COMMIT');
sql($node, "UPDATE apikeys_private.apikey_usage SET last_used_at = last_used_at - interval '1 day'");
verify($node, $values[1], 1);
flush($node);
is(sql($node, 'SELECT count(*) FROM apikeys_private.apikey_usage'), 1, 'nothing remains of it when it is, a day later');

# The other way round: a worker that has written and not committed. It is kept
# from committing by a lock on the table that comes after.
my $locker = session($node, user => 'postgres');
sql($node, <<'EOS');
CREATE TABLE gate ();
CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS
	$$BEGIN LOCK TABLE public.gate; RETURN NULL; END$$;
CREATE TRIGGER wait AFTER INSERT OR UPDATE ON apikeys_private.apikey_usage EXECUTE FUNCTION wait_at_gate();
EOS

# Holds up a worker; returns the sessions that do.
sub hold_up
{
	my ($table) = @_;

	$locker->query_safe("BEGIN; LOCK TABLE $table");
	my $flusher = start_flush($node);
	ok(is_held_up($node), "a worker waits for table $table");
	return $flusher;
}

# What must not wait for a worker, nor for whoever it waits for.
sub nobody_waits
{
	my ($victim) = @_;
	my $session = session($node, user => 'postgres');

	$session->query_safe("SET lock_timeout = '2s'; SET statement_timeout = '10s'");
	is(check_key($session, $values[2]), 't', 'verification does not wait');
	is(check_key($session, $values[3]), 't', 'nor that of another key');
	is(sqlstate($session, "SELECT count(*), apikey_me('$values[4]') IS NOT NULL FROM apikey_verify('$values[4]')"),
		'1|t', 'nor for all of it');
	$session->query_safe("BEGIN; SELECT apikey_act_as('acme', 'ann')");
	like(sqlstate($session, "SELECT apikey_create('meanwhile')"), qr/^ak\./, 'creation does not wait');
	is(sqlstate($session, "SELECT apikey_delete('" . suffix_of($victim) . "')"), '', 'deletion does not wait');
	is(sqlstate($session, "SELECT apikey_update('" . suffix_of(2) . "', name => 'renamed')"), '', 'nor a change');
	is(sqlstate($session, 'COMMIT'), '', 'nor its commit');
	$session->quit;
	return;
}

verify($node, $values[2], 1);
my $flusher = hold_up('gate');
is( sql($node, <<'EOS'),
SELECT string_agg(DISTINCT coalesce(coalesce(i.indrelid, l.relation)::regclass::text, l.locktype) || ' ' || l.mode, ', ')
FROM pg_locks l
	JOIN pg_stat_activity a USING (pid)
	LEFT JOIN pg_index i ON i.indexrelid = l.relation
WHERE a.backend_type = 'apikeys usage worker' AND l.granted
	AND l.locktype NOT IN ('virtualxid', 'transactionid')
	AND (l.relation IS NULL OR l.relation >= 16384)
EOS
	'apikeys_private.apikey_usage RowExclusiveLock, object ShareUpdateExclusiveLock',
	'the locks of a worker');
nobody_waits(10);
my $vacuum = session($node, user => 'postgres');
$vacuum->query_safe("SET lock_timeout = '2s'");
is(sqlstate($vacuum, 'VACUUM (SKIP_LOCKED false) apikeys_private.apikey_usage'), '', 'nor does VACUUM of apikeys_private.apikey_usage');
$vacuum->quit;

# What is held up is shown as long as it is not committed, and not twice after.
is(uses($node, $values[2]), 2, 'what is being written is shown');
$locker->query_safe('COMMIT');
$flusher->quit;
is(uses($node, $values[2]), 2, 'and when it is written');
sql($node, 'DROP TRIGGER wait ON apikeys_private.apikey_usage');

# Not even whoever locks the table of usage, or vacuums it, is felt.
$flusher = hold_up('apikeys_private.apikey_usage');
nobody_waits(11);

#
# A worker that is held up keeps the others waiting for a limited time only
#
sql($node, 'CREATE DATABASE another');
my $another = sql($node, <<'EOS', db => 'another');
SET client_min_messages = warning;
CREATE EXTENSION apikeys CASCADE;
SELECT apikey_save_org('acme', 'Acme'), apikey_save_member('acme', 'ann', 'ann@acme.example', 'admin') \g /dev/null
BEGIN;
SELECT apikey_act_as('acme', 'ann') \g /dev/null
SELECT apikey_create('first');
COMMIT
EOS
verify($node, $another, 1, db => 'another');
my $began = time;
my ($ret, $out, $err) = $node->psql('another', 'SELECT apikey_usage_flush()');
like($err, qr/usage of 1 database could not be written/, 'a flush gives up on it');
is(written($node, $another, db => 'another'), 1, 'and writes the other databases');
verify($node, $another, 1, db => 'another');
$began = time;
($ret, $out, $err) = $node->psql('another', 'SELECT apikey_usage_flush()');
cmp_ok(time - $began, '<', 5, 'the next one does not even wait');
is(backends($node, 'worker'), 1, 'nor starts a second worker');
is(written($node, $another, db => 'another'), 2, 'and writes them again');
$locker->query_safe('COMMIT');
$flusher->quit;
ok( $node->poll_query_until('postgres',
		"SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'apikeys usage worker'"),
	'when it is let go, the worker ends');
is(written($node, $values[3]), 2, 'and has written what was counted until then');

# A launcher that was terminated while its worker was held up: the next one
# must not have the same counts written by another.
verify($node, $values[5], 5);
$flusher = hold_up('apikeys_private.apikey_usage');
my $launcher = "FROM pg_stat_activity WHERE backend_type = 'apikeys usage launcher'";
my $pid = sql($node, "SELECT pid $launcher");
sql($node, "SELECT pg_terminate_backend($pid)");
ok($node->poll_query_until('postgres', "SELECT EXISTS (SELECT $launcher AND pid <> $pid)"),
	'a new launcher');
ok(is_held_up($node, count => 2), 'and a second worker');
$locker->query_safe('COMMIT');
$flusher->quit;
flush($node);
is(written($node, $values[5]), 5, 'which do not write the same');

is_quiet($node, 0, 'no error in the log all the while', qr/usage of 1 database/);

#
# No place for a worker, or for the launcher
#
hang_up($node);
$_->quit for $deleter, $locker;
$node->append_conf('postgresql.conf', "max_worker_processes = 1\nmax_logical_replication_workers = 0");
my $offset = -s $node->logfile;
$node->restart;
verify($node, $values[6], 1);
($ret, $out, $err) = $node->psql('postgres', 'SELECT apikey_usage_flush()');
like($err, qr/could not be written/, 'a flush warns if no worker can be started');
like(substr(slurp_file($node->logfile), $offset), qr/LOG: .*too many background workers/,
	'and so does the log');
is(verify($node, $values[6], 1), 1, 'verification goes on');
is(uses($node, $values[6]), 2, 'and its uses are kept');

hang_up($node);
$node->append_conf('postgresql.conf', 'max_worker_processes = 0');
$node->restart;
($ret, $out, $err) = $node->psql('postgres', 'SELECT apikey_usage_flush()');
like($err, qr/ERROR: .*the process that has usage written is not running\nHINT: .*max_worker_processes/,
	'a flush fails if there is no launcher, after three times what it may take to come back');
is(uses($node, $values[6]), 2, 'and uses are kept');

hang_up($node);
$node->stop;
done_testing();
