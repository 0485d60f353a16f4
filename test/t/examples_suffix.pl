# The checks of a value in examples/suffix answer as the file of vectors says,
# as the extension does. Languages that are not installed are skipped.
use strict;
use warnings;

use Cwd qw(abs_path);
use FindBin;
use IPC::Run qw(run);
use lib $FindBin::RealBin;

use ApikeysTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = abs_path("$FindBin::RealBin/../../examples/suffix");
my $work = PostgreSQL::Test::Utils::tempdir();

my (@texts, @answers);
open my $vectors, '<', "$dir/vectors.txt" or die $!;
while (my $line = <$vectors>)
{
	my ($answer, $text) = $line =~ /^(yes|no)\t(.*)\n$/ or die "no vector: $line";
	push @answers, $answer;
	push @texts, $text;
}
my $wanted = join '', map { "$_\n" } @answers;

# The shell command that runs a check, given what it needs.
my @checks = (
	['suffix.py', ['python3'], "python3 $dir/suffix.py"],
	['suffix.mjs', ['node'], "node $dir/suffix.mjs"],
	['suffix.pl', ['perl'], "perl $dir/suffix.pl"],
	['suffix.rb', ['ruby'], "ruby $dir/suffix.rb"],
	['suffix.php', ['php'], "php $dir/suffix.php"],
	['suffix.sh', ['sha256sum'], "sh $dir/suffix.sh"],
	['Suffix.java', ['javac'], "java $dir/Suffix.java"],
	['suffix.go', ['go'], "GOCACHE=$work/go go run $dir/suffix.go"],
	['Suffix.cs', ['mcs', 'mono'], "mcs -out:$work/suffix.exe $dir/Suffix.cs && mono $work/suffix.exe"],
	# Debian's librust-sha2-dev
	['suffix.rs', ['cargo', '/usr/share/cargo/registry/sha2-*'], "cd $work/rust && cargo run -q --offline"]);

sub is_there
{
	my $what = shift;
	return $what =~ m{/} ? scalar glob $what : system("command -v $what >/dev/null 2>&1") == 0;
}

sub make_crate
{
	mkdir $_ or die $! for "$work/rust", "$work/rust/src", "$work/rust/.cargo";
	append_to_file("$work/rust/Cargo.toml", <<'END');
[package]
name = "suffix"
version = "0.0.0"
edition = "2021"
[dependencies]
sha2 = "*"
END
	append_to_file("$work/rust/.cargo/config.toml", <<'END');
[source.crates-io]
replace-with = "debian"
[source.debian]
directory = "/usr/share/cargo/registry"
END
	append_to_file("$work/rust/src/main.rs", slurp_file("$dir/suffix.rs"));
}

for my $check (@checks)
{
	my ($file, $needs, $command) = @$check;

  SKIP:
	{
		my ($missing) = grep { !is_there($_) } @$needs;
		skip "$file: no $missing", 1 if $missing;
		make_crate() if $file eq 'suffix.rs';
		my $out = '';
		my $err = '';
		run [ 'sh', '-c', $command ], '<', \join('', map { "$_\n" } @texts), '>', \$out, '2>', \$err;
		is($out, $wanted, $file) or diag $err;
	}
}

my $node = new_server('main');
$node->start;
install($node);
my $rows = join ', ', map { "(\$vector\$$_\$vector\$)" } @texts;
is( $node->safe_psql(
		'postgres', "SELECT CASE WHEN apikey_is_wellformed(t) THEN 'yes' ELSE 'no' END FROM (VALUES $rows) AS v (t)"),
	join("\n", @answers),
	'the extension');

done_testing();
