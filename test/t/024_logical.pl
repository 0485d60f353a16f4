# Logical replication of the tables to a second server, which verifies there:
# what is taken away at the publisher is dead at the subscriber, also for a
# session that has the key in its cache; the triggers that fire there for what
# arrives neither stop the copying of the tables, in whatever order and however
# far apart their states are, nor lose a key on the way; and the subscriber can
# take over.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use ApikeysTest;
use MoveTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $tries = 120;
my @tables = qw(org member key legacy capability);

my $publisher = new_server('publisher', allows_streaming => 'logical');
# A subscriber that is named as a synchronous standby is waited for by sessions
# that ask for it.
$publisher->append_conf('postgresql.conf', <<EOC);
shared_buffers = 32MB
synchronous_standby_names = 'sub'
synchronous_commit = local
EOC
$publisher->start;
install($publisher);
my $conninfo = $publisher->connstr('postgres');

my $subscriber = new_server('subscriber');
$subscriber->append_conf('postgresql.conf', <<EOC);
wal_level = replica
max_worker_processes = 20
max_logical_replication_workers = 12
wal_retrieve_retry_interval = '50ms'
EOC
$subscriber->start;
install_extension($subscriber);

# Runs SQL as the superuser of a server.
sub at
{
	my ($node, $sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

sub subscribe
{
	my ($name, $publication) = @_;

	# the notice tells of the slot
	at($subscriber, <<EOS);
SET client_min_messages = warning;
CREATE SUBSCRIPTION $name CONNECTION \$\$$conninfo application_name=$name\$\$
	PUBLICATION $publication;
EOS
	$subscriber->wait_for_subscription_sync($publisher, $name);
	return;
}

# Subscriptions go, and with them what they brought.
sub start_again
{
	my @names = split /\n/, at($subscriber, 'SELECT subname FROM pg_subscription');

	at($subscriber, "DROP SUBSCRIPTION $_") for @names;
	at($subscriber, 'TRUNCATE apikeys_private.apikey_org, apikeys_private.apikey_member, apikeys_private.apikey_key, apikeys_private.apikey_legacy, apikeys_private.apikey_capability');
	return;
}

# All that has been committed at the publisher has been applied.
sub catch_up
{
	$publisher->wait_for_catchup($_)
	  for split /\n/, at($subscriber, 'SELECT subname FROM pg_subscription WHERE subenabled');
	return;
}

# One row of each table, whatever the server.
my $contents = <<EOS;
SELECT 'org', org_id, plan::text, '' FROM apikeys_private.apikey_org
UNION ALL SELECT 'member', org_id, user_id, role::text FROM apikeys_private.apikey_member
UNION ALL SELECT 'key', owner_id, suffix, level || encode(digest, 'hex') || coalesce(expires_at::text, 'never') || created_at FROM apikeys_private.apikey_key
UNION ALL SELECT 'legacy', org_id, encode(digest, 'hex'), created_at::text FROM apikeys_private.apikey_legacy
UNION ALL SELECT 'capability', capability, level::text, description FROM apikeys_private.apikey_capability
ORDER BY 1, 2, 3
EOS

sub same_contents
{
	my ($name) = @_;

	catch_up();
	is(at($subscriber, $contents), at($publisher, $contents), $name);
	return;
}

at($publisher, <<EOS);
SELECT apikey_install_capabilities();
SELECT apikey_save_org('old', 'Old');
SELECT apikey_import_legacy('old', 'a legacy key of old');
SELECT apikey_save_member('acme', 'arc', 'arc\@acme.example', 'architect');
SELECT apikey_save_member('acme', 'was', 'was\@acme.example', 'admin');
CREATE PUBLICATION everything FOR TABLE
	apikeys_private.apikey_org, apikeys_private.apikey_member, apikeys_private.apikey_key, apikeys_private.apikey_legacy, apikeys_private.apikey_capability;
EOS
at($publisher, "CREATE PUBLICATION pub_$_ FOR TABLE apikeys_private.apikey_$_") for @tables;
install_take_away($publisher, $tries);
my $key = make_key($publisher);
my $architects = make_key($publisher, user => 'arc', level => 'architect');
# History that the rules of today would not allow.
my $former = make_key($publisher, user => 'was');
at($publisher, "SELECT apikey_save_member('acme', 'was', NULL, 'guest')");

### one subscription for all

subscribe('sub', 'everything');
same_contents('the tables have been copied');
my $session = session($subscriber);

sub verifies_all
{
	my ($name) = @_;

	is(check_key($session, $key, 'admin'), 't', "$name: an admin's key");
	is(check_key($session, $architects, 'architect'), 't', "$name: an architect's key");
	is(check_key($session, $former, 'admin'), 't', "$name: a former admin's key");
	is(check_key($session, 'a legacy key of old', 'admin'), 't', "$name: a legacy key");
	ok(knows($session, $key), "$name: in the cache");
	return;
}

verifies_all('subscriber');
is($session->query_safe("SELECT apikey_me('$key')->>'email'"), 'ann@acme.example', 'me');
is($session->query_safe("SELECT apikey_check('$key', 'delete_block_rules')"), 't', 'check');

my $controller = take_away_session($publisher, $subscriber);
my ($known, $stale) = take_away($controller, 1, $tries, 'SET synchronous_commit = on');
is($known, $tries, 'each key was in the cache at the subscriber');
is($stale, 0, "and dead there when the publisher acknowledged: $tries keys");
$controller->quit;
same_contents('the tables are the same after that');

# Without waiting it is dead when the change has been applied.
sub dies
{
	my ($name, $sql, $value) = @_;

	is(check_key($session, $value), 't', "$name: alive");
	ok(knows($session, $value), "$name: alive in the cache");
	at($publisher, $sql);
	catch_up();
	is(check_key($session, $value), 'f', "$name: dead");
	return;
}

at($publisher, "SELECT apikey_save_member('acme', 'bob', 'bob\@acme.example', 'admin')");
my @keys = make_keys($publisher, 3);
my $bobs = make_key($publisher, user => 'bob');
catch_up();
dies('delete', "DELETE FROM apikeys_private.apikey_key WHERE suffix = apikey_suffix('$keys[0]')", $keys[0]);
dies('expiry', "UPDATE apikeys_private.apikey_key SET expires_at = now() WHERE suffix = apikey_suffix('$keys[1]')",
	$keys[1]);
dies('member removed', "SELECT apikey_remove_member('acme', 'bob')", $bobs);
dies('new digest', "UPDATE apikeys_private.apikey_key SET digest = sha256(digest) WHERE suffix = apikey_suffix('$keys[2]')",
	$keys[2]);
dies('legacy deleted', "DELETE FROM apikeys_private.apikey_legacy", 'a legacy key of old');
at($publisher, "SELECT apikey_import_legacy('old', 'a legacy key of old')");
catch_up();
dies('organization removed', "SELECT apikey_remove_org('old')", 'a legacy key of old');
same_contents('the tables are still the same');

# Truncated with all there is.
dies('truncate', 'TRUNCATE apikeys_private.apikey_capability; TRUNCATE apikeys_private.apikey_org CASCADE', $key);
same_contents('and truncated alike');

### the tables one by one, in any order

at($publisher, <<EOS);
SELECT apikey_save_org('acme', 'Acme', 'enterprise');
SELECT apikey_save_org('old', 'Old');
SELECT apikey_import_legacy('old', 'a legacy key of old');
SELECT apikey_save_member('acme', 'ann', 'ann\@acme.example', 'admin');
SELECT apikey_save_member('acme', 'arc', 'arc\@acme.example', 'architect');
SELECT apikey_save_member('acme', 'was', 'was\@acme.example', 'admin');
EOS
$key = make_key($publisher);
$architects = make_key($publisher, user => 'arc', level => 'architect');
$former = make_key($publisher, user => 'was');
at($publisher, "SELECT apikey_save_member('acme', 'was', NULL, 'guest')");
for my $order ([qw(key legacy member org)], [qw(member org legacy key)])
{
	start_again();
	subscribe("sub_$_", "pub_$_") for @$order;
	verifies_all("copied as @$order");
}

### tables that are not at the same point

# The subscription of one table stands still while something happens, and
# another table is copied as it is after that: what then arrives for the first
# was right when it was made, and must be applied as it is.
sub apart
{
	my ($name, $behind, $before, $after) = @_;
	my $others = join ', ', map { "pub_$_" } grep { $_ ne $behind } @tables;

	start_again();
	at($publisher, $before);
	subscribe('behind', "pub_$behind");
	at($subscriber, 'ALTER SUBSCRIPTION behind DISABLE');
	at($publisher, $after);
	subscribe('others', $others);
	at($subscriber, 'ALTER SUBSCRIPTION behind ENABLE');
	# an error would come again and again
	ok( $publisher->poll_query_until('postgres',
			"SELECT replay_lsn >= pg_current_wal_lsn() FROM pg_stat_replication"
			  . " WHERE application_name = 'behind' AND state = 'streaming'"),
		"$name: applied");
	same_contents("$name: the tables are the same");
	return;
}

apart('key raised, then its owner demoted', 'key',
	"SELECT apikey_save_member('acme', 'was', NULL, 'admin');
	UPDATE apikeys_private.apikey_key SET level = 'standard' WHERE owner_id = 'was'",
	"UPDATE apikeys_private.apikey_key SET level = 'admin' WHERE owner_id = 'was';
	SELECT apikey_save_member('acme', 'was', NULL, 'guest')");
apart('key created by a clock that is ahead, then its owner demoted', 'key',
	"SELECT apikey_save_member('acme', 'was', NULL, 'admin')",
	"INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest, created_at)
		VALUES ('acme', 'was', 'ahead', 'admin', sha256('ahead'), now() + '1 hour');
	SELECT apikey_save_member('acme', 'was', NULL, 'guest')");
apart('member made architect, then the plan changed', 'member',
	"SELECT apikey_save_org('old', NULL, 'enterprise');
	SELECT apikey_save_member('old', 'x', 'x\@old.example', 'standard')",
	"SELECT apikey_save_member('old', 'x', NULL, 'architect');
	SELECT apikey_save_member('old', 'x', NULL, 'standard');
	SELECT apikey_save_org('old', NULL, 'free')");
apart('plan changed, then members of a later time', 'org',
	"SELECT apikey_save_org('old', NULL, 'enterprise')",
	"SELECT apikey_save_org('old', NULL, 'free');
	SELECT apikey_save_org('old', NULL, 'enterprise');
	SELECT apikey_save_member('old', 'x', NULL, 'architect')");

# A member removed and added again has new keys, which the removal, when it
# arrives at last, must not take along.
apart('member removed and added again', 'member',
	'SELECT 1',
	"SELECT apikey_remove_member('acme', 'was');
	SELECT apikey_save_member('acme', 'was', 'was\@acme.example', 'admin');
	INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest)
		VALUES ('acme', 'was', 'again', 'admin', sha256('again'))");

### members replicated, keys the subscriber's own

# No foreign key acts there, and no delete of keys will arrive: the trigger
# that carries along is what stops the keys of a removed member.
start_again();
subscribe('sub_org', 'pub_org');
subscribe('sub_member', 'pub_member');
my $own = make_key($subscriber);
is(check_key($session, $own), 't', 'a key made at the subscriber');
ok(knows($session, $own), 'in the cache');
at($publisher, "SELECT apikey_remove_member('acme', 'ann')");
catch_up();
is(check_key($session, $own), 'f', 'dead when its owner was removed at the publisher');
at($publisher, "SELECT apikey_save_member('acme', 'ann', 'ann\@acme.example', 'admin')");
catch_up();

### the subscriber takes over

start_again();
make_keys($publisher, 150);
subscribe('sub', 'everything');
at($subscriber, 'DROP SUBSCRIPTION sub');
# A sequence is not replicated; the page says what to do.
at($subscriber, page_block('^SELECT setval'));
$own = make_key($subscriber);
is(check_key($session, $own), 't', 'a key made by the subscriber that took over');
ok(knows($session, $own), 'in the cache');
at($subscriber, "SELECT apikey_remove_member('acme', 'ann')");
is(check_key($session, $own), 'f', 'and taken away there');

$session->quit;
done_testing();
