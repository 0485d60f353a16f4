# What writing usage must not do: make a last use earlier, lose the usage of keys
# that live, wait for a standby; and what reading it does where the index of
# apikey_usage is another one or none.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use ApikeysTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use UsageTest;

my $node = usage_server('main', allows_streaming => 1,
	conf => "listen_addresses = '127.0.0.1'");
$node->start;
install($node);
sql($node, "SELECT apikey_import_legacy('acme', 'a legacy key of acme')");
my ($value, $deleted) = make_keys($node, 2);

#
# A last use that is written is not made earlier, nor its address another one
#
my $row = "SELECT uses, last_used_at = '2100-01-01', host(last_used_addr) FROM apikeys_private.apikey_usage";

verify($node, $value, 1);
flush($node);
sql($node, "UPDATE apikeys_private.apikey_usage SET last_used_at = '2100-01-01', last_used_addr = '192.0.2.1'");
$node->safe_psql('postgres', "SELECT apikey_check_level('$value', 'admin')",
	connstr => 'host=127.0.0.1 port=' . $node->port . ' dbname=postgres');
flush($node);
is(sql($node, $row), '2|t|192.0.2.1', 'an earlier use is counted, and is not the last');
sql($node, "UPDATE apikeys_private.apikey_usage SET last_used_at = '2000-01-01'");
$node->safe_psql('postgres', "SELECT apikey_check_level('$value', 'admin')",
	connstr => 'host=127.0.0.1 port=' . $node->port . ' dbname=postgres');
flush($node);
is(sql($node, $row), '3|f|127.0.0.1', 'a later one is');

#
# What is read by an index that is made anew
#
is(uses($node, $value), 3, 'a session reads what was written');
$node->safe_psql('postgres',
	'ALTER TABLE apikeys_private.apikey_usage DROP CONSTRAINT apikey_usage_pkey, ADD CONSTRAINT apikey_usage_pkey PRIMARY KEY (key_id)');
is(uses($node, $value), 3, 'by an index made anew, too');

#
# What is swept away: the usage of keys that are no more, a day after the last use
#
my $named = <<'EOS';
SELECT string_agg(CASE WHEN k.name IS NOT NULL THEN k.name WHEN l.org_id IS NOT NULL THEN 'legacy' ELSE 'none' END,
	', ' ORDER BY k.name, l.org_id)
FROM apikeys_private.apikey_usage u
	LEFT JOIN apikeys_private.apikey_key k USING (key_id)
	LEFT JOIN apikeys_private.apikey_legacy l USING (key_id)
EOS
verify($node, $_, 1) for $value, $deleted, 'a legacy key of acme';
flush($node);
as_acme($node, 'ann', "SELECT apikey_delete(apikey_suffix('$deleted'))");

# Ages all rows, and has something written, which sweeps.
sub sweep
{
	my ($age) = @_;

	sql($node, "UPDATE apikeys_private.apikey_usage SET last_used_at = now() - interval '$age'");
	verify($node, $value, 1);
	flush($node);
	return sql($node, $named);
}

is(sweep('23 hours'), 'key 1, legacy, none', 'usage of a deleted key stays within a day');
is(sweep('25 hours'), 'key 1, legacy', 'and goes then; that of living keys stays, the legacy key too');
is(sweep('10 years'), 'key 1, legacy', 'however long ago they were used');
sql($node, 'DELETE FROM apikeys_private.apikey_legacy');
is(sweep('25 hours'), 'key 1', 'a deleted legacy key is no other');

#
# No standby is waited for, whatever others wait for
#
verify($node, $value, 1);
my $before = uses($node, $value);
$node->append_conf('postgresql.conf', "synchronous_standby_names = 'absent'");
$node->reload;
my $waits = $node->background_psql('postgres');
$waits->query_until(qr/waits/, "\\echo waits\nCREATE TABLE waits ();\n");
ok($node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep')"),
	'others wait for a standby that is away');
sql($node, "SET statement_timeout = '60s'");
flush($node);
is(written($node, $value), $before, 'usage is written');
is(backends($node, 'worker'), 0, 'and no worker waits');
$node->append_conf('postgresql.conf', "synchronous_standby_names = ''");
$node->reload;
$waits->quit;

#
# The index of apikey_usage, by which lists find what is written
#
my $reader = session($node, user => 'postgres');
my $read = "SELECT uses FROM apikeys WHERE suffix = apikey_suffix('$value')";
my $not_as_installed = qr/^55000$/;

is(sqlstate($reader, $read), $before, 'a session reads what is written');
sql($node, 'REINDEX TABLE CONCURRENTLY apikeys_private.apikey_usage');
is(sqlstate($reader, $read), $before, 'and again, by an index that was built anew');
sql($node, <<'EOS');
ALTER TABLE apikeys_private.apikey_usage ADD CONSTRAINT another UNIQUE (key_id);
ALTER TABLE apikeys_private.apikey_usage DROP CONSTRAINT apikey_usage_pkey;
EOS
is(sqlstate($reader, $read), $before, 'and by another one when that is gone');
sql($node, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'apikeys_private.another'::regclass");
sql($node, "COMMENT ON TABLE apikeys_private.apikey_usage IS 'its index is invalid'; ALTER TABLE apikeys_private.apikey_usage SET (fillfactor = 50)");
like(sqlstate($reader, $read), $not_as_installed, 'not by one that is invalid');
is(check_key($reader, $value), 't', 'which verification does not need');
sql($node, 'ALTER TABLE apikeys_private.apikey_usage DROP CONSTRAINT another');
like(sqlstate($reader, $read), $not_as_installed, 'nor without one');
is(check_key($reader, $value), 't', 'nor that');
sql($node, 'ALTER TABLE apikeys_private.apikey_usage ADD CONSTRAINT apikey_usage_pkey PRIMARY KEY (key_id)');
is(sqlstate($reader, $read), $before + 2, 'until there is one again');

is_quiet($node, 0, 'nothing else in the log', qr/of extension "apikeys" is missing or not as it was installed/);
$reader->quit;
hang_up($node);
$node->stop;
done_testing();
