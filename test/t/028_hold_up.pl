# Nobody holds up a revocation that is aimed at them: a member who has changed
# something by its database role, and leaves the transaction open, has its
# session ended after a second.  The application's sessions and a superuser's
# are waited for, as usual; so are colleagues, by a member who is no admin.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use ApikeysTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_server('main');
$node->append_conf('postgresql.conf', 'max_prepared_transactions = 2');
$node->start;
install($node);
$node->safe_psql('postgres', <<EOS);
CREATE ROLE bob LOGIN;
CREATE ROLE eve LOGIN;
CREATE ROLE heir LOGIN;
GRANT app TO heir;
CREATE EXTENSION dblink;
EOS

my %value;

# Bob has a database role, a key, and an organization with a legacy key.
sub set_up
{
	$node->safe_psql('postgres', <<EOS);
SET client_min_messages = warning;
DELETE FROM apikeys_private.apikey_org WHERE org_id = 'acme';
SELECT apikey_save_org('acme', 'Acme', 'enterprise');
SELECT apikey_save_member('acme', 'ann', 'ann\@acme.example', 'admin');
SELECT apikey_save_member('acme', 'eve', 'eve\@acme.example', 'admin', 'eve');
SELECT apikey_save_member('acme', 'bob', 'bob\@acme.example', 'architect', 'bob');
SELECT apikey_import_legacy('acme', 'a legacy key of acme');
EOS
	($value{bob}) = make_keys($node, 1, user => 'bob', level => 'standard');
	return;
}

sub suffix { return "apikey_suffix('$value{bob}')" }

# What holds up, by somebody who is bob.
my %hold = (
	update => sub { 'SELECT apikey_update(' . suffix() . q{, name => 'held')} },
	lower => sub { 'SELECT apikey_update(' . suffix() . q{, level => 'standard', name => 'held')} },
	create => sub { q{SELECT apikey_create('held') IS NOT NULL} },
	architect => sub { q{SELECT apikey_create('held', 'architect') IS NOT NULL} },
	rotate => sub { 'SELECT apikey_rotate(' . suffix() . ') IS NOT NULL' },
	delete => sub { 'SELECT apikey_delete(' . suffix() . ')' },
	# with a lock that a savepoint's transaction took
	savepoint => sub { 'SAVEPOINT s; SELECT apikey_update(' . suffix() . q{, name => 'held'); SAVEPOINT t} },
);

# What is held up.  By the application, or by an admin in it.
my %as_admin = map { $_ => 1 } qw(delete delete_all);
my %revoke = (
	remove_member => sub { q{SELECT apikey_remove_member('acme', 'bob')} },
	demote => sub { q{SELECT apikey_save_member('acme', 'bob', NULL, 'guest')} },
	remove_org => sub { q{SELECT apikey_remove_org('acme')} },
	plan => sub { q{SELECT apikey_save_member('acme', 'bob', NULL, 'guest'), apikey_save_org('acme', NULL, 'free')} },
	delete => sub { 'SELECT apikey_delete(' . suffix() . ')' },
	delete_all => sub { q{SELECT apikey_delete_all('bob')} },
);

# Has "user" hold up something as bob; a session, and the id of its process.
sub hold
{
	my ($user, $how) = @_;
	my $session = session($node, user => $user);
	my $pid = $session->query_safe('SELECT pg_backend_pid()');

	$session->query_safe('SET idle_in_transaction_session_timeout = 0; BEGIN');
	$session->query_safe("SELECT apikey_act_as('acme', 'bob')") if $user ne 'bob';
	$session->query_safe($hold{$how}->());
	return ($session, $pid);
}

# Revokes, as the application or an admin in it: the SQLSTATE of an error, or
# nothing, and the seconds it took.
sub revoke
{
	my ($what, $settings) = @_;
	my $start = time;
	my $act = $as_admin{$what} ? q{SELECT apikey_act_as('acme', 'ann');} : '';
	my (undef, undef, $err) = $node->psql('postgres',
		"\\set VERBOSITY sqlstate\nSET statement_timeout = '30s';"
		  . ($settings // '')
		  . "BEGIN; $act " . $revoke{$what}->() . '; COMMIT;',
		extra_params => [ '-U', 'app' ]);

	return ($err =~ /ERROR:\s+(\w{5})/ ? $1 : $err, time - $start);
}

sub is_alive
{
	my ($pid) = @_;

	return $node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid");
}

sub keys_of_bob
{
	return $node->safe_psql('postgres',
		"SELECT count(*) FROM apikeys_private.apikey_key WHERE org_id = 'acme' AND owner_id = 'bob'");
}

### by the member itself

my @cases = (
	(map { [ 'remove_member', $_ ] } sort keys %hold),
	[ 'demote', 'create' ], [ 'demote', 'rotate' ],
	[ 'remove_org', 'update' ], [ 'remove_org', 'delete' ],
	[ 'plan', 'architect' ],
	[ 'delete', 'rotate' ], [ 'delete', 'savepoint' ],
	[ 'delete_all', 'update' ], [ 'delete_all', 'delete' ]);

for my $case (@cases)
{
	my ($what, $how) = @$case;
	my $name = "$what, held up by $how";

	set_up();
	my ($session, $pid) = hold('bob', $how);
	my $log = -s $node->logfile;
	my ($error, $seconds) = revoke($what);

	is($error, '', "$name: done");
	cmp_ok($seconds, '<', 2.5, "$name: soon");
	cmp_ok($seconds, '>', 0.8, "$name: having waited");
	is(sqlstate_of_dead($session), '57P01', "$name: the session is ended");
	$node->wait_for_log(qr/ending the session of process $pid, which holds up a revocation/, $log);
	is(keys_of_bob(), 0, "$name: no key is left") if $what !~ /demote|plan/;
	eval { $session->quit };
}

# A session that was ended says so to the next statement.
sub sqlstate_of_dead
{
	my ($session) = @_;

	$session->{stderr} = '';
	eval { $session->query('SELECT 1') };
	return $session->{stderr} =~ /FATAL:\s+(\w{5})/ ? $1 : $session->{stderr};
}

# One that goes on, and whoever comes next.
set_up();
my @held = map { [ hold('bob', 'create') ] } 1 .. 4;
my ($error, $seconds) = revoke('remove_member');
is($error, '', 'four sessions: removed');
cmp_ok($seconds, '<', 2.5, 'four sessions: soon');
is(is_alive($_->[1]), 0, 'four sessions: ended') for @held;

# A caller who is less patient.
set_up();
my ($session, $pid) = hold('bob', 'update');
($error, $seconds) = revoke('remove_member', q{SET lock_timeout = '100ms';});
is($error, '', 'with a short lock_timeout: removed');
cmp_ok($seconds, '<', 0.8, 'with a short lock_timeout: sooner');

# A caller that has read before, and sees no later.
set_up();
($session, $pid) = hold('bob', 'update');
($error) = revoke('remove_member', q{SET default_transaction_isolation = 'serializable';});
is($error, '', 'serializable: removed');
is(keys_of_bob(), 0, 'serializable: no key is left');

# What the caller has set is as it was, and what it has done.
set_up();
($session, $pid) = hold('bob', 'update');
is( $node->safe_psql('postgres', <<EOS), "\n1|7s\n0|7s", 'the caller has the settings it had');
SET lock_timeout = '7s';
BEGIN;
SELECT apikey_remove_member('acme', 'bob');
SELECT 1, current_setting('lock_timeout');
COMMIT;
SELECT count(*), current_setting('lock_timeout') FROM apikeys_private.apikey_member WHERE user_id = 'bob';
EOS

### by those who are spared

for my $user (qw(app heir postgres))
{
	set_up();
	for my $what ($user eq 'app' ? qw(remove_member demote remove_org delete delete_all) : qw(remove_member delete))
	{
		($session, $pid) = hold($user, $what =~ /delete/ ? 'update' : 'create');
		($error, $seconds) = revoke($what, q{SET lock_timeout = '1500ms';});
		is($error, '55P03', "$what, held up by $user: in vain");
		cmp_ok($seconds, '>', 1.4, "$what, held up by $user: waits");
		is(is_alive($pid), 1, "$what, held up by $user: who goes on");
		$session->query_safe('ROLLBACK');
		$session->quit;
	}
}

# And waits for as long as it takes.  The member who is in the way as well is
# not spared.
set_up();
my ($app) = hold('app', 'create');
($session, $pid) = hold('bob', 'create');
my $remover = session($node);
$remover->query_until(qr/asked/, "\\echo asked\nSELECT apikey_remove_member('acme', 'bob');\n\\echo answered\n");
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid"),
	'the member is not spared');
$app->query_safe('SELECT pg_sleep(3)');
is($app->query_safe('SELECT count(*) FROM pg_stat_activity WHERE query LIKE $$%remove_member%$$ AND wait_event_type = $$Lock$$'),
	1, 'the remover waits');
$app->query_safe('COMMIT');
like($remover->query_until(qr/answered/, ''), qr/answered/, 'and ends');
is($remover->{stderr}, '', 'with no error');
is(keys_of_bob(), 0, 'no key is left');
$_->quit for $app, $remover;

# A prepared transaction.
set_up();
($session) = hold('app', 'update');
$session->query_safe("PREPARE TRANSACTION 'held'");
($error) = revoke('remove_member', q{SET lock_timeout = '1500ms';});
is($error, '55P03', 'a prepared transaction is waited for');
$session->query_safe("ROLLBACK PREPARED 'held'");
$session->quit;

### by whom it is not aimed at

# A member deletes a key that an admin is deleting by its database role: the
# admin's session goes on; the same of the member's own is ended.
set_up();
my $eve = session($node, user => 'eve');
$pid = $eve->query_safe('SELECT pg_backend_pid()');
$eve->query_safe('BEGIN; SELECT apikey_delete(' . suffix() . ')');
my $bob = session($node, user => 'bob');
is(sqlstate($bob, q{SET lock_timeout = '1500ms'; SELECT apikey_delete(} . suffix() . ')'), '55P03',
	'a member waits for an admin');
is(is_alive($pid), 1, 'who goes on');
$eve->query_safe('ROLLBACK');
my ($other, $other_pid) = hold('bob', 'update');
is(sqlstate($bob, 'SELECT apikey_delete(' . suffix() . ')'), '', 'a member deletes its own key');
is(is_alive($other_pid), 0, 'and ends what is in its way');

# Who changes something else goes on.
set_up();
my ($two) = make_keys($node, 1, user => 'bob', level => 'standard');
($session, $pid) = hold('bob', 'update');
as_acme($node, 'ann', "SELECT apikey_delete(apikey_suffix('$two'))");
as_acme($node, 'ann', 'SELECT apikey_delete_legacy()');
$node->safe_psql('postgres', q{SELECT apikey_remove_member('acme', 'eve')});
is(is_alive($pid), 1, 'who is not in the way goes on');
is($session->query_safe('SELECT 1'), '1', 'and can');
$session->quit;

### a deadlock that a member makes of it

set_up();
($session, $pid) = hold('bob', 'update');
my $slow = session($node);
$slow->query_safe('BEGIN; ' . q{SELECT apikey_save_member('acme', 'ann', 'new@acme.example')});
$slow->query_until(qr/asked/, "\\echo asked\nSELECT apikey_remove_member('acme', 'bob');\n\\echo answered\n");
$slow->query_until(qr/answered/, '');
is($slow->{stderr}, '', 'no error');
$slow->query_safe('COMMIT');
is(keys_of_bob(), 0, 'and the member is removed');
$slow->quit;

$node->stop;
done_testing();
