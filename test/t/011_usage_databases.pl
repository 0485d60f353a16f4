# Usage in several databases: each key's goes to its own, whatever else has the
# same number; and databases without the extension, closed or dropped ones,
# dropped keys, an extension dropped and made again, and settings of a database
# leave no error in the log, and nothing is counted to the wrong key.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use ApikeysTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use UsageTest;

my $node = usage_server('main');
$node->start;
install($node);

# Installs the extension with an organization in it; returns the value of the
# first key.
sub install_in
{
	my ($db, %params) = @_;
	my $schema = $params{schema} // 'public';

	sql($node, "CREATE DATABASE $db") if $params{create};
	return sql($node, <<EOS, db => $db);
SET client_min_messages = warning;
CREATE SCHEMA IF NOT EXISTS $schema;
ALTER DATABASE $db SET search_path = $schema, public;
SET search_path = $schema, public;
CREATE EXTENSION apikeys CASCADE;
SELECT apikey_save_org('acme', 'Acme') \\g /dev/null
SELECT apikey_save_member('acme', 'ann', 'ann\@acme.example', 'admin') \\g /dev/null
BEGIN;
SELECT apikey_act_as('acme', 'ann') \\g /dev/null
SELECT apikey_create('first');
COMMIT
EOS
}

# What is written in a database, as "key_id uses".
sub all_written
{
	my ($db) = @_;

	return sql($node, "SELECT string_agg(key_id || ' ' || uses, ', ' ORDER BY key_id) FROM apikeys_private.apikey_usage",
		db => $db);
}

# Waits until there is, or somebody waits for, the lock by which a database is
# dropped or connected to.
sub wait_for_lock
{
	my ($how) = @_;

	return $node->poll_query_until('postgres',
		"SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'object' AND $how"
		  . " AND classid = 'pg_database'::regclass AND objid ="
		  . " (SELECT oid FROM pg_database WHERE datname = 'one')"
		  . " AND mode = CASE WHEN granted THEN 'AccessExclusiveLock' ELSE 'RowExclusiveLock' END)");
}

# What a flush warns of; nothing if all could be written.
sub flush_warnings
{
	my ($ret, $out, $err) = $node->psql('postgres', 'SELECT apikey_usage_flush()');
	return $err;
}

#
# Two databases, where the keys have the same numbers, and one without
#
sql($node, 'CREATE DATABASE bare');
my $one = install_in('one', create => 1);
my $two = install_in('two', create => 1, schema => '"Its Own"');

verify($node, $one, 3, db => 'one');
verify($node, $two, 5, db => 'two');
is(verify($node, $two, 1, db => 'one'), 0, 'a key of another database is unknown');
flush($node);
is(all_written('one'), '1 3', 'what belongs to the first database');
is(all_written('two'), '1 5', 'a flush is for all databases');
is(uses($node, $two, db => 'two'), 5, 'a schema that has to be quoted');
is(sql($node, "SELECT count(*) FROM pg_class WHERE relname LIKE 'apikey%'", db => 'bare'),
	0, 'a database without the extension is left alone');

#
# A database's settings are not for the worker
#
sql($node, <<'EOS', db => 'one');
CREATE SCHEMA evil;
CREATE FUNCTION evil.never(bigint, bigint) RETURNS boolean LANGUAGE sql AS 'SELECT false';
CREATE OPERATOR evil.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = evil.never);
CREATE ROLE nobody;
EOS
sql($node, "ALTER DATABASE one SET $_")
  for 'search_path = evil, pg_catalog', 'default_transaction_read_only = on',
  'default_transaction_isolation = serializable', 'default_transaction_deferrable = on',
  'statement_timeout = 1', 'lock_timeout = 1', 'synchronous_commit = off',
  'row_security = off', 'plan_cache_mode = force_generic_plan', 'enable_indexscan = off',
  'session_replication_role = replica', 'role = nobody';
sql($node, "ALTER ROLE ALL SET $_")
  for 'default_transaction_read_only = on', 'jit_above_cost = 0';
verify($node, $one, 4, db => 'one');
flush($node);
is(all_written('one'), '1 7', 'settings of a database do not disturb the worker');
sql($node, "ALTER DATABASE one RESET ALL; ALTER ROLE ALL RESET ALL");

#
# A dropped key, one that is no more when it is written, and one that is not
# there for others yet
#
my $brief = sql($node, <<'EOS', db => 'one');
BEGIN;
SELECT apikey_act_as('acme', 'ann') \g /dev/null
SELECT apikey_create('brief');
COMMIT
EOS
verify($node, $brief, 2, db => 'one');
flush($node);
is(all_written('one'), '1 7, 2 2', 'before a key is deleted');
verify($node, $brief, 2, db => 'one');
verify($node, $one, 1, db => 'one');
sql($node, "DELETE FROM apikeys_private.apikey_key WHERE key_id = 2", db => 'one');
flush($node);
is(all_written('one'), '1 8, 2 4', 'a deleted key leaves its usage behind');
sql($node, "UPDATE apikeys_private.apikey_usage SET last_used_at = last_used_at - interval '1 day' WHERE key_id = 2", db => 'one');
verify($node, $one, 1, db => 'one');
flush($node);
is(all_written('one'), '1 9', 'until the first flush a day later');

my $creator = $node->background_psql('one');
$creator->query_safe("BEGIN; SELECT apikey_act_as('acme', 'ann'); SELECT apikey_create('new') AS new \\gset");
is($creator->query_safe("SELECT apikey_check_level(:'new', 'standard') FROM generate_series(1, 5)"),
	join("\n", ('t') x 5), 'a key is used by who creates it');
flush($node);
is($creator->query_safe("SELECT uses FROM apikeys WHERE name = 'new'"), 5, 'which a flush meanwhile does not forget');
$creator->query_safe('COMMIT');
$creator->quit;
flush($node);
is(sql($node, "SELECT uses FROM apikeys_private.apikey_usage JOIN apikeys_private.apikey_key USING (key_id) WHERE name = 'new'", db => 'one'),
	5, 'and which is written');
sql($node, "DELETE FROM apikeys_private.apikey_key WHERE name = 'new'; DELETE FROM apikeys_private.apikey_usage WHERE key_id = 3", db => 'one');

# What is left over is found in the end, also among many others.
sql($node, <<'EOS', db => 'one');
INSERT INTO apikeys_private.apikey_key (key_id, org_id, owner_id, name, level, digest)
	SELECT i, 'acme', 'ann', 'many', 'standard', sha256(i::text::bytea)
	FROM generate_series(10, 5000) i;
INSERT INTO apikeys_private.apikey_usage SELECT key_id, now() - interval '1 day', NULL, 1 FROM apikeys_private.apikey_key WHERE key_id >= 10;
DELETE FROM apikeys_private.apikey_key WHERE key_id >= 10 AND key_id % 2 = 0;
EOS
my $flushes = 0;
while (sql($node, "SELECT EXISTS (SELECT FROM apikeys_private.apikey_usage WHERE key_id >= 10 AND key_id % 2 = 0)",
		db => 'one') eq 't' && $flushes++ < 200)
{
	verify($node, $one, 1, db => 'one');
	flush($node);
}
cmp_ok($flushes, '<', 200, 'what deleted keys leave behind is swept away in the end');
is(sql($node, 'SELECT count(*) FROM apikeys_private.apikey_usage WHERE key_id >= 10', db => 'one'),
	2495, 'and nothing else');
sql($node, 'DELETE FROM apikeys_private.apikey_key WHERE key_id >= 10; DELETE FROM apikeys_private.apikey_usage WHERE key_id >= 10',
	db => 'one');

#
# Dropped and made again: the first key has the same number
#
verify($node, $one, 11, db => 'one');
sql($node, 'DROP EXTENSION apikeys', db => 'one');
$one = install_in('one');
verify($node, $one, 1, db => 'one');
is(uses($node, $one, db => 'one'), 1, 'uses before it was dropped are not shown');
flush($node);
is(all_written('one'), '1 1', 'nor written');

# Dropped for good, with something to be written.
verify($node, $one, 1, db => 'one');
sql($node, 'DROP EXTENSION apikeys', db => 'one');
is(flush_warnings(), '', 'what belongs to no extension any more is left to nobody');

# Dropped and made again in one transaction, while somebody asks for a flush.
$one = install_in('one');
verify($node, $one, 13, db => 'one');
sql($node, <<'EOS', db => 'one');
BEGIN;
DROP EXTENSION apikeys;
SET LOCAL client_min_messages = warning;
CREATE EXTENSION apikeys SCHEMA public;
EOS
my $other = start_flush($node);
ok(is_held_up($node, db => 'one'), 'the worker waits for whoever is dropping the extension');
is(verify($node, $two, 1, db => 'two'), 1, 'and nobody for the worker');
sql($node, <<'EOS', db => 'one');
SELECT apikey_save_org('acme', 'Acme'), apikey_save_member('acme', 'ann', 'ann@acme.example', 'admin');
COMMIT;
EOS
$other->quit;
is(all_written('one'), '', 'what was counted before is gone');
$one = sql($node, <<'EOS', db => 'one');
BEGIN;
SELECT apikey_act_as('acme', 'ann') \g /dev/null
SELECT apikey_create('first');
COMMIT
EOS
verify($node, $one, 1, db => 'one');
flush($node);
is(all_written('one'), '1 1', 'the new one counts');

#
# A closed database keeps what it has
#
verify($node, $one, 1, db => 'one');
hang_up($node);
sql($node, 'ALTER DATABASE one ALLOW_CONNECTIONS false');
like(flush_warnings(), qr/WARNING:  usage of 1 database could not be written/,
	'a flush tells that a closed database was left over');
sql($node, 'ALTER DATABASE one ALLOW_CONNECTIONS true');
flush($node);
is(all_written('one'), '1 2', 'it is written when the database is open again');

#
# Dropped databases
#
verify($node, $one, 1, db => 'one');
hang_up($node);
sql($node, 'DROP DATABASE one');
is(flush_warnings(), '', 'a dropped database leaves nothing to be written');

is_quiet($node, 0, 'no error in the log, and a warning only where one was asked for', qr/usage of 1 database/);

# Dropped just when a worker is about to connect. DROP DATABASE waits for a
# session in it, the worker for DROP DATABASE, which then wins.
$one = install_in('one', create => 1);
verify($node, $one, 1, db => 'one');
my $dropper = $node->background_psql('postgres');
my $offset = -s $node->logfile;
$dropper->query_until(qr/drops/, "\\echo drops\nDROP DATABASE one;\n");
ok(wait_for_lock('granted'), 'a database is being dropped');
my $flusher = start_flush($node);
ok(wait_for_lock('NOT granted'), 'a worker would connect to it');
hang_up($node, db => 'one');
$dropper->quit;
$flusher->quit;
is(sql($node, "SELECT count(*) FROM pg_database WHERE datname = 'one'"), 0, 'it is dropped');
is_quiet($node, $offset, 'which leaves no error in the log', qr/usage of 1 database/);

# And as it happens, while somebody asks for a flush all the time.
sql($node, 'CREATE TABLE stop ()');
$flusher = $node->background_psql('postgres');
$flusher->query_until(qr/began/, <<'EOS');
\echo began
SET client_min_messages = error;
DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM stop) LOOP
	PERFORM apikey_usage_flush();
END LOOP; END $$;
EOS
my $dropped = 0;
for my $i (1 .. 3)
{
	$one = install_in('one', create => 1);
	verify($node, $one, 1, db => 'one');
	hang_up($node, db => 'one');
	$dropped++ if $node->psql('postgres', 'DROP DATABASE one') == 0;
}
is($dropped, 3, 'databases can be dropped while they are written');
sql($node, 'INSERT INTO stop DEFAULT VALUES');
$flusher->quit;
is_quiet($node, $offset, 'no error in the log all the while', qr/usage of 1 database/);

hang_up($node);
$node->stop;
done_testing();
