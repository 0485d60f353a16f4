# README.md and doc/apikeys.md say what is so: README's SQL runs from its first
# line to its last, in one psql session and without an error or a warning, and
# gives the verified key that it promises; the reference names every function,
# view, table and setting, and neither names a function that is not there.  A
# test of its own because pg_regress cannot read another file's SQL.
use strict;
use warnings;

use Cwd qw(abs_path);
use FindBin;
use lib $FindBin::RealBin;

use ApikeysTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = "$FindBin::RealBin/../..";
my $readme = slurp_file("$top/README.md");
my $reference = slurp_file("$top/doc/apikeys.md");

my $node = new_server('readme');
$node->start;
my $dir = abs_path(PostgreSQL::Test::Utils::tempdir());
append_to_file("$dir/old_keys.csv", "acme,0f9c2b7d41e68a35\n");

my @blocks = $readme =~ /^```sql\n(.*?)^```/gms;
my $ten_lines = $blocks[0];
is($ten_lines =~ tr/\n//, 10, 'ten lines of SQL');

my ($out, $err);
my $status = $node->psql('postgres', join('', "\\cd $dir\n", @blocks),
	stdout => \$out, stderr => \$err, on_error_stop => 1);
is($status, 0, 'the SQL of README runs');
unlike($err, qr/ERROR|WARNING/, 'without an error or a warning');
my ($value, $suffix) = $out =~ m{^(ak\.\w{43}/(\w{7}))\|\2$}m;
ok($value, 'the value is shown with its suffix');
like($out, qr/^\Q$value\E.*\nt\n\{"email": "ann\@acme\.example", "orgId": "acme", "role": "ADMIN"\}/m,
	'and is verified');
like($out, qr/^minutes$/m, 'its request reaches a table under policies');

# What is there, against what is written.
my @objects = split /\n/, $node->safe_psql('postgres', <<'EOS');
LOAD 'apikeys';
SELECT p.proname || '(' FROM pg_proc p
	JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
	JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'apikeys'
UNION ALL
SELECT '`' || c.relname || '`' FROM pg_class c
	JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
	JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'apikeys'
WHERE c.relkind IN ('r', 'v')
UNION ALL
SELECT '`' || name || '`' FROM pg_settings WHERE name LIKE 'apikeys.%';
EOS
cmp_ok(scalar @objects, '>', 60, 'there is something to compare');
is(join(' ', grep { index($reference, $_) < 0 } @objects),
	'', 'all of it is in the reference');

my %there = map { $_ => 1 } @objects;
is(join(' ', grep { !$there{$_} } "$readme$reference" =~ /\b(apikey_\w+\()/g),
	'', 'and no function is named that is not there');

done_testing();
