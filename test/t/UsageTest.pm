# What the TAP tests of usage share: a server that preloads the library, and
# short names for what is asked again and again.
package UsageTest;

use strict;
use warnings;

use Exporter 'import';
use ApikeysTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(
  usage_server as_role sql hang_up verify uses written flush start_flush
  is_held_up stats backends is_quiet
);

# A server that counts.  Nothing is written but when a test asks for it, if it
# does not set another interval.
sub usage_server
{
	my ($name, %params) = @_;
	my $conf = delete $params{conf} // '';
	my $node = new_server($name, %params);

	$node->append_conf('postgresql.conf', <<EOC);
shared_preload_libraries = 'apikeys'
apikeys.usage_flush_interval = '1h'
$conf
EOC
	return $node;
}

# Parameters of safe_psql to connect as a role.
sub as_role
{
	my ($role) = @_;

	return (extra_params => [ '-U', $role ]);
}

# A query in a session that stays open, as superuser if no other user is named.
my %sessions;

sub sql
{
	my ($node, $query, %params) = @_;
	my ($db, $user) = ($params{db} // 'postgres', $params{user} // 'postgres');
	my $session = $sessions{ $node->name }{"$db $user"} //=
	  $node->background_psql($db, extra_params => [ '-U', $user ]);

	return $session->query_safe($query);
}

# Ends these sessions, all or those in a database; to be done before it is
# dropped or the server stopped; or after the server is lost.
sub hang_up
{
	my ($node, %params) = @_;
	my $open = $sessions{ $node->name } // {};

	for my $name (keys %$open)
	{
		next if defined $params{db} && $name !~ /^$params{db} /;
		my $session = delete $open->{$name};

		# psql has noticed that the server is gone, or will.
		$params{lost} ? $session->{run}->kill_kill : $session->quit;
	}
	return;
}

# Presents a key a number of times in one statement; returns how often it was
# accepted.
sub verify
{
	my ($node, $value, $times, %params) = @_;
	my $level = $params{level} // 'standard';

	return sql($node, "SELECT count(*) FILTER (WHERE apikey_check_level('$value', '$level'))"
		  . " FROM generate_series(1, $times)", %params);
}

# What the list shows of a key.
sub uses
{
	my ($node, $value, %params) = @_;

	return sql($node, "SELECT uses FROM apikeys WHERE suffix = apikey_suffix('$value')",
		%params);
}

# What has been written of a key.
sub written
{
	my ($node, $value, %params) = @_;

	return sql($node, "SELECT u.uses FROM apikeys_private.apikey_usage u JOIN apikeys_private.apikey_key k USING (key_id)"
		  . " WHERE k.suffix = apikey_suffix('$value')", %params);
}

sub flush
{
	my ($node, %params) = @_;

	sql($node, 'SELECT apikey_usage_flush()', %params);
	return;
}

# A session that has asked for a flush and waits for it.
sub start_flush
{
	my ($node, %params) = @_;
	my $flusher = $node->background_psql($params{db} // 'postgres');

	$flusher->query_until(qr/asks/, "\\echo asks\nSELECT apikey_usage_flush();\n");
	return $flusher;
}

# Waits until a worker waits for somebody's lock, or as many as are given; in a
# database, if one is given.
sub is_held_up
{
	my ($node, %params) = @_;
	my $count = defined $params{count} ? "= $params{count}" : '> 0';
	my $db = defined $params{db} ? "AND datname = '$params{db}'" : '';

	return $node->poll_query_until('postgres', "SELECT count(*) $count FROM pg_stat_activity"
		  . " WHERE backend_type = 'apikeys usage worker' AND wait_event_type = 'Lock' $db");
}

# Columns of apikey_stats, separated by "|".
sub stats
{
	my ($node, $columns) = @_;

	return sql($node, "SELECT $columns FROM apikey_stats");
}

# How many processes of a kind there are: "launcher" or "worker".
sub backends
{
	my ($node, $kind) = @_;

	return sql($node, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'apikeys usage $kind'");
}

# Nothing in the log that an administrator would have to look into, from an
# offset on, but what is expected. A shutdown may come before the server has seen
# that a client is gone.
sub is_quiet
{
	my ($node, $offset, $name, $expected) = @_;
	my $log = substr(slurp_file($node->logfile), $offset);
	my @lines = grep { /\b(WARNING|ERROR|FATAL|PANIC): / && !/terminating connection due to administrator command/ }
	  split /\n/, $log;

	@lines = grep { !/$expected/ } @lines if defined $expected;
	is("@lines", '', $name);
	return;
}

1;
