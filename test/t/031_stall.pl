# Nobody stalls verification, or the deleting of a key: not a login without any
# privilege of ours, though it may create objects of its own in the database.
#
# Several commands of PostgreSQL lock what they can name before they check any
# privilege.  Whoever holds a weak lock in an open transaction, and has such a
# command wait behind it, has everybody wait behind that.  So every command that
# takes the name of a relation, type or schema, and every function that takes an
# OID, is tried on all that we have, twice:
#
# - while the owner holds locks that conflict with whatever could do harm, to
#   find out which are asked for;
# - behind a transaction that holds what such a login can get, to see that
#   verification by a session that has nothing cached, and an admin's deletes, are
#   answered.
#
# Our views can be named, so they can be stalled, and lists with them; not so
# verification.  The same on a standby.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use ApikeysTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main', allows_streaming => 1);
$node->append_conf('postgresql.conf', <<EOC);
max_connections = 60
log_lock_waits = on
deadlock_timeout = '10ms'
EOC
$node->start;
install($node);
$node->safe_psql('postgres', <<EOS);
SELECT apikey_import_legacy('acme', 'a legacy key of acme');
SELECT apikey_install_capabilities();
CREATE ROLE nobody LOGIN;
GRANT CREATE ON DATABASE postgres TO nobody;
CREATE SCHEMA own AUTHORIZATION nobody;
EOS
$node->safe_psql('postgres', <<EOS, extra_params => [ '-U', 'nobody' ]);
CREATE EXTENSION hstore SCHEMA own;
CREATE TABLE own.t (org_id text PRIMARY KEY, a int, b int);
CREATE TABLE own.parted (a int) PARTITION BY LIST (a);
CREATE INDEX parted_idx ON own.parted (a);
CREATE SEQUENCE own.s;
CREATE FUNCTION own.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
EOS
my ($key, @spare) = make_keys($node, 600);
my $owner = session($node, user => 'postgres');

# ----- what there is to be locked -----

# Relations, each as [kind, name, OID].
sub relations
{
	my ($condition) = @_;

	return map { [ split /\|/ ] } split /\n/, $node->safe_psql('postgres', <<EOS);
WITH named AS (
	SELECT c.oid, c.relkind, c.reltoastrelid, n.nspname, format('%I.%I', n.nspname, c.relname) AS name
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
)
SELECT relkind, name, oid FROM named n WHERE $condition ORDER BY relkind, name;
EOS
}

my @private = (
	relations("nspname = 'apikeys_private'"),
	relations("oid IN (SELECT reltoastrelid FROM named WHERE nspname = 'apikeys_private')"));
my @views = relations(<<EOS);
oid IN (SELECT objid FROM pg_depend WHERE classid = 'pg_class'::regclass AND deptype = 'e'
	AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'apikeys')) AND nspname <> 'apikeys_private'
EOS
my %name_of = map { $_->[2] => $_->[1] } @private, @views;
my %kinds;
push @{ $kinds{ $_->[0] } }, $_ for @private, @views;
cmp_ok(scalar(@{ $kinds{r} }), '>=', 6, 'tables');
cmp_ok(scalar(@{ $kinds{i} }), '>=', 14, 'indexes');
cmp_ok(scalar(@{ $kinds{t} }), '>=', 6, 'tables of what is too long for a row');
is(scalar(@{ $kinds{S} }), 3, 'sequences');
is(scalar(@{ $kinds{c} }), 2, 'composite types');
cmp_ok(scalar(@{ $kinds{v} }), '>=', 4, 'views');
is(join(' ', grep { !/^[ritScv]$/ } keys %kinds), '', 'and nothing else');
is(join(' ', map { $_->[1] } grep { $_->[0] ne 'v' } @views), '', 'in the schema of the extension only views');

# ----- what is tried -----

# Everything that takes the name of a relation or type, as REL.
my @of_kinds = map {
	my $kind = $_;
	("COMMENT ON $kind REL IS NULL", "DROP $kind REL", "DROP $kind IF EXISTS REL CASCADE",
		"ALTER $kind REL RENAME TO x", "ALTER $kind REL SET SCHEMA own", "ALTER $kind REL OWNER TO nobody",
		"SECURITY LABEL ON $kind REL IS NULL",
		map { "ALTER EXTENSION $_ $kind REL" } 'apikeys ADD', 'apikeys DROP', 'hstore ADD')
} 'TABLE', 'VIEW', 'INDEX', 'SEQUENCE', 'MATERIALIZED VIEW', 'FOREIGN TABLE', 'TYPE', 'DOMAIN';
@of_kinds = grep { !/^SECURITY LABEL ON INDEX|^ALTER INDEX REL (?:SET SCHEMA)|EXTENSION .* INDEX/ } @of_kinds;

my @alter_table = map { "ALTER TABLE REL $_" } (
	'ADD x int', 'DROP org_id', 'RENAME org_id TO x', 'RENAME CONSTRAINT c TO d', 'ALTER org_id SET STATISTICS 1',
	'ALTER org_id SET (n_distinct = 1)', 'ALTER org_id SET DEFAULT 1', 'ALTER org_id SET STORAGE plain',
	'ALTER org_id TYPE int', 'ALTER org_id DROP NOT NULL', 'ADD CHECK (true)', 'ADD CHECK (true) NOT VALID',
	'ADD PRIMARY KEY (org_id)', 'ADD CONSTRAINT c UNIQUE USING INDEX t_pkey',
	'ADD FOREIGN KEY (org_id) REFERENCES own.t', 'ALTER CONSTRAINT c DEFERRABLE', 'VALIDATE CONSTRAINT c',
	'DROP CONSTRAINT c', 'DISABLE TRIGGER ALL', 'ENABLE ALWAYS TRIGGER apikey_guard', 'DISABLE RULE r',
	'ENABLE ROW LEVEL SECURITY', 'NO FORCE ROW LEVEL SECURITY', 'CLUSTER ON x', 'SET WITHOUT CLUSTER',
	'SET WITHOUT OIDS', 'SET TABLESPACE pg_default', 'SET ACCESS METHOD heap', 'SET LOGGED', 'SET UNLOGGED',
	'SET (fillfactor = 90)', 'RESET (fillfactor)', 'INHERIT own.t', 'NO INHERIT own.t', 'OF own.t', 'NOT OF',
	'REPLICA IDENTITY FULL', 'ATTACH PARTITION own.t DEFAULT', 'DETACH PARTITION own.t',
	'DETACH PARTITION own.t FINALIZE');

my @commands = (
	@of_kinds, @alter_table,
	# of other objects, with regard to it
	'ALTER TABLE own.t INHERIT REL', 'ALTER TABLE own.t NO INHERIT REL', 'ALTER TABLE own.t OF REL',
	'ALTER TABLE own.t ADD FOREIGN KEY (org_id) REFERENCES REL', 'ALTER TABLE own.t ADD x REL',
	'ALTER TABLE own.t ALTER a TYPE REL USING NULL', 'ALTER TABLE own.parted ATTACH PARTITION REL DEFAULT',
	'ALTER TABLE own.parted DETACH PARTITION REL', "ALTER TABLE own.t ALTER a SET DEFAULT nextval('REL')",
	'ALTER INDEX own.parted_idx ATTACH PARTITION REL', 'ALTER SEQUENCE own.s OWNED BY REL.org_id',
	# views, indexes, sequences, types
	'ALTER VIEW REL SET (security_barrier = false)', 'ALTER VIEW REL RESET (security_barrier)',
	'ALTER VIEW REL ALTER org_id SET DEFAULT 1', 'ALTER VIEW REL RENAME org_id TO x',
	'ALTER INDEX REL SET (fillfactor = 50)', 'ALTER INDEX REL RESET (fillfactor)',
	'ALTER INDEX REL SET TABLESPACE pg_default', 'ALTER INDEX REL ALTER 1 SET STATISTICS 100',
	'ALTER INDEX REL ATTACH PARTITION own.t_pkey', 'ALTER INDEX REL DEPENDS ON EXTENSION pgcrypto',
	'ALTER INDEX REL NO DEPENDS ON EXTENSION apikeys', 'ALTER MATERIALIZED VIEW REL DEPENDS ON EXTENSION pgcrypto',
	'ALTER MATERIALIZED VIEW REL CLUSTER ON x', 'ALTER FOREIGN TABLE REL ADD x int',
	'ALTER SEQUENCE REL RESTART', 'ALTER SEQUENCE REL INCREMENT 2', 'ALTER SEQUENCE REL AS int',
	'ALTER SEQUENCE REL OWNED BY NONE', 'ALTER SEQUENCE REL OWNED BY own.t.a',
	'ALTER TYPE REL ADD ATTRIBUTE x int CASCADE', 'ALTER TYPE REL DROP ATTRIBUTE org_id CASCADE',
	'ALTER TYPE REL ALTER ATTRIBUTE org_id TYPE int', 'ALTER TYPE REL RENAME ATTRIBUTE org_id TO x',
	"ALTER TYPE REL ADD VALUE 'x'", "ALTER TYPE REL RENAME VALUE 'x' TO 'y'", 'ALTER TYPE REL SET (receive = none)',
	'ALTER DOMAIN REL SET NOT NULL', 'ALTER DOMAIN REL ADD CHECK (true)', 'ALTER DOMAIN REL VALIDATE CONSTRAINT c',
	# rules, triggers, policies, and what else belongs to it
	'CREATE RULE r AS ON INSERT TO REL DO INSTEAD NOTHING', 'CREATE RULE r AS ON UPDATE TO REL DO ALSO SELECT 1',
	'CREATE OR REPLACE RULE "_RETURN" AS ON SELECT TO REL DO INSTEAD SELECT 1 AS a',
	'CREATE RULE r AS ON INSERT TO own.t DO ALSO SELECT * FROM REL',
	'CREATE RULE r AS ON INSERT TO own.t DO ALSO DELETE FROM REL',
	'ALTER RULE r ON REL RENAME TO q', 'DROP RULE "_RETURN" ON REL', 'COMMENT ON RULE "_RETURN" ON REL IS NULL',
	'CREATE TRIGGER g BEFORE INSERT ON REL FOR EACH ROW EXECUTE FUNCTION own.f()',
	'CREATE TRIGGER g INSTEAD OF INSERT ON REL FOR EACH ROW EXECUTE FUNCTION own.f()',
	'CREATE CONSTRAINT TRIGGER g AFTER INSERT ON REL FOR EACH ROW EXECUTE FUNCTION own.f()',
	'CREATE CONSTRAINT TRIGGER g AFTER INSERT ON own.t FROM REL FOR EACH ROW EXECUTE FUNCTION own.f()',
	'ALTER TRIGGER apikey_guard ON REL RENAME TO g', 'ALTER TRIGGER apikey_guard ON REL DEPENDS ON EXTENSION pgcrypto',
	'DROP TRIGGER apikey_guard ON REL', 'COMMENT ON TRIGGER apikey_guard ON REL IS NULL',
	'CREATE POLICY p ON REL', 'CREATE POLICY p ON own.t USING (EXISTS (SELECT FROM REL))',
	'ALTER POLICY apikey_see ON REL USING (true)', 'ALTER POLICY apikey_see ON REL RENAME TO p',
	'DROP POLICY apikey_see ON REL', 'COMMENT ON POLICY apikey_see ON REL IS NULL',
	'COMMENT ON CONSTRAINT c ON REL IS NULL', 'COMMENT ON CONSTRAINT c ON DOMAIN REL IS NULL',
	'COMMENT ON COLUMN REL.org_id IS NULL', 'SECURITY LABEL ON COLUMN REL.org_id IS NULL',
	# privileges
	'GRANT SELECT ON REL TO nobody', 'GRANT SELECT (org_id) ON REL TO nobody', 'REVOKE ALL ON REL FROM PUBLIC',
	'GRANT USAGE ON SEQUENCE REL TO nobody', 'GRANT USAGE ON TYPE REL TO nobody', 'GRANT USAGE ON DOMAIN REL TO nobody',
	# maintenance
	'TRUNCATE REL', 'TRUNCATE own.t, REL CASCADE', 'CLUSTER REL', 'CLUSTER REL USING x',
	'REINDEX TABLE REL', 'REINDEX INDEX REL', 'REFRESH MATERIALIZED VIEW REL', 'ANALYZE REL', 'ANALYZE REL (org_id)',
	(map { "LOCK TABLE REL IN $_ MODE" } 'ACCESS SHARE', 'ROW SHARE', 'ROW EXCLUSIVE', 'SHARE UPDATE EXCLUSIVE',
		'SHARE', 'SHARE ROW EXCLUSIVE', 'EXCLUSIVE', 'ACCESS EXCLUSIVE'),
	'LOCK TABLE ONLY REL IN SHARE MODE', 'LOCK TABLE own.t, REL IN ACCESS EXCLUSIVE MODE',
	# new objects that are made of it
	'CREATE INDEX ON REL (org_id)', 'CREATE UNIQUE INDEX ON REL (org_id)', 'CREATE INDEX ON own.t ((NULL::REL))',
	'CREATE STATISTICS own.x ON org_id, suffix FROM REL', 'CREATE TABLE own.x () INHERITS (REL)',
	'CREATE TEMP TABLE x () INHERITS (REL)', 'CREATE TABLE own.x PARTITION OF REL DEFAULT',
	'CREATE TEMP TABLE x PARTITION OF REL FOR VALUES IN (1)', 'CREATE FOREIGN TABLE own.x PARTITION OF REL DEFAULT SERVER s',
	'CREATE TABLE own.x (LIKE REL)', 'CREATE TABLE own.x (LIKE REL INCLUDING ALL)', 'CREATE TABLE own.x OF REL',
	'CREATE TABLE own.x (a REL)', 'CREATE TABLE own.x (a REL[])', 'CREATE TABLE own.x (org_id text REFERENCES REL)',
	'CREATE TABLE own.x AS SELECT * FROM REL', 'CREATE TEMP TABLE x AS TABLE REL WITH NO DATA', 'SELECT * INTO TEMP x FROM REL',
	'CREATE MATERIALIZED VIEW own.x AS SELECT * FROM REL', 'CREATE VIEW own.x AS SELECT * FROM REL',
	'CREATE OR REPLACE VIEW REL AS SELECT 1 AS a', 'CREATE SEQUENCE own.x OWNED BY REL.org_id',
	'CREATE PUBLICATION x FOR TABLE REL', 'CREATE PUBLICATION x FOR TABLE own.t, REL', 'CREATE DOMAIN own.x AS REL',
	'CREATE TYPE own.x AS (a REL)', 'CREATE TYPE own.x AS RANGE (subtype = REL)', 'CREATE CAST (REL AS int) WITH INOUT',
	"CREATE FUNCTION own.x(REL) RETURNS int LANGUAGE sql AS 'SELECT 1'", "CREATE FUNCTION own.x() RETURNS REL LANGUAGE sql AS 'SELECT NULL'",
	"CREATE FUNCTION own.x() RETURNS SETOF REL LANGUAGE sql AS 'SELECT NULL'",
	"CREATE FUNCTION own.x(REL.org_id%TYPE) RETURNS int LANGUAGE sql AS 'SELECT 1'",
	"CREATE FUNCTION own.x() RETURNS int LANGUAGE sql AS 'SELECT 1 FROM REL'",
	'CREATE FUNCTION own.x() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1 FROM REL; END',
	'CREATE AGGREGATE own.x (REL) (SFUNC = own.f, STYPE = int)',
	'CREATE OPERATOR own.=== (LEFTARG = REL, RIGHTARG = REL, FUNCTION = own.f)',
	# reading and changing, at once or later
	'SELECT * FROM REL', 'TABLE REL', 'SELECT * FROM REL FOR UPDATE', 'SELECT * FROM REL FOR KEY SHARE',
	'INSERT INTO REL DEFAULT VALUES', "UPDATE REL SET org_id = ''", 'DELETE FROM REL',
	'MERGE INTO REL USING own.t ON true WHEN MATCHED THEN DELETE', 'COPY REL TO STDOUT', 'COPY (TABLE REL) TO STDOUT',
	"COPY REL FROM '/dev/null'", 'EXPLAIN SELECT * FROM REL', 'EXPLAIN SELECT * FROM REL FOR UPDATE', 'EXPLAIN DELETE FROM REL',
	'PREPARE x AS SELECT 1 FROM REL', 'PREPARE x AS SELECT 1 FROM REL FOR UPDATE', 'PREPARE x AS INSERT INTO REL DEFAULT VALUES',
	"PREPARE x AS UPDATE REL SET org_id = ''", 'PREPARE x AS DELETE FROM REL', 'PREPARE x (REL) AS SELECT 1',
	'DECLARE x CURSOR FOR SELECT * FROM REL', 'DECLARE x CURSOR WITH HOLD FOR SELECT * FROM REL',
	'DO $$ BEGIN EXECUTE $q$CREATE RULE r AS ON INSERT TO REL DO INSTEAD NOTHING$q$; END $$',
	'DO $$ DECLARE x REL%ROWTYPE; BEGIN NULL; END $$', 'DO $$ BEGIN PERFORM 1 FROM REL; END $$',
	# functions that take a name
	(map { "SELECT $_" } "nextval('REL')", "currval('REL')", "setval('REL', 1)", "'REL'::regclass", "'REL'::regtype", 'NULL::REL',
		"to_regclass('REL')", "pg_relation_size('REL')", "table_to_xml('REL', true, false, '')",
		"query_to_xml('SELECT * FROM REL', true, false, '')", "pg_get_serial_sequence('REL', 'org_id')",
		"has_table_privilege('REL', 'SELECT')", "has_sequence_privilege('REL', 'USAGE')", "has_type_privilege('REL', 'USAGE')",
		"row_security_active('REL')", "pg_get_viewdef('REL')", "currtid2('REL', '(0,1)')",
		"brin_summarize_new_values('REL')", "ts_stat('SELECT * FROM REL')"));

# The same, outside a transaction.
my @alone = ('VACUUM REL', 'VACUUM (FULL) REL', 'VACUUM (FREEZE, ANALYZE) REL (org_id)', 'CREATE INDEX CONCURRENTLY ON REL (org_id)',
	'DROP INDEX CONCURRENTLY REL', 'REINDEX TABLE CONCURRENTLY REL', 'REINDEX INDEX CONCURRENTLY REL',
	'REFRESH MATERIALIZED VIEW CONCURRENTLY REL', 'ALTER TABLE REL DETACH PARTITION own.t CONCURRENTLY',
	'ALTER TABLE own.parted DETACH PARTITION REL CONCURRENTLY');

# What takes the name of something else that is ours, or of nothing.
my @general = (
	(map { my $kind = $_; map { "$_ apikeys_private.x" . ($kind =~ /VIEW/ ? ' AS SELECT 1' : $kind =~ /FUNC/ ?
				"() RETURNS int LANGUAGE sql AS 'SELECT 1'" : $kind =~ /TABLE|TYPE/ ? ' ()' : '') } "CREATE $kind" }
		'TABLE', 'VIEW', 'SEQUENCE', 'FUNCTION'),
	'CREATE TYPE apikeys_private.x AS ()', 'ALTER TABLE own.t SET SCHEMA apikeys_private',
	'ALTER FUNCTION own.f() SET SCHEMA apikeys_private', 'CREATE EXTENSION citext SCHEMA apikeys_private',
	'DROP SCHEMA apikeys_private CASCADE', 'ALTER SCHEMA apikeys_private RENAME TO x', 'ALTER SCHEMA apikeys_private OWNER TO nobody',
	'COMMENT ON SCHEMA apikeys_private IS NULL', 'GRANT USAGE ON SCHEMA apikeys_private TO nobody',
	'GRANT SELECT ON ALL TABLES IN SCHEMA apikeys_private TO nobody', 'REVOKE ALL ON ALL SEQUENCES IN SCHEMA apikeys_private FROM PUBLIC',
	'ALTER DEFAULT PRIVILEGES IN SCHEMA apikeys_private GRANT SELECT ON TABLES TO nobody',
	'CREATE PUBLICATION x FOR TABLES IN SCHEMA apikeys_private', 'CREATE PUBLICATION x FOR ALL TABLES',
	'IMPORT FOREIGN SCHEMA apikeys_private FROM SERVER s INTO own', "SELECT schema_to_xml('apikeys_private', true, false, '')",
	"SELECT database_to_xml(true, false, '')", 'SET LOCAL search_path = apikeys_private; LOCK TABLE apikey_key',
	'DROP EXTENSION apikeys CASCADE', 'ALTER EXTENSION apikeys UPDATE', 'ALTER EXTENSION apikeys SET SCHEMA own',
	'COMMENT ON EXTENSION apikeys IS NULL', 'ALTER EXTENSION apikeys ADD SCHEMA own', 'ALTER EXTENSION hstore ADD SCHEMA apikeys_private',
	'ALTER FUNCTION own.f() DEPENDS ON EXTENSION apikeys', 'DROP EXTENSION pgcrypto CASCADE', 'ALTER EXTENSION pgcrypto SET SCHEMA own',
	'DROP OWNED BY nobody', 'DROP OWNED BY postgres', 'REASSIGN OWNED BY postgres TO nobody',
	'ALTER TABLE ALL IN TABLESPACE pg_default SET TABLESPACE pg_default', 'ANALYZE',
	'DROP FUNCTION apikey_check_level(text, apikey_level) CASCADE', 'ALTER FUNCTION apikey_check_level(text, apikey_level) RENAME TO x',
	'ALTER FUNCTION apikey_check_level(text, apikey_level) DEPENDS ON EXTENSION hstore',
	'COMMENT ON FUNCTION apikey_check_level(text, apikey_level) IS NULL', 'DROP TYPE apikey_level CASCADE',
	"ALTER TYPE apikey_level ADD VALUE 'x'", 'COMMENT ON TYPE apikey_level IS NULL', 'ALTER TYPE apikey_level RENAME TO x');
my @general_alone = ('VACUUM', 'VACUUM (FULL)', 'CLUSTER', 'REINDEX DATABASE postgres', 'REINDEX SYSTEM postgres',
	'REINDEX SCHEMA apikeys_private', 'REINDEX SCHEMA CONCURRENTLY apikeys_private');

# All that is tried of relations, each as [statement, command].
sub tried
{
	my (@relations) = @_;
	my @tried;

	for my $name (map { $_->[1] } @relations)
	{
		push @tried, map { [ "BEGIN; " . s/\bREL\b/$name/gr . "; ROLLBACK", $_ ] } @commands;
		push @tried, map { [ s/\bREL\b/$name/gr, $_ ] } @alone;
	}
	return @tried;
}

my @tried_generally = ((map { [ "BEGIN; $_; ROLLBACK", $_ ] } @general), map { [ $_, $_ ] } @general_alone);

# A session of nobody's, in which what has to wait for a lock ends in 55P03.
sub intruder
{
	my (%params) = @_;
	my $session = session($node, user => 'nobody');

	$session->query_safe('SET client_min_messages = error');
	$session->query_safe("SET lock_timeout = '30ms'") unless $params{patient};
	return $session;
}

# Tries all, and counts how it ended; tells what waited of each command.
sub try_all
{
	my ($waiting, @tried) = @_;
	my $session = intruder();
	my %states;

	for my $case (@tried)
	{
		my ($statement, $command) = @$case;
		my $state = sqlstate($session, $statement);

		$state = 'done' if $state !~ /^[0-9A-Z]{5}$/;
		push @{ $states{$state} }, $command;
		$waiting->($session, $statement, $command) if $state eq '55P03';
		$session->query_safe('ROLLBACK');
	}
	$session->quit;
	return %states;
}

# ----- which locks are asked for -----

# What the owner holds meanwhile conflicts with more than reading, of tables and
# types; with more than using, of the sequence and indexes.  The server logs what is waited
# for.
sub hold_all
{
	$owner->query_safe('SET client_min_messages = error; BEGIN');
	for (@private)
	{
		my ($kind, $name) = @$_;

		$owner->query_safe(
			$kind eq 'r' ? "LOCK TABLE $name IN EXCLUSIVE MODE"
			: $kind eq 'i' ? "COMMENT ON INDEX $name IS 'held'"
			: $kind eq 'S' ? "ALTER SEQUENCE $name INCREMENT 1"
			: $kind eq 'c' ? "ALTER TYPE $name ADD ATTRIBUTE held int"
			: 'SELECT');
	}
	return;
}

my $offset = 0;

# Since it was last asked: what was waited for, as "mode name", without reading.
sub waited_for
{
	my $log = slurp_file($node->logfile, $offset);
	my %found;

	$offset = -s $node->logfile;
	$found{"$1 " . ($name_of{$2} // $2)} = 1
	  while $log =~ /process \d+ still waiting for (\w+) on relation (\d+) of database/g;
	delete $found{$_} for grep { /^AccessShareLock / } keys %found;
	return join ', ', sort keys %found;
}

hold_all();
waited_for();
my %states = try_all(sub { diag("waits: $_[1]") }, tried(@private));
is(waited_for(), '', 'by the name of what is private no lock is asked for');
is(join(' ', map { "$_: @{ $states{$_} }[0 .. 3]" } grep { !/^(?:22023|42501)$/ } sort keys %states), '', 'and all is refused');
is(join(' ', grep { !/^SECURITY LABEL/ } @{ $states{22023} }), '', 'for want of privileges');
cmp_ok(scalar(@{ $states{42501} }), '>', 5000, 'and there are thousands of ways');

%states = try_all(sub { }, @tried_generally);
is(waited_for(), '', 'nor by other names');
is(join(' ', sort grep { !/^(?:42501|42P01|0A000|3F000|42704|done)$/ } keys %states), '', 'which are known');

# A view asks for what its query needs: to read; and where rows are to be locked,
# for what that takes, before it is refused: less than whoever changes a row.
%states = try_all(sub { }, tried(@views));
like(waited_for(), qr/^RowShareLock [\w.]+(?:, RowShareLock [\w.]+)*$/, 'by a view no lock that a change of rows would wait for');
is(join(' ', map { "$_: @{ $states{$_} }" } grep { /^42601/ } keys %states), '', 'all commands are such');
is( join('; ', sort keys %{ { map { $_ => 1 } @{ $states{'55P03'} } } }),
	'EXPLAIN SELECT * FROM REL FOR UPDATE; PREPARE x AS SELECT 1 FROM REL FOR UPDATE; SELECT * FROM REL FOR KEY SHARE; SELECT * FROM REL FOR UPDATE',
	'but for the rows to be locked');

# Every function of PostgreSQL that takes an OID, by the OIDs of our relations and of
# their types.
my $by_oid = <<'EOS';
SET client_min_messages = error;
SET lock_timeout = '30ms';
DO $$
DECLARE
	function record;
	what oid;
BEGIN
	FOR function IN
		SELECT p.proname, string_agg(CASE WHEN t.typname IN ('oid', 'regclass', 'regtype') THEN '$1::' || t.typname
				WHEN t.typname IN ('text', 'name', 'cstring') THEN format('%L::%s', CASE WHEN a.i = 1 THEN '()' ELSE 'SELECT' END, t.typname)
				WHEN t.typname IN ('int2', 'int4', 'int8', 'float4', 'float8') THEN '1::' || t.typname
				WHEN t.typname = 'bool' THEN 'false' WHEN t.typname = 'char' THEN '''r''::"char"'
				WHEN t.typname = 'tid' THEN '''(0,1)''::tid' WHEN t.typname = 'regproc' THEN '''now''::regproc'
				WHEN t.typname = 'xid' THEN '''3''::xid' WHEN t.typname = '_text' THEN '''{x}''::text[]'
				WHEN t.typname = 'anyelement' THEN 'NULL::int' WHEN t.typname = 'pg_node_tree' THEN 'NULL::pg_node_tree' END, ', ' ORDER BY a.i) AS arguments
		FROM pg_proc p, unnest(p.proargtypes) WITH ORDINALITY AS a (type, i) JOIN pg_type t ON t.oid = a.type
		WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND p.prorettype NOT IN ('trigger'::regtype)
			AND has_function_privilege(p.oid, 'EXECUTE')
			AND p.proargtypes::oid[] && '{oid,regclass,regtype}'::regtype[]::oid[]
		GROUP BY p.oid, p.proname
		HAVING count(*) = count(CASE WHEN t.typname IN ('oid', 'regclass', 'regtype', 'text', 'name', 'cstring', 'int2', 'int4', 'int8',
			'float4', 'float8', 'bool', 'char', 'tid', 'regproc', 'xid', '_text', 'anyelement', 'pg_node_tree') THEN 1 END)
	LOOP
		FOR what IN SELECT c.oid FROM pg_class c WHERE c.oid = ANY ('{OIDS}')
			UNION ALL SELECT c.reltype FROM pg_class c WHERE c.oid = ANY ('{OIDS}') AND c.reltype <> 0
		LOOP
			BEGIN
				EXECUTE format('SELECT pg_catalog.%I(%s)', function.proname, function.arguments) USING what;
				INSERT INTO pg_temp.outcome VALUES (function.proname, 'done');
			EXCEPTION WHEN OTHERS THEN
				INSERT INTO pg_temp.outcome VALUES (function.proname, sqlstate);
			END;
		END LOOP;
		COMMIT;
	END LOOP;
END $$;
SELECT count(DISTINCT function) FROM outcome WHERE state = 'done';
EOS
my $oids = join ',', map { $_->[2] } @private;
cmp_ok(
	$node->safe_psql('postgres', "CREATE TEMP TABLE outcome (function name, state text);\n" . $by_oid =~ s/OIDS/$oids/gr,
		extra_params => [ '-U', 'nobody' ]),
	'>', 100, 'functions that take an OID');

# nextval() and its like lock the sequence as whoever creates a key does; and what
# looks after indexes of a kind that we have none of, locks the table as ANALYZE or
# a change of rows does, before it says so.
my $modes = waited_for();
like($modes, qr/ShareUpdateExclusiveLock apikeys_private\.apikey_key\b/, 'by OID some locks are asked for');
is( join(', ', grep { !/^(?:RowExclusiveLock|ShareUpdateExclusiveLock) / } split /, /, $modes),
	'', 'and none for which a change of rows would wait');
$owner->query_safe('ROLLBACK');

# ----- whether anybody is stalled -----

# Answers to a session that has nothing cached, and to an admin.
sub answers
{
	my ($on) = @_;
	my $delete = $on ? '' : <<EOS;
BEGIN;
SELECT apikey_act_as('acme', 'ann') \\g /dev/null
SELECT apikey_delete(apikey_suffix('$spare[0]')) \\g /dev/null
COMMIT;
SELECT apikey_check_level('$spare[0]', 'standard');
EOS
	my ($status, $out, $err) = ($on // $node)->psql('postgres', <<EOS, on_error_stop => 1, extra_params => [ '-U', 'app' ]);
\\set VERBOSITY sqlstate
SET lock_timeout = '1s';
SELECT apikey_check_level('$key', 'admin'), apikey_me('$key')->>'role', level FROM apikey_verify('$key');
SELECT apikey_check('a legacy key of acme', 'send_events');
BEGIN;
SELECT user_id FROM apikey_authenticate('$key');
COMMIT;
$delete
EOS
	shift @spare if !$on;
	return $status ? $err : $out =~ s/\n/ /gr;
}

my $right = 't|ADMIN|admin t ann f';
is(answers(), $right, 'answered where nobody is');

# Has nobody hold what it can get, in a transaction that goes on.
sub hold_what_can_be_had
{
	my ($on) = @_;
	my $session = session($on // $node, user => 'nobody');

	$session->query_safe('SET client_min_messages = error');
	$session->query_safe('BEGIN ISOLATION LEVEL ' . ($on ? 'REPEATABLE READ' : 'SERIALIZABLE'));
	my $n = 0;
	for my $view (map { $_->[1] } @views)
	{
		$n++;
		for my $sql ("SELECT count(*) FROM $view", "PREPARE s$n AS SELECT * FROM $view",
			"PREPARE u$n AS SELECT * FROM $view FOR UPDATE", "DECLARE c$n CURSOR FOR SELECT * FROM $view",
			"FETCH c$n", "CREATE TEMP TABLE t$n AS SELECT * FROM $view", "LOCK TABLE $view IN ACCESS SHARE MODE")
		{
			$session->query_safe("SAVEPOINT x");
			sqlstate($session, $sql) =~ /^[0-9A-Z]{5}$/ and $session->query_safe('ROLLBACK TO x');
		}
	}
	# what is refused later than it is locked
	for (grep { $_->[0] =~ /[Sri]/ } @private)
	{
		my ($kind, undef, $oid) = @$_;
		my $call = $kind eq 'S' ? "nextval(${oid}::regclass)" : "pg_relation_size(${oid}::regclass)";

		$session->query_safe("DO \$\$ BEGIN PERFORM $call; EXCEPTION WHEN OTHERS THEN NULL; END \$\$");
	}
	return $session;
}

# What nobody's sessions hold or wait for of what is private, and how, without
# reading (and SIReadLock, for which nobody waits).
sub locks
{
	my ($on) = @_;

	return ($on // $node)->safe_psql('postgres', <<EOS);
SELECT string_agg(DISTINCT format('%s %s', l.mode, c.relkind), ', ')
FROM pg_locks l JOIN pg_stat_activity a USING (pid) JOIN pg_class c ON c.oid = l.relation
WHERE a.usename = 'nobody' AND c.oid = ANY ('{@{[ join ',', map { $_->[2] } @private ]}}') AND l.mode NOT IN ('AccessShareLock', 'SIReadLock')
EOS
}

my $holder = hold_what_can_be_had();
my $held = $node->safe_psql('postgres', <<EOS);
SELECT string_agg(DISTINCT l.relation::regclass::text, ' ') FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE a.usename = 'nobody' AND l.mode = 'AccessShareLock'
EOS
like($held, qr/apikeys_private\.$_\b/, "$_ is held by a transaction that goes on")
  for qw(apikey_key apikey_member apikey_legacy apikey_key_digest_excl);
is(locks(), 'RowExclusiveLock S, RowShareLock r, RowShareLock v', 'by nothing that anybody waits for');
is(answers(), $right, 'behind which all is answered');

# Runs it in a session of its own, and leaves it waiting.
sub leave_waiting
{
	my ($statement, $on) = @_;
	my $session = session($on // $node, user => 'nobody');

	$session->query_safe('SET client_min_messages = error');
	my $pid = $session->query_safe('SELECT pg_backend_pid()');
	$session->{stdin} .= "$statement;\n";
	$session->{run}->pump_nb;
	($on // $node)->poll_query_until('postgres',
		"SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid") or die "does not wait: $statement";
	return { session => $session, pid => $pid, statement => $statement };
}

# Ends what waits.
sub give_up
{
	for my $waiting (@_)
	{
		$owner->query_safe("SELECT pg_cancel_backend($waiting->{pid})");
		$waiting->{session}->quit;
	}
	return;
}

# Some of each kind, of those that verification and deleting need first.
my @some = grep { $_->[1] =~ /apikey_(?:key|member|legacy|identity|key_id_seq|key_digest_excl)$/ } @private;
is(scalar(@some), 6, 'tables, index, sequence and type');
my @stalled;
%states = try_all(
	sub {
		my (undef, $statement, $command) = @_;
		my $waiting = leave_waiting($statement);
		my $answers = answers();

		push @stalled, $statement;
		is($answers, $right, "answered behind: $statement") if $answers ne $right;
		give_up($waiting);
	},
	tried(@some), tried(@views), @tried_generally);
is(join("\n", grep { /apikeys_private|pg_toast/ } @stalled), '', 'nothing that is private is waited for');
cmp_ok(scalar(grep { /CREATE RULE r AS ON INSERT TO public\.apikeys / } @stalled), '>', 0, 'a view is');
note(scalar(@stalled) . ' statements wait for a view');

# All views at once.
my @waiting = map { leave_waiting("CREATE RULE r AS ON INSERT TO $_->[1] DO INSTEAD NOTHING") } @views;
is(locks(), 'RowExclusiveLock S, RowShareLock r, RowShareLock v', 'nothing more is asked for');
my $list = leave_waiting('SELECT * FROM apikeys');
is(answers(), $right, 'when all lists are stalled, all is answered');
give_up($list, @waiting);

# ----- on a standby -----

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
# Rows that are removed from a page are waited for too, as long as an old snapshot
# may see them.  That is no lock, and hot_standby_feedback spares it.
$standby->append_conf('postgresql.conf', <<EOC);
max_standby_streaming_delay = -1
hot_standby_feedback = on
wal_receiver_status_interval = 1s
log_recovery_conflict_waits = on
EOC
$standby->start;
$node->wait_for_catchup($standby, 'replay');
$holder->query_safe('ROLLBACK');
my $reader = hold_what_can_be_had($standby);
$node->poll_query_until('postgres', "SELECT backend_xmin IS NOT NULL FROM pg_stat_replication")
  or die 'no feedback of the standby';

# None of all this is replayed as a lock that waits for who reads there.
try_all(sub { }, tried(@some), @tried_generally);
$node->wait_for_catchup($standby, 'replay');
pass('replay goes on behind a transaction on a standby');
my $gone = shift @spare;
is(check_key(session($standby), $gone), 't', 'a key that is alive there');
as_acme($node, 'ann', "SELECT apikey_delete(apikey_suffix('$gone'))");
$node->wait_for_catchup($standby, 'replay');
is(check_key(session($standby), $gone), 'f', 'is dead when it was deleted');

# A lock of something that can be named is; as of any table of nobody's own. So
# long as max_standby_streaming_delay lets it, replay waits, and verification goes
# on by what has been replayed.
try_all(sub { }, map { [ "BEGIN; CREATE RULE r AS ON INSERT TO $_->[1] DO INSTEAD NOTHING; ROLLBACK", '' ] } @views);
ok($standby->poll_query_until('postgres',
		"SELECT count(*) > 0 FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE a.backend_type = 'startup' AND NOT l.granted"),
	'replay waits for who reads a view');
is( $standby->safe_psql('postgres', <<EOS), '', 'and not for what is private');
SELECT string_agg(l.mode || ' ' || l.relation::regclass, ', ') FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE a.backend_type = 'startup' AND l.relation = ANY ('{@{[ join ',', map { $_->[2] } @private ]}}')
EOS
is(answers($standby), 't|ADMIN|admin t ann', 'verification on the standby does not wait');
$reader->query_safe('ROLLBACK');
$node->wait_for_catchup($standby, 'replay');
is(answers($standby), 't|ADMIN|admin t ann', 'nor when replay has gone on');
$reader->quit;
$standby->stop;

# ----- the same, if the schema could be used -----

$holder->quit;
$holder = hold_what_can_be_had();
$node->safe_psql('postgres', 'GRANT USAGE ON SCHEMA apikeys_private TO nobody');
my $rule = leave_waiting('CREATE RULE r AS ON INSERT TO apikeys_private.apikey_key DO INSTEAD NOTHING');
like(answers(), qr/55P03/, 'who can name the table of keys stalls verification');
like(locks(), qr/AccessExclusiveLock r/, 'by the lock that it waits for');
give_up($rule);
$node->safe_psql('postgres', 'REVOKE USAGE ON SCHEMA apikeys_private FROM nobody');
is(answers(), $right, 'and who cannot does not');

$holder->query_safe('ROLLBACK');
$_->quit for $holder, $owner;
done_testing();
