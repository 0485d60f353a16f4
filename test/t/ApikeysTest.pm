# What the TAP tests of faults share: a server with the extension and an
# organization in it, keys by the dozen, and sessions that stay open.
package ApikeysTest;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

our @EXPORT = qw(
  new_server is_back install_extension install as_acme make_keys make_key session
  check_key knows sqlstate
  install_take_away take_away_session take_away
);

# A server that is not started yet.  No statement is logged: the load of these
# tests would fill the disk, and values have no place in a log.
sub new_server
{
	my ($name, %params) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(%params, extra => [ '--encoding=UTF8', '--locale=C', @{ $params{extra} // [] } ]);
	$node->append_conf('postgresql.conf', <<EOC);
log_statement = none
log_error_verbosity = verbose
autovacuum = off
max_connections = 30
EOC
	return $node;
}

# Waits until a server that restarts by itself takes connections.  Not by
# poll_query_until(): a psql that is refused may be gone before it has read the
# query, which ends this process.
sub is_back
{
	my ($node) = @_;

	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return 1 if run_log([ 'pg_isready', '-q', '-d', $node->connstr('postgres') ]);
		usleep(100_000);
	}
	return 0;
}

# The extension, and the role "app", which is no superuser.
sub install_extension
{
	my ($node, %params) = @_;
	my $schema = $params{schema} // 'public';

	$node->safe_psql('postgres', <<EOS);
SET client_min_messages = warning;
CREATE SCHEMA IF NOT EXISTS $schema;
CREATE EXTENSION IF NOT EXISTS pgcrypto SCHEMA public;
CREATE EXTENSION apikeys SCHEMA $schema;
CREATE ROLE app LOGIN;
ALTER ROLE app SET apikeys.session_principal = on;
SELECT $schema.apikey_grant_application('app');
GRANT USAGE ON SCHEMA $schema TO app;
EOS
	return;
}

# The same, and an organization on plan enterprise with an admin in it.
sub install
{
	my ($node, %params) = @_;
	my $schema = $params{schema} // 'public';

	install_extension($node, %params);
	$node->safe_psql('postgres', <<EOS);
SELECT $schema.apikey_save_org('acme', 'Acme', 'enterprise');
SELECT $schema.apikey_save_member('acme', 'ann', 'ann\@acme.example', 'admin');
EOS
	return;
}

# What the application gets from a statement in a transaction as a member of acme.
sub as_acme
{
	my ($node, $user, $sql) = @_;

	return $node->safe_psql('postgres', <<EOS, extra_params => [ '-U', 'app' ]);
BEGIN;
SELECT apikey_act_as('acme', '$user') \\g /dev/null
$sql;
COMMIT;
EOS
}

# Values of new keys of acme's admin, made in one transaction.
sub make_keys
{
	my ($node, $count, %params) = @_;
	my $level = $params{level} // 'admin';
	my $user = $params{user} // 'ann';

	return split /\n/,
	  as_acme($node, $user, "SELECT apikey_create('key ' || i, '$level') FROM generate_series(1, $count) i");
}

sub make_key
{
	my ($node, %params) = @_;

	return (make_keys($node, 1, %params))[0];
}

# A session that goes on after errors and tells their SQLSTATE.
sub session
{
	my ($node, %params) = @_;
	my $session = $node->background_psql(
		$params{dbname} // 'postgres',
		on_error_stop => 0,
		extra_params => [ '-v', 'VERBOSITY=sqlstate', '-U', $params{user} // 'app' ]);

	$session->set_query_timer_restart;
	return $session;
}

# "t", "f", or the SQLSTATE of an error, for the session's answer to whether
# the key has the level.
sub check_key
{
	my ($session, $value, $level) = @_;

	return sqlstate($session,
		"SELECT apikey_check_level('$value', '" . ($level // 'standard') . "')");
}

# Does the session know the key as alive from its cache?  It does if asking
# scans no index.  On a fresh row it may take a while until hint bits say that it
# is committed; on a standby they come with VACUUM (FREEZE) on the primary.  The
# session may be one that cannot name our tables.
our $knows = <<'EOS';
SELECT before = after AND alive FROM (SELECT
	(SELECT sum(pg_stat_get_xact_numscans(i.indexrelid)) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
		JOIN pg_namespace n ON n.oid = c.relnamespace WHERE (n.nspname, c.relname) = ('apikeys_private', '%s')) AS before,
	apikey_check_level('%s', 'standard') AS alive,
	(SELECT sum(pg_stat_get_xact_numscans(i.indexrelid)) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
		JOIN pg_namespace n ON n.oid = c.relnamespace WHERE (n.nspname, c.relname) = ('apikeys_private', '%1$s')) AS after) AS asked
EOS

sub knows
{
	my ($session, $value) = @_;
	my $table = $value =~ /\// ? 'apikey_key' : 'apikey_legacy';
	my $query = sprintf($knows, $table, $value);

	# Without a transaction block, the counters may be reset at any time.
	for my $wait (map { $_ / 50 } 1 .. 20)
	{
		return 1 if $session->query_safe($query) eq 't';
		$session->query_safe("SELECT pg_sleep($wait)") if $wait > 0.1;
	}
	return 0;
}

# The output of a query, or the SQLSTATE of the error it ended in.
sub sqlstate
{
	my ($session, $query) = @_;

	$session->{stderr} = '';
	my $out = $session->query($query);
	my $err = $session->{stderr};
	$session->{stderr} = '';
	return $1 if $err =~ /(?:ERROR|FATAL):\s+(\w{5})\b/;
	die "unexpected: $err" if $err =~ /\S/;
	return $out;
}

# Whether a key is dead elsewhere "the moment it is acknowledged" depends on
# microseconds, so one server process does both: it has a session of the
# application take the key away, and as soon as that has returned asks a session
# on the other server (both by dblink).  This makes what it takes: keys, each
# with an owner of its own, in table "plain", and the functions.
sub install_take_away
{
	my ($node, $count) = @_;

	$node->safe_psql('postgres', <<EOS);
CREATE EXTENSION dblink;
CREATE TABLE plain (i int PRIMARY KEY, value text);
DO \$\$
BEGIN
	FOR n IN 1 .. $count LOOP
		PERFORM apikey_save_member('acme', 'm' || n, 'm\@acme.example', 'admin');
		PERFORM apikey_act_as('acme', 'm' || n);
		INSERT INTO plain VALUES (n, apikey_create('key', 'admin'));
	END LOOP;
END \$\$;

-- What the application sends to take key n away, each time in another way.
CREATE FUNCTION revocation(n int, value text) RETURNS text
LANGUAGE sql
RETURN 'BEGIN; '
	|| CASE WHEN n % 6 = 0 THEN ''
		ELSE format('SELECT apikey_act_as(''acme'', %L); ', 'm' || n) END
	|| CASE n % 6
		WHEN 0 THEN format('SELECT apikey_remove_member(''acme'', %L)', 'm' || n)
		WHEN 1 THEN format('SELECT apikey_delete(%L)', apikey_suffix(value))
		WHEN 2 THEN format('SELECT apikey_update(%L, level => ''standard'')', apikey_suffix(value))
		WHEN 3 THEN format('SELECT apikey_update(%L, expires_at => clock_timestamp() + ''1 ms''); SELECT pg_sleep(0.001)', apikey_suffix(value))
		WHEN 4 THEN format('SELECT apikey_rotate(%L)', apikey_suffix(value))
		WHEN 5 THEN format('SAVEPOINT s; SELECT apikey_delete(%L); ROLLBACK TO s; SELECT apikey_delete(%1\$L)', apikey_suffix(value))
		END
	|| '; COMMIT';

VACUUM (FREEZE, ANALYZE) apikeys_private.apikey_key;

CREATE FUNCTION ask(query text, value text) RETURNS boolean
LANGUAGE sql
BEGIN ATOMIC
	SELECT t.answer FROM dblink('verifier', format(query, 'apikey_key', value)) AS t(answer boolean);
END;

-- Takes keys away; "known" were in the cache of the session on the other
-- server, and "stale" still got a yes there after the acknowledgement.
CREATE FUNCTION take_away(first int, last int, OUT known int, OUT stale int)
LANGUAGE plpgsql AS \$\$
DECLARE
	value text;
BEGIN
	known := 0;
	stale := 0;
	FOR n IN first .. last LOOP
		SELECT p.value INTO value FROM plain p WHERE i = n;
		-- invalidations of the last one may still be on their way
		FOR attempt IN 1 .. 10 LOOP
			IF ask(\$q\$ $knows \$q\$, value) THEN
				known := known + 1;
				EXIT;
			END IF;
		END LOOP;
		PERFORM dblink_exec('application', revocation(n, value));
		IF ask('SELECT apikey_check_level(%2\$L, ''admin'')', value) THEN
			stale := stale + 1;
		END IF;
	END LOOP;
END \$\$;
EOS
	return;
}

# The session that calls them.
sub take_away_session
{
	my ($node, $other) = @_;
	my $session = session($node, user => 'postgres');

	$session->query_safe("SELECT dblink_connect('application', \$\$"
		  . $node->connstr('postgres') . " user=app\$\$)");
	$session->query_safe("SELECT dblink_connect('verifier', \$\$"
		  . $other->connstr('postgres') . " user=app\$\$)");
	return $session;
}

# Has the application do something and then takes some keys away; how many had
# been in the cache on the other server, and how many still got a yes there.
sub take_away
{
	my ($session, $first, $last, $before) = @_;

	$session->query_safe("SELECT dblink_exec('application', \$\$$before\$\$)");
	return split /\|/,
	  $session->query_safe("SELECT * FROM take_away($first, $last)");
}

1;
