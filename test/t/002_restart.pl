# Keys and what happened to them survive a restart and a crash; settings are
# obeyed from postgresql.conf, whether the library is preloaded or comes with the
# first call; and in neither case does a configuration file, a database, a role or
# a connection give anybody a principal.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use ApikeysTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--encoding=UTF8', '--locale=C' ]);
$node->append_conf('postgresql.conf', <<EOC);
log_statement = none
autovacuum = off
max_prepared_transactions = 5
EOC
$node->start;
install($node);
my $legacy = 'the legacy key of acme';
$node->safe_psql('postgres', "SELECT apikey_import_legacy('acme', '$legacy')");

# The verdicts on several keys, at the three levels, as one string.
sub verdicts
{
	my (@values) = @_;

	return $node->safe_psql('postgres', <<EOS, extra_params => [ '-U', 'app' ]);
SELECT string_agg(concat_ws('', apikey_check_level(v, 'standard'),
		apikey_check_level(v, 'architect'), apikey_check_level(v, 'admin')),
	' ' ORDER BY n)
FROM unnest(ARRAY['@{[ join("','", @values) ]}']) WITH ORDINALITY AS t (v, n)
EOS
}

# What a session says whose connection has options: the principal, and the
# messages beside it.
sub connect_with
{
	my ($options, $role, $sql) = @_;

	local $ENV{PGOPTIONS} = $options;
	my ($rc, $out, $err) = $node->psql('postgres', $sql // <<EOS, extra_params => [ '-U', $role // 'app' ]);
SELECT coalesce(apikey_current_org(), 'nobody'),
	'[' || current_setting('apikeys.principal') || ']',
	(SELECT count(*) FROM apikeys);
EOS
	return ($rc, $out, $err);
}

my ($kept, $lowered, $deleted, $expired) =
  map { as_acme($node, 'ann', "SELECT apikey_create('$_', 'admin')") } qw(kept lowered deleted expired);
as_acme($node, 'ann', "SELECT apikey_update(apikey_suffix('$lowered'), level => 'standard')");
as_acme($node, 'ann', "SELECT apikey_delete(apikey_suffix('$deleted'))");
as_acme($node, 'ann', "SELECT apikey_rotate(apikey_suffix('$expired'))");
my @values = ($kept, $lowered, $deleted, $expired, $legacy);
my $expected = 'ttt tff fff fff ttt';

is(verdicts(@values), $expected, 'before');
$node->restart;
is(verdicts(@values), $expected, 'after a restart');

#
# A crash: what was acknowledged is there, all of it and nothing else
#
my $late = as_acme($node, 'ann', "SELECT apikey_create('late', 'admin')");
my $gone = as_acme($node, 'ann', "SELECT apikey_create('gone', 'admin')");
my $prepared = as_acme($node, 'ann', "SELECT apikey_create('prepared', 'admin')");
my $undone = as_acme($node, 'ann', "SELECT apikey_create('undone', 'admin')");
as_acme($node, 'ann', "SELECT apikey_delete(apikey_suffix('$gone'))");
foreach my $key ([ 'one', $prepared ], [ 'two', $undone ])
{
	$node->safe_psql('postgres', <<EOS, extra_params => [ '-U', 'app' ]);
BEGIN;
SELECT apikey_act_as('acme', 'ann');
SELECT apikey_delete(apikey_suffix('$key->[1]'));
PREPARE TRANSACTION '$key->[0]';
EOS
}

# one that never ends
my $open = $node->background_psql('postgres', extra_params => [ '-U', 'app' ]);
my $never = $open->query_safe("BEGIN; SELECT apikey_act_as('acme', 'ann') \\g /dev/null\nSELECT apikey_create('never', 'admin')");
$open->query_safe("SELECT apikey_delete(apikey_suffix('$late'))");
is($open->query_safe("SELECT apikey_check_level('$never', 'admin'), apikey_check_level('$late', 'admin')"),
	't|f', 'a transaction sees what it has done');

push @values, $late, $gone, $prepared, $undone, $never;
$expected .= ' ttt fff ttt ttt fff';
is(verdicts(@values), $expected, 'others see what is committed');
$node->stop('immediate');
$open->{run}->finish;
$node->start;
is(verdicts(@values), $expected, 'after a crash');

my $session = $node->background_psql('postgres', extra_params => [ '-U', 'app' ]);
my $ask = "SELECT apikey_check_level('$prepared', 'admin'), apikey_check_level('$undone', 'admin')";
is($session->query_safe($ask), 't|t', 'what was prepared before the crash is not committed');
is($session->query_safe($ask), 't|t', 'nor the second time');
$node->safe_psql('postgres', "COMMIT PREPARED 'one'");
is($session->query_safe($ask), 'f|t', 'until it is, to a session that has verified the key');
$node->safe_psql('postgres', "ROLLBACK PREPARED 'two'");
is($session->query_safe($ask), 'f|t', 'or is rolled back');
$session->quit;
is( $node->safe_psql('postgres', "SELECT count(*), count(DISTINCT key_id) FROM apikeys_private.apikey_key"),
	'6|6', 'as many keys as were made and not deleted');
like(as_acme($node, 'ann', "SELECT apikey_create('after')"), qr/^ak\./, 'and more can be made');
is( $node->safe_psql('postgres', <<EOS), 't', 'with a number that is new');
SELECT key_id = (SELECT max(key_id) FROM apikeys_private.apikey_key) FROM apikeys_private.apikey_key WHERE name = 'after'
EOS

#
# Settings, and principals that are none, with the library preloaded and not
#
my $member = "member\\\tacme\\\tann";
$node->safe_psql('postgres', <<EOS);
CREATE ROLE forged LOGIN;
GRANT app TO forged;
CREATE ROLE plain LOGIN;
EOS

# before the library is in the session, PostgreSQL does not know the setting
# and takes anything
$node->safe_psql('postgres', <<EOS);
ALTER ROLE forged SET apikeys.principal = E'member\\tacme\\tann';
ALTER DATABASE postgres SET apikeys.principal = E'member\\tacme\\tann';
EOS

$node->append_conf('postgresql.conf', <<EOC);
shared_preload_libraries = ''
apikeys.prefix = 'na1'
apikeys.principal = 'member\tacme\tann'
EOC

foreach my $preload ('', 'apikeys')
{
	my $how = $preload ? 'preloaded' : 'not preloaded';

	$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "'$preload'");
	$node->adjust_conf('postgresql.conf', 'apikeys.prefix', "'na1'");
	$node->restart;

	is(verdicts(@values), 'ttt tff fff fff ttt ttt fff fff ttt fff', "$how: the same verdicts");
	is(substr(as_acme($node, 'ann', "SELECT apikey_create('prefix')"), 0, 4), 'na1.', "$how: the prefix is that of the file");

	my ($rc, $out, $err) = connect_with('');
	is("$rc, $out", '0, nobody|[]|0', "$how: no principal by the file or the database");
	($rc, $out, $err) = connect_with('', 'forged');
	is("$rc, $out", '0, nobody|[]|0', "$how: nor by the role");

	# a connection may be refused, or be nobody's
	($rc, $out, $err) = connect_with("-c apikeys.principal=$member");
	if ($preload)
	{
		isnt($rc, 0, "$how: a connection that asks for a principal is refused");
		like($err, qr/parameter "apikeys.principal" cannot be set/, "$how: with the reason");
	}
	else
	{
		is("$rc, $out", '0, nobody|[]|0', "$how: nor by the connection");
		like($err, qr/WARNING/, "$how: which is told");
	}

	# nor can others than superusers set what is the operator's, though without
	# preloading PostgreSQL forgets the file's value when somebody tries
	foreach my $setting ('prefix=xx', 'seal_principal=off', 'revoke_remote_apply=off')
	{
		my ($name, $value) = split /=/, $setting;
		($rc, $out, $err) = connect_with("-c apikeys.$setting", 'app',
			"SELECT apikey_suffix('x'); SHOW apikeys.$name");
		unlike($out, qr/\b$value\b/, "$how: nor is apikeys.$name set by the connection");
		like($err, qr/permission denied to set parameter "apikeys.$name"/, "$how: with the reason");
	}

	# a reload does not bring one either, and a bad value changes nothing
	$node->adjust_conf('postgresql.conf', 'apikeys.prefix', "'Not A Prefix'");
	my $log_start = -s $node->logfile;
	$node->reload;
	$node->wait_for_log(qr/parameter "apikeys.prefix"/, $log_start);
	($rc, $out, $err) = connect_with('');
	is("$rc, $out", '0, nobody|[]|0', "$how: no principal after a reload");
	is( substr(as_acme($node, 'ann', "SELECT apikey_create('prefix')"), 0, 3),
		$preload ? 'na1' : 'ak.',
		"$how: a bad prefix is not used");
}

$node->stop;
done_testing();
