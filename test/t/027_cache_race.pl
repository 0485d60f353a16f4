# Attacks the order of events that the cache rests on (src/cache.c): whoever
# can see that a transaction has taken a key away must never get a yes for it,
# not even in the microseconds between its becoming visible and its last
# invalidation message.  That moment is out of reach of an isolation test, so
# verifiers spin: they ask for a key again and again, by which it is in their
# cache, and look at a marker that the revoking transaction moves; in the very
# next expression after having seen it moved the key must be dead.  The same on
# a standby, where it is replay that makes it visible.
#
# APIKEYS_RACES: how many keys are revoked in each of the two parts.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use ApikeysTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $races = $ENV{APIKEYS_RACES} // 500;

my $primary = new_server('primary', allows_streaming => 1);
$primary->append_conf('postgresql.conf', 'shared_buffers = 64MB');
$primary->start;
install($primary);

# Every key has an owner of its own, so that removing the member can be one of
# the ways to take it away.
$primary->safe_psql('postgres', <<EOS);
CREATE TABLE marker AS SELECT 0 AS at;
CREATE TABLE plain (i int PRIMARY KEY, value text);
SELECT format('CREATE TABLE wide (%s)', string_agg('c' || i || ' int', ', '))
	FROM generate_series(1, 500) i \\gexec
DO \$\$
BEGIN
	FOR n IN 1 .. 2 * $races LOOP
		PERFORM apikey_save_member('acme', 'm' || n, 'm\@acme.example', 'admin');
		PERFORM apikey_act_as('acme', 'm' || n);
		INSERT INTO plain VALUES (n, apikey_create('key', 'admin'));
	END LOOP;
END \$\$;
VACUUM (FREEZE, ANALYZE);
EOS

$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', 'max_standby_streaming_delay = -1');
$standby->start;

# Takes keys away, one in each transaction and each in another way, and moves
# the marker in the same transaction.  Which also has two thousand invalidations
# of catalog caches to send, ahead of those for tables: so the moment in which
# the commit is visible, but its own message about the keys yet to come, is
# long enough to be met.
sub revoker
{
	my ($from, $to) = @_;

	return <<EOS;
DO \$\$
DECLARE
	value text;
BEGIN
	FOR n IN $from .. $to LOOP
		SELECT p.value INTO value FROM plain p WHERE i = n;
		CASE n % 7
		WHEN 0 THEN
			DELETE FROM apikeys_private.apikey_key WHERE owner_id = 'm' || n;
		WHEN 1 THEN
			PERFORM apikey_act_as('acme', 'm' || n);
			PERFORM apikey_delete(apikey_suffix(value));
		WHEN 2 THEN
			PERFORM apikey_act_as('acme', 'm' || n);
			PERFORM apikey_update(apikey_suffix(value), level => 'standard');
		WHEN 3 THEN
			UPDATE apikeys_private.apikey_key SET expires_at = now() WHERE owner_id = 'm' || n;
		WHEN 4 THEN
			PERFORM apikey_remove_member('acme', 'm' || n);
		WHEN 5 THEN
			PERFORM apikey_act_as('acme', 'm' || n);
			PERFORM apikey_rotate(apikey_suffix(value));
		WHEN 6 THEN
			-- first in vain, and with the rows locked
			PERFORM 1 FROM apikeys_private.apikey_key WHERE owner_id = 'm' || n FOR UPDATE;
			BEGIN
				DELETE FROM apikeys_private.apikey_key WHERE owner_id = 'm' || n;
				RAISE division_by_zero;
			EXCEPTION WHEN division_by_zero THEN
				DELETE FROM apikeys_private.apikey_key WHERE owner_id = 'm' || n;
			END;
		END CASE;
		FOR again IN 1 .. 2 LOOP
			UPDATE pg_attribute SET attstattarget = -1 WHERE attrelid = 'wide'::regclass;
		END LOOP;
		UPDATE marker SET at = n;
		COMMIT;
		-- until they have the next one
		PERFORM pg_sleep(0.0005);
	END LOOP;
END \$\$;
EOS
}

# Counts in "seen" the keys that were found alive, hence in the cache, and then
# seen to be taken away, by which they had to be dead; in "wrong" those that
# were not.
sub verifier
{
	my ($from, $to) = @_;

	return <<EOS;
SET statement_timeout = '120s';
DO \$\$
DECLARE
	n int := $from;
	at int;
	value text;
	alive boolean := false;
	seen int := 0;
	wrong int := 0;
BEGIN
	SELECT p.value INTO value FROM plain p WHERE i = n;
	LOOP
		alive := apikey_check_level(value, 'admin') OR alive;
		SELECT m.at INTO at FROM marker m;
		CONTINUE WHEN at < n;
		IF apikey_check_level(value, 'admin') THEN
			wrong := wrong + 1;
		END IF;
		IF alive THEN
			seen := seen + 1;
		END IF;
		EXIT WHEN at >= $to;
		COMMIT;
		n := at + 1;
		alive := false;
		SELECT p.value INTO value FROM plain p WHERE i = n;
	END LOOP;
	PERFORM set_config('race.seen', seen::text, false);
	PERFORM set_config('race.wrong', wrong::text, false);
END \$\$;
SELECT current_setting('race.seen'), current_setting('race.wrong');
EOS
}

# Verifiers on this node while the primary takes keys away.
sub race
{
	my ($node, $name, $from, $to) = @_;
	my $total = 0;
	my @verifiers = map { $node->background_psql('postgres') } 1 .. 2;

	# They are busy until the marker has come to the end.
	$_->query_until(qr/ready/, "\\echo ready\n" . verifier($from, $to))
	  for @verifiers;
	$primary->safe_psql('postgres', revoker($from, $to), timeout => 300);
	for my $verifier (@verifiers)
	{
		my $out = $verifier->query_until(qr/^\d+\|\d+$/m, '');
		my ($seen, $wrong) = $out =~ /(\d+)\|(\d+)/;

		is($wrong, 0, "$name: no yes for a key that was seen to be taken away");
		$total += $seen;
		$verifier->quit;
	}
	# A test that seldom looks at the right moment would prove nothing.
	cmp_ok($total, '>', ($to - $from) / 4, "$name: keys were alive before");
	diag("$name: " . ($to - $from + 1)
		  . " keys taken away, seen $total times to go from alive to dead");
	return;
}

race($primary, 'primary', 1, $races);
$primary->wait_for_catchup($standby, 'replay');

# There too, what is changed is announced before the commit.
my $verifier = session($standby);
my ($value) = make_keys($primary, 1);
$primary->safe_psql('postgres', 'VACUUM (FREEZE) apikeys_private.apikey_key');
$primary->wait_for_catchup($standby, 'replay');
ok(knows($verifier, $value), 'the standby knows a key');
my $changer = $primary->background_psql('postgres');
$changer->query_safe("BEGIN; DELETE FROM apikeys_private.apikey_key WHERE suffix = apikey_suffix('$value')");
# a commit of something that was logged, which has what was before it flushed
$primary->safe_psql('postgres', q{SELECT pg_logical_emit_message(true, 'apikeys', '')});
$primary->wait_for_catchup($standby, 'replay');
is($verifier->query_safe(sprintf($ApikeysTest::knows, 'apikey_key', $value)), 'f',
	'and looks into the table while the key is being deleted');
is(check_key($verifier, $value), 't', 'where it is alive until the commit');
$changer->query_safe('COMMIT');
$changer->quit;
$primary->wait_for_catchup($standby, 'replay');
is(check_key($verifier, $value), 'f', 'and dead then');
$verifier->quit;

# One after the other there too: else replay runs through many at once.
$primary->append_conf('postgresql.conf', <<EOC);
synchronous_standby_names = 'standby'
synchronous_commit = remote_apply
EOC
$primary->reload;
race($standby, 'standby', $races + 1, 2 * $races);

done_testing();
