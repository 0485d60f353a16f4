# Parallel workers know the principal: under forced parallel plans every query
# gives the same rows as without, whoever the principal is and however it came to
# be, also after savepoints, and after its member was removed.  The leader takes
# no part in the scans, so that all rows come from workers.  Verification is kept
# out of them by its label, and where somebody mislabels a function that calls
# it, it does not become wrong.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use ApikeysTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main');
$node->append_conf('postgresql.conf', <<EOC);
max_worker_processes = 8
max_parallel_workers = 8
EOC
$node->start;
install($node);
$node->safe_psql('postgres', <<EOS);
CREATE ROLE dora LOGIN;
SELECT apikey_import_legacy('acme', 'the legacy key of acme');
SELECT apikey_install_capabilities();
SELECT apikey_save_org('other', 'Other');
SELECT apikey_save_member('other', 'oda', 'oda\@other.example', 'admin');
SELECT apikey_save_member('acme', 'art', 'art\@acme.example', 'architect');
SELECT apikey_save_member('acme', 'stan', 'stan\@acme.example');
SELECT apikey_save_member('acme', 'gus', 'gus\@acme.example', 'guest');
SELECT apikey_save_member('acme', 'dora', 'dora\@acme.example', 'standard', 'dora');
-- the product's own table, with policies as the README has them
CREATE TABLE document (id int, org_id text, author text, level apikey_level);
INSERT INTO document SELECT i, (ARRAY['acme', 'other'])[i % 2 + 1],
	(ARRAY['ann', 'stan', 'dora', 'oda'])[i % 4 + 1],
	(ARRAY['standard', 'architect', 'admin'])[i % 3 + 1]::apikey_level
	FROM generate_series(1, 3000) i;
ALTER TABLE document ENABLE ROW LEVEL SECURITY;
CREATE POLICY seen ON document FOR SELECT
	USING (org_id = apikey_current_org() AND level <= apikey_current_level());
GRANT SELECT ON document TO PUBLIC;
ANALYZE document;
EOS
my $key = make_key($node, level => 'architect');
make_keys($node, 30, user => 'art', level => 'architect');
make_keys($node, 20, user => 'stan', level => 'standard');
my $dead = make_key($node);
$node->safe_psql('postgres', "UPDATE apikeys_private.apikey_key SET expires_at = now() WHERE suffix = apikey_suffix('$dead')");

my $force = $node->safe_psql('postgres', 'SHOW server_version_num') >= 160000
	? 'debug_parallel_query' : 'force_parallel_mode';
my %settings = (
	serial => 'SET max_parallel_workers_per_gather = 0;',
	parallel => <<EOS);
SET $force = on;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET min_parallel_index_scan_size = 0;
SET max_parallel_workers_per_gather = 2;
SET parallel_leader_participation = off;
EOS

my @queries = (
	# the functions themselves
	'SELECT apikey_current_org(), apikey_current_user(), apikey_current_role(), apikey_current_level(), apikey_current_suffix(), count(*)
		FROM (SELECT id FROM big OFFSET 0) AS b GROUP BY 1, 2, 3, 4, 5',
	"SELECT apikey_allows('export_user_data'), apikey_allows('create_block_rules'), count(*) FROM big GROUP BY 1, 2",
	# the product's policy
	'SELECT count(*), sum(id), min(author), max(level) FROM document',
	'SELECT author, level, count(*) FROM document GROUP BY 1, 2 ORDER BY 1, 2',
	# ours, which PostgreSQL before 17 does not give to workers, as their policies
	# ask once for each statement
	'SELECT kind, owner_id, owner_email, level, suffix, name FROM apikeys ORDER BY suffix, kind',
	'SELECT count(*), min(suffix), max(suffix) FROM apikeys_mine',
	'SELECT kind, org_id FROM apikeys_legacy',
	'SELECT d.author, count(*) FROM document d JOIN apikeys k ON k.owner_id = d.author GROUP BY 1 ORDER BY 1');

# Every row of it is seen by everybody.
$node->safe_psql('postgres', <<EOS);
CREATE TABLE big AS SELECT i AS id FROM generate_series(1, 5000) i;
GRANT SELECT ON big TO PUBLIC;
ANALYZE big;
EOS

# The answers of a role to all queries, having made something the principal.
sub answers
{
	my ($how, $role, $principal, @more) = @_;

	return $node->safe_psql('postgres',
		"$settings{$how}\nBEGIN;\n"
		. ($principal ? "SELECT ($principal) IS NULL \\g /dev/null\n" : '')
		. join(";\n", @queries, @more) . ";\nCOMMIT;",
		extra_params => [ '-U', $role ]);
}

#
# The same rows, whoever is acting
#
my %seen;
foreach my $case (
	[ 'an admin', 'app', "apikey_act_as('acme', 'ann')" ],
	[ 'an architect', 'app', "apikey_act_as('acme', 'art')" ],
	[ 'a standard member', 'app', "apikey_act_as('acme', 'stan')" ],
	[ 'a guest', 'app', "apikey_act_as('acme', 'gus')" ],
	[ 'the admin of another organization', 'app', "apikey_act_as('other', 'oda')" ],
	[ 'an admin for the session', 'app', "apikey_act_as('acme', 'ann', session => true)" ],
	[ 'a database role', 'dora', '' ],
	[ 'a key', 'app', "apikey_authenticate('$key')" ],
	[ 'a legacy key', 'app', "apikey_authenticate('the legacy key of acme')" ],
	[ 'nobody', 'app', '' ])
{
	my ($name, @who) = @$case;

	$seen{$name} = answers('serial', @who);
	is(answers('parallel', @who), $seen{$name}, "$name: same rows");
}

# and they are not all the same
like($seen{'an admin'}, qr/^acme\|ann\|admin\|admin\|\|5000\nt\|t\|5000\n1500\|/, 'an admin sees all');
like($seen{'a standard member'}, qr/^acme\|stan\|standard\|standard\|\|5000\nf\|f\|5000\n500\|/, 'a standard member less');
like($seen{'a key'}, qr/^acme\|ann\|\|architect\|\w{7}\|5000\nt\|f\|5000\n1000\|/, 'a key what its level reaches');
like($seen{'a legacy key'}, qr/^acme\|\|\|admin\|\|5000\nt\|t\|5000\n1500\|/, 'a legacy key too');
like($seen{'a database role'}, qr/^acme\|dora\|standard\|standard\|\|5000\n/, 'a database role is its member');
like($seen{'nobody'}, qr/^\|\|\|\|\|5000\nf\|f\|5000\n0\|/, 'nobody sees nothing');

#
# Workers are really launched, and it is they who ask for the principal
#
foreach my $query (@queries[0 .. 3])
{
	my $plan = answers('parallel', 'app', "apikey_act_as('acme', 'ann')",
		"EXPLAIN (ANALYZE, VERBOSE, COSTS off, TIMING off, SUMMARY off) $query");
	my ($launched) = $plan =~ /Workers Launched: (\d+)/;

	cmp_ok($launched // 0, '>', 0, 'workers are launched');
	like($plan, qr/Worker \d+: +actual rows=[1-9]/, 'and find rows');
}
my $plan = answers('parallel', 'app', "apikey_act_as('acme', 'ann')",
	'EXPLAIN (COSTS off) SELECT count(*) FROM document');
like($plan, qr/Gather.*Parallel Seq Scan on document\n\s+Filter: .*apikey_current_org\(\)/s,
	'the policy is part of the parallel scan');

#
# The principal follows transactions into the workers
#
sub who_in_worker
{
	my ($session) = @_;

	return $session->query_safe(
		'SELECT apikey_current_org(), apikey_current_user(), count(*) FROM (SELECT id FROM big OFFSET 0) AS b GROUP BY 1, 2');
}

my $session = $node->background_psql('postgres', extra_params => [ '-U', 'app' ]);
$session->query_safe($settings{parallel});
$session->query_safe('BEGIN; SAVEPOINT before');
$session->query_safe("SELECT apikey_act_as('acme', 'ann')");
is(who_in_worker($session), 'acme|ann|5000', 'a principal');
$session->query_safe('ROLLBACK TO SAVEPOINT before');
is(who_in_worker($session), '||5000', 'none after the savepoint');
$session->query_safe('ROLLBACK');
$session->query_safe("BEGIN; SELECT apikey_act_as('acme', 'stan'); COMMIT");
is(who_in_worker($session), '||5000', 'none after the transaction');

# a principal whose member is gone has no rights in workers either, though the
# transaction's snapshot still has the member
$session->query_safe("BEGIN ISOLATION LEVEL REPEATABLE READ");
$session->query_safe("SELECT apikey_act_as('acme', 'stan')");
is(who_in_worker($session), 'acme|stan|5000', 'a member');
is($session->query_safe('SELECT count(*) FROM document'), '500', 'who sees something');
$node->safe_psql('postgres', "SELECT apikey_remove_member('acme', 'stan')");
is(who_in_worker($session), '||5000', 'is nobody when removed');
is($session->query_safe('SELECT count(*) FROM document'), '0', 'and sees nothing');
$session->query_safe('COMMIT');

#
# Verification in parallel plans
#
$node->safe_psql('postgres', <<EOS);
CREATE TABLE request AS
	SELECT i AS id, (ARRAY['$key', '$dead', 'the legacy key of acme', 'none'])[i % 4 + 1] AS value
	FROM generate_series(1, 2000) i;
GRANT SELECT ON request TO PUBLIC;
ANALYZE request;
-- somebody's own, with a wrong label
CREATE FUNCTION mislabeled(key text, required apikey_level) RETURNS boolean
	LANGUAGE plpgsql STABLE PARALLEL SAFE
	AS 'BEGIN RETURN apikey_check_level(key, required); END';
EOS

my $verify = 'SELECT id % 4, count(*) FILTER (WHERE apikey_check_level(value, \'architect\')) FROM request GROUP BY 1 ORDER BY 1';
my $mislabeled = $verify =~ s/apikey_check_level/mislabeled/r;
my $expected = "0|500\n1|0\n2|500\n3|0";
is($session->query_safe($verify), $expected, 'verification is right');
unlike($session->query_safe("EXPLAIN $verify"), qr/Gather/, 'and not in a worker');
unlike($session->query_safe("EXPLAIN SELECT * FROM request, LATERAL apikey_verify(value)"), qr/Gather/,
	'nor are identities');
like($session->query_safe("EXPLAIN $mislabeled"), qr/Gather.*Parallel Seq Scan on request/s,
	'with a wrong label it is');
is($session->query_safe($mislabeled), $expected, 'and right there too');

# a worker has nothing left over from before
$node->safe_psql('postgres', "DELETE FROM apikeys_private.apikey_legacy");
$session->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
is($session->query_safe($mislabeled), "0|500\n1|0\n2|0\n3|0", 'as soon as a key is deleted');
$node->safe_psql('postgres', "DELETE FROM apikeys_private.apikey_key WHERE suffix = apikey_suffix('$key')");
is($session->query_safe($mislabeled), "0|0\n1|0\n2|0\n3|0", 'inside REPEATABLE READ as well');
is($session->query_safe($verify), "0|0\n1|0\n2|0\n3|0", 'and in the leader');
$session->query_safe('COMMIT');
$session->quit;

$node->stop;
done_testing();
