# A database that was dumped and restored gives the same verdict on every key as
# the one it was dumped from, whatever the format, the schema that the extension
# is in and whoever restores it: also on keys that today's rules would not let
# anybody create.  Numbers continue where they were, and the application keeps
# its functions.  No value is in a dump.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--encoding=UTF8', '--locale=C' ]);
$node->append_conf('postgresql.conf', "log_statement = none\nautovacuum = off");
$node->start;
$node->safe_psql('postgres', <<EOS);
CREATE ROLE app LOGIN;
CREATE ROLE dora LOGIN;
CREATE ROLE boss LOGIN SUPERUSER;
EOS

my $dir = $node->basedir;
my @legacy = ("acme's legacy key, with quotes \\ and all", 'another legacy key 0123456789');

sub run_ok
{
	my ($name, @command) = @_;

	$node->command_ok(\@command, $name);
	return;
}

sub new_database
{
	my ($db) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $db TEMPLATE template0");
	return $db;
}

sub install
{
	my ($db, $schema) = @_;

	$node->safe_psql($db, <<EOS);
SET client_min_messages = warning;
CREATE SCHEMA IF NOT EXISTS $schema;
CREATE EXTENSION pgcrypto SCHEMA public;
CREATE EXTENSION apikeys SCHEMA $schema;
GRANT USAGE ON SCHEMA $schema TO app, dora;
SELECT $schema.apikey_grant_application('app');
EOS
	return;
}

# What happens in a database in the course of time.  Returns all values.
sub fill
{
	my ($db, $schema) = @_;

	$node->safe_psql($db, <<EOS);
SET search_path = $schema;
SELECT apikey_import_legacy(id, value)
FROM (SELECT apikey_save_org('acme', 'Acme', 'enterprise'),
		apikey_save_org('old', 'Old'),
		apikey_save_org('small', 'Small', 'enterprise'),
		apikey_save_org('o''dd "\\"', E'O''dd \\\\ \\u00e9\\u4e2d', 'business')
	OFFSET 0) AS orgs,
	(VALUES ('acme', \$k\$$legacy[0]\$k\$), ('old', \$k\$$legacy[1]\$k\$)) AS keys (id, value);
SELECT apikey_install_capabilities();
UPDATE apikey_capability SET level = 'admin' WHERE capability = 'send_events';
DELETE FROM apikey_capability WHERE capability = 'send_users';
INSERT INTO apikey_capability VALUES ('own', 'architect', E'of the product\\n\\t\\\\.');
EOS
	my $out = $node->safe_psql($db, <<EOS);
SET search_path = $schema;
CREATE FUNCTION pg_temp.key(org text, member text, level apikey_level,
	name text = 'key', expires timestamptz = 'infinity') RETURNS text
BEGIN ATOMIC
	SELECT apikey_act_as(org, member);
	SELECT apikey_create(name, level, expires);
END;
BEGIN;
SELECT apikey_save_member('acme', 'ann', 'ann\@acme.example', 'admin') \\g /dev/null
SELECT apikey_save_member('acme', 'art', 'art\@acme.example', 'architect') \\g /dev/null
SELECT apikey_save_member('acme', 'stan', 'stan\@acme.example') \\g /dev/null
SELECT apikey_save_member('acme', 'gus', 'gus\@acme.example', 'guest') \\g /dev/null
SELECT apikey_save_member('acme', 'dora', 'dora\@acme.example', 'admin', 'dora') \\g /dev/null
SELECT apikey_save_member('acme', 'demoted', 'd\@acme.example', 'admin') \\g /dev/null
SELECT apikey_save_member('acme', 'guested', 'g\@acme.example', 'architect') \\g /dev/null
SELECT apikey_save_member('small', 'sid', 'sid\@small.example', 'admin') \\g /dev/null
SELECT apikey_save_member('o''dd "\\"', E'\\u00fc ''\\\\', E'tab\\tand\\nnewline', 'admin') \\g /dev/null
SELECT pg_temp.key(m.org_id, m.user_id, l.level)
FROM apikey_member m, unnest(enum_range(NULL::apikey_level)) AS l (level)
WHERE CASE m.role WHEN 'admin' THEN 3 WHEN 'architect' THEN 2 WHEN 'standard' THEN 1 ELSE 0 END
	>= array_position(enum_range(NULL::apikey_level), l.level)
	AND (m.org_id IN ('acme', 'small') OR l.level <> 'architect');
SELECT pg_temp.key('acme', 'ann', 'standard', E'\\u00e9 '' " \\\\ \\\\. \\\\N %_', '2100-01-02 03:04:05.678901+00');
SELECT pg_temp.key('acme', 'ann', 'standard', 'expired');
UPDATE apikey_key SET expires_at = now() WHERE name = 'expired';
COMMIT;
SELECT apikey_save_member('acme', 'demoted', NULL, 'standard') \\g /dev/null
SELECT apikey_save_member('acme', 'guested', NULL, 'guest') \\g /dev/null
SELECT apikey_save_org('small', NULL, 'mobile') \\g /dev/null
EOS
	return (@legacy, split(/\n/, $out), 'ak.' . 'x' x 43 . '/0000000');
}

# All that can be asked: of the values, by the application; of the lists, by
# members; and of the tables.
sub verdicts
{
	my ($db, $schema, @values) = @_;
	my $values = join(', ', map { "(\$k\$$_\$k\$)" } @values);
	my $sql = <<EOS;
SET search_path = $schema;
SET timezone = 'UTC';
SELECT left(v, 3), right(v, 7),
	apikey_check_level(v, 'standard'), apikey_check_level(v, 'architect'), apikey_check_level(v, 'admin'),
	apikey_check(v, 'send_events'), apikey_check(v, 'own'), apikey_me(v),
	(SELECT r FROM apikey_verify(v) r), apikey_inspect(v)
FROM (VALUES $values) AS t (v);
EOS
	foreach my $member ('ann', 'art', 'stan', 'gus', 'demoted', 'guested')
	{
		$sql .= <<EOS;
BEGIN;
SELECT apikey_act_as('acme', '$member');
SELECT kind, org_id, owner_id, owner_email, name, level, suffix, created_at, expires_at
FROM apikeys ORDER BY 2, 1, 3, 7;
COMMIT;
EOS
	}
	my $result = $node->safe_psql($db, $sql, extra_params => [ '-U', 'app' ]);

	# who connects as a database role is the member without further ado
	$result .= "\n" . $node->safe_psql($db, <<EOS, extra_params => [ '-U', 'dora' ]);
SET search_path = $schema;
SET timezone = 'UTC';
SELECT apikey_current_org(), apikey_current_user(), apikey_current_role(), count(*) FROM apikeys;
EOS
	foreach my $table ('org', 'member', 'key', 'legacy', 'capability')
	{
		$result .= "\n" . $node->safe_psql($db,
			"SET timezone = 'UTC'; SELECT t FROM $schema.apikey_$table t ORDER BY t::text");
	}
	return $result;
}

# Who may do what with our objects.
sub privileges
{
	my ($db) = @_;

	return $node->safe_psql($db, <<EOS);
SELECT p.proname, r.rolname, has_function_privilege(r.oid, p.oid, 'EXECUTE')
FROM pg_proc p, pg_roles r
WHERE p.proname LIKE 'apikey%' AND r.rolname IN ('app', 'dora') ORDER BY 1, 2;
SELECT c.relname, c.relrowsecurity, r.rolname,
	has_table_privilege(r.oid, c.oid, 'SELECT'), has_table_privilege(r.oid, c.oid, 'UPDATE')
FROM pg_class c, pg_roles r
WHERE c.relname LIKE 'apikey%' AND c.relkind IN ('r', 'v') AND r.rolname IN ('app', 'dora')
ORDER BY 1, 3;
EOS
}

# A restored database is compared, and then used.
sub check_restored
{
	my ($name, $db, $schema, $origin, $expected, @values) = @_;

	is(verdicts($db, $schema, @values), $expected, "$name: same verdicts, lists and rows");
	is(privileges($db), privileges($origin), "$name: same privileges");

	my $value = $node->safe_psql($db, <<EOS, extra_params => [ '-U', 'app' ]);
SET search_path = $schema;
BEGIN;
SELECT apikey_act_as('acme', 'ann') \\g /dev/null
SELECT apikey_create('after', 'architect');
COMMIT;
EOS
	is( $node->safe_psql(
			$db, <<EOS, extra_params => [ '-U', 'boss' ]), "t|t|t", "$name: new keys work, and numbers continue");
SET search_path = $schema;
SELECT key_id > (SELECT max(key_id) FROM apikey_key WHERE name <> 'after')
	AND key_id > (SELECT max(key_id) FROM apikey_legacy),
	key_id = (SELECT last_value FROM apikey_key_id_seq),
	apikey_check_level('$value', 'architect') FROM apikey_key WHERE name = 'after';
EOS

	# the rules are there again
	my ($rc, $out, $err) = $node->psql($db, <<EOS, on_error_stop => 0, extra_params => [ '-U', 'app' ]);
\\set VERBOSITY sqlstate
SET search_path = $schema;
BEGIN;
SELECT apikey_act_as('acme', 'demoted');
SELECT apikey_create('after', 'admin');
ROLLBACK;
SELECT apikey_save_org('acme', NULL, 'free');
EOS
	is(join(' ', $err =~ /ERROR:\s+(\w{5})/g), '42501 55000', "$name: new keys obey the rules");

	# its keys go with the member
	is( $node->safe_psql(
			$db, <<EOS, extra_params => [ '-U', 'app' ]), 'f', "$name: removal stops keys");
SET search_path = $schema;
SELECT apikey_remove_member('acme', 'ann') \\g /dev/null
SELECT apikey_check_level('$value', 'standard');
EOS
	return;
}

# The extension in the public schema, and in one that is on nobody's path.
foreach my $schema ('public', '"Key store"')
{
	my $origin = $schema eq 'public' ? 'one' : 'two';
	my @values;
	my $expected;

	new_database($origin);
	install($origin, $schema);
	@values = fill($origin, $schema);
	$expected = verdicts($origin, $schema, @values);

	# what is compared is not all one
	my $active = () = $expected =~ /\(active,/g;
	my $expired = () = $expected =~ /\(expired,/g;
	is(scalar(@values) . ", $active, $expired",
		'24, 22, 1', "$origin: keys, of which active, and expired");
	like($expected, qr/^ak\..*\|t\|t\|t\|.*acme,demoted,admin/m, "$origin: a demoted admin's key stays one");
	like($expected, qr/^ak\..*\|t\|t\|f\|.*acme,guested,architect/m, "$origin: a guest's key stays");
	like($expected, qr/^ak\..*\|t\|t\|f\|.*small,sid,architect/m, "$origin: an architect's key stays off enterprise");
	like($expected, qr/^acme\|dora\|admin\|\d{2}$/m, "$origin: a database role is a member");

	run_ok("$origin: dump in custom format", 'pg_dump', '-Fc', '-f', "$dir/$origin.custom", $origin);
	run_ok("$origin: dump as a script", 'pg_dump', '-f', "$dir/$origin.sql", $origin);
	run_ok("$origin: dump of the data only", 'pg_dump', '-a', '-f', "$dir/$origin.data", $origin);

	# by another superuser, who comes to own it; not by several jobs: an archive
	# does not tell them the order that foreign keys ask of an extension's tables
	my $db = new_database("${origin}_custom");
	run_ok("$origin: restore from custom format",
		'pg_restore', '-e', '-U', 'boss', '-d', $db, "$dir/$origin.custom");
	check_restored("$origin, custom", $db, $schema, $origin, $expected, @values);

	# in one transaction, so that rows are as old as it can be
	$db = new_database("${origin}_plain");
	run_ok("$origin: restore from a script",
		'psql', '-X', '-q', '-1', '-v', 'ON_ERROR_STOP=1', '-d', $db, '-f', "$dir/$origin.sql");
	check_restored("$origin, plain", $db, $schema, $origin, $expected, @values);

	# into an installation that is there already: in the same schema, or in
	# another one, with its name replaced in the script
	my $where = $schema eq 'public' ? 'public' : 'elsewhere';
	my $data = slurp_file("$dir/$origin.data");
	$data =~ s/\Q$schema\E\.apikey/$where.apikey/g;
	append_to_file("$dir/$origin.renamed", $data);
	$db = new_database("${origin}_data");
	install($db, $where);
	run_ok("$origin: restore of the data only",
		'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $db, '-f', "$dir/$origin.renamed");
	check_restored("$origin, data", $db, $where, $origin, $expected, @values);

	# what was shown once is in no dump; suffixes are generated, so they are not
	# either
	my $dumps = slurp_file("$dir/$origin.sql") . slurp_file("$dir/$origin.data");
	my @found = grep { index($dumps, substr($_, 0, 46)) >= 0 || index($dumps, substr($_, -8)) >= 0 } @values;
	is(scalar(@found), 0, "$origin: no value is in a dump");
	like($dumps, qr/COPY \Q$schema\E\.apikey_key /, "$origin: but the keys are");
}

$node->stop;
done_testing();
