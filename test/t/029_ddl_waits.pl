# DDL while a statement of ours waits, or runs others by triggers: what it goes on
# with afterwards must be there still.  It is either done right, or a clear error.
# 025_ddl.pl does the same to those who verify keys.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use ApikeysTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main');
$node->start;
install($node, schema => 'keys');

# As the application, by names that are found in either schema.
my $session = session($node);
my $pid = $session->query_safe(q{SET client_min_messages = error; SET search_path = keys, "Key store", public; SELECT pg_backend_pid()});
my $dba = session($node, user => 'postgres');
$dba->query_safe(q{SET client_min_messages = error; SET search_path = keys, "Key store", public});

sub set_up
{
	$dba->query_safe(<<EOS);
DELETE FROM apikeys_private.apikey_org;
SELECT apikey_save_org('acme', 'Acme', 'enterprise');
SELECT apikey_save_member('acme', 'ann', 'ann\@acme.example', 'admin');
INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest)
SELECT 'acme', 'ann', 'key', 'admin', sha256('a digest');
EOS
	return $node->safe_psql('postgres', 'SELECT suffix FROM apikeys_private.apikey_key');
}

sub waits
{
	return $node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM pg_locks WHERE pid = $pid AND NOT granted");
}

# Has the session begin with a statement, and wait.
sub begin
{
	my ($sql) = @_;

	$session->{stderr} = '';
	$session->query_until(qr/asked/, "\\echo asked\n$sql;\n\\echo answered\n");
	return;
}

# How it ended.
sub end
{
	my $out = $session->query_until(qr/answered/, '');
	my $err = $session->{stderr};

	$session->{stderr} = '';
	$session->query_safe('ROLLBACK');
	return $err =~ /(?:ERROR|FATAL):\s+(\w{5})/ ? $1 : $err =~ /\S/ ? $err : $out =~ s/\n*answered\n//r;
}

my %statement = (
	# each of these runs more statements after the wait
	update => q{SELECT apikey_update('%s', name => 'new', level => 'architect')},
	rotate => q{SELECT apikey_rotate('%s') IS NOT NULL},
	save_member => q{SELECT apikey_save_member('acme', 'ann', NULL, 'architect')},
	save_org => q{SELECT apikey_save_org('acme', NULL, 'free')},
);
my $result = <<EOS;
SELECT concat_ws(' ', o.plan, m.role, (SELECT string_agg(k.name || ' ' || k.level, ', ' ORDER BY k.name)
	FROM apikeys_private.apikey_key k WHERE expires_at IS NULL))
FROM apikeys_private.apikey_org o JOIN apikeys_private.apikey_member m USING (org_id)
EOS
my %right = (
	update => 'enterprise admin new architect',
	rotate => 'enterprise admin key admin',
	save_member => 'enterprise architect key admin',
	save_org => 'free admin key admin');
my %ddl = (
	'schema renamed' => [ 'ALTER SCHEMA keys RENAME TO "Key store"', 'ALTER SCHEMA "Key store" RENAME TO keys' ],
	'pgcrypto moved' => [ 'ALTER EXTENSION pgcrypto SET SCHEMA keys', 'ALTER EXTENSION pgcrypto SET SCHEMA public' ],
	'functions altered' => [ 'ALTER FUNCTION apikey_update COST 7; ALTER FUNCTION apikeys_private.apikey_guard_key COST 7', 'SELECT' ],
);

### while it waits for a row

for my $what (sort keys %statement)
{
	for my $how (sort keys %ddl)
	{
		my $suffix = set_up();

		$dba->query_safe('BEGIN; SELECT FROM apikeys_private.apikey_org FOR UPDATE;'
			  . ' SELECT FROM apikeys_private.apikey_member FOR UPDATE; SELECT FROM apikeys_private.apikey_key FOR UPDATE');
		begin(q{BEGIN; SELECT apikey_act_as('acme', 'ann'); } . sprintf($statement{$what}, $suffix) . '; COMMIT');
		ok(waits(), "$what, $how: it waits");
		$node->safe_psql('postgres', "SET search_path = keys, public; $ddl{$how}[0]");
		$dba->query_safe('COMMIT');
		unlike(end(), qr/^\w{5}$/, "$what, $how: no error");
		is($node->safe_psql('postgres', $result), $right{$what}, "$what, $how: right");
		$node->safe_psql('postgres', $ddl{$how}[1]);
	}
}

### while it waits for an extension that is made anew

my $again = <<EOS;
DROP EXTENSION apikeys;
CREATE EXTENSION apikeys SCHEMA keys;
SELECT apikey_grant_application('app');
SELECT apikey_save_org('acme', 'New', 'enterprise');
SELECT apikey_save_member('acme', 'ann', 'new\@acme.example', 'admin');
INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest)
SELECT 'acme', 'ann', 'other ' || i, 'admin', sha256(convert_to('other' || i, 'UTF8')) FROM generate_series(1, 20) i;
EOS
my $untouched = <<EOS;
SELECT concat_ws(' ', count(*) = 20, bool_and(k.name LIKE 'other %'), bool_and(k.level = 'admin'),
	bool_and(k.expires_at IS NULL), min(o.plan), min(m.role))
FROM apikeys_private.apikey_key k JOIN apikeys_private.apikey_member m USING (org_id) JOIN apikeys_private.apikey_org o USING (org_id)
EOS
# labels are the old extension's; a suffix names no key of the new one
my %refused = (
	update => 'P0002', rotate => 'P0002', save_member => '55000', save_org => '55000', create => '55000');
$statement{create} = q{SELECT apikey_create('new', 'admin') IS NOT NULL};

for my $what (sort keys %refused)
{
	my $suffix = set_up();

	# it has the old one at hand, and is in the middle of a transaction
	$session->query_safe(q{BEGIN; SELECT apikey_act_as('acme', 'ann'); SELECT apikey_current_user()});
	$dba->query_safe("BEGIN; $again");
	begin(sprintf($statement{$what}, $suffix));
	ok(waits(), "$what, made anew: it waits");
	$dba->query_safe('COMMIT');
	is(end(), $refused{$what}, "$what, made anew: an error");
	is($node->safe_psql('postgres', $untouched), 't t t t enterprise admin', "$what, made anew: nothing is changed");
}

# Who is in the middle of it holds the extension as it is.
my $suffix = set_up();
$session->query_safe(q{BEGIN; SELECT apikey_act_as('acme', 'ann')});
$session->query_safe(q{SELECT apikey_save_member('acme', 'eve', 'eve@acme.example')});
is(sqlstate($dba, q{SET lock_timeout = '100ms'; DROP EXTENSION apikeys}), '55P03', 'the extension cannot be dropped meanwhile');
$dba->query_safe('RESET lock_timeout');
$session->query_safe('COMMIT');
$dba->query_safe($again);
$session->query_safe(q{BEGIN; SELECT apikey_act_as('acme', 'ann')});
is(sqlstate($session, q{SELECT apikey_create('x', 'admin') IS NOT NULL}), 't', 'and in the new one the session creates a key');
is(sqlstate($session, q{SELECT apikey_save_member('acme', 'eve', 'eve@acme.example', 'architect')}), '', 'and saves a member');
$session->query_safe('COMMIT');

### while one runs another

# A plan that is made anew each time, by a trigger of the statement that runs it.
set_up();
$dba->query_safe(<<'EOS');
CREATE FUNCTION import_more() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM keys.apikey_import_legacy('n' || substr(NEW.org_id, 2)::int + 1, 'legacy key number ' || NEW.org_id);
	RETURN NEW;
END $$;
CREATE TRIGGER import_more BEFORE INSERT ON apikeys_private.apikey_legacy
FOR EACH ROW WHEN (NEW.org_id < 'n5') EXECUTE FUNCTION import_more();
SELECT apikey_save_org('n' || i, 'Nested') FROM generate_series(1, 9) i;
SELECT apikey_import_legacy('n1', 'the first legacy key');
EOS
is($dba->query_safe(q{SELECT string_agg(org_id, ' ' ORDER BY org_id) FROM apikeys_private.apikey_legacy}),
	'n1 n2 n3 n4 n5', 'five legacy keys, each by a trigger of the one before');
# and an error in the innermost
is(sqlstate($dba, q{DELETE FROM apikeys_private.apikey_legacy; DELETE FROM apikeys_private.apikey_org WHERE org_id = 'n4'; SELECT apikey_import_legacy('n1', 'the first legacy key')}),
	'42704', 'an error in the innermost');
$dba->query_safe(q{SELECT apikey_save_org('n4', 'Nested'); SELECT apikey_import_legacy('n1', 'the first legacy key')});
is($dba->query_safe(q{SELECT count(*) FROM apikeys_private.apikey_legacy}), '5', 'and all is well again');

is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid"), '1', 'no session has crashed');
$_->quit for $session, $dba;
$node->stop;
done_testing();
