# A library and an SQL script of different versions: between the package that
# was upgraded and ALTER EXTENSION UPDATE there is such a time.  The library
# answers as long as it finds what it needs, and never a wrong yes; what is
# missing, or is there beyond what it knows, is an error that has a name; and
# apikey_selfcheck() tells both versions.  For a session that was there before,
# and for one that comes after.
#
# There is one version yet, so the other one is made by hand.
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
EOS
my $live = make_key($node);
my $low = make_key($node, level => 'standard');
my $gone = make_key($node);
$node->safe_psql('postgres', "DELETE FROM apikeys_private.apikey_key WHERE suffix = apikey_suffix('$gone')");
my $library = $node->safe_psql('postgres', 'SELECT apikeys_private.apikey_library_version()');
my $session = session($node);

# What is answered; the two that must not pass are last.
my @questions = (
	"SELECT apikey_check_level('$live', 'admin')",
	"SELECT apikey_check('$live', 'delete_block_rules')",
	"SELECT user_id FROM apikey_verify('$live')",
	"SELECT apikey_check_level('a legacy key of acme', 'admin')",
	"SELECT apikey_check_level('$low', 'admin')",
	"SELECT apikey_check_level('$gone', 'standard')");
my $right = 't t ann t f f';

# By the session that was there before, and by a new one.
sub answers_are
{
	my ($name, $expected) = @_;
	my $new = session($node);

	is(join(' ', map { sqlstate($session, $_) } @questions), $expected, $name);
	is(join(' ', map { sqlstate($new, $_) } @questions), $expected, "$name, to a new session");
	$new->quit;
	return;
}

sub dba
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', "SET client_min_messages = warning; $sql");
}

# SQLSTATE and message of the error it ends in.
sub error_of
{
	my ($sql) = @_;
	my (undef, undef, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$sql");

	return $err =~ /ERROR:\s+(.*)/ ? $1 : $err;
}

# Behind the back of our triggers, as a newer library may have done.
sub unguarded
{
	my ($sql, $table, @triggers) = @_;
	my $off = join ', ', map { "DISABLE TRIGGER $_" } @triggers;
	my $on = join ', ', map { "ENABLE ALWAYS TRIGGER $_" } @triggers;

	return dba("BEGIN; ALTER TABLE $table $off; $sql; ALTER TABLE $table $on; COMMIT");
}

sub complaints
{
	return $node->safe_psql('postgres',
		q{SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok});
}

answers_are('one version', $right);
is(complaints(), '', 'nothing to complain of');
is(dba("SELECT extversion FROM pg_extension WHERE extname = 'apikeys'"),
	$library, 'library and SQL are of one version');

### the number alone

for my $version ('0.9', '99.0', '1.0dev')
{
	dba("UPDATE pg_extension SET extversion = '$version' WHERE extname = 'apikeys'");
	answers_are("SQL of version $version", $right);
	is(complaints(), "version|the library is of version $library, the extension of version $version",
		"SQL of version $version: told");
	like(error_of('ALTER EXTENSION apikeys UPDATE'),
		qr/^22023: extension "apikeys" has no update path from version "$version"/,
		"SQL of version $version: no way from there");
	my $key = make_key($node);
	is(check_key($session, $key), 't', "SQL of version $version: a new key is one");
	dba("DELETE FROM apikeys_private.apikey_key WHERE suffix = apikey_suffix('$key')");
	is(check_key($session, $key), 'f', "SQL of version $version: and dead when it is deleted");
}
dba("UPDATE pg_extension SET extversion = '$library' WHERE extname = 'apikeys'");
is(complaints(), '', 'nothing to complain of any more');
like(error_of("ALTER EXTENSION apikeys UPDATE TO '99.0'"),
	qr/^22023: extension "apikeys" has no update path from version "\Q$library\E" to version "99.0"/,
	'no update to a version that is not there');

### SQL that is newer than the library

# What newer SQL may bring that an older library can live with.
dba(<<EOS);
BEGIN;
ALTER TABLE apikeys_private.apikey_key ADD scope text NOT NULL DEFAULT 'all';
ALTER TABLE apikeys_private.apikey_legacy ADD scope text NOT NULL DEFAULT 'all';
CREATE TABLE apikey_scope (scope text PRIMARY KEY);
ALTER EXTENSION apikeys ADD TABLE apikey_scope;
ALTER TYPE apikey_plan ADD VALUE 'group' AFTER 'business';
COMMIT;
EOS
answers_are('newer SQL: columns, a table, a plan', $right);

# A function that the library has not got.
like(error_of("CREATE FUNCTION apikey_next(key text) RETURNS boolean AS '\$libdir/apikeys' LANGUAGE C"),
	qr/^42883: could not find function "apikey_next"/, 'a script that needs a newer library stops');
like(error_of("BEGIN; UPDATE pg_proc SET prosrc = 'apikey_next' WHERE proname = 'apikey_me'; SELECT apikey_me('$live')"),
	qr/^42883: could not find function "apikey_next"/, 'and so does a call, after a downgrade');

# A level above all others, and one below; and a role.  The library does not
# take them for any that it knows.
dba(<<EOS);
ALTER TYPE apikey_level ADD VALUE 'root';
ALTER TYPE apikey_level ADD VALUE 'least' BEFORE 'standard';
ALTER TYPE apikey_role ADD VALUE 'owner';
EOS
answers_are('newer SQL: levels and a role', $right);

sub set_low
{
	my ($level) = @_;

	return unguarded("UPDATE apikeys_private.apikey_key SET level = '$level' WHERE suffix = apikey_suffix('$low')",
		'apikeys_private.apikey_key', 'apikey_guard', 'apikey_announce');
}

my $unknown = qr/^55000: type "apikey_(level|role)" of extension "apikeys" is missing or not as it was installed/;
for my $level ('root', 'least')
{
	like(error_of("SELECT apikey_check_level('$live', '$level')"), $unknown, "is it $level? an error");
	like(error_of("UPDATE apikeys_private.apikey_key SET level = '$level' WHERE suffix = apikey_suffix('$live')"),
		$unknown, "no key becomes $level");
	like(error_of("BEGIN; SELECT apikey_act_as('acme', 'ann'); SELECT apikey_create('x', '$level')"),
		$unknown, "nor is created as $level");
	dba("INSERT INTO apikeys_private.apikey_capability VALUES ('$level', '$level')");
	like(error_of("SELECT apikey_check('$live', '$level')"), $unknown, "a capability of level $level is an error");
	set_low($level);
	is(check_key($session, $low), '55000', "a key of level $level is none of the library's");
	is(check_key($session, $live, 'admin'), 't', 'the others are');
}
set_low('standard');
like(error_of("UPDATE apikeys_private.apikey_member SET role = 'owner'"), $unknown, 'no member becomes owner');
unguarded("UPDATE apikeys_private.apikey_member SET role = 'owner'", 'apikeys_private.apikey_member', 'apikey_guard');
like(error_of("BEGIN; SELECT apikey_act_as('acme', 'ann'); SELECT apikey_create('x', 'standard')"),
	$unknown, 'a member of a role that is not known creates nothing');
unguarded("UPDATE apikeys_private.apikey_member SET role = 'admin'", 'apikeys_private.apikey_member', 'apikey_guard');
answers_are('known levels and roles again', $right);

### SQL that is older than the library

# A table, a column, a trigger, a type that are not there yet.
my @older = (
	[ 'without a table', 'ALTER EXTENSION apikeys DROP TABLE apikeys_private.apikey_usage; ALTER TABLE apikeys_private.apikey_usage RENAME TO was',
		'ALTER TABLE apikeys_private.was RENAME TO apikey_usage; ALTER EXTENSION apikeys ADD TABLE apikeys_private.apikey_usage', '55000' ],
	[ 'with a table of another name', 'ALTER TABLE apikeys_private.apikey_capability RENAME TO apikey_ability',
		'ALTER TABLE apikeys_private.apikey_ability RENAME TO apikey_capability', '55000' ],
	[ 'with a column of another name', 'ALTER TABLE apikeys_private.apikey_member RENAME db_role TO login',
		'ALTER TABLE apikeys_private.apikey_member RENAME login TO db_role', '55000' ],
	[ 'with a column of another type', "ALTER TABLE apikeys_private.apikey_org ALTER name TYPE varchar",
		'ALTER TABLE apikeys_private.apikey_org ALTER name TYPE text', '55000' ],
	[ 'with a type of another name', 'ALTER TYPE apikey_plan RENAME TO apikey_tariff',
		'ALTER TYPE apikey_tariff RENAME TO apikey_plan', '55000' ],
	# no telling of changes: then nothing is kept, and all is right
	[ 'without a trigger', 'ALTER TABLE apikeys_private.apikey_key DISABLE TRIGGER apikey_announce',
		'ALTER TABLE apikeys_private.apikey_key ENABLE ALWAYS TRIGGER apikey_announce', undef ],
	[ 'without a type', 'ALTER TYPE apikeys_private.apikey_change RENAME TO was', 'ALTER TYPE apikeys_private.was RENAME TO apikey_change',
		'55000' ],
);

for my $case (@older)
{
	my ($name, $break, $repair, $state) = @$case;
	my $expected = defined $state ? join(' ', map { $state } @questions) : $right;

	# a script that updates touches the tables too, or a session that was there
	# before goes on with what it has, which is as right
	dba("$break; ALTER TABLE apikeys_private.apikey_key SET (fillfactor = 90)");
	answers_are("SQL $name", $expected);
	dba("$repair; ALTER TABLE apikeys_private.apikey_key RESET (fillfactor)");
	answers_are("SQL $name, updated", $right);
}
dba('ALTER EXTENSION apikeys DROP TABLE apikey_scope; DROP TABLE apikey_scope');
like(complaints(), qr/^objects\|[^\n]*apikey_key\.scope was added[^\n]*type apikey_level was changed[^\n]*$/,
	'the self-check tells what another version has changed');
dba('SELECT apikeys_private.apikey_record_definitions()');
is(complaints(), '', 'and nothing once that is recorded, as scripts do at their end');

$session->quit;
done_testing();
