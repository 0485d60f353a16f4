# A value is nowhere but with whom it was shown to: after everything that can be
# done with values, as parameters, it is in no file of the data directory (tables,
# WAL, statistics), in no line of the log, even at the most verbose when
# statements fail, and in nothing that PostgreSQL shows of other sessions.  What
# is there is looked for in the same way, so that finding nothing means something.
# What the log holds under other settings, see 030_security_log.pl.
use strict;
use warnings;

use File::Find;
use FindBin;
use IPC::Run;
use lib $FindBin::RealBin;

use ApikeysTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--encoding=UTF8', '--locale=C' ]);
# log_statement is what PostgreSQL has by default, and the framework does not
$node->append_conf('postgresql.conf', <<EOC);
log_statement = none
wal_level = logical
wal_compression = off
autovacuum = off
shared_preload_libraries = 'apikeys, pg_stat_statements'
pg_stat_statements.track = all
EOC
$node->start;
install($node);
$node->safe_psql('postgres', <<EOS);
CREATE EXTENSION pg_stat_statements;
-- so that it sees what other sessions are doing
GRANT pg_read_all_stats TO app;
SELECT apikey_install_capabilities();
-- for values on their way through somebody's PL/pgSQL
CREATE FUNCTION wrapped(key text) RETURNS void LANGUAGE plpgsql AS
	'DECLARE local text := key; BEGIN PERFORM apikey_authenticate(local); END';
EOS

my $legacy = 'legacyKeyOfAcmeOnlyForTheLogTest';
my $live = make_key($node);
my $rotated = make_key($node);
my $lowered = make_key($node);
my $dead = make_key($node);

# What is done to keys names them by their suffix.
my %suffix = (rotated => substr($rotated, -7), lowered => substr($lowered, -7), dead => substr($dead, -7));
my $new = as_acme($node, 'ann', "SELECT apikey_rotate('$suffix{rotated}')");
as_acme($node, 'ann', "SELECT apikey_update('$suffix{lowered}', 'needleName', 'standard', 'tomorrow')");
as_acme($node, 'ann', "SELECT apikey_delete('$suffix{dead}')");

# The secret of each, without what may be shown.
my %secret = (legacy => $legacy);
foreach my $pair ([ live => $live ], [ rotated => $rotated ], [ new => $new ], [ lowered => $lowered ], [ dead => $dead ])
{
	($secret{ $pair->[0] }) = $pair->[1] =~ m{^ak\.(\w{43})/\w{7}$}
	  or BAIL_OUT('not a value');
}
# as they are, and as a bytea or a tree of bytes would print them
my $any = join('|', map { ($_, unpack('H*', $_), join(' ', unpack('c*', $_))) } values %secret);

# Runs statements with :v as a parameter, several times and in several sessions
# at once; returns whether they succeeded, and all messages.  The value is not
# part of any SQL text.
my $superuser = $node->safe_psql('postgres', 'SELECT current_user');
my $scripts = 0;
sub with_parameter
{
	my ($value, $sql, %params) = @_;
	my $file = $node->basedir . '/script' . ++$scripts . '.sql';
	my ($out, $err);

	append_to_file($file, $sql);
	my $ok = IPC::Run::run(
		[
			'pgbench', '-n', '-M', 'prepared', '-t', '2', '-c', $params{sessions} // 1,
			'-D', "v=$value", '-f', $file, '-U', $params{user} // 'app',
			'-h', $node->host, '-p', $node->port, 'postgres'
		],
		'>', \$out, '2>', \$err);
	return ($ok, $err);
}

sub works
{
	my ($name, @run) = @_;
	my ($ok, $messages) = with_parameter(@run);

	ok($ok, $name) or diag($messages);
	return;
}

# Every file of the data directory, and the log, that holds the text.
sub files_with
{
	my ($pattern) = @_;
	my @found;

	find(
		{
			no_chdir => 1,
			wanted => sub {
				return unless -f $_ && open(my $file, '<:raw', $_);
				local $/;
				my $content = <$file> // '';
				push @found, $File::Find::name if $content =~ $pattern;
			}
		},
		$node->data_dir, $node->logfile);
	return @found;
}

#
# Everything that takes a value, so that it works.  Where it is looked for, it is
# looked for by parameter as well.
#
my $nowhere = <<EOS;
SELECT 1 / (count(*) = 0)::int FROM pg_stat_activity WHERE strpos(query, substr(:v, 4, 28)) > 0;
SELECT 1 / (count(*) = 0)::int FROM pg_stat_statements WHERE strpos(query, substr(:v, 4, 28)) > 0;
SELECT 1 / (count(*) = 0)::int FROM pg_settings WHERE strpos(setting, substr(:v, 4, 28)) > 0;
EOS
works("verification of $_->[0]", $_->[1], <<EOS, sessions => 2) foreach [ live => $live ], [ new => $new ], [ lowered => $lowered ];
SELECT 1 / apikey_check_level(:v, 'standard')::int;
SELECT 1 / count(*) FROM apikey_verify(:v);
SELECT 1 / (apikey_me(:v)->>'orgId' = 'acme')::int;
SELECT 1 / apikey_check(:v, 'send_events')::int;
SELECT 1 / ((apikey_inspect(:v)).status = 'active')::int;
SELECT 1 / apikey_is_wellformed(:v)::int;
SELECT 1 / (apikey_suffix(:v) = right(:v, 7))::int;
$nowhere
EOS
works('a key as principal', $live, <<EOS, sessions => 2);
BEGIN;
SELECT apikey_authenticate(:v);
SELECT 1 / (current_setting('apikeys.principal') = 'key')::int;
$nowhere
COMMIT;
EOS
works('a key by way of PL/pgSQL', $live, "BEGIN;\nSELECT wrapped(:v);\nCOMMIT;\n$nowhere");
works("refusal of $_->[0]", $_->[1], <<EOS, sessions => 2) foreach [ dead => $dead ], [ rotated => $rotated ];
SELECT 1 / (NOT apikey_check_level(:v, 'standard'))::int;
SELECT 1 / (apikey_me(:v) IS NULL)::int;
SELECT 1 / ((apikey_inspect(:v)).status <> 'active')::int;
$nowhere
EOS
works('import of a legacy key', $legacy, <<EOS, user => $superuser);
SELECT apikey_import_legacy('acme', :v);
SELECT 1 / apikey_check_level(:v, 'admin')::int;
DELETE FROM apikeys_private.apikey_legacy;
$nowhere
EOS

#
# What fails, with the log as talkative as can be
#
my @failing = (
	[ $dead, "BEGIN;\nSELECT apikey_authenticate(:v);\nCOMMIT", '28P01' ],
	[ $dead, 'SELECT wrapped(:v)', '28P01' ],
	[ $legacy, "BEGIN;\nSELECT apikey_authenticate(:v);\nCOMMIT", '28P01' ],
	[ $live, "SELECT apikey_import_legacy('acme', :v)", '22023', $superuser ],
	[ $legacy, "SELECT apikey_import_legacy('acme' || :v, :v)", '42704', $superuser ],
	# a value where something else belongs
	[ $live, 'SELECT apikey_check(:v, :v)', '42704' ],
	[ $live, 'SELECT apikey_allows(:v)', '42704' ],
	[ $live, "BEGIN;\nSELECT apikey_act_as(:v, :v);\nCOMMIT", '42704' ],
	[ $live, "BEGIN;\nSELECT apikey_act_as('acme', :v);\nCOMMIT", '42704' ],
	[ $live, "SELECT apikey_act_as('acme', :v)", '25P01' ],
	[ $live, 'SELECT apikey_remove_org(:v)', '42704' ],
	[ $live, "SELECT apikey_remove_member('acme', :v)", '42704' ],
	[ $live, 'SELECT apikey_save_member(:v, :v, :v)', '42704' ],
	[ $live, "SELECT apikey_save_org('acme' || chr(10) || :v, :v)", '22023' ],
	[ $live, "BEGIN;\nSELECT apikey_act_as('acme', 'ann');\nSELECT apikey_delete(:v);\nCOMMIT", 'P0002' ],
	[ $live, "BEGIN;\nSELECT apikey_act_as('acme', 'ann');\nSELECT apikey_update(:v, 'name');\nCOMMIT", 'P0002' ],
	[ $live, "BEGIN;\nSELECT apikey_act_as('acme', 'ann');\nSELECT apikey_rotate(:v);\nCOMMIT", 'P0002' ],
	[ $live, "BEGIN;\nSELECT apikey_act_as('acme', 'ann');\nSELECT apikey_delete_all(:v);\nCOMMIT", '42704' ],
	[ $live, "BEGIN;\nSELECT apikey_act_as('acme', 'ann');\nSELECT apikey_create(:v::text || :v);\nCOMMIT", '22023' ],
	[ $live, "BEGIN;\nSELECT apikey_authenticate(:v);\nSELECT apikey_create('x');\nCOMMIT", '42501' ],
	[ $live, "BEGIN;\nSELECT apikey_authenticate(:v);\nSELECT apikey_authenticate(:v);\nCOMMIT", '42501' ],
	[ $live, 'SELECT apikey_check_level(:v, NULL)', '22004' ]);

foreach my $settings (
	[ 'by default' ],
	[ 'verbose', "log_error_verbosity = 'verbose'", 'log_min_error_statement = debug5' ],
	[ 'debug5', "log_error_verbosity = 'verbose'", 'log_min_error_statement = debug5',
		'log_min_messages = debug5', 'client_min_messages = debug5' ])
{
	my ($name, @settings) = @$settings;
	my $offset = -s $node->logfile;
	my $failed = 0;
	my $messages = '';

	$node->safe_psql('postgres', join(';', map { "ALTER DATABASE postgres SET $_" } @settings)) if @settings;
	foreach my $case (@failing)
	{
		my ($ok, $err) = with_parameter($case->[0], "$case->[1];\n", user => $case->[3] // 'app');
		$failed++ unless $ok;
		$messages .= $err;
	}
	works("$name: verification", $live, "SELECT apikey_check_level(:v, 'admin');\nSELECT * FROM apikey_verify(:v);\n");
	$node->safe_psql('postgres', 'ALTER DATABASE postgres RESET ALL');

	# what a backend logs it has written before it answers
	my $log = slurp_file($node->logfile, $offset);
	is($failed, scalar @failing, "$name: all fail that shall");
	if (@settings)
	{
		my @states = $log =~ /ERROR:\s+(\w{5}):/g;
		is("@states", join(' ', map { $_->[2] } @failing), "$name: with their errors in the log");
	}
	like($log, qr/STATEMENT:\s+SELECT apikey_authenticate\(\$1\)/, "$name: and the statements");
	unlike($log, qr/$any/, "$name: no value is in the log");
	like($messages, qr/the key is not valid/, "$name: errors reach the client");
	unlike($messages, qr/$any/, "$name: without values");
}
like(slurp_file($node->logfile), qr/DEBUG:\s+\d{5}:\s+bind \S+ to \S+/, 'the log had all there is to tell');

is($node->safe_psql('postgres', <<EOS), 't|t|t', 'pg_stat_statements had it all');
SELECT bool_or(query ~ 'INSERT INTO .*apikeys_private.apikey_key'), bool_or(query ~ 'DELETE FROM .*apikeys_private.apikey_key'),
	bool_or(query ~ 'apikey_import_legacy')
FROM pg_stat_statements
EOS

#
# The files, while the server runs and when it has written all that it keeps
#
$node->safe_psql('postgres', 'CHECKPOINT; SELECT pg_switch_wal(); CHECKPOINT');
is(join(' ', files_with(qr/$any/)), '', 'no file holds a value');

# what is stored is found: in a table, and in WAL
my $digest = $node->safe_psql('postgres',
	"SELECT encode(digest, 'hex') FROM apikeys_private.apikey_key WHERE suffix = '@{[ substr($live, -7) ]}'");
foreach my $stored ('needleName', substr($live, -7), pack('H*', $digest))
{
	my @found = files_with(qr/\Q$stored\E/);

	ok((grep { m{/base/} } @found) > 0, 'what is stored is found in a table');
	ok((grep { m{/pg_wal/} } @found) > 0, 'and in WAL');
}
$node->stop;
is(join(' ', files_with(qr/$any/)), '', 'nor does one after the server has stopped');

done_testing();
