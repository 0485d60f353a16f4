# Attack 18, in the server's log: a value that is passed as a parameter does not
# get there with PostgreSQL's default settings, whatever fails; each setting
# that apikey_selfcheck() complains of is shown to bring it there, so that the
# complaint is right, and with the remedy that the complaint names it is not.
# And attacks 7 and 8 where the library is preloaded: a connection cannot bring a
# principal along, and a function does not go on counting for the one there was.
# With apikeys.redact, which 040_redact is about, less would be there.
# pg_regress cannot read a log or choose what is preloaded.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use ApikeysTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('log');
$node->init(extra => [ '--encoding=UTF8', '--locale=C' ]);

# The test framework logs all statements, and we ask for what is default.
$node->append_conf('postgresql.conf', "log_statement = none\n"
	  . "shared_preload_libraries = 'apikeys, pg_stat_statements, auto_explain'\n");
$node->start;
install($node);
$node->safe_psql('postgres', 'CREATE EXTENSION pg_stat_statements');

my $value = make_key($node);
my ($secret) = $value =~ m{\.(\w{43})/};
my $dead = make_key($node);
my ($dead_secret) = $dead =~ m{\.(\w{43})/};
my $suffix = substr($dead, -7);
$node->safe_psql('postgres', "DELETE FROM apikeys_private.apikey_key WHERE suffix = '$suffix'");

# What is in the log after some statements of an application, with parameters;
# those that fail, too.
my $script = $node->basedir . '/script.sql';
append_to_file($script, "SELECT apikey_check_level(:v, 'admin');\nSELECT * FROM apikey_verify(:v);\nSELECT apikey_me(:v);\n");
my $failing = $node->basedir . '/failing.sql';
append_to_file($failing, "BEGIN;\nSELECT apikey_authenticate(:v);\nCOMMIT;\n");
my $other = $node->basedir . '/other.sql';
append_to_file($other, "BEGIN;\nSELECT apikey_act_as(:v, :v), 1;\nCOMMIT;\n");

sub log_of
{
	my $offset = -s $node->logfile;

	for my $run ([ $script, $value ], [ $failing, $dead ], [ $other, $value ])
	{
		my ($file, $v) = @$run;
		my $ok = run_log([ 'pgbench', '-n', '-M', 'extended', '-t', '1', '-D', "v=$v", '-f', $file,
				'-U', 'app', '-h', $node->host, '-p', $node->port, 'postgres' ]);
		BAIL_OUT('the application could not verify') if $v eq $value && $file eq $script && !$ok;
	}
	# what a backend logs it has written before it answers
	return slurp_file($node->logfile, $offset);
}

sub with_settings
{
	my (@settings) = @_;

	$node->safe_psql('postgres', join(';', map { "ALTER ROLE app SET $_" } @settings));
	my $log = log_of();
	my $complaint = $node->safe_psql('postgres',
		q{SELECT coalesce(detail, 'none') FROM apikey_selfcheck() WHERE "check" = 'logging'});
	$node->safe_psql('postgres', 'ALTER ROLE app RESET ALL');
	return ($log, $complaint);
}

my ($log, $complaint) = with_settings('log_statement = none');
like($log, qr/the key is not valid/, 'errors are logged');
like($log, qr/there is no such member/, 'so are others');
unlike($log, qr/\Q$secret\E|\Q$dead_secret\E/, 'no value is, by default');
is($complaint, 'none', 'and the self-check is content');

for my $setting (
	"log_statement = 'all'",
	'log_min_duration_statement = 0',
	'log_min_duration_sample = 0',
	'log_transaction_sample_rate = 1')
{
	my ($name) = $setting =~ /^(\w+)/;

	($log, $complaint) = with_settings($setting, 'apikeys.redact = off');
	ok($log =~ /\Q$secret\E/, "with $setting it is");
	like($complaint, qr/^$name is .* for role app and log_parameter_max_length is not 0$/,
		'and the self-check says so');
	($log, $complaint) = with_settings($setting, 'log_parameter_max_length = 0');
	unlike($log, qr/\Q$secret\E|\Q$dead_secret\E/, 'but not with log_parameter_max_length = 0');
}

for my $setting (
	'log_parameter_max_length_on_error = -1',
	'auto_explain.log_min_duration = 0',
	'debug_print_plan = on')
{
	my ($name) = $setting =~ /^([\w.]+)/;

	($log, $complaint) = with_settings($setting, 'apikeys.redact = off', $name =~ /auto/ ? 'auto_explain.log_verbose = on' : ());
	# a tree shows the bytes of its constants, and breaks lines within numbers
	my $bytes = join('', unpack('c*', $secret));
	(my $flat = $log) =~ s/\s+//g;
	ok($flat =~ /\Q$secret\E|\Q$dead_secret\E|\Q$bytes\E/, "with $setting it is");
	like($complaint, qr/^\Q$name\E is .* for role app$/, 'and the self-check says so');
}

# ----- pg_stat_statements -----

$node->safe_psql('postgres', "SELECT apikey_check_level('$value', 'admin')", extra_params => [ '-U', 'app' ]);
is($node->safe_psql('postgres', "SELECT count(*) > 0, sum(CASE WHEN query LIKE '%$secret%' THEN 1 ELSE 0 END) FROM pg_stat_statements WHERE query ~ 'apikey_check_level'"),
	't|0', 'pg_stat_statements has the statement and not the value');

# ----- the principal of a connection -----

my ($status, $out, $err) = $node->psql('postgres', 'SELECT 1',
	connstr => $node->connstr('postgres') . q{ user=app options='-c apikeys.principal=member'});
isnt($status, 0, 'a connection that sets its principal is refused');
like($err, qr/FATAL: .*apikeys\.principal/, 'by a clear error');
for my $object ('ROLE app', 'DATABASE postgres')
{
	($status, $out, $err) = $node->psql('postgres', "ALTER $object SET apikeys.principal = 'member'");
	like($err, qr/cannot be set/, "no principal can be given to $object");
}
($status, $out, $err) = $node->psql('postgres', 'ALTER SYSTEM SET apikeys.principal = member');
like($err, qr/cannot be changed/, 'nor to the server');
$node->append_conf('postgresql.conf', "apikeys.principal = 'member'");
$node->reload;
is($node->safe_psql('postgres', 'SELECT apikey_current_org() IS NULL'), 't', 'nor by its configuration file');

# ----- who asks for usage is asked anew -----

# A call site in PL/pgSQL lives as long as the transaction.  To name the function
# it takes more than the application has.
$node->safe_psql('postgres', 'GRANT USAGE ON SCHEMA apikeys_private TO app');
is($node->safe_psql('postgres', <<EOS, extra_params => [ '-U', 'app', '-q' ]), "t\nt", 'who saw usage sees none when the principal is gone');
CREATE FUNCTION pg_temp.uses() RETURNS bigint LANGUAGE plpgsql AS
	\$\$ DECLARE n bigint; BEGIN n := (apikeys_private.apikey_usage_of('acme', apikey_suffix('$value'))).uses; RETURN n; END \$\$;
BEGIN;
SELECT apikey_act_as('acme', 'ann') \\g /dev/null
SELECT pg_temp.uses() > 0;
RESET apikeys.principal;
SELECT pg_temp.uses() IS NULL;
COMMIT;
EOS

$node->stop;
done_testing();
