# History goes along: dumped and restored into a server whose transactions have
# lower numbers, it verifies by the seal from before, and a reader goes on from
# where it was.  A standby reads and verifies it.  A subscription writes none.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use ApikeysTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $old = new_server('old', allows_streaming => 'logical');
$old->append_conf('postgresql.conf', "wal_level = logical\n");
$old->start;
# its transactions have higher numbers than another server's
$old->safe_psql('postgres', 'DO $$ BEGIN FOR i IN 1 .. 3000 LOOP PERFORM txid_current(); COMMIT; END LOOP; END $$');
install($old);
my ($kept, $deleted) = make_keys($old, 2);
as_acme($old, 'ann', "SELECT apikey_delete(apikey_suffix('$deleted'))");
my $seal = $old->safe_psql('postgres', "SELECT encode(apikey_seal_history(), 'hex')");
$old->safe_psql('postgres', "SELECT apikey_save_member('acme', 'unsealed', 'u\@acme.example')");
my $events = 'SELECT event_id, kind, at, changes FROM apikey_feed(NULL, 1000)';
my $before = $old->safe_psql('postgres', $events);
my $position = $old->safe_psql('postgres', 'SELECT position FROM apikey_feed() ORDER BY event_id DESC LIMIT 1');
my $verify = "SELECT ok, detail FROM apikey_verify_history(decode('$seal', 'hex'))";
my $verified = $old->safe_psql('postgres', $verify);
like($verified, qr/^t\|5 events under 1 seals were verified, 1 are not sealed$/, 'the history is as it should be');

# ----- a standby -----

$old->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($old, 'backup', has_streaming => 1);
$standby->start;
$old->safe_psql('postgres', "SELECT apikey_save_member('acme', 'later', 'l\@acme.example')");
$old->wait_for_catchup($standby, 'replay');
is($standby->safe_psql('postgres', $events), $old->safe_psql('postgres', $events), 'a standby has the same feed');
like($standby->safe_psql('postgres', $verify), qr/^t\|.* 2 are not sealed$/, 'and verifies');
is($standby->safe_psql('postgres', "SELECT status, deleted_by FROM apikey_inspect('$deleted')"), 'deleted|member ann', 'a deleted key is told there');
my $session = session($standby, user => 'postgres');
is(sqlstate($session, 'SELECT apikey_seal_history()'), '25006', 'it seals nothing');
is(sqlstate($session, 'SELECT apikey_prune_history(now())'), '25006', 'nor prunes');
$session->quit;
$standby->promote;
$standby->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()');
$standby->safe_psql('postgres', "SELECT apikey_save_member('acme', 'promoted', 'p\@acme.example'), apikey_seal_history()");
like($standby->safe_psql('postgres', $verify), qr/^t\|7 events under 2 seals were verified, 1 are not sealed$/, 'promoted, it goes on from there');
is($standby->safe_psql('postgres', "SELECT owner_id FROM apikey_feed('$position') ORDER BY event_id"), "later\npromoted", 'and a reader too');
$standby->stop;

# ----- a dump -----

my $new = new_server('new', allows_streaming => 'logical');
$new->start;
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
$old->command_ok([ 'pg_dump', '-Fc', '-f', $dump, 'postgres' ], 'dump');
my $at_dump = $old->safe_psql('postgres', $events);
$new->safe_psql('postgres', 'CREATE ROLE app LOGIN');
$new->safe_psql('postgres', 'CREATE DATABASE restored');
$new->command_ok([ 'pg_restore', '-e', '-d', 'restored', $dump ], 'restore');
sub new_sql { return $new->safe_psql('restored', $_[0]); }
cmp_ok(new_sql('SELECT min(xid) FROM apikeys_private.apikey_event'), '>', new_sql('SELECT txid_current()'),
	'this server has lower numbers');
is(new_sql($events), $at_dump, 'a restore has the same feed, and invents no event');
is(new_sql('SELECT is_called FROM apikeys_private.apikey_xid_offset'), 'f', 'readers settle nothing');
like(new_sql($verify), qr/^t\|5 events under 1 seals/, 'the seal from before is still good');
new_sql("SELECT apikey_save_member('acme', 'new1', 'n\@acme.example')");
new_sql("BEGIN; SELECT apikey_save_member('acme', 'new2', 'n\@acme.example'); ROLLBACK");
new_sql("SELECT apikey_save_member('acme', 'new3', 'n\@acme.example')");
is(new_sql("SELECT owner_id FROM apikey_feed('$position')"), "later\nnew1\nnew3", 'a reader goes on from its position');
is(new_sql("SELECT count(*) = count(DISTINCT event_id) FROM apikeys_private.apikey_event"), 't', 'numbers go on');
new_sql('SELECT apikey_seal_history()');
like(new_sql($verify), qr/^t\|9 events under 2 seals were verified$/, 'and so does the chain');
# the offset was lost, as by pg_upgrade of some versions: it is found again, higher
new_sql("SELECT setval('apikeys_private.apikey_xid_offset', 0, false)");
my $highest = new_sql('SELECT position FROM apikey_feed() ORDER BY event_id DESC LIMIT 1');
new_sql("SELECT apikey_save_member('acme', 'new4', 'n\@acme.example')");
is(new_sql("SELECT owner_id FROM apikey_feed('$highest')"), 'new4', 'an offset that is lost is found again');

# ----- a subscription -----

my $db = 'subscriber';
$new->safe_psql('postgres', "CREATE DATABASE $db");
$new->safe_psql($db, 'CREATE EXTENSION pgcrypto; CREATE EXTENSION apikeys');
$old->safe_psql('postgres', 'CREATE PUBLICATION keys FOR TABLE apikeys_private.apikey_org, apikeys_private.apikey_member, apikeys_private.apikey_key, apikeys_private.apikey_legacy');
$new->safe_psql($db, 'SET client_min_messages = warning; CREATE SUBSCRIPTION keys CONNECTION $$' . $old->connstr('postgres') . '$$ PUBLICATION keys');
$new->poll_query_until($db, "SELECT count(*) = 4 AND bool_and(srsubstate IN ('r', 's')) FROM pg_subscription_rel")
  or die 'the subscription has no copy yet';
$old->safe_psql('postgres', "SELECT apikey_save_member('acme', 'far', 'f\@acme.example'), apikey_remove_member('acme', 'later')");
$old->wait_for_catchup('keys');
is($new->safe_psql($db, "SELECT count(*) FROM apikeys_private.apikey_member WHERE user_id IN ('far', 'later')"), 1, 'changes are applied');
is($new->safe_psql($db, 'SELECT count(*) FROM apikeys_private.apikey_event'), 0, 'a subscription writes no event');
$new->safe_psql($db, 'DROP SUBSCRIPTION keys');

$new->stop;
$old->stop;
done_testing();
