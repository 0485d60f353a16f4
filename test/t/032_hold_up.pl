# Attacks by which members tried to hold up, or to undo, what is aimed at them
# beyond what 028_hold_up.pl shows: sessions that take turns, so that no single
# wait is a long one; a lock of a savepoint that was released; an admin who has
# the session ended by which another admin deletes its keys.  And what must go
# on as before: the work of a revocation that waits for nobody, the sessions of
# those who can become the application, the caller's settings and timeouts.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use ApikeysTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = new_server('hold_up');
$node->start;
install($node);
$node->safe_psql('postgres', <<EOS);
CREATE ROLE ann LOGIN;
CREATE ROLE eve LOGIN;
CREATE ROLE becomes_app LOGIN NOINHERIT;
GRANT app TO becomes_app;
EOS

# How long a revocation may take that ends somebody.
my $limit = 2.5;

# Eve anew, an architect or what is said, with two keys.
sub reset_eve
{
	my $role = shift // 'architect';

	$node->safe_psql('postgres', <<EOS);
DELETE FROM apikeys_private.apikey_member WHERE user_id = 'eve';
SELECT apikey_save_member('acme', 'ann', 'ann\@acme.example', 'admin', 'ann');
SELECT apikey_save_member('acme', 'eve', 'eve\@acme.example', '$role', 'eve');
EOS
	return make_keys($node, 2, user => 'eve', level => 'architect');
}

# A session of a role with a transaction open, in which it has run the SQL.
sub holder
{
	my ($role, $sql) = @_;
	my $session = session($node, user => $role);

	$session->query_safe('SET idle_in_transaction_session_timeout = 0');
	$session->query_safe('BEGIN');
	$session->query_safe($_) for split /;\s*/, $sql;
	return $session;
}

sub suffix_of
{
	my ($key) = @_;

	return substr($key, -7);
}

# The SQLSTATE that a session's next statement gets, 57P01 if it was ended.
sub fate
{
	my ($session) = @_;

	$session->{stderr} = '';
	eval { $session->query('SELECT 1') };
	my $err = $session->{stderr};
	eval { $session->{run}->kill_kill };
	return $err =~ /(?:ERROR|FATAL):\s+(\w{5})\b/ ? $1 : $err;
}

# Revokes as a role: the SQLSTATE of an error, or nothing, and the seconds it
# took.  What would wait for ever ends with 57014.
sub revoke
{
	my ($role, $sql) = @_;
	my $start = time;
	my (undef, undef, $err) = $node->psql('postgres',
		"SET statement_timeout = '6s'; $sql",
		extra_params => [ '-U', $role, '-v', 'VERBOSITY=sqlstate' ]);

	return ($err =~ /ERROR:\s+(\w{5})/ ? $1 : $err, time - $start);
}

### sessions that take turns, each for less than a second

reset_eve();
my $script = $node->basedir . '/turn.sql';
append_to_file($script,
	"BEGIN;\nSELECT apikey_create('key');\nSELECT pg_sleep(0.4);\nROLLBACK;\n");
my @turns;
for (1 .. 3)
{
	push @turns, IPC::Run::start(
		[ 'pgbench', '-n', '-T', '20', '-f', $script, '-U', 'eve', '-h', $node->host, '-p', $node->port, 'postgres' ],
		'>', \my $out, '2>', \my $err);
	usleep(150_000);
}
ok($node->poll_query_until('postgres',
		"SELECT count(*) = 3 FROM pg_stat_activity WHERE usename = 'eve' AND backend_xid IS NOT NULL"),
	'three sessions share a lock');
my ($error, $seconds) = revoke('app', "SELECT apikey_remove_member('acme', 'eve')");
is($error, '', 'taking turns: removed');
cmp_ok($seconds, '<', $limit, 'taking turns: soon');
$_->kill_kill for @turns;

### the lock of a savepoint that was released

my @keys = reset_eve();
my $eve = holder('eve',
	"SAVEPOINT s; SELECT apikey_update('" . suffix_of($keys[0]) . "', level => 'standard'); RELEASE s");
($error, $seconds) = revoke('app', "SELECT apikey_remove_member('acme', 'eve')");
is($error, '', 'released savepoint: removed');
cmp_ok($seconds, '<', $limit, 'released savepoint: soon');
is(fate($eve), '57P01', 'released savepoint: the session is ended');

### a database role that is taken away

reset_eve();
$eve = holder('eve', "SELECT apikey_create('key')");
($error, $seconds) = revoke('app', "SELECT apikey_save_member('acme', 'eve', NULL, NULL, 'nobody')");
is($error, '', 'database role: taken away');
cmp_ok($seconds, '<', $limit, 'database role: soon');
is(fate($eve), '57P01', 'database role: the session is ended');

### the owner of keys, an admin too, does not undo that an admin deletes them

for my $what ('delete', 'delete_all')
{
	@keys = reset_eve('admin');
	my $ann = holder('ann', "SELECT apikey_delete_all('eve')");
	($error) = revoke('eve', "SET lock_timeout = '2s'; "
		  . ($what eq 'delete' ? "SELECT apikey_delete('" . suffix_of($keys[0]) . "')" : "SELECT apikey_delete_all('eve')"));
	is($error, '55P03', "$what: the owner waits for another admin");
	is(fate($ann), '', "$what: who goes on");

	# but what is its own role's session is not waited for
	$eve = holder('eve', "SELECT apikey_update('" . suffix_of($keys[0]) . "', name => 'held')");
	($error) = revoke('eve', "SELECT apikey_delete_all('eve')");
	is($error, '', "$what: an admin deletes its own keys");
	is(fate($eve), '57P01', "$what: and ends what is in its way");
}

### a role that can become the application

@keys = reset_eve();
my $other = holder('becomes_app',
	"SET ROLE app; SELECT apikey_act_as('acme', 'eve'); SELECT apikey_update('" . suffix_of($keys[0]) . "', name => 'held')");
($error) = revoke('app', "SET lock_timeout = '1500ms'; SELECT apikey_remove_member('acme', 'eve')");
is($error, '55P03', 'who can become the application is waited for');
is(fate($other), '', 'and goes on');

### work that takes longer, and waits for nobody

reset_eve();
$node->safe_psql('postgres', <<'EOS');
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_sleep(1);
	PERFORM nextval('public.slow_deletes');
	RETURN NULL;
END $$;
CREATE SEQUENCE slow_deletes;
GRANT USAGE ON SEQUENCE slow_deletes TO PUBLIC;
CREATE TRIGGER slow AFTER DELETE ON apikeys_private.apikey_key
	FOR EACH ROW EXECUTE FUNCTION slow();
EOS
($error) = revoke('app', "SELECT apikey_remove_member('acme', 'eve')");
is($error, '', 'slow work: done');
is($node->safe_psql('postgres', 'SELECT last_value FROM slow_deletes'), '2', 'slow work: once');

# But it is not held up either: the first of the keys is deleted for a second,
# then the second is waited for.
@keys = reset_eve();
$eve = holder('eve', "SELECT apikey_update('" . suffix_of($keys[1]) . "', name => 'held')");
($error) = revoke('app', "SELECT apikey_remove_member('acme', 'eve')");
is($error, '', 'slow work, held up: done');
is(fate($eve), '57P01', 'slow work, held up: the session is ended');
$node->safe_psql('postgres', 'DROP FUNCTION slow() CASCADE');

### the caller

reset_eve();
$eve = holder('eve', "SELECT apikey_create('key')");
my $app = session($node);
$app->query_safe("SET lock_timeout = '7s'; BEGIN; SELECT apikey_save_org('other', 'Other')");
$app->query_safe("SELECT apikey_remove_member('acme', 'eve')");
is($app->query_safe("SELECT current_setting('lock_timeout'), current_user, current_setting('search_path')"),
	'7s|app|"$user", public', 'the caller has the settings it had');
is(sqlstate($app, 'SELECT 1 FROM pg_sleep(1.5)'), '1', 'and no timeout is left behind');
is(sqlstate($app, "SELECT apikey_remove_org('other')"), '', 'nor is what it had done');
$app->query_safe('COMMIT');
is(fate($eve), '57P01', 'the session is ended');

# Its lock_timeout counts again, for what is no revocation.
@keys = reset_eve();
$eve = holder('eve', "SELECT apikey_update('" . suffix_of($keys[0]) . "', name => 'held')");
my $eve2 = session($node, user => 'eve');
is(sqlstate($eve2, "SET lock_timeout = '300ms'; SELECT apikey_update('" . suffix_of($keys[0]) . "', name => 'too')"),
	'55P03', 'what takes nothing away waits as usual');
is(fate($eve), '', 'and ends nobody');
$_->quit for $app, $eve2;

$node->stop;
done_testing();
