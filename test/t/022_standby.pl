# A standby that verifies: read-only, while replay goes on, before and after it
# is promoted; and what the acknowledgement of a delete, a lower level or an
# earlier expiry is worth on it, with the key in the cache of the session asked.
#
# APIKEYS_TRIES: how many keys are taken away with a synchronous standby.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use ApikeysTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $tries = $ENV{APIKEYS_TRIES} // 600;
my $delayed = 40;

my $primary = new_server('primary', allows_streaming => 1);
$primary->append_conf('postgresql.conf', 'shared_buffers = 32MB');
$primary->start;
install($primary);

install_take_away($primary, $tries + 3 * $delayed + 1);

$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', 'max_standby_streaming_delay = -1');
$standby->start;
$primary->wait_for_catchup($standby, 'replay');

my $controller = take_away_session($primary, $standby);
my $next = 1;

# Takes the next keys away, and tells how many got a yes too late.
sub stale
{
	my ($count, $before) = @_;
	my ($known, $stale) = take_away($controller, $next, $next + $count - 1, $before);

	$next += $count;
	is($known, $count, 'each key was in the cache of the session on the standby');
	return $stale;
}

sub value_of
{
	my ($i) = @_;

	return $primary->safe_psql('postgres', "SELECT value FROM plain WHERE i = $i");
}

sub set_primary
{
	my ($setting, $value) = @_;

	# A setting of ours is known where the library has been loaded.
	$primary->safe_psql('postgres', "LOAD 'apikeys';\nALTER SYSTEM SET $setting = $value");
	$primary->reload;
	$controller->query_safe('SELECT pg_sleep(0.2)');
	return;
}

### read-only

my $reader = session($standby);
my ($key, $doomed) = make_keys($primary, 2);
$primary->safe_psql('postgres', 'VACUUM (FREEZE) apikeys_private.apikey_key');
$primary->wait_for_catchup($standby, 'replay');

is($reader->query_safe('SHOW transaction_read_only'), 'on', 'the standby is read-only');
is(check_key($reader, $key, 'admin'), 't', 'check_level');
is($reader->query_safe("SELECT org_id, user_id, level FROM apikey_verify('$key')"),
	'acme|ann|admin', 'verify');
is(sqlstate($reader, "SELECT apikey_check('$key', 'send_events')"), '42704',
	'check knows no capability');
$primary->safe_psql('postgres', 'SELECT apikey_install_capabilities()');
$primary->wait_for_catchup($standby, 'replay');
is($reader->query_safe("SELECT apikey_check('$key', 'send_events')"), 't', 'check');
is($reader->query_safe("SELECT apikey_me('$key')->>'role'"), 'ADMIN', 'me');
is($reader->query_safe("SELECT status FROM apikey_inspect('$key')"), 'active', 'inspect');

# A principal is a setting, which a standby can keep; it can write nothing.
$reader->query_safe('BEGIN');
$reader->query_safe("SELECT apikey_authenticate('$key')");
is($reader->query_safe('SELECT apikey_current_level()'), 'admin', 'authenticate');
$reader->query_safe('ROLLBACK');
$reader->query_safe('BEGIN');
$reader->query_safe("SELECT apikey_act_as('acme', 'ann')");
is($reader->query_safe('SELECT count(*) FROM apikeys WHERE owner_id = $$ann$$'), '2',
	'an admin\'s list');
is(sqlstate($reader, "SELECT apikey_create('no')"), '25006', 'create is refused');
$reader->query_safe('ROLLBACK');
$reader->query_safe('BEGIN');
$reader->query_safe("SELECT apikey_act_as('acme', 'ann')");
is(sqlstate($reader, "SELECT apikey_delete(apikey_suffix('$key'))"), '25006',
	'delete is refused');
$reader->query_safe('ROLLBACK');
is($reader->query_safe('SELECT apikey_current_org() IS NULL'), 't',
	'no principal is left');
is(check_key($reader, $key, 'admin'), 't', 'and the session goes on');

### an asynchronous standby

# In a transaction whose snapshot is from before, cached and asked again.
$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
is(check_key($reader, $doomed), 't', 'alive');
ok(knows($reader, $doomed), 'alive in the cache');
$primary->safe_psql('postgres', "DELETE FROM apikeys_private.apikey_key WHERE suffix = apikey_suffix('$doomed')");
$primary->wait_for_catchup($standby, 'replay');
is(check_key($reader, $doomed), 'f', 'dead after replay, in an older transaction');
$reader->query_safe('COMMIT');
is(check_key($reader, $key), 't', 'the other key is alive');

### a synchronous standby

set_primary('synchronous_standby_names', "'standby'");
is(stale($tries, "SET synchronous_commit = 'on'"), 0,
	"dead on the standby when acknowledged: $tries keys");

# With replay lagging behind, the setting is what makes the difference.
$standby->append_conf('postgresql.conf', "recovery_min_apply_delay = '25ms'");
$standby->reload;
$controller->query_safe('SELECT pg_sleep(0.2)');
is(stale($delayed, "SET synchronous_commit = 'on'"), 0,
	"dead on a standby that lags, when acknowledged: $delayed keys");
is(stale($delayed, "SET synchronous_commit = 'remote_write'"), 0,
	"also where remote_write was asked for: $delayed keys");
set_primary('apikeys.revoke_remote_apply', 'off');
# (all of them, where the machine is not too busy to ask in time)
cmp_ok(stale($delayed, "SET synchronous_commit = 'on'"), '>', $delayed / 2,
	'without apikeys.revoke_remote_apply, they are still alive there');
set_primary('apikeys.revoke_remote_apply', 'on');
$standby->append_conf('postgresql.conf', 'recovery_min_apply_delay = 0');
$standby->reload;
$primary->wait_for_catchup($standby, 'replay');

# Replay at a standstill: no acknowledgement, nor need for one; whatever settings
# are in force where the key is deleted.
$primary->safe_psql('postgres', <<EOS);
CREATE FUNCTION revoke(key text) RETURNS void LANGUAGE sql SET synchronous_commit = on
	AS 'DELETE FROM apikeys_private.apikey_key WHERE suffix = apikey_suffix(key)';
EOS
my $last = value_of($next);
ok(knows($reader, $last), 'the last key is in the cache on the standby');
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
$standby->poll_query_until('postgres', "SELECT pg_get_wal_replay_pause_state() = 'paused'");
my $deleter = session($primary, user => 'postgres');
$deleter->{stdin} .=
  "SELECT revoke('$last');\n\\echo acknowledged\n";
$deleter->{run}->pump_nb;
ok( $primary->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"),
	'a delete waits for the standby to apply it');
unlike($deleter->{stdout}, qr/acknowledged/, 'it is not acknowledged');
is(check_key($reader, $last), 't', 'the key is alive on the standby');
$primary->safe_psql('postgres', <<EOS);
SET synchronous_commit = local;
DELETE FROM apikeys_private.apikey_key WHERE suffix = apikey_suffix('$key');
EOS
is(check_key($reader, $key), 't', 'who asks for a local commit does not wait');
my $raised = make_key($primary, level => 'standard');
$primary->safe_psql('postgres', "UPDATE apikeys_private.apikey_key SET level = 'admin' WHERE suffix = apikey_suffix('$raised')");
pass('nor does a change that takes nothing away');
# TRUNCATE takes keys away, too.  While it waits, nobody here can ask for a key.
my $truncater = session($primary, user => 'postgres');
$truncater->{stdin} .= "TRUNCATE apikeys_private.apikey_legacy;\n\\echo acknowledged\n";
$truncater->{run}->pump_nb;
my $two_wait = "SELECT count(*) = 2 FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
ok($primary->poll_query_until('postgres', $two_wait), 'a TRUNCATE waits for the standby');
usleep(300_000);
is($primary->safe_psql('postgres', $two_wait), 't', 'to apply it, not only to have it');
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');
$deleter->query_until(qr/acknowledged/, '');
$truncater->query_until(qr/acknowledged/, '');
$truncater->quit;
is(check_key($reader, $last), 'f', 'dead with the acknowledgement');
$primary->wait_for_catchup($standby, 'replay');
is(check_key($reader, $key), 'f', 'and the other when it was replayed');
$deleter->quit;

### while replay goes on

# The hash index grows and is vacuumed under a reader that must find all of the
# keys that live, and nothing else.
set_primary('synchronous_standby_names', "''");
$primary->safe_psql('postgres', "TRUNCATE plain");
$primary->safe_psql('postgres', <<EOS);
DO \$\$
BEGIN
	PERFORM apikey_act_as('acme', 'ann');
	FOR n IN 1 .. 50 LOOP
		INSERT INTO plain VALUES (n, apikey_create('key', 'admin'));
	END LOOP;
END \$\$
EOS
$primary->wait_for_catchup($standby, 'replay');
my $watcher = $standby->background_psql('postgres');
$watcher->query_until(qr/ready/, <<EOS);
\\echo ready
SET statement_timeout = '120s';
DO \$\$
DECLARE
	value text;
	yes int := 0;
	no int := 0;
BEGIN
	WHILE EXISTS (SELECT FROM plain WHERE i = 1) LOOP
		FOR value IN SELECT p.value FROM plain p LOOP
			IF apikey_check_level(value, 'admin') THEN
				yes := yes + 1;
			ELSE
				no := no + 1;
			END IF;
		END LOOP;
		COMMIT;
	END LOOP;
	PERFORM set_config('watch.yes', yes::text, false);
	PERFORM set_config('watch.no', no::text, false);
END \$\$;
SELECT current_setting('watch.yes'), current_setting('watch.no');
EOS
for my $round (1 .. 5)
{
	$primary->safe_psql('postgres', <<EOS);
INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest)
	SELECT 'acme', 'ann', 'bulk', 'standard', sha256(convert_to('$round ' || i, 'UTF8'))
	FROM generate_series(1, 2000) i;
DELETE FROM apikeys_private.apikey_key WHERE name = 'bulk' AND key_id % 3 = 0;
VACUUM apikeys_private.apikey_key;
EOS
}
$primary->safe_psql('postgres', 'DELETE FROM plain WHERE i = 1');
my ($yes, $no) = $watcher->query_until(qr/^\d+\|\d+$/m, '') =~ /(\d+)\|(\d+)/;
cmp_ok($yes, '>', 500, "keys were verified while replay went on");
is($no, 0, 'and none of them was missed');
$watcher->quit;

### promotion

my ($kept, $gone) = make_keys($primary, 2);
$primary->safe_psql('postgres', 'VACUUM (FREEZE) apikeys_private.apikey_key');
$primary->wait_for_catchup($standby, 'replay');
ok(knows($reader, $_), 'alive in the cache') for $kept, $gone;
$primary->safe_psql('postgres', "DELETE FROM apikeys_private.apikey_key WHERE suffix = apikey_suffix('$gone')");
$primary->wait_for_catchup($standby, 'replay');
$controller->query_safe("SELECT dblink_disconnect('verifier')");
$primary->stop;
$standby->promote;
is(check_key($reader, $kept), 't', 'after promotion, the key that was kept');
is(check_key($reader, $gone), 'f', 'after promotion, the key that was deleted');
ok(knows($reader, $kept), 'in the cache');
$standby->safe_psql('postgres', "DELETE FROM apikeys_private.apikey_key WHERE suffix = apikey_suffix('$kept')");
is(check_key($reader, $kept), 'f', 'deleted on the new primary');
my $new = make_key($standby);
ok(knows($reader, $new), 'made on the new primary');

diag("standby: " . ($next - 1) . " keys taken away and asked for at once, "
	  . "$yes verifications during replay");
$reader->quit;
done_testing();
