# Attacks that a stranger tried who had read all of it: the extension locked by
# anybody, while usage is to be written; an index replaced while a session learns
# where things are, and loses track of what has changed; lists in locales that
# have another order, or other lower-case letters, than ASCII; what a list reads
# that has come to its end.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use ApikeysTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use UsageTest;

my $node = usage_server('attacked');
$node->start;
install($node);
$node->safe_psql('postgres', 'CREATE ROLE anybody LOGIN');
my ($key) = make_keys($node, 1);

### whoever can make a function locks the extension, for as long as he likes

my $anybody = session($node, user => 'anybody');
$anybody->query_safe(<<'EOS');
BEGIN;
CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1';
ALTER FUNCTION pg_temp.f() DEPENDS ON EXTENSION apikeys;
EOS
is($node->safe_psql('postgres', <<'EOS'), 't', 'the extension is locked');
SELECT count(*) > 0 FROM pg_locks
WHERE classid = 'pg_extension'::regclass AND mode = 'AccessExclusiveLock' AND granted
EOS
verify($node, $key, 3);
flush($node);
is(written($node, $key), '3', 'usage is written');
$anybody->query_safe('ROLLBACK');
$anybody->quit;

### an index is replaced while a session learns where things are

# It has looked at the table already, and waits to look at another.  So much is
# done meanwhile that it is not told what.

my $holder = session($node, user => 'postgres');
$holder->query_safe('BEGIN; LOCK apikeys_private.apikey_capability IN ACCESS EXCLUSIVE MODE');
my $session = session($node);
$session->query_until(qr/asked/, "\\echo asked\nSELECT 'of ' || org_id FROM apikey_verify('$key');\n\\echo answered\n");
ok($node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM pg_stat_activity WHERE usename = 'app' AND wait_event_type = 'Lock'"),
	'the session waits');
$node->safe_psql('postgres', <<'EOS');
ALTER TABLE apikeys_private.apikey_key DROP CONSTRAINT apikey_key_digest_excl;
ALTER TABLE apikeys_private.apikey_key
	ADD CONSTRAINT apikey_key_digest_excl EXCLUDE USING hash (digest WITH =);
DO $$
BEGIN
	FOR i IN 1 .. 1000 LOOP
		EXECUTE format('CREATE TEMPORARY TABLE t%s (i int)', i);
	END LOOP;
END $$;
EOS
$holder->query_safe('COMMIT');
like($session->query_until(qr/answered/, ''), qr/of acme/, 'it takes the new index');
is($session->{stderr}, '', 'and has no error');
$_->quit for $session, $holder;

### behind the last key, which is a legacy key, no other is read

my $reads = <<'EOS';
SELECT apikey_act_as('acme', 'ann') \g /dev/null
SELECT count(*), pg_stat_get_xact_numscans('apikeys_private.apikey_key_org_id_%1$s_suffix_idx'::regclass)
FROM apikey_page(sort => '%1$s', descending => false, after => 'all,%1$s,asc,,')
EOS
$node->safe_psql('postgres', "SELECT apikey_import_legacy('acme', 'a legacy key of acme')");
is($node->safe_psql('postgres', 'BEGIN;' . sprintf($reads, $_)), '0|0', "nothing behind the last by $_")
  for qw(name owner_id);
is($node->safe_psql('postgres', <<'EOS'), '1', 'all keys behind the first');
BEGIN;
SELECT apikey_act_as('acme', 'ann') \g /dev/null
SELECT count(*) FROM apikey_page(sort => 'name', descending => true, after => 'all,name,desc,,')
EOS

### locales

SKIP:
{
	skip 'the server has no ICU', 2
	  if $node->psql('postgres', q{CREATE COLLATION turkish (provider = icu, locale = 'tr')}) != 0;

	# A database by a locale, with keys of these names.
	my $database = sub {
		my ($locale, @names) = @_;
		my $names = join ', ', map { "('$_')" } @names;

		$node->safe_psql('postgres',
			"CREATE DATABASE $locale TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE '$locale' LOCALE 'C'");
		$node->safe_psql($locale, <<EOS);
SET client_min_messages = warning;
CREATE EXTENSION apikeys CASCADE;
SELECT apikey_save_org('acme', 'Acme'), apikey_save_member('acme', 'ann', 'ann\@acme.example', 'admin');
BEGIN;
SELECT apikey_act_as('acme', 'ann');
SELECT apikey_create(n.name) FROM (VALUES $names) AS n (name);
COMMIT;
EOS
		return;
	};
	my $names = sub {
		my ($locale, $arguments) = @_;

		return $node->safe_psql($locale, <<EOS);
BEGIN;
SELECT apikey_act_as('acme', 'ann') \\g /dev/null
SELECT string_agg(name, ' ') FROM apikey_page(sort => 'name', descending => false, $arguments);
EOS
	};

	# An index for LIKE sorts by bytes.  The one that is ours is made anew, and
	# so comes after it.
	$database->('en', qw(a B c D e F));
	is($names->('en', 'size => 4'), 'a B c D', 'in the order of the locale');
	$node->safe_psql('en', 'CREATE INDEX ON apikeys_private.apikey_key (org_id, name text_pattern_ops, suffix)');
	$node->safe_psql('en', 'REINDEX INDEX CONCURRENTLY apikeys_private.apikey_key_org_id_name_suffix_idx');
	is($names->('en', 'size => 4'), 'a B c D', 'not in that of another index');
}

hang_up($node);
$node->stop;
done_testing();
