# DDL on our tables under a session that has everything at hand: keys in its
# cache, what it knows of tables and indexes, prepared statements.  What leaves
# the tables as they were installed is not felt, not even by those who verify
# while it runs; what does not is an error that has a name, never a yes; and
# when it has been undone, the same session answers as before.  An extension
# that was dropped and made again has nothing of the old one's.
#
# What one session does to itself is in test/sql/verify.sql and install.sql.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use ApikeysTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main');
$node->start;
install($node);
$node->safe_psql('postgres', <<EOS);
SELECT apikey_install_capabilities();
SELECT apikey_import_legacy('acme', 'a legacy key of acme');
SELECT apikey_save_org('other', 'Other');
SELECT apikey_import_legacy('other', 'a legacy key of other');
EOS
my %value = (
	live => make_key($node),
	low => make_key($node, level => 'standard'),
	legacy => 'a legacy key of acme',
	gone => make_key($node),
	gone_legacy => 'a legacy key of other');

# The session.  Ahead of public, there may be another schema with the extension.
my $session = session($node);
$session->query_safe('SET search_path = keys, public');
$session->query_safe(q{PREPARE verdict (text) AS SELECT apikey_check_level($1, 'admin')});
$session->query_safe('PREPARE identity (text) AS SELECT org_id, user_id, level::text FROM apikey_verify($1)');

# What the session answers to each of these.
my @questions = (
	"EXECUTE verdict ('$value{live}')",
	"SELECT apikey_check_level('$value{live}', 'admin')",
	"SELECT apikey_check('$value{live}', 'delete_block_rules')",
	"EXECUTE identity ('$value{live}')",
	"SELECT apikey_me('$value{live}')->>'email'",
	"EXECUTE verdict ('$value{low}')",
	"SELECT apikey_check_level('$value{low}', 'standard')",
	"EXECUTE verdict ('$value{legacy}')",
	"EXECUTE identity ('$value{legacy}')",
	"EXECUTE verdict ('$value{gone}')",
	"SELECT apikey_check_level('$value{gone}', 'standard')",
	"EXECUTE verdict ('$value{gone_legacy}')");
my @right = ('t', 't', 't', 'acme|ann|admin', 'ann@acme.example', 'f', 't', 't',
	'acme||admin', 'f', 'f', 'f');

sub answers
{
	return join ' ', map { sqlstate($session, $_) } @questions;
}

# All answers are the same: dead, or an error.
sub all_are
{
	my ($name, $answer) = @_;

	is(answers(), join(' ', map { $answer } @questions), $name);
	return;
}

sub warm_up
{
	ok(knows($session, $value{$_}), "the session knows key $_")
	  for grep { !/gone/ } sort keys %value;
	return;
}

# All is right, and from the cache; so whatever comes next finds it there.
sub all_right
{
	my ($name) = @_;

	is(answers(), "@right", "$name: right");
	warm_up();
	return;
}

sub dba
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', "SET client_min_messages = warning; $sql");
}

# As it ends for a superuser.
sub dba_state
{
	my ($sql) = @_;
	my (undef, undef, $err) = $node->psql('postgres', "\\set VERBOSITY sqlstate\n$sql");

	return $err =~ /ERROR:\s+(\w{5})/ ? $1 : $err;
}

# Both are known when they go.
warm_up();
is(check_key($session, $value{$_}, 'admin'), 't', "key $_ is alive at first") for qw(gone gone_legacy);
dba("DELETE FROM apikeys_private.apikey_key WHERE suffix = apikey_suffix('$value{gone}'); SELECT apikey_remove_org('other')");
all_right('at first');

### what is not felt

my @harmless = (
	'VACUUM FULL apikeys_private.apikey_key, apikeys_private.apikey_legacy',
	'VACUUM (FREEZE, INDEX_CLEANUP on) apikeys_private.apikey_key, apikeys_private.apikey_legacy',
	'CLUSTER apikeys_private.apikey_key USING apikey_key_org_id_name_suffix_idx',
	'CLUSTER apikeys_private.apikey_legacy USING apikey_legacy_pkey',
	'REINDEX TABLE apikeys_private.apikey_key',
	'REINDEX TABLE apikeys_private.apikey_legacy',
	'REINDEX TABLE CONCURRENTLY apikeys_private.apikey_key',
	'REINDEX TABLE CONCURRENTLY apikeys_private.apikey_legacy',
	'ALTER TABLE apikeys_private.apikey_key ADD note text DEFAULT clock_timestamp(), ADD more int',
	'ALTER TABLE apikeys_private.apikey_legacy ADD note text DEFAULT clock_timestamp()',
	'ALTER TABLE apikeys_private.apikey_key RENAME note TO remark',
	'ALTER TABLE apikeys_private.apikey_key DROP remark, DROP more',
	'ALTER TABLE apikeys_private.apikey_legacy DROP note',
	'CREATE INDEX CONCURRENTLY ON apikeys_private.apikey_key USING hash (digest)',
	'ALTER TABLE apikeys_private.apikey_key DISABLE ROW LEVEL SECURITY',
	'ALTER TABLE apikeys_private.apikey_key ENABLE ROW LEVEL SECURITY',
	'CREATE SCHEMA IF NOT EXISTS crypto; ALTER EXTENSION pgcrypto SET SCHEMA crypto',
	'ALTER EXTENSION pgcrypto SET SCHEMA public',
	'ANALYZE apikeys_private.apikey_key, apikeys_private.apikey_legacy',
	# an index of the same name and kind, but not the same
	'ALTER TABLE apikeys_private.apikey_key ADD CONSTRAINT other EXCLUDE USING hash (digest WITH =);'
	  . ' ALTER TABLE apikeys_private.apikey_key DROP CONSTRAINT apikey_key_digest_excl;'
	  . ' ALTER TABLE apikeys_private.apikey_key RENAME CONSTRAINT other TO apikey_key_digest_excl');

for my $sql (@harmless)
{
	my $name = $sql =~ s/;.*//r;

	dba($sql);
	all_right($name);
}

# Nor by those who go on asking while it runs, with the tables and without.
$node->safe_psql('postgres', <<EOS);
CREATE TABLE marker AS SELECT true AS running;
GRANT SELECT ON marker TO app;
EOS
my $verifier = <<EOS;
DO \$\$
DECLARE
	asked int := 0;
	wrong int := 0;
BEGIN
	WHILE (SELECT running FROM marker) LOOP
		asked := asked + 1;
		IF NOT apikey_check_level('$value{live}', 'admin')
			OR NOT apikey_check_level('$value{legacy}', 'admin')
			OR apikey_check_level('$value{low}', 'admin')
			OR apikey_check_level('$value{gone}', 'standard')
			OR (SELECT level FROM apikey_verify('$value{live}')) IS DISTINCT FROM 'admin'
			OR (SELECT level FROM apikey_verify('$value{legacy}')) IS DISTINCT FROM 'admin'
			OR EXISTS (SELECT FROM apikey_verify('$value{gone}'))
			OR EXISTS (SELECT FROM apikey_verify('$value{gone_legacy}'))
		THEN
			wrong := wrong + 1;
		END IF;
		-- lest what runs concurrently wait for us
		COMMIT;
	END LOOP;
	PERFORM set_config('ddl.asked', asked::text, false), set_config('ddl.wrong', wrong::text, false);
END \$\$;
SELECT current_setting('ddl.asked'), current_setting('ddl.wrong');
\\echo finished
EOS
my @verifiers = map { session($node) } 1 .. 2;
$_->query_until(qr/ready/, "\\echo ready\n$verifier") for @verifiers;
# each is asking
ok( $node->poll_query_until('postgres',
		"SELECT count(*) = 2 FROM pg_stat_activity WHERE query LIKE 'DO %' AND state = 'active'"),
	'two sessions are asking');
# the last replaces the index that they are reading
for my $sql (@harmless, ($harmless[-1]) x 15)
{
	next if $sql =~ / note|remark|CREATE INDEX/;
	dba($sql);
}
$node->safe_psql('postgres', 'UPDATE marker SET running = false');
for my $asking (@verifiers)
{
	my $out = $asking->query_until(qr/finished/, '');
	my ($asked, $wrong) = $out =~ /(\d+)\|(\d+)/ ? ($1, $2) : (0, 'not known');

	is($asking->{stderr} =~ /(ERROR.*)/ ? $1 : '', '', 'no error while the tables are worked at');
	is($wrong, 0, 'and no wrong answer');
	cmp_ok($asked, '>', scalar(@harmless), 'asked often enough to meet it');
	$asking->quit;
}

### what is an error

# PostgreSQL itself refuses these.
is(dba_state('ALTER EXTENSION apikeys SET SCHEMA pg_catalog'), '0A000', 'the extension is not relocatable');
for my $what ('COLUMN key_id', 'COLUMN digest', 'COLUMN level', 'COLUMN expires_at')
{
	is(dba_state("ALTER TABLE apikeys_private.apikey_key DROP $what"), '2BP01', "DROP $what is refused");
}

# Each of these breaks one table and is undone again.
my @broken = (
	[ 'column renamed', 'ALTER TABLE apikeys_private.apikey_key RENAME expires_at TO ends_at',
		'ALTER TABLE apikeys_private.apikey_key RENAME ends_at TO expires_at' ],
	[ 'columns exchanged',
		'ALTER TABLE apikeys_private.apikey_key RENAME created_at TO x; ALTER TABLE apikeys_private.apikey_key RENAME expires_at TO created_at;'
		  . ' ALTER TABLE apikeys_private.apikey_key RENAME x TO expires_at',
		'ALTER TABLE apikeys_private.apikey_key RENAME created_at TO x; ALTER TABLE apikeys_private.apikey_key RENAME expires_at TO created_at;'
		  . ' ALTER TABLE apikeys_private.apikey_key RENAME x TO expires_at' ],
	[ 'column of legacy keys renamed', 'ALTER TABLE apikeys_private.apikey_legacy RENAME digest TO hash',
		'ALTER TABLE apikeys_private.apikey_legacy RENAME hash TO digest' ],
	[ 'no index of digests',
		'DROP INDEX apikeys_private.apikey_key_digest_idx; ALTER TABLE apikeys_private.apikey_key DROP CONSTRAINT apikey_key_digest_excl',
		'ALTER TABLE apikeys_private.apikey_key ADD CONSTRAINT apikey_key_digest_excl EXCLUDE USING hash (digest WITH =)' ],
	[ 'no index of legacy digests', 'ALTER TABLE apikeys_private.apikey_legacy DROP CONSTRAINT apikey_legacy_digest_excl',
		'ALTER TABLE apikeys_private.apikey_legacy ADD CONSTRAINT apikey_legacy_digest_excl EXCLUDE USING hash (digest WITH =)' ],
	[ 'an index of digests that is not unique',
		'CREATE INDEX other ON apikeys_private.apikey_key USING hash (digest); ALTER TABLE apikeys_private.apikey_key DROP CONSTRAINT apikey_key_digest_excl',
		'ALTER TABLE apikeys_private.apikey_key ADD CONSTRAINT apikey_key_digest_excl EXCLUDE USING hash (digest WITH =); DROP INDEX apikeys_private.other' ],
	[ 'table renamed', 'ALTER TABLE apikeys_private.apikey_key RENAME TO apikey_keys',
		'ALTER TABLE apikeys_private.apikey_keys RENAME TO apikey_key' ],
	[ 'table moved', 'CREATE SCHEMA away; ALTER TABLE apikeys_private.apikey_key SET SCHEMA away',
		'ALTER TABLE away.apikey_key SET SCHEMA apikeys_private' ],
	# with a row that would make the dead key a live one
	[ 'another table in its place',
		'ALTER TABLE apikeys_private.apikey_key SET SCHEMA away;'
		  . ' CREATE TABLE apikeys_private.apikey_key (LIKE away.apikey_key INCLUDING ALL);'
		  . ' INSERT INTO apikeys_private.apikey_key (key_id, org_id, owner_id, name, level, digest)'
		  . " VALUES (1, 'acme', 'ann', 'gone', 'admin', sha256(convert_to(left('$value{gone}', -8), 'UTF8')))",
		'DROP TABLE apikeys_private.apikey_key; ALTER TABLE away.apikey_key SET SCHEMA apikeys_private' ],
	[ 'another table of legacy keys in its place',
		'ALTER TABLE apikeys_private.apikey_legacy SET SCHEMA away;'
		  . ' CREATE TABLE apikeys_private.apikey_legacy (LIKE away.apikey_legacy INCLUDING ALL);'
		  . " INSERT INTO apikeys_private.apikey_legacy VALUES ('acme', 1, sha256('$value{gone_legacy}'))",
		'DROP TABLE apikeys_private.apikey_legacy; ALTER TABLE away.apikey_legacy SET SCHEMA apikeys_private; DROP SCHEMA away' ],
	[ 'a label renamed and the table touched',
		"ALTER TYPE apikey_level RENAME VALUE 'architect' TO 'builder'; ALTER TABLE apikeys_private.apikey_key SET (fillfactor = 90)",
		"ALTER TYPE apikey_level RENAME VALUE 'builder' TO 'architect'" ],
);

for my $case (@broken)
{
	my ($name, $break, $repair) = @$case;

	dba("BEGIN; $break; COMMIT");
	all_are($name, '55000');
	is(dba_state("DELETE FROM apikeys_private.apikey_org WHERE org_id = 'acme'"),
		'55000', "$name: no key is taken away without telling the sessions");
	dba("BEGIN; $repair; COMMIT");
	all_right("$name, and repaired");
}

# A column that was dropped cannot be had back: the hint says to restore into a
# new installation.
dba('DROP TABLE marker');
my $dump = $node->basedir . '/data.sql';
$node->command_ok([ 'pg_dump', '-a', '-f', $dump, 'postgres' ], 'dump of the data');
dba('ALTER TABLE apikeys_private.apikey_org DROP name');
all_are('column dropped', '55000');
dba("ALTER TABLE apikeys_private.apikey_org ADD name text NOT NULL DEFAULT ''");
all_are('another column in its place', '55000');

### the extension made anew

# Keys that are not known.
my $dead = join ' ', map { /EXECUTE identity|apikey_me/ ? '' : 'f' } @questions;

# A new extension in a schema, with a member of the same name and a key of the
# same number.
sub again
{
	my ($schema) = @_;

	return <<EOS;
CREATE SCHEMA IF NOT EXISTS $schema;
CREATE EXTENSION apikeys SCHEMA $schema;
GRANT USAGE ON SCHEMA $schema TO app;
SELECT $schema.apikey_grant_application('app');
SELECT $schema.apikey_install_capabilities();
SELECT $schema.apikey_save_org('acme', 'Acme');
SELECT $schema.apikey_save_member('acme', 'ann', 'new\@acme.example', 'admin');
INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest)
SELECT 'acme', 'ann', 'new ' || i, 'admin', sha256(convert_to('new' || i, 'UTF8')) FROM generate_series(1, 9) i;
EOS
}

dba('DROP EXTENSION apikeys');
all_are('extension dropped', '42883');
dba(again('keys'));
is(answers(), $dead, 'made again in another schema: no key is known');
dba('DROP EXTENSION apikeys; ' . again('keys'));
is(answers(), $dead, 'made again in the same schema: no key is known');

# What the hint says.
sub restore
{
	dba('DROP EXTENSION IF EXISTS apikeys; CREATE EXTENSION apikeys SCHEMA public;'
		  . " SELECT apikey_grant_application('app')");
	$node->command_ok(
		[ 'psql', '-X', '-q', '-1', '-v', 'ON_ERROR_STOP=1', '-d', 'postgres', '-f', $dump ],
		'the data restored');
	all_right('restored');
	return;
}

restore();
dba('TRUNCATE apikeys_private.apikey_key, apikeys_private.apikey_legacy');
is(answers(), $dead, 'truncated: no key is known');
restore();

# A schema of another name: names lead nowhere, and what is found by the new
# one is all there.
dba('ALTER SCHEMA public RENAME TO "Key store"');
all_are('schema renamed', '42883');
$session->query_safe('SET search_path = "Key store"');
all_right('by its new name');
dba('ALTER SCHEMA "Key store" RENAME TO public');
$session->query_safe('SET search_path = keys, public');
all_right('by its old name again');

# A superuser's session that does it itself, and then does not.
my $owner = session($node, user => 'postgres');
my $ask = "SELECT apikey_check_level('$value{live}', 'admin'), apikey_check_level('$value{legacy}', 'admin')";
$owner->query_safe('SET client_min_messages = warning');
is($owner->query_safe($ask), 't|t', 'a session in which both keys are alive');
ok(knows($owner, $value{live}), 'and known');
$owner->query_safe('BEGIN; DROP EXTENSION apikeys');
is(sqlstate($owner, "SAVEPOINT s; $ask"), '42883', 'drops the extension');
$owner->query_safe('ROLLBACK TO s');
$owner->query_safe(again('public'));
is($owner->query_safe($ask), 'f|f', 'makes it again');
is($owner->query_safe("SELECT apikey_act_as('acme', 'ann', true), apikey_current_user()"), '|ann', 'acts there');
$owner->query_safe('ROLLBACK');
is($owner->query_safe("$ask, apikey_current_user()"), 't|t|', 'and has it all as it was after a rollback');

# Who was acting in a session: a key that is no more is nobody, a member is the
# one that has the name.
for my $key ('live', 'legacy')
{
	$session->query_safe("SELECT apikey_authenticate('$value{$key}', session => true)");
	is($session->query_safe('SELECT apikey_current_org()'), 'acme', "$key key acts");
	dba('DROP EXTENSION apikeys; ' . again('public'));
	is($session->query_safe('SELECT apikey_current_org(), apikey_current_level(), count(*) FROM apikeys'),
		'||0', "$key key of the old extension is nobody in the new one");
	$session->query_safe('RESET apikeys.principal');
	restore();
}

### dropped while a session waits to verify a key

sub a_session_waits
{
	return $node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
		  . " WHERE a.usename = 'app' AND NOT l.granted");
}

for my $key ('live', 'legacy')
{
	for my $again (1, 0)
	{
		my $name = "$key key, extension " . ($again ? 'made anew' : 'dropped');

		$owner->query_safe('BEGIN; DROP EXTENSION apikeys');
		$owner->query_safe(again('public')) if $again;
		$session->{stderr} = '';
		$session->query_until(qr/asked/,
			"\\echo asked\nEXECUTE identity ('$value{$key}');\n\\echo answered\n");
		ok(a_session_waits(), "$name: the session waits");
		$owner->query_safe('COMMIT');
		my $out = $session->query_until(qr/answered/, '');
		my ($state) = $session->{stderr} =~ /ERROR:\s+(\w{5})/;
		is($state // $out, $again ? "answered\n" : '42704', "$name: " . ($again ? 'no such key' : 'an error'));
		restore();
	}
}

# and while a new one looks at the extension for the first time
$owner->query_safe('BEGIN; DROP EXTENSION apikeys; ' . again('public'));
my $new = session($node);
$new->query_until(qr/asked/,
	"\\echo asked\nSELECT apikey_me('$value{live}') IS NULL;\n\\echo answered\n");
ok(a_session_waits(), 'a new session waits');
$owner->query_safe('COMMIT');
like($new->query_until(qr/answered/, ''), qr/^t$/m, 'and sees what is there then');

$_->quit for $session, $owner, $new;
done_testing();
