# Whose rights code has that the owner of apikey_usage has hung there: the owner's,
# whichever way it runs and whatever it tries, although the worker that writes
# usage connects as the bootstrap superuser.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use ApikeysTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use UsageTest;

my $node = usage_server('main');
$node->start;
$node->safe_psql('postgres', <<'EOS');
CREATE ROLE keeper SUPERUSER LOGIN;
CREATE ROLE app LOGIN;
CREATE DATABASE kept OWNER keeper;
CREATE DATABASE handed_over;
EOS

# Installs the extension as a role, with an organization in it; returns the value
# of a key.
sub install_as
{
	my ($role, $db) = @_;

	return $node->safe_psql($db, <<'EOS', as_role($role));
SET client_min_messages = warning;
CREATE EXTENSION apikeys CASCADE;
SELECT apikey_save_org('acme', 'Acme'),
	apikey_save_member('acme', 'ann', 'ann@acme.example', 'admin') \g /dev/null
BEGIN;
SELECT apikey_act_as('acme', 'ann') \g /dev/null
SELECT apikey_create('key');
COMMIT;
EOS
}

# Notes who is acting, and what comes of trying to become somebody else or to leave
# something behind.
my $notes = <<'EOS';
CREATE SCHEMA notes;
GRANT ALL ON SCHEMA notes TO keeper;
SET ROLE keeper;
CREATE TABLE notes.note (place text, who name, session name, super text, tried text);
CREATE FUNCTION notes.am_super() RETURNS text LANGUAGE sql AS
	$$SELECT rolsuper::text FROM pg_catalog.pg_roles WHERE rolname = current_user$$;
CREATE FUNCTION notes.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'done, super: ' || notes.am_super();
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;
CREATE FUNCTION notes.note(place text) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO notes.note SELECT place, current_user, session_user, notes.am_super(),
		(SELECT string_agg(DISTINCT notes.try(s), ', ') FROM unnest(ARRAY[
			'SET ROLE postgres', 'SET ROLE NONE', 'RESET ROLE', 'SET LOCAL ROLE postgres',
			'SET SESSION AUTHORIZATION postgres', 'SET SESSION AUTHORIZATION DEFAULT',
			'RESET SESSION AUTHORIZATION', 'SELECT set_config(''role'', ''none'', false)',
			'DECLARE c CURSOR WITH HOLD FOR SELECT notes.note(''cursor'')',
			'CREATE TEMP TABLE left_behind () ON COMMIT DROP']) s);
	RETURN 1;
END $$;
CREATE FUNCTION notes.note_trigger() RETURNS trigger LANGUAGE plpgsql AS
	$$BEGIN PERFORM notes.note(TG_NAME); RETURN NEW; END$$;
-- of a row, lest the planner call it for whoever reads the table
CREATE FUNCTION notes.note_immutable(place text, key_id bigint) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
	$$BEGIN PERFORM notes.note(place); RETURN 1; END$$;
EOS

# Hangs it where a row of usage passes by.
my $hang = <<'EOS';
ALTER TABLE apikeys_private.apikey_usage
	ADD COLUMN given int DEFAULT notes.note('default'),
	ADD COLUMN generated int GENERATED ALWAYS AS (notes.note_immutable('generated', key_id)) STORED,
	ADD CONSTRAINT checked CHECK (notes.note('check') = 1);
CREATE INDEX indexed ON apikeys_private.apikey_usage ((notes.note_immutable('index', key_id)))
	WHERE notes.note_immutable('predicate', key_id) = 1;
CREATE TRIGGER before_statement BEFORE INSERT ON apikeys_private.apikey_usage
	EXECUTE FUNCTION notes.note_trigger();
CREATE TRIGGER before_row BEFORE INSERT ON apikeys_private.apikey_usage
	FOR EACH ROW EXECUTE FUNCTION notes.note_trigger();
CREATE TRIGGER after_row AFTER INSERT ON apikeys_private.apikey_usage
	FOR EACH ROW EXECUTE FUNCTION notes.note_trigger();
CREATE TRIGGER after_update AFTER UPDATE ON apikeys_private.apikey_usage
	FOR EACH ROW EXECUTE FUNCTION notes.note_trigger();
CREATE CONSTRAINT TRIGGER constrains AFTER INSERT ON apikeys_private.apikey_usage
	DEFERRABLE INITIALLY IMMEDIATE FOR EACH ROW EXECUTE FUNCTION notes.note_trigger();
EOS

# Who has been acting, as what, and what came of what was tried.
my $told = 'SELECT DISTINCT who, super, tried FROM notes.note';
my $places = "SELECT string_agg(DISTINCT place, ' ' ORDER BY place) FROM notes.note";
my $all = 'after_row before_row before_statement check constrains default generated index predicate';

#
# An owner that was a superuser to install the extension, and is none any more
#
my $value = install_as('keeper', 'kept');
$node->safe_psql('kept', "$notes $hang");
$node->safe_psql('postgres', 'ALTER ROLE keeper NOSUPERUSER');
$node->safe_psql('kept', 'TRUNCATE notes.note');
verify($node, $value, 3, db => 'kept');
flush($node, db => 'kept');
is(written($node, $value, db => 'kept'), 3, 'usage is written for an owner without rights');
is(sql($node, $places, db => 'kept'), $all, 'all that the owner has hung there was run');
is(sql($node, $told, db => 'kept'), 'keeper|false|42501',
	'as the owner, who can become nobody else and leave nothing behind');

# once more, when there is a row already
sql($node, 'TRUNCATE notes.note', db => 'kept');
verify($node, $value, 1, db => 'kept');
flush($node, db => 'kept');
is(written($node, $value, db => 'kept'), 4, 'what is there already is updated');
like(sql($node, $places, db => 'kept'), qr/\bafter_update\b/, 'which has triggers of its own');
is(sql($node, $told, db => 'kept'), 'keeper|false|42501', 'with no more rights');

#
# Nothing of the owner's is put off until the commit: PostgreSQL refuses it, where
# nobody may become somebody else.  Usage is kept until that trigger is gone.
#
my $deferred = <<'EOS';
SET ROLE keeper;
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT OR UPDATE ON apikeys_private.apikey_usage
	DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION notes.note_trigger();
RESET ROLE;
EOS
my $put_off = <<'EOS';
SET ROLE keeper;
CREATE FUNCTION notes.put_off() RETURNS trigger LANGUAGE plpgsql AS
	$$BEGIN SET CONSTRAINTS ALL DEFERRED; RETURN NEW; END$$;
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT OR UPDATE ON apikeys_private.apikey_usage
	DEFERRABLE INITIALLY IMMEDIATE FOR EACH ROW EXECUTE FUNCTION notes.note_trigger();
CREATE TRIGGER a_put_off BEFORE UPDATE ON apikeys_private.apikey_usage
	FOR EACH ROW EXECUTE FUNCTION notes.put_off();
RESET ROLE;
EOS
my $uses = 4;

for my $case ([ 'a deferred constraint', $deferred ], [ 'a constraint that is deferred amid', $put_off ])
{
	my ($name, $script) = @$case;
	my $offset = -s $node->logfile;

	sql($node, "$script TRUNCATE notes.note", db => 'kept');
	verify($node, $value, 1, db => 'kept');
	my ($ret, $out, $err) = $node->psql('kept', 'SELECT apikey_usage_flush()');
	like($err, qr/usage of 1 database could not be written/, "$name: usage cannot be written");
	like(substr(slurp_file($node->logfile), $offset),
		qr/ERROR: .*cannot fire deferred trigger within security-restricted operation/,
		'the log says why');
	is(sql($node, "SELECT count(*) FROM notes.note", db => 'kept'), 0, 'nothing of it was run');
	is(sql($node, 'SELECT uses FROM apikeys', db => 'kept'), ++$uses, 'usage is kept');
	sql($node, <<'EOS', db => 'kept');
SET client_min_messages = warning;
DROP TRIGGER at_commit ON apikeys_private.apikey_usage;
DROP TRIGGER IF EXISTS a_put_off ON apikeys_private.apikey_usage;
EOS
	flush($node, db => 'kept');
	is(written($node, $value, db => 'kept'), $uses, 'and written when the trigger is gone');
}

#
# An owner who takes over from a superuser while the worker waits for the table
#
$value = install_as('postgres', 'handed_over');
$node->safe_psql('handed_over', $notes);
my $dba = $node->background_psql('handed_over');
$dba->query_safe('BEGIN; LOCK TABLE apikeys_private.apikey_usage');
verify($node, $value, 2, db => 'handed_over');
my $flusher = start_flush($node, db => 'kept');
ok(is_held_up($node, db => 'handed_over'), 'a worker waits for the table of usage');
$dba->query_safe(<<"EOS");
GRANT ALL ON SCHEMA apikeys_private TO keeper;
GRANT SELECT ON apikeys_private.apikey_key, apikeys_private.apikey_legacy TO keeper;
ALTER TABLE apikeys_private.apikey_usage OWNER TO keeper;
SET LOCAL ROLE keeper;
$hang
TRUNCATE notes.note;
COMMIT;
EOS
$flusher->quit;
is(written($node, $value, db => 'handed_over'), 2, 'usage is written');
is(sql($node, $places, db => 'handed_over'), $all, 'and what the new owner has hung there is run');
is(sql($node, $told, db => 'handed_over'), 'keeper|false|42501', "with the new owner's rights");

is(backends($node, 'worker'), 0, 'no worker is left');
is_quiet($node, 0, 'no other error in the log',
	qr/cannot fire deferred trigger|usage of 1 database could not be written/);

$dba->quit;
hang_up($node);
$node->stop;
done_testing();
