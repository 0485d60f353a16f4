# What is counted as use of a key and what is not, where it came from and when,
# that lists are true to the moment before and after it is written, and who may
# see it.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use ApikeysTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use UsageTest;

my $node = usage_server('main', conf => <<'EOC');
listen_addresses = '127.0.0.1'
log_min_messages = warning
shared_preload_libraries = 'pg_stat_statements, apikeys'
EOC
$node->start;
install($node);
$node->safe_psql('postgres', <<'EOS');
SELECT apikey_install_capabilities();
SELECT apikey_save_member('acme', 'bob', 'bob@acme.example', 'standard');
SELECT apikey_save_org('other', 'Other'),
	apikey_save_member('other', 'eve', 'eve@other.example', 'admin'),
	apikey_import_legacy('acme', 'a legacy key of acme');
CREATE EXTENSION pg_stat_statements;
EOS
is($node->safe_psql('postgres', 'SELECT count(*) > 0 FROM pg_stat_statements'),
	't', 'a library that was loaded before has what it needs');

my ($ann, $idle) = make_keys($node, 2);
my $bob = make_key($node, user => 'bob', level => 'standard');

# As the application, which has no more rights than it needs.
sub app
{
	my ($query) = @_;

	return sql($node, $query, user => 'app');
}

# The same from another machine, as far as the server can tell.
sub app_by_tcp
{
	my ($query) = @_;

	return $node->safe_psql('postgres', $query, as_role('app'),
		connstr => 'host=127.0.0.1 port=' . $node->port . ' dbname=postgres');
}

# As a member of an organization.
sub as_member
{
	my ($org, $user, $query) = @_;

	return app("BEGIN; SELECT apikey_act_as('$org', '$user') \\g /dev/null\n$query; COMMIT");
}

#
# Each way of presenting a key counts one use, whoever does it
#
is(uses($node, $ann), 0, 'a new key has no uses');
app("SELECT apikey_check_level('$ann', 'admin')");
is(uses($node, $ann), 1, 'check_level counts');
app("SELECT apikey_check('$ann', 'send_events')");
is(uses($node, $ann), 2, 'check counts');
app("SELECT apikey_verify('$ann')");
is(uses($node, $ann), 3, 'verify counts');
app("SELECT * FROM apikey_verify('$ann')");
is(uses($node, $ann), 4, 'verify in FROM counts once');
app("SELECT apikey_me('$ann')");
is(uses($node, $ann), 5, 'me counts');
app("BEGIN; SELECT apikey_authenticate('$ann'); COMMIT");
is(uses($node, $ann), 6, 'authenticate counts');

# What is no verification: looking at it, acting by it, an error.
app("SELECT apikey_inspect('$ann'), apikey_suffix('$ann'), apikey_is_wellformed('$ann')");
is(uses($node, $ann), 6, 'inspect does not count');
my $session = session($node);
$session->query("BEGIN; SELECT apikey_act_as('acme', 'bob')");
is(sqlstate($session, "SELECT apikey_authenticate('$ann')"), '42501', 'a sealed transaction');
$session->query('ROLLBACK');
is(uses($node, $ann), 6, 'authenticate refused in a sealed transaction does not count');
is(sqlstate($session, "SELECT apikey_check('$ann', 'nonsuch')"), '42704', 'no such capability');
is(uses($node, $ann), 6, 'check of an unknown capability does not count');
app("BEGIN; SELECT apikey_authenticate('$ann'); SELECT apikey_allows('send_events'), apikey_current_level(); COMMIT");
is(uses($node, $ann), 7, 'what a presented key does then is the same use');
app("BEGIN; SELECT apikey_check_level('$ann', 'admin'); ROLLBACK");
is(uses($node, $ann), 8, 'a use stays counted if the transaction is rolled back');
is(verify($node, $ann, 1000), 1000, 'a thousand in a statement');
is(uses($node, $ann), 1008, 'a thousand are counted');

is(uses($node, $bob), 0, 'nothing of it was counted to another key');
is(stats($node, 'ok'), 1008, 'the sum of verifications');

#
# Refusals, by reason
#
my $refused = 'malformed, unknown, expired, level';
my $unknown = 'ak.' . '0' x 43;
my $wellformed = sql($node,
	"SELECT '$unknown/' || apikeys_private.apikey_digest_suffix(sha256('$unknown'))");
is(stats($node, $refused), '0|0|0|0', 'no refusals so far');

my $mistyped = $ann =~ s/(.)$/$1 eq 'A' ? 'B' : 'A'/er;
my $brief = as_member('acme', 'bob',
	"SELECT apikey_create('brief', 'standard', clock_timestamp() + '1 s')");
is(verify($node, $brief, 1), 1, 'a key that will expire');
sql($node, 'SELECT pg_sleep(1)');

my @cases = (
	[ 'malformed', "check_level('nonsense', 'standard')", '1|0|0|0' ],
	[ 'malformed', "check('$mistyped', 'send_events')", '2|0|0|0' ],
	[ 'unknown', "check_level('$wellformed', 'standard')", '2|1|0|0' ],
	[ 'unknown', "check('a legacy key of nobody', 'send_events')", '2|2|0|0' ],
	[ 'unknown', "verify('$wellformed')", '2|3|0|0' ],
	[ 'expired', "check_level('$brief', 'standard')", '2|3|1|0' ],
	[ 'expired', "verify('$brief')", '2|3|2|0' ],
	[ 'expired', "me('$brief')", '2|3|3|0' ],
	[ 'expired and too low', "check_level('$brief', 'admin')", '2|3|4|0' ],
	[ 'level too low', "check_level('$bob', 'admin')", '2|3|4|1' ],
	[ 'level too low', "check('$bob', 'create_block_rules')", '2|3|4|2' ],
	[ 'NULL, which is no key', 'check_level(NULL, \'standard\')', '2|3|4|2' ],
	[ 'inspected', "inspect('$wellformed')", '2|3|4|2' ]);

for my $case (@cases)
{
	my ($name, $call, $expected) = @$case;
	app("SELECT apikey_$call");
	is(stats($node, $refused), $expected, "$name: $call" =~ s/'[^']{20,}'/.../r);
}
$session->query('BEGIN');
is(sqlstate($session, "SELECT apikey_authenticate('$brief')"), '28P01', 'a refused authenticate');
$session->query('ROLLBACK');
is(stats($node, $refused), '2|3|5|2', 'is counted by its reason');
is(uses($node, $bob), 0, 'refusals are no uses of the key');
is(uses($node, $brief), 1, 'nor of an expired one');

#
# Cache hits: the first in a session is none
#
my $hits = stats($node, 'cache_hits');
$node->safe_psql('postgres', "SELECT apikey_check_level('$bob', 'standard')");
is(stats($node, 'cache_hits') - $hits, 0, 'no cache hit in a new session');
$node->safe_psql('postgres', "SELECT apikey_check_level('$bob', 'standard') FROM generate_series(1, 10)");
is(stats($node, 'cache_hits') - $hits, 9, '9 cache hits in 10');
app("SELECT apikey_verify('$bob')");
is(stats($node, 'cache_hits') - $hits, 9, 'what needs more than the cache has is no hit');
is(uses($node, $bob), 12, 'hits are uses like others');

#
# Time and address
#
my $fields = "u.last_used_addr, u.uses FROM apikeys_private.apikey_usage u JOIN apikeys_private.apikey_key k USING (key_id)"
  . " WHERE k.suffix = apikey_suffix('$bob')";

flush($node);
is(sql($node, "SELECT $fields"), '|12', 'no address by the socket');
app_by_tcp("SELECT apikey_check_level('$bob', 'standard')");
flush($node);
is(sql($node, "SELECT $fields"), '127.0.0.1|13', 'the address by TCP');
app("SELECT apikey_verify('$bob')");
flush($node);
is(sql($node, "SELECT $fields"), '|14', 'the last use has the say');

# A statement that began earlier and uses the key later does not turn back the
# clock, nor is the address its.
my $slow = session($node);
$slow->query_until(qr/began/, <<EOS);
\\echo began
SELECT pg_sleep(1.5), apikey_check_level('$bob', 'standard');
EOS
sql($node, 'SELECT pg_sleep(0.5)');
my $between = sql($node, 'SELECT now()');
app_by_tcp("SELECT apikey_check_level('$bob', 'standard')");
$slow->quit;
flush($node);
is(sql($node, "SELECT u.last_used_at > '$between', $fields"),
	't|127.0.0.1|16', 'a long statement does not make the last use earlier');
is( sql($node,
		"SELECT last_used_at > '$between' AND last_used_at <= now() FROM apikeys"
		  . " WHERE suffix = apikey_suffix('$bob')"),
	't', 'the list shows the same time');

#
# Legacy keys
#
app("SELECT apikey_check_level('a legacy key of acme', 'admin') FROM generate_series(1, 3)");
app_by_tcp("SELECT apikey_me('a legacy key of acme')");
is(as_member('acme', 'ann', 'SELECT uses, last_used_at <= now() FROM apikeys_legacy'),
	'4|t', 'a legacy key has uses');
flush($node);
is(as_member('acme', 'ann', 'SELECT uses FROM apikeys_legacy'), 4, 'the same when written');
is( sql($node,
		'SELECT u.uses, u.last_used_addr FROM apikeys_private.apikey_usage u JOIN apikeys_private.apikey_legacy l USING (key_id)'),
	'4|127.0.0.1', 'a legacy key in the table');

#
# A list is the same before a flush, after it, and with new uses on top
#
my $list = "SELECT string_agg(coalesce(name, kind) || ' ' || uses, ', ' ORDER BY kind, name, created_at) FROM apikeys";
my $before = as_member('acme', 'ann', $list);
flush($node);
is(as_member('acme', 'ann', $list), $before, 'a flush changes nothing in a list');
flush($node);
is(as_member('acme', 'ann', $list), $before, 'nor does a second one');
verify($node, $ann, 2);
is(uses($node, $ann), 1010, 'what is written and what is not are added up');
is(written($node, $ann), 1008, 'of which so much is written');

#
# Who sees it
#
my ($ann_suffix, $bob_suffix) = map { substr($_, -7) } $ann, $bob;
my $both = 'SELECT a.uses, b.uses, a.last_used_at IS NULL, b.last_used_at IS NULL, l.uses, l.last_used_at IS NULL'
  . " FROM apikeys_private.apikey_usage_of('acme', '$ann_suffix') a,"
  . " apikeys_private.apikey_usage_of('acme', '$bob_suffix') b,"
  . " apikeys_private.apikey_usage_of('acme', NULL) l";
# the same by the list, which is how it is seen
my $listed = 'SELECT a.uses, b.uses, l.uses FROM (SELECT) AS one'
  . " LEFT JOIN apikeys a ON a.suffix = '$ann_suffix' LEFT JOIN apikeys b ON b.suffix = '$bob_suffix'"
  . " LEFT JOIN apikeys l ON (l.org_id, l.kind) = ('acme', 'legacy')";
is(as_member('acme', 'ann', $listed), '1010|16|4', "an admin's list has those of all");
is(as_member('acme', 'bob', $listed), '|16|', "a member's list those of its own keys");
is(as_member('other', 'eve', $listed), '||', 'the list of another organization none');
is(app($listed), '||', 'nor that of who has no principal');
is(sql($node, $listed), '1010|16|4', "a superuser's those of all");
is(app("BEGIN; SELECT apikey_authenticate('$ann') \\g /dev/null\n$listed; COMMIT"), '||', "a presented key's none");
is(sqlstate($session, $both), '42501', 'what the lists ask is not for everybody to name');
sql($node, 'GRANT USAGE ON SCHEMA apikeys_private TO app');
is(as_member('acme', 'ann', $both), '1011|16|f|f|4|f', 'an admin sees those of all');
is(as_member('acme', 'bob', $both), '|16|t|f||t', 'a member sees those of its own keys');
is(as_member('other', 'eve', $both), '||t|t||t', 'another organization sees none');
is(app($both), '||t|t||t', 'who has no principal sees none');
is(sql($node, $both), '1011|16|f|f|4|f', 'a superuser sees all');
is(app("BEGIN; SELECT apikey_authenticate('$ann') \\g /dev/null\n$both; COMMIT"),
	'||t|t||t', 'a presented key sees none');
is(as_member('acme', 'ann', "SELECT a.uses, b.uses, c.uses, d.uses, e.uses"
		  . " FROM apikeys_private.apikey_usage_of('other', '$ann_suffix') a,"
		  . " apikeys_private.apikey_usage_of(NULL, '$ann_suffix') b,"
		  . " apikeys_private.apikey_usage_of('acme', 'nonsuch') c,"
		  . " apikeys_private.apikey_usage_of('other', NULL) d,"
		  . " apikeys_private.apikey_usage_of(NULL, NULL) e"),
	'||||', 'no such key');

# A call site that outlives its principal forgets it.
is( sql($node, <<EOS),
SET client_min_messages = error;
BEGIN;
SET LOCAL ROLE app;
DO \$\$
DECLARE
	seen text := '';
BEGIN
	FOR i IN 1 .. 3 LOOP
		RESET ROLE;
		PERFORM apikey_act_as('acme', CASE i WHEN 2 THEN 'bob' ELSE 'ann' END);
		SET LOCAL ROLE app;
		seen := seen || coalesce((apikeys_private.apikey_usage_of('acme', '$ann_suffix')).uses::text, 'NULL') || ' ';
	END LOOP;
	PERFORM set_config('usage.seen', seen, false);
END \$\$;
SHOW usage.seen;
COMMIT;
EOS
	'1012 NULL 1012 ', 'a call site in PL/pgSQL does not remember another principal');
sql($node, 'REVOKE USAGE ON SCHEMA apikeys_private FROM app');

#
# apikey_unused(), of keys that are made to look older. The restart has the
# server forget that it knows better.
#
flush($node);
$session->quit;
hang_up($node);
$node->restart;
$session = session($node);
sql($node, <<EOS);
UPDATE apikeys_private.apikey_key SET created_at = now() - interval '100 days';
UPDATE apikeys_private.apikey_legacy SET created_at = now() - interval '100 days';
UPDATE apikeys_private.apikey_usage SET last_used_at = now() - interval '50 days';
EOS
my $new = make_key($node);

# Names of ann's keys that are unused, for whoever is asking.
sub unused
{
	my ($interval) = @_;
	return "SELECT string_agg(n, ' ' ORDER BY n) FROM (SELECT CASE suffix"
	  . " WHEN '$ann_suffix' THEN 'ann' WHEN '$bob_suffix' THEN 'bob'"
	  . " WHEN apikey_suffix('$idle') THEN 'idle' WHEN apikey_suffix('$brief') THEN 'brief'"
	  . " WHEN apikey_suffix('$new') THEN 'new' ELSE kind END AS n"
	  . " FROM apikey_unused('$interval')) AS u";
}

is(as_member('acme', 'ann', unused('200 days')), '', 'no key is so old');
is(as_member('acme', 'ann', unused('90 days')), 'idle', 'the one that never was used');
is(as_member('acme', 'ann', unused('30 days')), 'ann bob brief idle legacy',
	'all that were not used since, the legacy key too, but not the new one');
verify($node, $ann, 1);
verify($node, 'a legacy key of acme', 1);
is(as_member('acme', 'ann', unused('30 days')), 'bob brief idle',
	'a use counts before it is written');
flush($node);
is(as_member('acme', 'ann', unused('30 days')), 'bob brief idle', 'and when it is');
is(as_member('acme', 'bob', unused('30 days')), 'bob brief', 'a member is told of its own keys');
is(as_member('other', 'eve', unused('30 days')), '', 'another organization of none');
is(app(unused('30 days')), '', 'who has no principal of none');
is(sql($node, unused('30 days')), 'bob brief idle',
	'a superuser is told of the unused ones, not of all');

#
# apikey_stats, and the processes
#
sql($node, 'CREATE ROLE watcher LOGIN; GRANT pg_monitor TO watcher');
my $sums = 'SELECT ok, dropped, flushes > 0, last_flush BETWEEN now() - interval \'1 h\' AND now(),'
  . ' tracked_keys, max_keys, shared_memory BETWEEN 1e6 AND 1e7 FROM apikey_stats';
my $all = sql($node, 'SELECT sum(uses) FROM apikeys');
is(sql($node, $sums, user => 'watcher'), "$all|0|t|t|2|65536|t", 'apikey_stats for pg_monitor');
is(sqlstate($session, $sums), '42501', 'apikey_stats is for nobody else');
is(sqlstate($session, 'SELECT apikey_usage_flush()'), '42501', 'nor is apikey_usage_flush()');
is(sql($node, q{SELECT ok, detail FROM apikey_selfcheck() WHERE "check" = 'preload'}),
	't|usage of keys is counted', 'the self-check says that usage is counted');
is(backends($node, 'launcher'), 1, 'the launcher is to be seen');
is(backends($node, 'worker'), 0, 'a worker goes when it is done');
is( sql($node,
		"SELECT datname IS NULL, state, query FROM pg_stat_activity WHERE backend_type = 'apikeys usage launcher'",
		user => 'watcher'),
	't||', 'the launcher is in no database');

$session->quit;
hang_up($node);
$node->stop;
done_testing();
