# Usage on a standby: verification counts there, lists show it, nothing is
# written until promotion, and then all of it; also across a restart of the
# standby. What the primary wrote arrives as data.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use ApikeysTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use UsageTest;

my $primary = usage_server('primary', allows_streaming => 1);
$primary->start;
install($primary);
my ($first, $second) = make_keys($primary, 2);

$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
# It would have every occasion.
$standby->append_conf('postgresql.conf', 'apikeys.usage_flush_interval = 1');
$standby->start;
$primary->wait_for_catchup($standby, 'replay');

is(backends($standby, 'launcher'), 0, 'no launcher in recovery');
is(verify($standby, $first, 5), 5, 'a standby verifies');
is(verify($standby, $second, 1, level => 'standard'), 1, 'another key');
is(uses($standby, $first), 5, 'it shows the uses that it has counted');
is(stats($standby, 'ok, flushes, last_flush'), '6|0|', 'in apikey_stats too');
is(sql($standby, "SELECT count(*) FROM apikey_unused('-1 s')"), 2, 'apikey_unused() works there');
is(uses($primary, $first), 0, 'the primary does not know of them');

# The other way round, what is written travels.
verify($primary, $first, 100);
$primary->wait_for_catchup($standby, 'replay');
is(uses($standby, $first), 5, 'what the primary has not written is unknown to the standby');
flush($primary);
$primary->wait_for_catchup($standby, 'replay');
is(uses($standby, $first), 105, 'what it has written is not');

my $session = session($standby, user => 'postgres');
is(sqlstate($session, 'SELECT apikey_usage_flush()'), '55000', 'there is no flush in recovery');
$session->quit;
is(written($standby, $first), 100, 'and nothing was written');

# Nobody need wait for standbys to have what was counted.
$primary->append_conf('postgresql.conf', "synchronous_standby_names = 'nobody'");
$primary->reload;
sql($primary, "SET statement_timeout = '60s'");
verify($primary, $second, 1);
flush($primary);
is(written($primary, $second), 1, 'the worker does not wait for a synchronous standby');
$primary->append_conf('postgresql.conf', "synchronous_standby_names = ''");
$primary->reload;

# A restart of the standby.
hang_up($standby);
$standby->restart;
is(uses($standby, $first), 105, 'a standby saves and reads its counts');
verify($standby, $first, 1);

# A key that is deleted before promotion disturbs nothing.
sql($primary, "DELETE FROM apikeys_private.apikey_key WHERE suffix = apikey_suffix('$second')");
verify($primary, $first, 10);
flush($primary);
$primary->wait_for_catchup($standby, 'replay');
hang_up($primary);
$primary->stop;

$standby->promote;
$standby->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()')
  or die 'the standby is not promoted';
ok( $standby->poll_query_until('postgres',
		"SELECT uses = 116 FROM apikeys_private.apikey_usage JOIN apikeys_private.apikey_key USING (key_id)"
		  . " WHERE suffix = apikey_suffix('$first')"),
	'after promotion the counts of both servers are written, without being asked for');
is(backends($standby, 'launcher'), 1, 'by its own launcher');
is(uses($standby, $first), 116, 'the list shows them once');
verify($standby, $first, 4);
flush($standby);
is(written($standby, $first), 120, 'and it goes on from there');
is_quiet($standby, 0, 'no error in the log of the standby', qr/usage cannot be written during recovery|walreceiver|primary/);

hang_up($standby);
$standby->stop;
done_testing();
