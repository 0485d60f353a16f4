# What has been counted and not been written survives a clean shutdown, once; a
# crash loses it, and invents nothing. A damaged file, a smaller capacity or
# none, and a shutdown while a worker is at it.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use ApikeysTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use UsageTest;

my $node = usage_server('main', conf => <<'EOC');
listen_addresses = '127.0.0.1'
restart_after_crash = on
EOC
$node->start;
install($node);
my @keys = make_keys($node, 5);
my $file = $node->data_dir . '/pg_stat/apikeys.usage';

sub stop
{
	my ($mode) = @_;

	hang_up($node);
	$node->stop($mode);
	return;
}

sub all_uses
{
	return join ' ', map { uses($node, $_) } @keys;
}

#
# A clean shutdown
#
my $state = 'ok, malformed, level, cache_hits, dropped, flushes, last_flush';

verify($node, $keys[0], 10);
flush($node);
verify($node, $keys[0], 1);
$node->safe_psql('postgres', "SELECT apikey_check_level('$keys[1]', 'admin'), apikey_check_level('x', 'admin')",
	connstr => 'host=127.0.0.1 port=' . $node->port . ' dbname=postgres');
my $stats = stats($node, $state);
my $times = sql($node, 'SELECT string_agg(last_used_at::text, \' \' ORDER BY name) FROM apikeys');
my $offset = -s $node->logfile;
stop('fast');
ok(-f $file, 'counts are saved');
$node->start;
ok(!-f $file, 'and the file is gone once they are read');
is(all_uses(), '11 1 0 0 0', 'what was written and what was saved');
is(stats($node, $state), $stats, 'the sums go on');
is(sql($node, 'SELECT string_agg(last_used_at::text, \' \' ORDER BY name) FROM apikeys'),
	$times, 'the times of last use');
verify($node, $keys[0], 1);
is(uses($node, $keys[0]), 12, 'counting goes on');
stop('fast');
$node->start;
stop('smart');
$node->start;
is(all_uses(), '12 1 0 0 0', 'two more restarts');
flush($node);
is(all_uses(), '12 1 0 0 0', 'and written');
is(written($node, $keys[0]), 12, 'all of it');
is( sql($node,
		'SELECT last_used_addr FROM apikeys_private.apikey_usage WHERE uses = 1'),
	'127.0.0.1', 'the address was saved too');
is_quiet($node, $offset, 'nothing in the log about any of this');

#
# A file that is damaged, or of another version
#
verify($node, $keys[$_], 1) for 1 .. 4;
stop('fast');
my $saved = slurp_file($file);
write_file(substr($saved, 0, length($saved) - 70));
$node->start;
is(sql($node, 'SELECT sum(uses) FROM apikeys'), 15, 'of a file that lacks its end, what is there');
stop('fast');
write_file('nonsense' x 100);
$offset = -s $node->logfile;
$node->start;
is(sql($node, 'SELECT sum(uses) FROM apikeys'), 13, 'of nonsense, nothing');
like(substr(slurp_file($node->logfile), $offset), qr/ignoring file "[^"]*apikeys.usage"/,
	'and a line in the log');
stop('fast');
write_file('');
$node->start;
is(sql($node, 'SELECT sum(uses) FROM apikeys'), 13, 'of an empty file, nothing');

sub write_file
{
	my ($content) = @_;

	open(my $out, '>:raw', $file) or die "cannot write $file: $!";
	print $out $content;
	close($out) or die "cannot write $file: $!";
	return;
}

#
# A file that cannot be written
#
SKIP:
{
	skip 'no /dev/full', 3 unless -c '/dev/full';

	verify($node, $keys[0], 1);
	hang_up($node);
	symlink('/dev/full', "$file.tmp") or die "cannot link: $!";
	$offset = -s $node->logfile;
	$node->stop('fast');
	like(substr(slurp_file($node->logfile), $offset), qr/LOG: .*could not write file "[^"]*apikeys.usage.tmp": No space left on device/,
		'a full disk is told');
	ok(!-e $file && !-l "$file.tmp", 'nothing is left of it');
	$node->start;
	is(sql($node, 'SELECT sum(uses) FROM apikeys'), 13, 'what was written before is there');
}

#
# A smaller capacity, and none
#
verify($node, $_, 2) for @keys;
my $dropped = stats($node, 'dropped');
stop('fast');
$node->append_conf('postgresql.conf', 'apikeys.usage_max_keys = 3');
$node->start;
is(sql($node, 'SELECT sum(uses) FROM apikeys'), 13 + 3 * 2, 'as much as there is room for');
is(stats($node, 'dropped') - $dropped, 4, 'the rest is known to be dropped');
stop('fast');
$node->append_conf('postgresql.conf', 'apikeys.usage_max_keys = 0');
$node->start;
is(sql($node, 'SELECT count(*), count(uses), count(last_used_at) FROM apikeys'), '5|0|0',
	'columns are NULL if nothing is counted');
is(stats($node, 'ok, max_keys'), '|', 'and so is apikey_stats');
is(verify($node, $keys[0], 1), 1, 'a key works all the same');
is(backends($node, 'launcher'), 0, 'there is no launcher');
my ($ret, $out, $err) = $node->psql('postgres', 'SELECT apikey_usage_flush()');
like($err, qr/usage of keys is not counted/, 'nothing to be flushed');
ok(-f $file, 'what was saved is kept for better days');
stop('fast');
$node->append_conf('postgresql.conf', 'apikeys.usage_max_keys = 100');
$node->start;
is(sql($node, 'SELECT sum(uses) FROM apikeys'), 13 + 3 * 2, 'which have come');
flush($node);

#
# A crash: what was not written is lost, and nothing else appears
#
verify($node, $_, 7) for @keys;
stop('immediate');
ok(!-f $file, 'nothing is saved at an immediate shutdown');
$node->start;
is(sql($node, 'SELECT sum(uses) FROM apikeys'), 13 + 3 * 2, 'what was written is there');
is(stats($node, 'ok, dropped'), '0|0', 'the sums begin anew');
verify($node, $_, 1) for @keys;
stop('fast');
$node->start;
stop('immediate');
$node->start;
is(sql($node, 'SELECT sum(uses) FROM apikeys'), 13 + 3 * 2, 'what was saved is not read a second time');

# A backend that is killed takes the counts of all with it, but not the launcher.
verify($node, $keys[0], 1);
my $launcher = "FROM pg_stat_activity WHERE backend_type = 'apikeys usage launcher'";
my $old = sql($node, "SELECT pid $launcher");
$offset = -s $node->logfile;
kill 9, sql($node, 'SELECT pg_backend_pid()', user => 'app');
$node->wait_for_log(qr/all server processes terminated; reinitializing/, $offset);
is_back($node);
ok($node->poll_query_until('postgres', "SELECT EXISTS (SELECT $launcher AND pid <> $old)"),
	'the launcher is back after a crash');
hang_up($node, lost => 1);
is(verify($node, $keys[0], 5), 5, 'verification too');
flush($node);
is(sql($node, 'SELECT sum(uses) FROM apikeys'), 13 + 3 * 2 + 5, 'and what it counts');

# In the midst of counting and writing.
my $acknowledged = 0;
my $flushed = 0;
my $flusher = $node->background_psql('postgres');
$flusher->query_until(qr/began/, "\\echo began\nDO \$\$ BEGIN LOOP PERFORM apikey_usage_flush(); END LOOP; END \$\$;\n");
my $until = time + 2;
while (time < $until)
{
	$acknowledged += verify($node, $keys[0], 500);
	$flushed = written($node, $keys[0]);
}
my $before = 13 + 3 * 2 + 5;
$node->stop('immediate');
hang_up($node, lost => 1);
$flusher->{run}->kill_kill;
$node->start;
my $found = sql($node, 'SELECT sum(uses) FROM apikeys');
my $rest = sql($node, "SELECT sum(uses) FROM apikeys WHERE suffix <> apikey_suffix('$keys[0]')");
cmp_ok($found, '<=', $before + $acknowledged, 'a crash invents no use');
cmp_ok($found, '>=', $flushed + $rest, 'nor loses what had been written');

#
# A shutdown does not wait for the launcher, nor for a worker that waits itself
#
my $began = time;
stop('fast');
cmp_ok(time - $began, '<', 5, 'a fast shutdown is fast');
$node->start;
my $locker = $node->background_psql('postgres');
$locker->query('BEGIN; LOCK TABLE apikeys_private.apikey_usage');
verify($node, $keys[0], 3);
$flusher = start_flush($node);
ok(is_held_up($node), 'a worker is held up');
$began = time;
stop('fast');
cmp_ok(time - $began, '<', 5, 'a shutdown is not');
$_->{run}->kill_kill for $locker, $flusher;
$node->start;
is(uses($node, $keys[0]) - ($found - $rest), 3, 'and what it could not write is saved');

#
# pg_upgrade, here to the same version, takes along what is written, and no more
#
flush($node);
$before = all_uses();
verify($node, $keys[4], 1);
stop('fast');
my $saved_before = slurp_file($file);
$node->append_conf('postgresql.conf', "apikeys.usage_flush_interval = '1s'");
my $upgraded = usage_server('upgraded');
my $bindir = $node->config_data('--bindir');
command_ok(
	[ 'sh', '-c', "cd '$PostgreSQL::Test::Utils::tmp_check' && exec \"\$@\"", 'sh',
		'pg_upgrade', '--no-sync', '-b', $bindir, '-B', $bindir,
		'-d', $node->data_dir, '-D', $upgraded->data_dir, '-s', $node->host,
		'-p', $node->port, '-P', $upgraded->port ],
	'pg_upgrade');
ok(slurp_file($file) eq $saved_before, 'which leaves the file of the old server alone');
$upgraded->start;
is(join(' ', map { uses($upgraded, $_) } @keys), $before, 'what was flushed before has come along');
is(verify($upgraded, $keys[4], 1), 1, 'a key works');
flush($upgraded);
is(written($upgraded, $keys[4]), (split / /, $before)[4] + 1, 'and counting goes on');
hang_up($upgraded);
$upgraded->stop;

done_testing();
