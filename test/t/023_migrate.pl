# Keys on the move: restored by a role that is no superuser, by sections, by
# several jobs, without their triggers; upgraded by pg_upgrade; recovered to an
# earlier point.  All verdicts are the same, what cannot be done ends in an error
# and with no key alive, and what the pages say about moving and recovery is run
# here as it stands there.
#
# Dumps by a superuser, as a script, in custom format and into another schema
# are in 001_dump.pl.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use ApikeysTest;
use Cwd qw(abs_path);
use MoveTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $restore_ours = page_block('^pg_restore -l');
my $set_triggers = page_block('ENABLE ALWAYS TRIGGER apikey_guard');
my $save_alive = page_block('^\\\\copy \(SELECT key_id');
my $what_is_back = page_block('^CREATE TEMPORARY TABLE alive');

my $node = new_server('main', has_archiving => 1, allows_streaming => 1);
$node->start;
create_roles($node);
$node->safe_psql('postgres', 'CREATE ROLE owner LOGIN');
my $dir = abs_path(PostgreSQL::Test::Utils::tempdir());

# The product, with a table of its own whose policy asks us.
new_database($node, 'origin', 'owner');
install_in($node, 'origin', 'public');
my @values = fill($node, 'origin', 'public');
$node->safe_psql('origin', <<EOS);
CREATE TABLE document (org_id text, title text);
INSERT INTO document VALUES ('acme', 'minutes'), ('small', 'not theirs');
ALTER TABLE document ENABLE ROW LEVEL SECURITY;
CREATE POLICY read ON document USING (org_id = (SELECT apikey_current_org()));
ALTER TABLE document OWNER TO owner;
GRANT SELECT ON document TO app;
EOS
my $verdicts = verdicts($node, 'origin', 'public', @values);
my $privileges = privileges($node, 'origin');
my $active = () = $verdicts =~ /\(active,/g;
is($active, 22, 'there are keys to be moved');

my $list = join ', ', map { "(\$k\$$_\$k\$)" } @values;
my $arts = $node->safe_psql('origin',
	"SELECT v FROM (VALUES $list) AS t (v), apikey_verify(v) WHERE user_id = 'art' AND level = 'architect'");

# A command in the shell's language, where the dumps are.
sub succeeds
{
	my ($command, $name) = @_;

	$node->command_ok([ 'sh', '-e', '-c', "cd '$dir'\n$command" ], $name);
	return;
}

sub fails
{
	my ($command, $name) = @_;

	$node->command_fails([ 'sh', '-e', '-c', "cd '$dir'\n$command" ], $name);
	return;
}

sub complaints
{
	my ($on, $db) = @_;

	return $on->safe_psql($db,
		q{SELECT string_agg("check", ' ') FROM apikey_selfcheck() WHERE NOT ok});
}

# All as in the origin, and nothing to complain of.
sub moved
{
	my ($name, $db) = @_;

	is(complaints($node, $db), '', "$name: as delivered");
	check_moved($node, $name, $db, 'public', $verdicts, $privileges, @values);
	return;
}

sub again
{
	my ($owner) = @_;

	$node->safe_psql('postgres', 'DROP DATABASE IF EXISTS product');
	new_database($node, 'product', $owner);
	return;
}

# How many keys are alive there.
sub alive
{
	return $node->safe_psql('product', "SELECT count(*) FILTER (WHERE apikey_check_level(v, 'standard')),"
		  . " (SELECT count(*) FROM apikeys_private.apikey_key) + (SELECT count(*) FROM apikeys_private.apikey_legacy) FROM (VALUES $list) AS t (v)");
}

### by the owner of the database, who is no superuser

succeeds('pg_dump -Fc -f product.dump origin', 'a superuser dumps');
fails('pg_dump -Fc -U owner -f none.dump origin', 'the owner of the database does not');

again('owner');
install_in($node, 'product', 'public');
fails('pg_restore -U owner -d product product.dump', 'nor restores keys');
is(alive(), '0|0', 'of which none is there');

again('owner');
succeeds($restore_ours, 'but the rest, when what is ours has been restored');
moved('restored by two', 'product');
is( $node->safe_psql('product', <<EOS, extra_params => [ '-U', 'app' ]), 'minutes', 'a table under policies');
BEGIN;
SELECT apikey_authenticate('$arts') \\g /dev/null
SELECT title FROM document;
COMMIT;
EOS

# Who has created the extension owns it, also as no superuser.
again('owner');
$node->safe_psql('postgres', 'ALTER ROLE owner SUPERUSER');
$node->safe_psql('product', 'SET client_min_messages = warning; CREATE EXTENSION apikeys CASCADE',
	extra_params => [ '-U', 'owner' ]);
$node->safe_psql('postgres', 'ALTER ROLE owner NOSUPERUSER');
succeeds('pg_restore -e -U owner -d product product.dump', 'the owner of the extension restores');
succeeds('pg_dump -Fc -U owner -f owners.dump product', 'and dumps');
moved('restored by the owner', 'product');
again('owner');
succeeds('pg_restore -e -d product owners.dump', 'what a superuser restores');
moved("the owner's dump", 'product');

### by sections, by several jobs

again('owner');
for my $section ('pre-data', 'data', 'post-data')
{
	succeeds("pg_restore -e --section=$section -d product product.dump", "restore of $section");
}
moved('restored by sections', 'product');

again('owner');
fails('pg_restore -j 2 -d product product.dump', 'several jobs do not do');

### rows only

# Everything but the rows.
sub empty
{
	again('owner');
	succeeds('pg_restore -e -s -d product product.dump', 'restore of all but the rows');
	is(alive(), '0|0', 'no key is there');
	return;
}

empty();
succeeds('pg_restore -e -1 -a -d product product.dump', 'restore of rows');
moved('restored rows', 'product');

empty();
succeeds('pg_restore -a --disable-triggers -j 2 -d product product.dump', 'restore of rows without triggers');
is(complaints($node, 'product'), 'objects', 'which are not as delivered');
is(verdicts($node, 'product', 'public', @values), $verdicts, 'though all verdicts are the same');
my $session = session($node, dbname => 'product');
is(check_key($session, $arts), 't', 'a key is alive') for 1 .. 2;
$node->safe_psql('product', "BEGIN; DELETE FROM apikeys_private.apikey_key WHERE suffix = apikey_suffix('$arts'); COMMIT");
is(check_key($session, $arts), 'f', 'and dead when it is deleted');
$session->quit;

empty();
succeeds('pg_restore -a --disable-triggers -d product product.dump', 'again');
$node->safe_psql('product', $set_triggers);
moved('triggers put right', 'product');

### recovery to an earlier point

again();
succeeds('pg_restore -e -d product product.dump', 'restored');
$node->backup('base');
$node->safe_psql('product', "SELECT pg_create_restore_point('earlier')");
my $before = verdicts($node, 'product', 'public', @values);
# ways to lose a key, or a part of it; and what is no loss
$node->safe_psql('product', <<EOS, extra_params => [ '-U', 'app' ]);
BEGIN;
SELECT apikey_act_as('acme', 'ann');
SELECT apikey_delete(suffix) FROM apikeys_mine WHERE level = 'admin';
SELECT apikey_update(suffix, level => 'standard') FROM apikeys_mine WHERE level = 'architect';
SELECT apikey_delete_legacy();
COMMIT;
BEGIN;
SELECT apikey_act_as('acme', 'art');
SELECT apikey_update(suffix, expires_at => '2100-01-01') FROM apikeys_mine WHERE level = 'architect';
SELECT apikey_rotate(suffix) FROM apikeys_mine WHERE level = 'standard';
COMMIT;
BEGIN;
SELECT apikey_act_as('acme', 'stan');
SELECT apikey_update(suffix, 'renamed') FROM apikeys_mine;
COMMIT;
SELECT apikey_remove_member('small', 'sid');
SELECT apikey_save_member('small', 'sid', 'sid\@small.example', 'admin');
EOS
$node->safe_psql('product', <<EOS);
DELETE FROM apikeys_private.apikey_legacy WHERE org_id = 'old';
SELECT apikey_import_legacy('old', 'the key that replaced it');
EOS
my $asked = <<EOS;
SELECT i.status, i.org_id, i.user_id, i.level, i.suffix, i.legacy, i.expires_at
FROM (VALUES $list) AS t (v), apikey_inspect(v) i
EOS
my $after = $node->safe_psql('product', $asked);
$node->safe_psql('product', "\\cd $dir\n$save_alive");
my $walfile = $node->safe_psql('postgres', 'SELECT pg_walfile_name(pg_switch_wal())');
$node->poll_query_until('postgres', "SELECT last_archived_wal >= '$walfile' FROM pg_stat_archiver")
  or die 'WAL was not archived';

my $restored = PostgreSQL::Test::Cluster->new('restored');
$restored->init_from_backup($node, 'base', has_restoring => 1, standby => 0);
$restored->append_conf('postgresql.conf', <<EOC);
recovery_target_name = 'earlier'
recovery_target_action = 'promote'
archive_mode = off
EOC
$restored->start;
$restored->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()')
  or die 'recovery did not end';
is(verdicts($restored, 'product', 'public', @values), $before, 'recovered: all is as it was, deleted keys too');
is(complaints($restored, 'product'), '', 'recovered: as delivered');

# The page's query, whose answers are then done.
my $back = $restored->safe_psql('product', <<EOS);
\\cd $dir
\\set QUIET on
$what_is_back
EOS
my @back = split /\n/, $back;
is( join("\n", sort map { s/\|[0-9A-Z]{7}\|/|SUFFIX|/r =~ s/\|2\d{3}-.*/|DATE/r } @back),
	join("\n",
		'acme|ann|key|SUFFIX|standard|', 'acme|ann|key|SUFFIX||',
		'acme|art|key|SUFFIX|architect|DATE', 'acme|art|key|SUFFIX|standard|DATE',
		'acme||legacy|||', 'old||legacy|||',
		('small|sid|key|SUFFIX||') x 3),
	'the query of the page tells what is back');
for my $key (@back)
{
	my ($org, $owner, $name, $suffix, $level, $expires_at) = split /\|/, $key;

	$restored->safe_psql('product',
		!$owner ? "DELETE FROM apikeys_private.apikey_legacy WHERE org_id = '$org'"
		: !$level ? "DELETE FROM apikeys_private.apikey_key WHERE org_id = '$org' AND suffix = '$suffix'"
		: "UPDATE apikeys_private.apikey_key SET level = '$level', expires_at = nullif('$expires_at', '')::timestamptz WHERE org_id = '$org' AND suffix = '$suffix'");
}
is($restored->safe_psql('product', $asked), $after, 'and when that has been done, every key is what it had become');
$restored->stop;

### pg_upgrade, of this version to itself

$node->safe_psql('postgres', 'DROP DATABASE product');
$node->stop;
my $upgraded = new_server('upgraded');
my $bindir = $node->config_data('--bindir');
succeeds(
	"pg_upgrade --no-sync -b '$bindir' -B '$bindir' -d '@{[ $node->data_dir ]}' -D '@{[ $upgraded->data_dir ]}'"
	  . " -s '@{[ $node->host ]}' -p @{[ $node->port ]} -P @{[ $upgraded->port ]}",
	'pg_upgrade');
$upgraded->start;
is(complaints($upgraded, 'origin'), '', 'upgraded: as delivered');
$session = session($upgraded, dbname => 'origin');
is(check_key($session, $arts), 't', 'upgraded: a key is alive');
ok(knows($session, $arts), 'upgraded: and known to a session');
$session->quit;
check_moved($upgraded, 'upgraded', 'origin', 'public', $verdicts, $privileges, @values);
$upgraded->stop;

done_testing();
