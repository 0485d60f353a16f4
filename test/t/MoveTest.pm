# What the tests of moving a database share: one in which all kinds of keys have
# come together in the course of time, all that can be asked of it, and what
# must hold where it has been moved to.
package MoveTest;

use strict;
use warnings;

use Exporter 'import';
use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(
  @legacy page_block create_roles new_database install_in fill verdicts privileges
  check_moved
);

our @legacy = ("acme's legacy key, with quotes \\ and all", 'another legacy key 0123456789');

# The one block of SQL or shell in the pages that has such a line: what is written
# is run as it stands there, whichever page it is on.
sub page_block
{
	my ($line) = @_;
	my $top = "$FindBin::RealBin/../..";
	my $pages = join '', map { slurp_file($_) } "$top/README.md", glob("$top/doc/*.md");
	my @blocks = grep { /$line/m } $pages =~ /^```(?:sql|sh)\n(.*?)^```/gms;

	die scalar(@blocks) . " blocks in the pages have $line" if @blocks != 1;
	return $blocks[0];
}

# The application, a member with a database role, and another superuser.
sub create_roles
{
	my ($node) = @_;

	$node->safe_psql('postgres', <<EOS);
CREATE ROLE app LOGIN;
CREATE ROLE dora LOGIN;
CREATE ROLE boss LOGIN SUPERUSER;
EOS
	return;
}

sub new_database
{
	my ($node, $db, $owner) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $db TEMPLATE template0"
		  . (defined $owner ? " OWNER $owner" : ''));
	return $db;
}

sub install_in
{
	my ($node, $db, $schema) = @_;

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
	my ($node, $db, $schema) = @_;

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
UPDATE apikeys_private.apikey_capability SET level = 'admin' WHERE capability = 'send_events';
DELETE FROM apikeys_private.apikey_capability WHERE capability = 'send_users';
INSERT INTO apikeys_private.apikey_capability VALUES ('own', 'architect', E'of the product\\n\\t\\\\.');
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
FROM apikeys_private.apikey_member m, unnest(enum_range(NULL::apikey_level)) AS l (level)
WHERE CASE m.role WHEN 'admin' THEN 3 WHEN 'architect' THEN 2 WHEN 'standard' THEN 1 ELSE 0 END
	>= array_position(enum_range(NULL::apikey_level), l.level)
	AND (m.org_id IN ('acme', 'small') OR l.level <> 'architect');
SELECT pg_temp.key('acme', 'ann', 'standard', E'\\u00e9 '' " \\\\ \\\\. \\\\N %_', '2100-01-02 03:04:05.678901+00');
SELECT pg_temp.key('acme', 'ann', 'standard', 'expired');
UPDATE apikeys_private.apikey_key SET expires_at = now() WHERE name = 'expired';
COMMIT;
SELECT apikey_save_member('acme', 'demoted', NULL, 'standard') \\g /dev/null
SELECT apikey_save_member('acme', 'guested', NULL, 'guest') \\g /dev/null
SELECT apikey_save_org('small', NULL, 'mobile') \\g /dev/null
EOS
	$node->safe_psql($db, "SELECT $schema.apikey_seal_history()");
	return (@legacy, split(/\n/, $out), 'ak.' . 'x' x 43 . '/0000000');
}

# All that can be asked: of the values, by the application; of the lists, by
# members; and of the tables.
sub verdicts
{
	my ($node, $db, $schema, @values) = @_;
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
			"SET timezone = 'UTC'; SELECT t FROM apikeys_private.apikey_$table t ORDER BY t::text");
	}
	return $result;
}

# Who may do what with our objects.
sub privileges
{
	my ($node, $db) = @_;

	return $node->safe_psql($db, <<EOS);
SELECT p.proname, r.rolname, has_function_privilege(r.oid, p.oid, 'EXECUTE')
FROM pg_proc p, pg_roles r
WHERE p.proname LIKE 'apikey%' AND r.rolname IN ('app', 'dora') ORDER BY 1, 2;
SELECT c.relname, c.relrowsecurity, r.rolname,
	has_table_privilege(r.oid, c.oid, 'SELECT'), has_table_privilege(r.oid, c.oid, 'UPDATE')
FROM pg_class c, pg_roles r
WHERE c.relname LIKE 'apikey%' AND c.relkind IN ('r', 'v') AND r.rolname IN ('app', 'dora')
ORDER BY 1, 3;
SELECT r.rolname, has_schema_privilege(r.oid, 'apikeys_private', 'USAGE')
FROM pg_roles r WHERE r.rolname IN ('app', 'dora') ORDER BY 1;
EOS
}

# A database that was moved is compared with what it was, and then used.
sub check_moved
{
	my ($node, $name, $db, $schema, $verdicts, $privileges, @values) = @_;

	is(verdicts($node, $db, $schema, @values), $verdicts, "$name: same verdicts, lists and rows");
	is(privileges($node, $db), $privileges, "$name: same privileges");
	is($node->safe_psql($db, "SELECT ok, (SELECT sum(events) > 20 FROM apikeys_private.apikey_seal) FROM $schema.apikey_verify_history()"),
		't|t', "$name: history verifies");

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
SELECT key_id > (SELECT max(key_id) FROM apikeys_private.apikey_key WHERE name <> 'after')
	AND key_id > (SELECT max(key_id) FROM apikeys_private.apikey_legacy),
	key_id = (SELECT last_value FROM apikeys_private.apikey_key_id_seq),
	apikey_check_level('$value', 'architect') FROM apikeys_private.apikey_key WHERE name = 'after';
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

1;
