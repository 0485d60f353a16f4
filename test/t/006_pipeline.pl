# A principal in a pipeline of the extended protocol: without BEGIN it is refused,
# and nothing of the pipeline is run for anybody else.  psql has no pipelines
# before PostgreSQL 18; pgbench has.
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
$node->safe_psql('postgres', 'CREATE TABLE noted (who text)');

my $act = "SELECT apikey_act_as('acme', 'ann');";
my $note = "INSERT INTO noted VALUES (coalesce(apikey_current_user(), 'nobody'));";

# Runs statements in a pipeline; returns what was noted.
sub pipeline
{
	my ($name, $status, $error, @statements) = @_;

	$node->safe_psql('postgres', 'TRUNCATE noted');
	$node->pgbench('--no-vacuum --protocol=extended --transactions=1', $status,
		[], [$error], $name,
		{ $name => join("\n", '\startpipeline', @statements, '\endpipeline', $note) });
	return $node->safe_psql('postgres', "SELECT string_agg(who, ' ') FROM noted");
}

my $refused = qr/ERROR:  the principal must be set in a transaction block\nHINT:  Begin a transaction first\./;
is(pipeline('006_first', 2, $refused, $act, $note), '', 'nothing that follows it runs');
is(pipeline('006_alone', 2, $refused, $act), '', 'nor is it a principal of what comes later');
is(pipeline('006_begun', 0, qr/^/, 'BEGIN;', $act, $note, 'COMMIT;', $note), 'ann nobody nobody',
	'after BEGIN, until COMMIT');

# Newer servers take what follows the first statement for a transaction block:
# then the principal is that of the rest of the pipeline.
$node->safe_psql('postgres', 'TRUNCATE noted');
my $script = $node->basedir . '/later';
append_to_file($script, join("\n", '\startpipeline', $note, $act, $note, '\endpipeline', ''));
$node->run_log([ 'pgbench', '--no-vacuum', '--protocol=extended', '--transactions=1',
	'--file', $script, '--host', $node->host, '--port', $node->port, 'postgres' ]);
my $noted = $node->safe_psql('postgres', "SELECT string_agg(who, ' ') FROM noted");
note("a later statement: '$noted'");
like($noted, qr/^(?:nobody ann)?$/, 'as a later statement it is refused, or has effect');

$node->stop;
done_testing();
