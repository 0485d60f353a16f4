# examples/history/verify.py, which knows of the serialization what doc/history.md
# says: it verifies an export by the documented commands, also a pruned one, and
# tells one that somebody has tampered with.
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

plan skip_all => 'no python3' if system('command -v python3 >/dev/null 2>&1') != 0;

my $top = abs_path("$FindBin::RealBin/../..");
my $dir = PostgreSQL::Test::Utils::tempdir();
my $node = new_server('main');
$node->start;
install($node);
sub sql { return $node->safe_psql('postgres', $_[0]); }
sub seal { return sql("SELECT encode(apikey_seal_history(), 'hex')"); }

# Exports as the page says.
my ($commands) = slurp_file("$top/doc/history.md") =~ /^```\n(BEGIN[^\n]*\n(?:\\copy .*?\n)+COMMIT;\n)```/m;
ok($commands, 'the page has the commands');
sub export
{
	$node->safe_psql('postgres', "\\cd $dir\n$commands");
	return;
}

# The status and the output for a seal.
sub verify
{
	my ($seal) = @_;
	my ($out, $err) = ('', '');

	run [ 'python3', "$top/examples/history/verify.py", "$dir/events.tsv", "$dir/seals.tsv", $seal ], '>', \$out, '2>', \$err;
	return ($? >> 8) . "\n$out$err";
}

# The verdict when a file is changed.
sub tampered
{
	my ($file, $change, $seal) = @_;
	my $was = slurp_file("$dir/$file");

	local $_ = $was;
	$change->();
	isnt($_, $was, "$file is changed");
	PostgreSQL::Test::Utils::append_to_file("$dir/new", $_);
	rename "$dir/$file", "$dir/kept" or die $!;
	rename "$dir/new", "$dir/$file" or die $!;
	my $verdict = verify($seal);
	rename "$dir/kept", "$dir/$file" or die $!;
	return $verdict;
}

# Some of more than one byte, and a backslash; and what COPY escapes, which neither
# names nor identifiers can have, so that the owner has to bring it.
sql(q{SELECT apikey_save_member('acme', E'b\\\\o€', 'b@acme.example', 'architect')});
as_acme($node, 'ann', q{SELECT apikey_create(E'na\\\\me é 😀', 'admin') FROM generate_series(1, 3)});
sql(q{INSERT INTO apikeys_private.apikey_event (event_id, xid, at, kind, org_id, name, actor_kind, db_role)
	SELECT nextval('apikeys_private.apikey_event_id_seq'), max(xid), now(), 'org.plan', 'acme', E'a\\\\\t\r\n\b\f\v', 'role', E'r\to'
	FROM apikeys_private.apikey_event});
my $first = seal();
make_keys($node, 4);
my $seal = seal();
sql(q{SELECT apikey_save_member('acme', 'later', 'l@acme.example')});
export();
is(verify($seal), "0\n11 events under 2 seals, 1 not sealed; the given seal covers up to seal 2\n", 'an export verifies');
like(verify(uc $first), qr/^0\n.* up to seal 1$/m, 'by an earlier seal too');

like(verify('00' x 32), qr/^1\nthe given seal is not in the chain/, 'another seal is told');
like(tampered('events.tsv', sub { s/\tkey 2\t/\tkey 9\t/ }, $seal), qr/^1\nseal 2: events were changed$/m, 'a changed event');
like(tampered('events.tsv', sub { s/\tann\t/\t\\N\t/ }, $seal), qr/^1\nseal 1: events were changed$/m, 'a NULL');
like(tampered('events.tsv', sub { s/^[^\n]*\tkey 2\t[^\n]*\n//m }, $seal), qr/^1\nseal 2: 3 events instead of 4$/m, 'a deleted event');
like(tampered('events.tsv', sub { s/^([^\n]*\tkey 2\t[^\n]*\n)/$1$1/m }, $seal), qr/^1\nseal 2: 5 events instead of 4$/m, 'an added event');
like(tampered('seals.tsv', sub { s/^2\t[^\n]*\n//m }, $seal), qr/^1\nthe given seal is not in the chain/m, 'a chain that was cut');
like(tampered('seals.tsv', sub { s/^1\t[^\n]*\n//m }, $seal), qr/^1\nseal 2: the chain is broken$/m, 'a seal that is missing');
like(tampered('seals.tsv', sub { s/^(2\t)(\d+)/$1 . ($2 + 1)/me }, $seal), qr/^1\nseal 2: the chain is broken$/m, 'a seal of another time');

# One who owns the database deletes an event, and seals anew.
sql(q{BEGIN; CREATE TABLE kept_events AS TABLE apikeys_private.apikey_event;
	CREATE TABLE kept_seals AS TABLE apikeys_private.apikey_seal;
	DELETE FROM apikeys_private.apikey_event WHERE name = 'key 2'; DELETE FROM apikeys_private.apikey_seal; COMMIT});
my $forged = seal();
export();
like(verify($forged), qr/^0\n/, 'a chain that was made anew agrees with itself');
like(verify($seal), qr/^1\nthe given seal is not in the chain/, 'not with the seal that was kept');
sql(q{BEGIN; TRUNCATE apikeys_private.apikey_event, apikeys_private.apikey_seal;
	INSERT INTO apikeys_private.apikey_event TABLE kept_events;
	INSERT INTO apikeys_private.apikey_seal TABLE kept_seals; COMMIT});

# What is pruned is a beginning, and known to be.
sql(q{SELECT apikey_prune_history((SELECT at FROM apikeys_private.apikey_event WHERE name = 'key 2'))});
$seal = seal();
export();
like(verify($first), qr/^0\n4 events under 3 seals, 0 not sealed; /, 'a pruned export verifies by the seal from before');
like(tampered('events.tsv', sub { s/^[^\n]*\n// }, $seal), qr/^1\nseal 2: 2 events instead of 3$/m, 'and one that lacks more does not');
is(sql('SELECT ok FROM apikey_verify_history()'), 't', 'the database agrees');

done_testing();
