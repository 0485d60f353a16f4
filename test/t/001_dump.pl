# A database that was dumped and restored gives the same verdict on every key as
# the one it was dumped from, whatever the format, the schema that the extension
# is in and whoever restores it: also on keys that today's rules would not let
# anybody create.  Numbers continue where they were, and the application keeps
# its functions.  No value is in a dump.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use MoveTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--encoding=UTF8', '--locale=C' ]);
$node->append_conf('postgresql.conf', "log_statement = none\nautovacuum = off");
$node->start;
create_roles($node);

my $dir = $node->basedir;

sub run_ok
{
	my ($name, @command) = @_;

	$node->command_ok(\@command, $name);
	return;
}

# The extension in the public schema, and in one that is on nobody's path.
foreach my $schema ('public', '"Key store"')
{
	my $origin = $schema eq 'public' ? 'one' : 'two';
	my @values;
	my $expected;

	new_database($node, $origin);
	install_in($node, $origin, $schema);
	@values = fill($node, $origin, $schema);
	$expected = verdicts($node, $origin, $schema, @values);
	my $privileges = privileges($node, $origin);

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
	my $db = new_database($node, "${origin}_custom");
	run_ok("$origin: restore from custom format",
		'pg_restore', '-e', '-U', 'boss', '-d', $db, "$dir/$origin.custom");
	check_moved($node, "$origin, custom", $db, $schema, $expected, $privileges, @values);

	# in one transaction, so that rows are as old as it can be
	$db = new_database($node, "${origin}_plain");
	run_ok("$origin: restore from a script",
		'psql', '-X', '-q', '-1', '-v', 'ON_ERROR_STOP=1', '-d', $db, '-f', "$dir/$origin.sql");
	check_moved($node, "$origin, plain", $db, $schema, $expected, $privileges, @values);

	# into an installation that is there already: in the same schema, or in
	# another one; the tables are where they always are
	my $where = $schema eq 'public' ? 'public' : 'elsewhere';
	$db = new_database($node, "${origin}_data");
	install_in($node, $db, $where);
	run_ok("$origin: restore of the data only",
		'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $db, '-f', "$dir/$origin.data");
	check_moved($node, "$origin, data", $db, $where, $expected, $privileges, @values);

	# what was shown once is in no dump; suffixes are generated, so they are not
	# either
	my $dumps = slurp_file("$dir/$origin.sql") . slurp_file("$dir/$origin.data");
	my @found = grep { index($dumps, substr($_, 0, 46)) >= 0 || index($dumps, substr($_, -8)) >= 0 } @values;
	is(scalar(@found), 0, "$origin: no value is in a dump");
	like($dumps, qr/COPY apikeys_private\.apikey_key /, "$origin: but the keys are");
}

$node->stop;
done_testing();
