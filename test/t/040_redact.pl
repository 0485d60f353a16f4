# With the library preloaded, no secret of a value gets into the server's log, in
# any of its formats, nor into what other sessions see of a statement, however it
# is put and whether or not it fails; prefix and suffix stay.  Together with
# pg_stat_statements, auto_explain and (where it is installed) pgaudit, loaded
# before and after us; and with apikeys.redact off all of it is there, so that
# the test can fail.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use ApikeysTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $sharedir = qx(pg_config --sharedir);
chomp $sharedir;
my @others = ('pg_stat_statements', 'auto_explain', -f "$sharedir/extension/pgaudit.control" ? 'pgaudit' : ());

# Statements that hold a value: V stands for it, W for it as in JSON.
my %statements = (
	'a query' => q{SELECT 'V'},
	'a comment' => q{SELECT 1 /* V */},
	'a comment at the end' => qq{SELECT 2 -- V\n},
	'a syntax error' => q{SELEC 'V'},
	'an unfinished string' => q{SELECT 'V},
	'an unknown column' => q{SELECT nonesuch, 'V'},
	'a cast' => q{SELECT 'V'::int},
	'an error while it runs' => q{SELECT 1 / (length('V') - length('V'))},
	'several statements' => q{SELECT 1; SELECT 'V'; SELECT 2},
	'several, of which one fails' => q{SELECT 3; SELECT 'V'::date; SELECT 4},
	'two values' => q{SELECT 'V', 'V'},
	'an escaped slash' => q{SELECT 'W'},
	'DO' => q{DO $$ BEGIN PERFORM 'V'; END $$},
	'an error in DO' => q{DO $$ BEGIN RAISE EXCEPTION 'it was %', 'V' USING DETAIL = 'V', HINT = 'V'; END $$},
	'a warning' => q{DO $$ BEGIN RAISE WARNING 'it was %', 'V'; END $$},
	'a context' => q{DO $$ BEGIN EXECUTE 'SELECT ''V''::int'; END $$},
	'CALL' => q{CALL take('V')},
	'COPY' => q{COPY (SELECT 'V') TO STDOUT},
	'PREPARE' => q{PREPARE p AS SELECT 'V'; EXECUTE p; EXECUTE p; DEALLOCATE p},
	'EXECUTE' => q{PREPARE q (text) AS SELECT $1; EXECUTE q ('V')},
	'DECLARE' => q{BEGIN; DECLARE c CURSOR FOR SELECT 'V'; FETCH c; COMMIT},
	'EXPLAIN' => q{EXPLAIN ANALYZE SELECT 'V'},
	'CREATE TABLE AS' => q{CREATE TEMP TABLE t AS SELECT 'V' AS v},
	'a function' => q{CREATE FUNCTION pg_temp.f() RETURNS text LANGUAGE sql AS $$ SELECT 'V' $$; SELECT pg_temp.f()},
	'SET' => q{SET application_name = 'short'; SET search_path = 'V'; RESET search_path},
	'a parallel query' =>
	  q{SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SELECT count(*) FROM big WHERE t <> 'V'}
);

my $node = PostgreSQL::Test::Cluster->new('redact');
$node->init(extra => [ '--encoding=UTF8', '--locale=C' ]);
$node->append_conf('postgresql.conf', <<'EOS');
logging_collector = on
log_destination = 'stderr,csvlog,jsonlog'
log_directory = 'log'
log_filename = 'server'
log_statement = all
log_duration = on
log_min_duration_statement = 0
log_parameter_max_length_on_error = -1
log_min_error_statement = debug1
log_error_verbosity = verbose
auto_explain.log_min_duration = 0
auto_explain.log_analyze = on
auto_explain.log_nested_statements = on
pgaudit.log = 'all'
pgaudit.log_parameter = on
pg_stat_statements.track = all
pg_stat_statements.track_planning = on
EOS

my ($value, $secret, $suffix, $seen);

# What the log has in its files beyond what was read of them, and remembers it
# unless told not to.
my %read;

sub log_of
{
	my $peek = shift;
	my $log = '';

	for my $file (glob $node->data_dir . '/log/server*')
	{
		$log .= my $part = slurp_file($file, $read{$file} // 0);
		$read{$file} += length $part unless $peek;
	}
	return $log;
}

sub empty_log
{
	$node->stop;
	unlink glob $node->data_dir . '/log/server*';
	%read = ();
	$node->start;
}

sub run_all
{
	my %result;

	$node->safe_psql('postgres', 'SELECT pg_stat_statements_reset()');
	for my $name (sort keys %statements)
	{
		(my $slash = $value) =~ s{/}{\\/};
		(my $sql = $statements{$name}) =~ s/\b([VW])\b/$1 eq 'V' ? $value : $slash/ge;
		# each in a session of its own; psql's -c sends a string with several statements as it is
		$node->psql('postgres', "SELECT 1", extra_params => [ '-c', $sql ]);
		$result{$name} = wait_for_end();
	}
	return \%result;
}

# The log is written by another process: wait for a line of ours.
sub wait_for_end
{
	my $mark = 'end ' . ++$seen;

	$node->safe_psql('postgres', "SELECT '$mark'");
	for (1 .. 600)
	{
		my $times = () = log_of(1) =~ /statement: SELECT '\Q$mark\E'/g;
		return log_of() if $times == 3;
		select undef, undef, undef, 0.1;
	}
	BAIL_OUT('the log is not written');
}

sub statements_with
{
	my $what = shift;
	return $node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_statements WHERE strpos(query, '$what') > 0");
}

$node->start;
install($node);
$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION pg_stat_statements;
CREATE PROCEDURE take(text) LANGUAGE plpgsql AS $$ BEGIN PERFORM $1; END $$;
CREATE TABLE big AS SELECT g::text AS t FROM generate_series(1, 10000) g;
EOS
$value = make_key($node);
($secret, $suffix) = $value =~ m{\.(\w{43})/(\w{7})};

for my $order ([ 'apikeys', @others ], [ @others, 'apikeys' ])
{
	$node->append_conf('postgresql.conf', "shared_preload_libraries = '" . join(', ', @$order) . "'\n");
	empty_log();
	my $result = run_all();
	for my $name (sort keys %$result)
	{
		is(index($result->{$name}, $secret), -1, "$name, loaded as @$order");
	}
	my $log = join '', values %$result;
	my $shown = () = $log =~ /\.\xE2\x80\xA6\\{0,4}\/\Q$suffix\E/g;
	cmp_ok($shown, '>', 3 * keys %$result, 'prefix and suffix stay');
	is(statements_with($secret), '0', 'nor in pg_stat_statements');
	cmp_ok(statements_with($suffix), '>', 3, 'which has prefix and suffix');
}

# ----- what other sessions see -----

my $session = $node->background_psql('postgres', on_error_stop => 0);
for my $statement (qq{SELECT 'V', pg_sleep(0)}, qq{SELEC 'V'}, q{DO $$ BEGIN PERFORM 'V'; END $$}, q{SELECT 1/0, 'V'})
{
	(my $sql = $statement) =~ s/\bV\b/$value/;
	$session->query($sql);
	my $activity = $node->safe_psql('postgres',
		"SELECT query FROM pg_stat_activity WHERE strpos(query, '$suffix') > 0 AND pid <> pg_backend_pid()");
	like($activity, qr/\xE2\x80\xA6\/$suffix/, "pg_stat_activity after: $statement");
	unlike($activity, qr/\Q$secret\E/, 'without the secret');
}
# an error that is not logged
$session->query("SET log_min_messages = panic");
$session->query("SELEC '$value' nolog");
my $activity = $node->safe_psql('postgres', "SELECT query FROM pg_stat_activity WHERE strpos(query, 'nolog') > 0 AND pid <> pg_backend_pid()");
like($activity, qr/\xE2\x80\xA6\/$suffix/, 'pg_stat_activity after an error that is not logged');
$session->quit;

# ----- without it -----

$node->safe_psql('postgres', "ALTER SYSTEM SET apikeys.redact = off");
empty_log();
my $result = run_all();
my @not_there = grep { index($result->{$_}, $secret) < 0 } sort keys %$result;
is("@not_there", '', 'with apikeys.redact off all is there');
cmp_ok(statements_with($secret), '>', 3, 'in pg_stat_statements, too');

$node->stop;
done_testing();
