# Whose usage a call site in PL/pgSQL tells, which lives as long as the
# transaction: that of who is asking at this moment, although the answer to who
# that is is remembered for the rows of a list. A DBA has let the function be
# named that the lists ask.
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
$node->safe_psql('postgres', <<'EOS');
CREATE ROLE of_ann LOGIN;
CREATE ROLE of_bob LOGIN;
CREATE ROLE of_both LOGIN;
GRANT of_ann, of_bob TO of_both;
SELECT apikey_save_member('acme', 'ann', NULL, 'admin', 'of_ann'),
	apikey_save_member('acme', 'bob', 'bob@acme.example', 'standard', 'of_bob'),
	apikey_save_member('acme', 'cleo', 'cleo@acme.example', 'admin');
GRANT USAGE ON SCHEMA apikeys_private TO app, of_ann, of_bob;
EOS
my $value = make_key($node);
my $suffix = substr($value, -7);
verify($node, $value, 3);

# The uses of ann's key, by a call site that is the same for all calls in a
# transaction.
$node->safe_psql('postgres', <<"EOS");
CREATE FUNCTION told() RETURNS bigint LANGUAGE plpgsql AS \$\$
DECLARE
	told bigint;
BEGIN
	told := (apikeys_private.apikey_usage_of('acme', '$suffix')).uses;
	RETURN told;
END \$\$;
CREATE FUNCTION told_of(VARIADIC roles name[]) RETURNS text LANGUAGE plpgsql AS \$\$
DECLARE
	told text := '';
	role name;
BEGIN
	FOREACH role IN ARRAY roles LOOP
		EXECUTE format('SET LOCAL ROLE %I', role);
		told := told || coalesce((apikeys_private.apikey_usage_of('acme', '$suffix')).uses::text, 'NULL') || ' ';
	END LOOP;
	RETURN told;
END \$\$;
EOS

#
# Another role, within a statement
#
my $session = session($node, user => 'of_both');
is($session->query_safe("SELECT told_of('of_ann', 'of_bob', 'of_ann')"),
	'3 NULL 3 ', 'a call site does not remember another role');

#
# Another statement
#
is($session->query_safe('BEGIN; SET LOCAL ROLE of_ann; SELECT told()'), 3, 'an admin in a transaction');
sql($node, "SELECT apikey_save_member('acme', 'ann', NULL, 'guest')");
is($session->query_safe('SELECT told()'), '', 'who has been demoted is told nothing in the next statement');
sql($node, "SELECT apikey_save_member('acme', 'ann', NULL, 'admin')");
is($session->query_safe('SELECT told()'), 3, 'and promoted again, is told');
is($session->query_safe("SET LOCAL ROLE of_bob; SELECT told()"), '', 'another role in the next statement');
$session->query_safe('COMMIT');

# The same where all of the transaction sees one state of the tables.
is($session->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL ROLE of_ann; SELECT told()'),
	3, 'an admin in a transaction with one snapshot');
sql($node, "SELECT apikey_save_member('acme', 'ann', NULL, 'guest')");
is($session->query_safe('SELECT told()'), '', 'who has been demoted is told nothing in its next statement');
$session->query_safe('COMMIT');
sql($node, "SELECT apikey_save_member('acme', 'ann', NULL, 'admin')");

#
# A member that changes within a statement: by the same transaction, or by another
#
$node->safe_psql('postgres', <<"EOS");
CREATE FUNCTION told_before_and_after(change text) RETURNS text LANGUAGE plpgsql AS \$\$
DECLARE
	told text := '';
BEGIN
	FOR i IN 1 .. 2 LOOP
		SET LOCAL ROLE app;
		told := told || coalesce((apikeys_private.apikey_usage_of('acme', '$suffix')).uses::text, 'NULL') || ' ';
		RESET ROLE;
		EXECUTE change;
	END LOOP;
	RETURN told;
END \$\$;
CREATE EXTENSION dblink;
EOS
my $demote = q{SELECT apikey_save_member('acme', 'cleo', NULL, 'standard')};
my $promote = q{SELECT apikey_save_member('acme', 'cleo', NULL, 'admin')};

sub told_before_and_after
{
	my ($change) = @_;

	return sql($node, "BEGIN; SELECT apikey_act_as('acme', 'cleo') \\g /dev/null\n"
		  . "SELECT told_before_and_after(\$o\$$change\$o\$); COMMIT");
}

is(told_before_and_after($demote), '3 NULL ', 'a call site knows of a change by its own transaction');
sql($node, $promote);
is(told_before_and_after("SELECT FROM dblink('dbname=postgres', \$\$$demote\$\$) AS t(x text)"),
	'3 NULL ', 'and by another one');
sql($node, $promote);

# One that began before the latest that has ended, with savepoints and without.
foreach my $earlier ($demote, q{UPDATE apikeys_private.apikey_member SET role = 'standard' WHERE user_id = 'cleo'})
{
	sql($node, "SELECT dblink_connect('earlier', 'dbname=postgres'), dblink_exec('earlier', 'BEGIN')");
	sql($node, "DO \$do\$ BEGIN PERFORM dblink_send_query('earlier', \$\$$earlier\$\$); END \$do\$");
	sql($node, "SELECT FROM dblink_get_result('earlier', false) AS t(x text)") for 1 .. 2;
	sql($node, 'CREATE TABLE later (); DROP TABLE later');
	is(told_before_and_after("SELECT dblink_exec('earlier', 'COMMIT')"), '3 NULL ', 'and by one that began earlier');
	sql($node, "SELECT dblink_disconnect('earlier')");
	sql($node, $promote);
}

#
# Another principal within a statement
#
is(told_before_and_after(q{SELECT apikey_act_as('acme', 'bob')}), '3 NULL ',
	'a call site does not remember another principal');
is(told_before_and_after('RESET apikeys.principal'), '3 NULL ', 'nor one that is gone');

#
# Another organization, by a name that begins alike
#
sql($node, <<"EOS");
SELECT apikey_save_org('acme2', 'Acme 2'), apikey_save_member('acme2', 'zoe', 'zoe\@acme.example', 'admin');
SELECT apikey_save_org('acm', 'Acm'), apikey_save_member('acm', 'zoe', 'zoe\@acme.example', 'admin');
EOS
foreach my $org ('acme2', 'acm')
{
	my $theirs = $node->safe_psql('postgres', <<"EOS", extra_params => [ '-U', 'app' ]);
BEGIN;
SELECT apikey_act_as('$org', 'zoe') \\g /dev/null
SELECT apikey_create('key');
COMMIT;
EOS
	verify($node, $theirs, 1);
	my $told = "SELECT (apikeys_private.apikey_usage_of('$org', apikey_suffix('$theirs'))).uses";
	is(sql($node, $told), 1, "a superuser is told of organization $org");
	is($session->query_safe("BEGIN; SET LOCAL ROLE of_ann; $told; COMMIT"), '', "an admin of acme is not");
}

$session->quit;
hang_up($node);
$node->stop;
done_testing();
