# The queries for Prometheus' postgres_exporter: they run for pg_monitor, tell all
# that apikey_stats does, and name it by Prometheus' conventions.
use strict;
use warnings;

use Cwd qw(abs_path);
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
sql($node, 'CREATE ROLE watcher LOGIN; GRANT pg_monitor TO watcher');

my ($value, $low) = (make_key($node), make_key($node, level => 'standard'));
verify($node, $value, 3);
verify($node, 'nonsense', 2);
verify($node, $low, 1, level => 'admin');
flush($node);

# The file as a list of [namespace, query, {column => usage}].
sub queries
{
	my $text = slurp_file(abs_path("$FindBin::RealBin/../../doc/postgres_exporter.yml"));
	my @queries;

	while ($text =~ /^(\w+):\n  query: "(.*)"\n  master: false\n  metrics:\n((?:    - .*\n)+)/gm)
	{
		my ($name, $query, $metrics) = ($1, $2, $3);
		push @queries, [ $name, $query, { $metrics =~ /^    - (\w+): \{usage: "(\w+)", description: "[^"]+"\}$/gm } ];
	}
	return @queries;
}

# What the exporter would tell, as metric{label} => value; and the metrics' kinds.
my (%told, %kind);
for my $query (queries())
{
	my ($name, $sql, $usage) = @$query;
	my $rows = $node->safe_psql('postgres', "COPY ($sql) TO STDOUT (HEADER, FORMAT csv)", as_role('watcher'));
	my ($header, @rows) = map { [ split /,/ ] } split /\n/, $rows;

	is(join(' ', sort @$header), join(' ', sort keys %$usage), "$name: columns and metrics are the same");
	for my $row (@rows)
	{
		my %row;
		@row{@$header} = @$row;
		my $label = join ',', map { qq($_="$row{$_}") } grep { $usage->{$_} eq 'LABEL' } @$header;

		for my $column (grep { $usage->{$_} ne 'LABEL' } @$header)
		{
			$kind{"${name}_$column"} = $usage->{$column};
			$told{"${name}_$column" . ($label && "{$label}")} = $row{$column};
		}
	}
}

is($told{'apikeys_verifications_total{verdict="ok"}'}, 3, 'keys that were accepted');
is($told{'apikeys_verifications_total{verdict="malformed"}'}, 2, 'keys that were refused, by reason');
is($told{'apikeys_verifications_total{verdict="level"}'}, 1, 'for their level too');
is($told{apikeys_flushes_total}, 1, 'batches written');
cmp_ok(abs($told{apikeys_last_flush_timestamp_seconds} - time), '<', 3600, 'when, in seconds');
is($told{apikeys_tracked_keys_limit}, 65536, 'the limit of keys');
is(scalar(keys %told), sql($node, "SELECT count(*) FROM pg_attribute WHERE attrelid = 'apikey_stats'::regclass AND attnum > 0"),
	'each column of apikey_stats is told');

# https://prometheus.io/docs/practices/naming/
is(join(' ', grep { ($kind{$_} eq 'COUNTER') != /_total$/ } keys %kind), '', 'counters, and no others, end with _total');
is(join(' ', grep { /memory/ && !/_bytes$/ || /last_/ && !/_timestamp_seconds$/ } keys %kind), '', 'units are named');

# The page that describes them names no other.
my $page = slurp_file(abs_path("$FindBin::RealBin/../../doc/usage.md"));
my %named = map { $_ => 1 } $page =~ /\b(apikeys_(?!private\b)\w+)/g;
is(join(' ', sort keys %named), join(' ', sort keys %kind), 'doc/usage.md names them');

hang_up($node);
$node->stop;
done_testing();
