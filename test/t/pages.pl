# The pages say what is so.  Each SQL block of each page is run, in the order of
# the page, in a database that is new for the page, as the role that the block
# names.  Links lead somewhere, and the reference names all that is there.
#
# A block whose first line is "-- as ROLE" is run as that role, any other one as
# a superuser.  An error or a warning that a block means to show is announced in
# it: "-- ERROR 42501" or "-- WARNING 01000", one for each, in their order.
# Anything else on psql's standard error fails the block.  Blocks that cannot be
# run are fenced as something other than sql.
#
# A page that does not create the extension itself finds it there, with what
# doc/apikeys.md tells under "The examples": see set_up().
#
# A test of its own because pg_regress cannot read another file's SQL.
use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use FindBin;
use lib $FindBin::RealBin;

use ApikeysTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = abs_path("$FindBin::RealBin/../..");
my @pages = map { s{^\Q$top\E/}{}r } sort glob("$top/*.md $top/doc/*.md $top/bench/*.md");
my %text = map { $_ => slurp_file("$top/$_") } @pages;
my $dir = abs_path(PostgreSQL::Test::Utils::tempdir());

my $node = new_server('pages');
# Blocks about usage need it; to the others it makes no difference.
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'apikeys'\n");
$node->start;
append_to_file("$dir/old_keys.csv", "acme,0f9c2b7d41e68a35\n");

# ----- running blocks -----

# The blocks of a page, each with the line that it begins on.
sub blocks
{
	my ($page) = @_;
	my @blocks;

	while ($text{$page} =~ /^```sql\n(.*?)^```/gms)
	{
		my ($sql, $before) = ($1, substr($text{$page}, 0, $-[1]));
		push @blocks, { line => 1 + ($before =~ tr/\n//), sql => $sql };
	}
	return @blocks;
}

# What the pages take for granted.
sub set_up
{
	return <<'EOS';
SET client_min_messages = warning;
CREATE EXTENSION apikeys CASCADE;
RESET client_min_messages;
CREATE ROLE app LOGIN;
SELECT apikey_grant_application('app');
SELECT apikey_save_org('acme', 'Acme Ltd', 'enterprise');
SELECT apikey_save_member('acme', 'ann', 'ann@acme.example', 'admin');
SELECT apikey_save_member('acme', 'art', 'art@acme.example', 'architect');
SELECT apikey_install_capabilities();
SELECT apikey_import_legacy('acme', '4f1d8e5b07c2429ba3');
BEGIN;
SELECT apikey_act_as('acme', 'art');
SELECT apikey_create('nightly export', 'architect') AS key \gset
COMMIT;
SELECT apikey_suffix(:'key') AS suffix \gset
EOS
}

# One psql for the page, so that variables last; it connects anew for each block, as
# a session that has called nothing yet may find what another does not.  On both
# outputs a mark stands before each block.
sub script
{
	my ($page, @blocks) = @_;
	my $script = "\\cd $dir\n\\set VERBOSITY verbose\nSELECT current_user AS superuser \\gset\n";

	$script .= set_up() unless $blocks[0]->{sql} =~ /^CREATE EXTENSION/m;
	for my $block (@blocks)
	{
		my $mark = "--- line $block->{line} ---";
		my $role = $block->{sql} =~ /\A-- as (\w+)/ ? $1 : ':superuser';

		$script .= "\\warn $mark\n\\echo $mark\n\\connect - $role\n$block->{sql}";
	}
	return $script;
}

# What psql's standard error has for a block: errors and warnings by their
# SQLSTATE, and lines that belong to neither as they are.
sub complaints
{
	my ($err) = @_;
	my @found;

	for my $line (split /\n/, $err)
	{
		$line =~ s/^psql:<stdin>:\d+: //;
		if ($line =~ /^(ERROR|WARNING|FATAL|PANIC):\s+(\w{5}):/)
		{
			push @found, "$1 $2: $line";
		}
		elsif ($line !~ /^(NOTICE|DETAIL|HINT|CONTEXT|LOCATION|LINE \d+|QUERY):|^ *\^|^\s*$|^LINE/)
		{
			push @found, $line;
		}
	}
	return @found;
}

# Runs a page and returns what it printed.
sub run_page
{
	my ($page, $number) = @_;
	my @blocks = blocks($page);
	my ($out, $err, %err);

	$node->safe_psql('postgres', "CREATE DATABASE page$number");
	my $status = $node->psql("page$number", script($page, @blocks),
		stdout => \$out, stderr => \$err, on_error_stop => 0);
	is($status, 0, "$page: psql comes to the end");

	my ($before, @rest) = split /^--- line (\d+) ---\n/m, "$err\n", -1;
	%err = @rest;
	is(join("\n", complaints($before)), '', "$page: what the examples need is there")
	  if $before ne '';
	for my $block (@blocks)
	{
		my @announced = $block->{sql} =~ /-- ((?:ERROR|WARNING) \w{5})\b/g;
		my @found = complaints($err{ $block->{line} } // 'was not reached');

		is(join("\n", map { /^((?:ERROR|WARNING) \w{5}): / ? $1 : $_ } @found),
			join("\n", @announced), "$page:$block->{line}")
		  or diag($block->{sql}, join("\n", @found));
	}
	return $out;
}

# Databases and roles of one page are gone before the next.
sub clean_up
{
	my ($number) = @_;

	$node->safe_psql('postgres', "DROP DATABASE page$number (FORCE)");
	$node->safe_psql('postgres', <<'EOS');
DO $$
DECLARE
	name text;
BEGIN
	FOR name IN SELECT rolname FROM pg_roles
		WHERE oid >= 16384 AND rolname <> 'postgres' LOOP
		EXECUTE format('DROP ROLE %I', name);
	END LOOP;
END $$;
EOS
	return;
}

is(join(' ', grep { $text{$_} =~ /^[ \t>]+```\s*sql/mi || $text{$_} =~ /^```(?!sql\n)\s*sql/mi } @pages),
	'', 'no block of SQL is passed over');

my %out;
my $number = 0;
for my $page (grep { blocks($_) } @pages)
{
	$out{$page} = run_page($page, ++$number);
	clean_up($number);
}

# ----- what README promises -----

my $ten_lines = (blocks('README.md'))[0]->{sql};
is($ten_lines =~ tr/\n//, 10, 'ten lines of SQL');
my ($value, $suffix) = $out{'README.md'} =~ m{^(ak\.\w{43}/(\w{7}))\|\2$}m;
ok($value, 'the value is shown with its suffix');
like($out{'README.md'},
	qr/^\Q$value\E.*\nt\n\{"email": "ann\@acme\.example", "orgId": "acme", "role": "ADMIN"\}/m,
	'and is verified');
like($out{'README.md'}, qr/^minutes$/m, 'its request reaches a table under policies');

# ----- links -----

# The anchor of a heading, as GitHub makes it.
sub anchor
{
	my ($heading) = @_;

	$heading =~ s/\[([^]]*)\]\([^)]*\)/$1/g;
	$heading = lc($heading =~ s/`//gr);
	$heading =~ s/[^\w\- ]//g;
	return $heading =~ s/ /-/gr;
}

my %anchors;
for my $page (@pages)
{
	my $prose = $text{$page} =~ s/^```.*?^```//gmsr;
	$anchors{$page}{ anchor($1) } = 1 while $prose =~ /^#+ +(.*?) *$/gm;
}

my @broken;
for my $page (@pages)
{
	my $prose = $text{$page} =~ s/^```.*?^```//gmsr;
	while ($prose =~ /\]\(([^)\s]+)\)|(?:src|srcset)="([^"]+)"/g)
	{
		my $link = $1 // $2;
		next if $link =~ /^https?:/;
		my ($file, $anchor) = split /#/, $link, 2;
		my $target = $page;
		if ($file ne '')
		{
			my $path = dirname("$top/$page") . "/$file";
			if (!-e $path)
			{
				push @broken, "$page: $link";
				next;
			}
			$target = abs_path($path) =~ s{^\Q$top\E/}{}r;
		}
		push @broken, "$page: $link"
		  if defined $anchor && $anchors{$target} && !$anchors{$target}{$anchor};
	}
}
cmp_ok(scalar(map { keys %$_ } values %anchors), '>', 50, 'there are headings to link to');
is(join("\n", @broken), '', 'links lead somewhere');

# ----- what is there, against what is written -----

$node->safe_psql('postgres', <<'EOS');
SET client_min_messages = warning;
CREATE EXTENSION apikeys CASCADE;
EOS
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
my $reference = $text{'doc/apikeys.md'};
cmp_ok(scalar @objects, '>', 60, 'there is something to compare');
is(join(' ', grep { index($reference, $_) < 0 } @objects),
	'', 'all of it is in the reference');

my %there = map { $_ => 1 } @objects;
is(join(' ', grep { !$there{$_} } join('', values %text) =~ /\b(apikey_\w+\()/g),
	'', 'and no function is named that is not there');
my %setting = map { $_ => 1 } grep { /^`apikeys\./ } @objects;
is(join(' ', grep { !$setting{$_} && !/\.(sql|control|md|usage)`$/ }
		join('', values %text) =~ /(`apikeys\.\w+`)/g),
	'', 'nor a setting');

done_testing();
