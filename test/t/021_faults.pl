# Whatever goes wrong in the middle of an operation (it is cancelled, times out,
# its session is terminated, the disk is full, memory runs out): the error is the
# expected one, nothing is half done, no principal is left, the session is who it
# was and goes on, and the same operation then succeeds.  What is held up by a
# lock is in the middle of it: of somebody else's row, or of a table that a
# trigger waits for right after a row was written.
#
# Files that cannot grow and memory that cannot be had are made by limits of the
# server's processes (prlimit, Linux), and by /dev/full in the place of a table's
# file.
#
# APIKEYS_MEMORY_STEP: how many bytes of memory there are more with each attempt.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use ApikeysTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use UsageTest;

my $step = $ENV{APIKEYS_MEMORY_STEP} // 32768;

# For both servers: what there is to begin with, and all that is stored.
my $fixtures = <<'EOS';
-- Values are new, so no session has cached them.
CREATE FUNCTION reset(OUT victim text, OUT legacy text) LANGUAGE plpgsql AS $$
BEGIN
	DELETE FROM apikeys_private.apikey_org;
	PERFORM apikey_save_org('acme', 'Acme', 'enterprise');
	PERFORM apikey_save_member('acme', 'ann', 'ann@acme.example', 'admin');
	PERFORM apikey_save_member('acme', 'bob', 'bob@acme.example', 'admin');
	PERFORM apikey_save_org('other', 'Other', 'free');
	PERFORM apikey_act_as('acme', 'bob');
	PERFORM apikey_create('bob''s ' || i, 'admin') FROM generate_series(1, 3) i;
	PERFORM apikey_act_as('acme', 'ann');
	victim := apikey_create('victim', 'admin');
	legacy := 'legacy key ' || gen_random_uuid();
	PERFORM apikey_import_legacy('acme', legacy);
END $$;
CREATE VIEW state AS
SELECT md5(string_agg(line, chr(10) ORDER BY line COLLATE "C"))
FROM (SELECT o::text AS line FROM apikeys_private.apikey_org o UNION ALL SELECT m::text FROM apikeys_private.apikey_member m
	UNION ALL SELECT k::text FROM apikeys_private.apikey_key k UNION ALL SELECT l::text FROM apikeys_private.apikey_legacy l) AS lines;
EOS

my $node = usage_server('main');
$node->start;
install($node);
$node->safe_psql('postgres', $fixtures . <<'EOS');
CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('LOCK TABLE public.gate_%s_%s IN SHARE MODE', TG_TABLE_NAME, lower(TG_OP));
	RETURN NULL;
END $$;
SELECT format('CREATE TABLE gate_%s_%s ()', t, o),
	format('CREATE TRIGGER wait_%2$s AFTER %2$s ON apikeys_private.%1$s FOR EACH ROW EXECUTE FUNCTION wait_at_gate()', t, o)
FROM unnest('{apikey_org,apikey_member,apikey_key,apikey_legacy,apikey_usage}'::text[]) t,
	unnest('{insert,update,delete}'::text[]) o
\gexec
EOS

#
# Sessions
#
my $who = 'SELECT current_user, apikey_current_org(), apikey_current_user(),'
  . ' apikey_current_role(), apikey_current_level(), apikey_current_suffix()';
my $nobody = 'app|||||';
my $admin = session($node, user => 'postgres');
my $locker = session($node, user => 'postgres');

sub pid_of
{
	my ($session) = @_;

	return $session->query_safe('SELECT pg_backend_pid()');
}

# Sends a query that is going to be held up, and does not wait for it.
sub begin_query
{
	my ($session, $sql) = @_;

	$session->{stderr} = '';
	$session->{stdin} .= "$sql;\n\\echo done\n\\warn done\n";
	$session->{run}->pump_nb;
	return;
}

# Its output, or the SQLSTATE of its error, which may have been its last, or of a
# warning.
sub end_query
{
	my ($session) = @_;
	my $ended = 0;

	$session->{timeout}->start;
	while (!$ended && ($session->{stdout} !~ /^done$/m || $session->{stderr} !~ /^done$/m))
	{
		$ended = 1 unless eval { $session->{run}->pump };
		die 'no answer' if $session->{timeout}->is_expired;
	}
	my ($out, $err) = ($session->{stdout}, $session->{stderr});
	$session->{stdout} = $session->{stderr} = '';
	eval { $session->{run}->finish } if $ended;
	return $1 if $err =~ /(?:WARNING|ERROR|FATAL|PANIC):\s+(\w{5})\b/;
	die "unexpected end: $err" if $ended;
	return $out =~ s/\n?done\n$//r;
}

# The same for a query that is not held up.
sub answer
{
	my ($session, $sql) = @_;

	begin_query($session, $sql);
	return end_query($session);
}

sub wait_until
{
	my ($condition) = @_;

	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return if $admin->query_safe("SELECT $condition") eq 't';
		$admin->query_safe('SELECT pg_sleep(0.01)');
	}
	die "in vain: $condition";
}

sub wait_until_held_up
{
	my ($which) = @_;

	wait_until("EXISTS (SELECT FROM pg_stat_activity WHERE $which AND wait_event_type = 'Lock')");
	return;
}

#
# Cancelled, timed out, terminated
#
my %state_of = (
	cancel => '57014',
	statement_timeout => '57014',
	lock_timeout => '55P03',
	terminate => '57P01');
my $held_member = "SELECT FROM apikeys_private.apikey_member WHERE (org_id, user_id) = ('acme', 'ann') FOR UPDATE";
my $held_key = "SELECT FROM apikeys_private.apikey_key WHERE name = 'victim' FOR UPDATE";
my $held_org = "SELECT FROM apikeys_private.apikey_org WHERE org_id = 'acme' FOR UPDATE";
sub gate { return "LOCK TABLE gate_apikey_$_[0]" }

# What is done, as a member or not; what it says, what it has done, and where it
# can be held up.
my @operations = (
	{
		name => 'create',
		member => 1,
		sql => "SELECT length(apikey_create('made', 'architect'))",
		says => 54,
		done => "(SELECT count(*) = 1 FROM apikeys_private.apikey_key WHERE (name, level) = ('made', 'architect'))",
		holds => [ $held_org, $held_member, gate('key_insert'), 'LOCK TABLE apikeys_private.apikey_key' ]
	},
	{
		name => 'update',
		member => 1,
		sql => "SELECT apikey_update(:suffix, 'renamed', 'standard')",
		says => '',
		done => "(SELECT (name, level) = ('renamed', 'standard') FROM apikeys_private.apikey_key WHERE suffix = :suffix)",
		holds => [ $held_member, $held_key, gate('key_update') ]
	},
	{
		name => 'rotate',
		member => 1,
		sql => 'SELECT length(apikey_rotate(:suffix))',
		says => 54,
		done => "(SELECT count(*) = 2 AND count(*) FILTER (WHERE expires_at IS NULL) = 1 FROM apikeys_private.apikey_key WHERE name = 'victim')",
		holds => [ $held_member, $held_key, gate('key_update'), gate('key_insert') ]
	},
	{
		name => 'delete',
		member => 1,
		sql => 'SELECT apikey_delete(:suffix)',
		says => '',
		done => 'NOT EXISTS (SELECT FROM apikeys_private.apikey_key WHERE suffix = :suffix)',
		holds => [ $held_key, gate('key_delete') ]
	},
	{
		name => 'delete_all',
		member => 1,
		sql => "SELECT apikey_delete_all('bob')",
		says => 3,
		done => "NOT EXISTS (SELECT FROM apikeys_private.apikey_key WHERE owner_id = 'bob')",
		holds => [ gate('key_delete') ]
	},
	{
		name => 'delete_legacy',
		member => 1,
		sql => 'SELECT apikey_delete_legacy()',
		says => '',
		done => 'NOT EXISTS (SELECT FROM apikeys_private.apikey_legacy)',
		holds => [ gate('legacy_delete') ]
	},
	{
		name => 'save_member, a new one',
		sql => "SELECT apikey_save_member('acme', 'eve', 'eve\@acme.example', 'admin')",
		says => '',
		done => "EXISTS (SELECT FROM apikeys_private.apikey_member WHERE user_id = 'eve')",
		holds => [ $held_org, gate('member_insert') ]
	},
	{
		name => 'save_member, a demotion',
		sql => "SELECT apikey_save_member('acme', 'ann', NULL, 'guest')",
		says => '',
		done => "EXISTS (SELECT FROM apikeys_private.apikey_member WHERE (user_id, role) = ('ann', 'guest'))",
		holds => [ $held_member, gate('member_update') ]
	},
	{
		name => 'remove_member',
		sql => "SELECT apikey_remove_member('acme', 'ann')",
		says => '',
		done => "NOT EXISTS (SELECT FROM apikeys_private.apikey_key, apikeys_private.apikey_member WHERE 'ann' IN (owner_id, user_id))",
		holds => [ $held_member, $held_key, gate('key_delete'), gate('member_delete') ]
	},
	{
		name => 'save_org',
		sql => "SELECT apikey_save_org('acme', 'Acme Inc.')",
		says => '',
		done => "EXISTS (SELECT FROM apikeys_private.apikey_org WHERE name = 'Acme Inc.')",
		holds => [ $held_org, gate('org_update') ]
	},
	{
		name => 'remove_org',
		sql => "SELECT apikey_remove_org('acme')",
		says => '',
		done => 'NOT EXISTS (SELECT FROM apikeys_private.apikey_key, apikeys_private.apikey_member, apikeys_private.apikey_legacy)',
		holds => [ $held_key, gate('key_delete'), gate('legacy_delete') ]
	},
	{
		name => 'import_legacy',
		user => 'postgres',
		sql => "SELECT apikey_import_legacy('other', 'another ' || :legacy)",
		says => '',
		done => "EXISTS (SELECT FROM apikeys_private.apikey_legacy WHERE org_id = 'other')",
		holds => [ "SELECT FROM apikeys_private.apikey_org WHERE org_id = 'other' FOR UPDATE", gate('legacy_insert') ]
	},
	{
		name => 'verification',
		sql => "SELECT apikey_check_level(:victim, 'admin'), (apikey_verify(:victim)).level, apikey_me(:victim)->>'role'",
		says => 't|admin|ADMIN',
		holds => [ 'LOCK TABLE apikeys_private.apikey_key', 'LOCK TABLE apikeys_private.apikey_member' ]
	},
	{
		name => 'verification of a legacy key',
		sql => "SELECT apikey_check_level(:legacy, 'admin')",
		says => 't',
		holds => ['LOCK TABLE apikeys_private.apikey_legacy']
	},
	{
		name => 'act_as',
		sql => "SELECT apikey_act_as('acme', 'ann', session => true)",
		says => '',
		holds => ['LOCK TABLE apikeys_private.apikey_member']
	},
	{
		name => 'authenticate',
		sql => 'SELECT (apikey_authenticate(:victim, session => true)).level',
		says => 'admin',
		holds => ['LOCK TABLE apikeys_private.apikey_key']
	});

my $begin_as_ann = "BEGIN; SELECT apikey_act_as('acme', 'ann') \\g /dev/null";
my %sessions;
my $cases = 0;

# Has everything be as at first; returns the SQL that begins the operation's
# transaction, that of the operation, and what is true when it is done.
sub prepare
{
	my ($operation) = @_;
	my ($victim, $legacy) = split /\|/, $admin->query_safe('BEGIN; SELECT * FROM reset(); COMMIT');
	my %values = (victim => $victim, suffix => substr($victim, -7), legacy => $legacy);

	return ($operation->{member} ? $begin_as_ann : 'BEGIN'),
	  map { s/:(victim|suffix|legacy)\b/'$values{$1}'/gr } $operation->{sql}, $operation->{done} // 'true';
}

sub try_fault
{
	my ($operation, $hold, $fault) = @_;
	my $user = $operation->{user} // 'app';
	my $session = $sessions{$user} //= session($node, user => $user);
	my ($begin, $sql, $done) = prepare($operation);
	my @seen;

	$locker->query_safe("BEGIN; $hold");
	my $before = $locker->query_safe('TABLE state');
	$session->query_safe($begin);
	if ($fault =~ /timeout/)
	{
		$session->query_safe("SET LOCAL $fault = '30ms'");
		push @seen, sqlstate($session, $sql);
	}
	else
	{
		my $pid = pid_of($session);
		begin_query($session, $sql);
		wait_until_held_up("pid = $pid");
		$admin->query_safe("SELECT pg_${fault}_backend($pid)");
		push @seen, end_query($session);
	}
	if ($fault eq 'terminate')
	{
		$session = $sessions{$user} = session($node, user => $user);
	}
	else
	{
		push @seen, sqlstate($session, $who);
		$session->query_safe('ROLLBACK');
	}
	push @seen, $locker->query_safe('TABLE state') eq $before ? 'nothing done' : 'something done';
	$locker->query_safe('ROLLBACK');
	push @seen, sqlstate($session, $who);

	$session->query_safe($begin);
	push @seen, sqlstate($session, $sql);
	$session->query_safe('COMMIT; RESET apikeys.principal');
	push @seen, $admin->query_safe("SELECT $done");
	is( join(', ', @seen),
		join(', ',
			$state_of{$fault}, ($fault eq 'terminate' ? () : '25P02'),
			'nothing done', ($nobody =~ s/app/$user/r), $operation->{says}, 't'),
		"$operation->{name}, $fault, $hold");
	$cases++;
	return;
}

for my $operation (@operations)
{
	for my $hold (@{ $operation->{holds} })
	{
		try_fault($operation, $hold, $_) for sort keys %state_of;
	}
}

#
# Rolled back to a savepoint, or caught: the principal is the one before
#
my $session = $sessions{app};
my $pid = pid_of($session);
my ($victim) = split /\|/, $admin->query_safe('BEGIN; SELECT * FROM reset(); COMMIT');
my $suffix = substr($victim, -7);

$locker->query_safe('BEGIN; ' . gate('key_insert'));
my $state = $locker->query_safe('TABLE state');
$session->query_safe("BEGIN; SELECT apikey_act_as('acme', 'ann'); SAVEPOINT s");
begin_query($session, "SELECT apikey_rotate('$suffix')");
wait_until_held_up("pid = $pid");
$admin->query_safe("SELECT pg_cancel_backend($pid)");
is(end_query($session), '57014', 'a rotation is cancelled after a savepoint');
$session->query_safe('ROLLBACK TO s');
is(sqlstate($session, $who), 'app|acme|ann|admin|admin|', 'the principal of before, and the same user');
is(sqlstate($session, 'SELECT digest FROM apikeys_private.apikey_key'), '42501', 'with no more rights');
$session->query_safe('ROLLBACK TO s');
is(check_key($session, $victim, 'admin'), 't', 'the old value is alive');
$session->query_safe(<<EOS);
SET LOCAL lock_timeout = '20ms';
DO \$\$
BEGIN
	PERFORM apikey_rotate('$suffix');
	RAISE 'not held up';
EXCEPTION WHEN lock_not_available THEN
	NULL;
END \$\$;
SET LOCAL lock_timeout = 0
EOS
is(sqlstate($session, $who), 'app|acme|ann|admin|admin|', 'the same when the error is caught');
$session->query_safe('COMMIT');
is($locker->query_safe('TABLE state'), $state, 'and nothing done is committed');
$locker->query_safe('ROLLBACK');

# A session's principal was not set in the transaction that fails.
$session->query_safe("SELECT apikey_act_as('acme', 'bob', session => true)");
$locker->query_safe('BEGIN; ' . gate('key_insert'));
$session->query_safe("BEGIN; SELECT apikey_act_as('acme', 'ann', session => true); SET LOCAL lock_timeout = '20ms'");
is(sqlstate($session, "SELECT apikey_create('made')"), '55P03',
	'a transaction fails that has set another principal for the session');
$session->query_safe('ROLLBACK');
is(sqlstate($session, $who), 'app|acme|bob|admin|admin|', 'the one that the session had is back');
$session->query_safe('RESET apikeys.principal');

# Hundreds of failures leave nothing behind in the session.
sub failures
{
	my ($count, @sql) = @_;
	my $errors = 0;

	for my $sql (@sql)
	{
		$sessions{postgres}->query("$begin_as_ann\n$sql;\nROLLBACK;\n" x $count);
		$errors += () = $sessions{postgres}->{stderr} =~ /ERROR:\s+55P03/g;
		$sessions{postgres}->{stderr} = '';
	}
	is($errors, $count * @sql, "$errors failures");
	return $sessions{postgres}->query_safe('SELECT sum(total_bytes) FROM pg_backend_memory_contexts');
}

my @failing = (
	"SELECT apikey_create('made')",
	"SELECT apikey_rotate('$suffix')",
	"SELECT apikey_delete('$suffix')",
	"SELECT apikey_save_member('acme', 'eve', 'eve\@acme.example')",
	"SELECT apikey_import_legacy('other', 'one more legacy key')");
$locker->query_safe(join('; ', map { gate($_) } qw(key_delete key_update legacy_insert member_insert)));
$sessions{postgres}->query_safe("SET lock_timeout = '1ms'");
my $before = failures(20, @failing);
my $memory = failures(100, @failing) - $before;
note("memory that they took: $memory bytes");
cmp_ok($memory, '<', 100_000, 'hundreds of failures take no memory');
is( $sessions{postgres}->query_safe(
		"SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND relation::regclass::text LIKE 'apikey%'"),
	0, 'nor any locks');
$locker->query_safe('ROLLBACK');
$sessions{postgres}->query_safe('RESET lock_timeout');

#
# Usage: whoever waits for a flush, and the worker that is writing
#
my $accepted = 0;
my $worker = "backend_type = 'apikeys usage worker'";
my $uses = "SELECT uses FROM apikeys WHERE suffix = '$suffix'";
$admin->query_safe('SELECT apikey_usage_flush(); TRUNCATE apikeys_private.apikey_usage');
my $base = $admin->query_safe($uses);

sub use_key
{
	is(check_key($session, $victim), 't', 'a key is used');
	$accepted++;
	return;
}

# In the middle of a flush, when its rows are written: SQL that ends it, and what
# that is for whoever waits.
sub try_flush
{
	my ($fault, $expected, $sql, $setting) = @_;
	my $flusher = session($node, user => 'postgres');
	my $pid = pid_of($flusher);

	use_key();
	$locker->query_safe('BEGIN; ' . join '; ', map { gate("usage_$_") } qw(insert update));
	$flusher->query_safe($setting) if $setting;
	begin_query($flusher, 'SELECT apikey_usage_flush()');
	wait_until_held_up($worker);
	$admin->query_safe($sql =~ s/:pid/$pid/r) if $sql;
	is(end_query($flusher), $expected, "flush, $fault");
	$locker->query_safe('ROLLBACK');
	wait_until("NOT EXISTS (SELECT FROM pg_stat_activity WHERE $worker)");
	is($admin->query_safe($uses), $base + $accepted, 'no use is lost or counted twice');
	if ($fault ne 'terminate')
	{
		$flusher->query_safe('RESET statement_timeout');
		is(sqlstate($flusher, 'SELECT apikey_usage_flush()'), '', 'the session goes on, and flushes');
		$flusher->quit;
	}
	$admin->query_safe('SELECT apikey_usage_flush()');
	is($admin->query_safe("SELECT u.uses FROM apikeys_private.apikey_usage u JOIN apikeys_private.apikey_key USING (key_id) WHERE suffix = '$suffix'"),
		$base + $accepted, 'all of them are written');
	return;
}

try_flush('cancel', '57014', 'SELECT pg_cancel_backend(:pid)');
try_flush('statement_timeout', '57014', '', "SET statement_timeout = '100ms'");
try_flush('terminate', '57P01', 'SELECT pg_terminate_backend(:pid)');
try_flush('its worker cancelled', '01000', "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE $worker");
try_flush('its worker terminated', '01000', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE $worker");

is_quiet($node, 0, 'no complaints in the log but these',
	qr/ERROR: +(?:57014|55P03|25P02|42501)|FATAL: +57P01|usage of 1 database could not be written/);
$_->quit for values %sessions, $admin, $locker;
$node->stop;

#
# A server with little of everything.  Segments of WAL must be smaller than the
# files that shall not grow, and each page of memory be asked for by itself.
#
my $small = usage_server('small', extra => ['--wal-segsize=1'], conf => <<'EOC');
shared_buffers = 16MB
restart_after_crash = on
EOC
{
	local $ENV{MALLOC_TOP_PAD_} = 0;
	$small->start;
}
install($small);
$small->safe_psql('postgres', $fixtures);
$admin = session($small, user => 'postgres');

#
# The disk is full: /dev/full is in the place of tables that are empty
#

# Sessions close all files when a database is dropped.
sub have_files_closed
{
	$admin->query_safe('CREATE DATABASE dropped');
	$admin->query_safe('DROP DATABASE dropped');
	return;
}

sub fill_disk
{
	my (@tables) = @_;
	my %file;

	$admin->query_safe('TRUNCATE ' . join(', ', @tables) . '; CHECKPOINT');
	$file{$_} = $small->data_dir . '/' . $admin->query_safe("SELECT pg_relation_filepath('$_')") for @tables;
	for my $table (@tables)
	{
		rename $file{$table}, "$file{$table}.kept" or die "cannot rename: $!";
		symlink '/dev/full', $file{$table} or die "cannot link: $!";
	}
	have_files_closed();
	return \%file;
}

sub clear_disk
{
	my ($file) = @_;

	unlink $file or die "cannot unlink: $!";
	rename "$file.kept", $file or die "cannot rename: $!";
	have_files_closed();
	return;
}

# It fails, and when there is room succeeds in the same session.
sub try_full_disk
{
	my ($session, $file, $user, $begin, $sql) = @_;

	for my $full (1, 0)
	{
		$session->query_safe($begin);
		is(sqlstate($session, $sql), $full ? '53100' : '', ($full ? 'a full disk: ' : 'with room: ') . $sql);
		$session->query_safe($full ? 'ROLLBACK' : 'COMMIT');
		is(sqlstate($session, $who), "$user|||||", 'nobody is left');
		clear_disk($file) if $full;
	}
	return;
}

SKIP:
{
	skip 'there is no /dev/full', 1 unless -c '/dev/full';
	my $app = session($small);
	my $owner = session($small, user => 'postgres');
	my $file = fill_disk(map { "apikeys_private.$_" } qw(apikey_org apikey_member apikey_key apikey_legacy apikey_usage));

	try_full_disk($app, $file->{'apikeys_private.apikey_org'}, 'app', 'BEGIN',
		"SELECT apikey_save_org('acme', 'Acme', 'enterprise')");
	try_full_disk($app, $file->{'apikeys_private.apikey_member'}, 'app', 'BEGIN',
		"SELECT apikey_save_member('acme', 'ann', 'ann\@acme.example', 'admin')");
	try_full_disk($owner, $file->{'apikeys_private.apikey_legacy'}, 'postgres', 'BEGIN',
		"SELECT apikey_import_legacy('acme', 'the legacy key of acme')");
	try_full_disk($app, $file->{'apikeys_private.apikey_key'}, 'app', $begin_as_ann,
		"SELECT WHERE apikey_create('made') IS NULL");
	is(check_key($app, 'the legacy key of acme'), 't', 'a key is used');
	is(answer($owner, 'SELECT apikey_usage_flush()'), '01000', 'a flush warns that it could not be written');
	clear_disk($file->{'apikeys_private.apikey_usage'});
	is(answer($owner, 'SELECT apikey_usage_flush()'), '', 'and writes when there is room');
	is($owner->query_safe('SELECT uses FROM apikeys_private.apikey_usage'), 1, 'what was kept');
}

#
# Limits of one process
#

# Sets what a process may have of a resource; returns what it was.
sub set_limit
{
	my ($pid, $resource, $limit) = @_;
	my $was = `prlimit --pid $pid --$resource --output SOFT --noheadings`;

	system("prlimit --pid $pid --$resource=$limit:") == 0 or die 'cannot set a limit';
	chomp $was;
	return $was;
}

sub memory_of
{
	my ($pid) = @_;
	my ($size) = slurp_file("/proc/$pid/status") =~ /^VmSize:\s+(\d+) kB/m;

	return 1024 * $size;
}

sub is_error
{
	return $_[0] =~ /^[0-9A-Z]{5}$/;
}

# Runs a query, and if need be what follows an error, within a limit.
sub within_limit
{
	my ($session, $pid, $resource, $limit, $sql, $on_error) = @_;
	my $was = set_limit($pid, $resource, $limit);
	my $answer = sqlstate($session, $sql);

	$session->query_safe($on_error) if defined $on_error && is_error($answer);
	set_limit($pid, $resource, $was);
	return $answer;
}

my $can_limit = -r '/proc/self/status' && `prlimit --pid $$ --as --output SOFT --noheadings 2>&1` =~ /^(?:\d+|unlimited)$/;

#
# Files that cannot grow: the table of keys, and its hash index when it needs
# more buckets.  That has no SQLSTATE of its own (53100 is for a disk).
#

# Has a file that must not grow fill up, and tries what needs room in it, what
# does not, and all of it again when there is room.
sub try_full_file
{
	my ($relation) = @_;
	my $session = session($small);
	my $pid = pid_of($session);
	my $offset = -s $small->logfile;
	my $name = 'x' x 100;    # more than there can be left of a page

	$admin->query_safe('TRUNCATE apikeys_private.apikey_key');
	my ($victim) = split /\|/, $admin->query_safe('BEGIN; SELECT * FROM reset(); COMMIT');
	my $suffix = substr($victim, -7);
	$admin->query_safe(<<EOS);
UPDATE apikeys_private.apikey_key SET name = '$name' WHERE suffix = '$suffix';
INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest, created_at)
SELECT 'acme', 'ann', 'f', 'standard', sha256(convert_to(i::text, 'UTF8')), now() - interval '1 day'
FROM generate_series(1, 10000) i
EOS
	my ($path, $size) = split /\|/, $admin->query_safe("SELECT pg_relation_filepath('$relation'), pg_relation_size('$relation')");
	cmp_ok($size, '>', 1024 * 1024, "$relation is larger than what is written of WAL");

	my $try = sub { return within_limit($session, $pid, 'fsize', $size, $_[0]) };
	my @values;
	while (@values < 2000)
	{
		my $value = $try->("$begin_as_ann\nSELECT apikey_create('f', 'admin'); COMMIT");
		last if $value !~ /^ak\./;
		push @values, $value;
	}
	note("keys until $relation was full: " . @values);

	my $state = $admin->query_safe('TABLE state');
	my @in_vain = (
		"SELECT 'made' FROM apikey_create('$name')",
		"SELECT apikey_update('$suffix', '${name}', 'standard')",
		"SELECT 'made' FROM apikey_rotate('$suffix')");
	for my $sql (@in_vain)
	{
		like($try->("$begin_as_ann\n$sql; COMMIT"), qr/^(?:53100|XX000)$/, "$relation is full: $sql");
		is(sqlstate($session, $who), $nobody, 'nobody is left');
	}
	is($admin->query_safe('TABLE state'), $state, 'and nothing done');
	like(slurp_file($small->logfile, $offset), qr/ERROR: .*could not extend file "\Q$path\E"/, 'for that reason');
	is($try->("SELECT apikey_check_level('$victim', 'admin')"), 't', 'verification goes on');
	is($try->("SELECT apikey_save_member('acme', 'bob', NULL, 'guest')"), '', 'so does a demotion');
	is($try->("$begin_as_ann\nSELECT apikey_delete(apikey_suffix('$values[0]')); COMMIT"), '', 'and deleting a key');
	is($try->("SELECT apikey_remove_member('acme', 'bob')"), '', 'and removing a member');

	for my $sql (@in_vain)
	{
		like(sqlstate($session, "$begin_as_ann\n$sql; COMMIT"), qr/^(?:made)?$/, "with room: $sql");
	}
	is(check_key($session, $victim), 'f', 'the key was rotated');
	is(check_key($session, shift @values), 'f', 'the other deleted');
	is(scalar(grep { check_key($session, $_, 'admin') eq 't' } @values), scalar @values, 'all others are found');
	$session->quit;
	return;
}

#
# Memory runs out
#

# A session that has done nothing yet, its process, and the memory that it has.
# The stack must not be what cannot grow, nor a library what cannot be loaded.
sub fresh_session
{
	my ($user) = @_;
	my $session = session($small, user => $user);
	my $pid = pid_of($session);

	$session->query_safe('SELECT ' . '1 + (' x 1000 . '1' . ')' x 1000);
	$session->query_safe("LOAD 'pgcrypto'") if $user eq 'postgres';
	return ($session, $pid, memory_of($pid));
}

# Gives a session a bit more of memory each time, until it is enough; returns how
# often it was not.  Some sixty times are too much for PostgreSQL's foreign keys,
# for which a session must have room to begin with them.
sub starve
{
	my ($operation) = @_;
	my $user = $operation->{user} // 'app';
	my ($begin, $sql, $done) = prepare($operation);
	my $state = $admin->query_safe('TABLE state');
	my ($session, $pid, $memory) = fresh_session($user);
	my $failures = 0;
	my ($answer, %left);

	for (;; $failures++)
	{
		if ($failures % 50 == 49)
		{
			$session->quit;
			($session, $pid, $memory) = fresh_session($user);
		}
		$session->query_safe($begin);
		$answer = within_limit($session, $pid, 'as', $memory + $failures * $step, $sql, 'ROLLBACK');
		last if $answer ne '53200';
		# (which needs nothing that might then be there for the next attempt)
		$left{ sqlstate($session, "SELECT current_user, current_setting('apikeys.principal')") } = 1;
	}
	is(join(' ', grep { $_ ne "$user|" } keys %left), '', "$operation->{name}: nobody is left when memory has run out");
	is($admin->query_safe('TABLE state'), $state, 'nothing done in vain');
	is($answer, $operation->{says}, "and the answer after $failures failures");
	$session->query_safe('COMMIT; RESET apikeys.principal');
	is($admin->query_safe("SELECT $done"), 't', 'it is done in the end');
	$session->quit;
	return $failures;
}

SKIP:
{
	skip 'no limits can be set of other processes: prlimit and /proc are those of Linux', 1 unless $can_limit;

	try_full_file('apikeys_private.apikey_key');
	$admin->query_safe('ALTER INDEX apikeys_private.apikey_key_digest_excl SET (fillfactor = 10); REINDEX INDEX apikeys_private.apikey_key_digest_excl');
	try_full_file('apikeys_private.apikey_key_digest_excl');

	# AddressSanitizer ends a process that has no memory.
	skip 'memory is not short under a sanitizer', 1 if $ENV{ASAN_OPTIONS};

	my $failures = 0;
	$failures += starve($_) for @operations;
	note("out of memory $failures times");
	cmp_ok($failures, '>', 100, 'memory ran out in many places');

	# A value that fills the memory: where a key is expected it is not even
	# copied; elsewhere it may be too much.
	my $session = session($small, user => 'postgres');
	my $pid = pid_of($session);
	$admin->query_safe('BEGIN; SELECT * FROM reset(); COMMIT');
	my %answers = (
		"apikey_check_level(big, 'standard')" => 'f',
		'(SELECT count(*) FROM apikey_verify(big))' => 0,
		'apikey_me(big) IS NULL' => 't',
		'(apikey_inspect(big)).status' => 'malformed',
		'apikey_is_wellformed(big)' => 'f',
		'apikey_suffix(big) IS NULL' => 't',
		'apikey_authenticate(big)' => '28P01',
		'apikey_import_legacy($$acme$$, big)' => 22023,
		'apikey_create(big)' => 22023,
		'apikey_update($$0000000$$, big)' => 22023,
		'apikey_act_as(big, big)' => 42704,
		'apikey_delete(big)' => 'P0002',
		'apikey_save_member($$acme$$, $$ann$$, big)' => '53200');
	for my $call (sort keys %answers)
	{
		my $size = 50_000_000;
		my $sql = "SELECT $call FROM (SELECT repeat('x', %s + (random() * 0)::int) AS big OFFSET 0) AS one";
		# once with little, so that it is known what to do
		sqlstate($session, "$begin_as_ann\n" . sprintf($sql, 1) . '; ROLLBACK');
		$session->query_safe($begin_as_ann);
		my $answer = within_limit($session, $pid, 'as', memory_of($pid) + $size + 200_000, sprintf($sql, $size), 'ROLLBACK');
		is($answer, $answers{$call}, "no memory for a copy: $call");
		$session->query_safe('ROLLBACK') unless is_error($answer);
	}
	is(sqlstate($session, $who), 'postgres|||||', 'nobody is left');
	$session->quit;

	# A worker that has not enough, whether it has connected yet or not.
	my ($postmaster) = slurp_file($small->data_dir . '/postmaster.pid') =~ /^(\d+)/;
	my ($victim) = split /\|/, $admin->query_safe('BEGIN; SELECT * FROM reset(); COMMIT');
	is(check_key($admin, $victim), 't', 'a key is used');
	my $was = set_limit($postmaster, 'as', 'unlimited');
	my $failures_of_worker = 0;
	my $answer = '';
	while ($failures_of_worker < 100)
	{
		set_limit($postmaster, 'as', memory_of($postmaster) + $failures_of_worker * 1024 * 1024);
		$answer = answer($admin, 'SELECT apikey_usage_flush()');
		last if $answer ne '01000';
		$failures_of_worker++;
	}
	set_limit($postmaster, 'as', $was);
	is($answer, '', "usage is written, out of memory $failures_of_worker times before");
	cmp_ok($failures_of_worker, '>', 1, 'so it was short of it');
	is( $admin->query_safe(
			"SELECT u.uses FROM apikeys_private.apikey_usage u JOIN apikeys_private.apikey_key USING (key_id) WHERE suffix = apikey_suffix('$victim')"),
		1, 'no use is lost or counted twice');
}

is_quiet($small, 0, 'no complaints in the log but these',
	qr/ERROR: +(?:53100|53200|25P02|22023|28000|28P01|42704|P0002)|XX000: could not extend file|usage of 1 database could not be written/);
#
# Where not even WAL can be written, PostgreSQL stops and recovers.
#
SKIP:
{
	skip 'no limits can be set of other processes', 1 unless $can_limit;
	my $offset = -s $small->logfile;
	my ($victim) = split /\|/, $admin->query_safe('BEGIN; SELECT * FROM reset(); COMMIT');
	my $suffix = substr($victim, -7);
	my $session = session($small);
	my $acknowledged = 0;

	set_limit(pid_of($session), 'fsize', 0);
	# somebody else may write it once
	while ($acknowledged < 1000)
	{
		my $name = $acknowledged + 1;
		last if answer($session, "$begin_as_ann\nSELECT apikey_update('$suffix', '$name'); COMMIT") ne '';
		$acknowledged = $name;
	}
	$small->wait_for_log(qr/all server processes terminated; reinitializing/, $offset);
	ok(is_back($small), 'the server has recovered from a disk without room for WAL');
	$admin->{run}->kill_kill;
	$admin = session($small, user => 'postgres');
	like($admin->query_safe("SELECT regexp_replace(name, '\\D+', '0') FROM apikeys_private.apikey_key WHERE suffix = '$suffix'"),
		qr/^(?:$acknowledged|@{[$acknowledged + 1]})$/, 'what was acknowledged is there');
	is(check_key($admin, $victim, 'admin'), 't', 'and verification goes on');
}

$admin->quit;
$small->stop;
note("$cases cases");
done_testing();
