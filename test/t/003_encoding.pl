# Databases in encodings other than UTF-8: one that takes every byte for what it
# is (SQL_ASCII), and two of single bytes.  Whatever bytes are presented
# as a key are refused as malformed, without an error; names and identifiers are
# what they were byte for byte; limits count what the encoding calls a character.
# pg_regress cannot reach this, as it has one encoding.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# Bytes are sent as they are.
$ENV{PGCLIENTENCODING} = 'SQL_ASCII';

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--encoding=SQL_ASCII', '--locale=C' ]);
$node->append_conf('postgresql.conf', "log_statement = none\nautovacuum = off");
$node->start;
$node->safe_psql('postgres', 'CREATE ROLE app LOGIN');

# What statements of the application say, each its first column or the SQLSTATE
# of its error, in one transaction; as a member of acme, if one is named.
sub ask
{
	my ($db, $member, @statements) = @_;
	my $act = defined $member ? "SELECT apikey_act_as('acme', E'$member') \\g /dev/null\n" : '';
	my $out = $node->safe_psql(
		$db,
		"BEGIN;\n$act" . join('', map { "SELECT try(\$try\$$_\$try\$);\n" } @statements) . 'COMMIT;',
		extra_params => [ '-U', 'app' ]);

	return wantarray ? split(/\n/, $out, -1) : $out;
}

sub new_database
{
	my ($db, $encoding) = @_;

	$node->safe_psql('postgres', <<EOS);
CREATE DATABASE $db TEMPLATE template0 ENCODING '$encoding' LC_COLLATE 'C' LC_CTYPE 'C'
EOS
	return $db;
}

# A statement for all verdicts on a text, given as the inside of an E'' string.
sub verdict
{
	my ($key) = @_;

	return <<EOS;
SELECT concat_ws(' ', apikey_is_wellformed(E'$key'), apikey_check_level(E'$key', 'standard'),
	(SELECT count(*) FROM apikey_verify(E'$key')), apikey_me(E'$key') IS NULL,
	(SELECT status FROM apikey_inspect(E'$key')))
EOS
}

foreach my $encoding ('SQL_ASCII', 'LATIN1', 'ISO_8859_5')
{
	my $db = new_database(lc($encoding), $encoding);

	$node->safe_psql($db, <<EOS);
SET client_min_messages = warning;
CREATE EXTENSION apikeys CASCADE;
SELECT apikey_grant_application('app');
SELECT apikey_save_org('acme', E'Acme \\xe9', 'enterprise');
SELECT apikey_save_member('acme', 'ann', 'ann\@acme.example', 'admin');
CREATE FUNCTION try(statement text) RETURNS text LANGUAGE plpgsql AS \$\$
DECLARE
	result text;
BEGIN
	EXECUTE statement INTO result;
	RETURN result;
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END \$\$;
EOS
	is($node->safe_psql($db, 'SHOW server_encoding'), $encoding, "$encoding: is the encoding");

	# a key, and the same with a byte or more that are not ASCII
	my $value = ask($db, 'ann', "SELECT apikey_create('key', 'admin')");
	like($value, qr{^ak\.[0-9A-Za-z]{43}/[0-9A-Z]{7}$}, "$encoding: a value");
	is(scalar ask($db, undef, verdict($value)), 't t 1 f active', "$encoding: is verified");
	my ($secret, $suffix) = $value =~ m{^ak\.(.*)/(.*)$};
	my %presented = (
		'a byte more' => "$value\\xe9",
		'a byte before' => "\\xff$value",
		'a byte in the secret' => 'ak.' . substr($secret, 0, 42) . "\\xe9/$suffix",
		'a character in the secret' => 'ak.' . substr($secret, 0, 41) . "\\xc3\\xa9/$suffix",
		'a slash of full width' => "ak.$secret\\xef\\xbc\\x8f$suffix",
		'a byte in the suffix' => "ak.$secret/" . substr($suffix, 0, 6) . "\\x80",
		'a byte in the prefix' => "\\xe1k.$secret/$suffix",
		'half a character at the end' => substr($value, 0, -1) . "\\xc3",
		'no break space at the end' => "$value\\xc2\\xa0",
		'the high bit of a letter' => sprintf('\\x%02x', ord('a') | 0x80) . substr($value, 1),
		'as long as a legacy key' => "legacy key with \\xe9 in it",
		'bytes' => "\\xff\\xfe" x 25,
		'all there are' => join('', map { sprintf('\\x%02x', $_) } 1 .. 255),
		'more than there are' => "\\x80" x 256);
	foreach my $what (sort keys %presented)
	{
		my $key = $presented{$what};
		# a whole value with something around it
		my $status = $what =~ /^a byte (before|more)$|^no break space at the end$/ ? 'mangled' : 'malformed';
		is( join(', ', ask($db, undef, verdict($key), "SELECT apikey_authenticate(E'$key')")),
			"f f 0 t $status, 28P01", "$encoding: $what: refused");
	}
	is( $node->safe_psql($db, join('', map { "SELECT try(\$try\$SELECT apikey_import_legacy('acme', E'$_')\$try\$);\n" } values %presented)),
		join("\n", ('22023') x keys %presented), "$encoding: nor can they be legacy keys");
	is( scalar ask($db, undef, "SELECT concat_ws(' ', apikey_suffix(E'x/ABC\\xe9EFG') IS NULL, apikey_suffix(E'x\\xff/ABCDEFG'))"),
		't ABCDEFG', "$encoding: the suffix is alphanumeric, whatever is before it");
	is( scalar ask($db, undef, "SELECT apikey_check_level(repeat(E'\\xe9', 1000000), 'standard')"),
		'false', "$encoding: a megabyte: refused");

	# names: 100 characters, without control characters where the encoding tells
	my $c1 = $encoding eq 'SQL_ASCII' ? 'true' : '22023';
	my %names = (
		'letters' => [ "\\xe9\\xdf\\xff", 'true' ],
		'a character of two bytes, the second in C1' => [ "\\xc3\\x85", $c1 ],
		'next line' => [ "a\\x85b", $c1 ],
		'control sequence introducer' => [ "\\x9b31m", $c1 ],
		'the last of C1' => [ "a\\x9f", $c1 ],
		'no break space' => [ "a\\xa0b", 'true' ],
		'escape' => [ "\\xe9\\x1b[31m", '22023' ],
		'delete' => [ "\\xe9\\x7f", '22023' ],
		'100 characters' => [ "\\xe9" x 100, 'true' ],
		'101 characters' => [ "\\xe9" x 101, '22023' ],
		'50 that are two bytes elsewhere' => [ "\\xc3\\xa9" x 50, 'true' ],
		'51 that are two bytes elsewhere' => [ "\\xc3\\xa9" x 51, '22023' ]);
	my @what = sort keys %names;
	my @created = ask($db, 'ann', map { "SELECT (apikey_verify(apikey_create(E'$names{$_}[0]'))).name = E'$names{$_}[0]'" } @what);
	my @renamed = ask($db, 'ann', map {
			("SELECT apikey_update('$suffix', name => E'$names{$_}[0]')",
				"SELECT name = E'$names{$_}[0]' FROM apikeys WHERE suffix = '$suffix'") } @what);
	foreach my $what (@what)
	{
		my $expected = $names{$what}[1];
		is(shift @created, $expected, "$encoding: name of $what");
		is(join(' ', shift @renamed, shift @renamed),
			$expected eq 'true' ? ' true' : "$expected false", "$encoding: renamed to $what");
	}

	# identifiers: 128 bytes, compared as such, and the principal is one of them
	foreach my $user ("\\xe9", "\\xc3\\xa9", "\\xff" x 128, " ''\\\\\\xe9\" ")
	{
		ask($db, undef, "SELECT apikey_save_member('acme', E'$user', E'$user')");
		is( join(' ', ask($db, $user,
				"SELECT apikey_current_user() = E'$user'",
				"SELECT octet_length(apikey_current_user()) = octet_length(E'$user')",
				"SELECT (apikey_verify(apikey_create('id'))).user_id = E'$user'",
				"SELECT count(*) FROM apikeys_mine WHERE owner_id = E'$user' AND owner_email = E'$user'")),
			'true true true 1', "$encoding: a member named $user");
	}
	is( join(' ', ask($db, undef,
			"SELECT apikey_save_member('acme', repeat(E'\\xe9', 129), 'x')",
			"SELECT apikey_save_member('acme', E'a\\x85', 'x')")),
		'22023 ' . ($c1 eq 'true' ? '' : $c1), "$encoding: identifiers of 129 bytes, and with C1");
	is( scalar ask($db, "\\xc3\\xa9", "SELECT apikey_me(apikey_create('me'))::text = E'{\"email\": \"\\xc3\\xa9\", \"orgId\": \"acme\", \"role\": \"USER\"}'"),
		'true', "$encoding: the body of GET /me");
}

# From LATIN1 to UTF-8: everything that one takes for a name, the other does, so
# that a dump can be restored.
my $dump = $node->basedir . '/latin1.sql';
$node->safe_psql('latin1', "SELECT apikey_remove_member('acme', repeat(E'\\xff', 128))");
my $value = ask('latin1', 'ann', "SELECT apikey_create(repeat(E'\\xe9', 100), 'admin')");
$node->command_ok([ 'pg_dump', '-E', 'LATIN1', '-f', $dump, 'latin1' ], 'dump of LATIN1');
new_database('utf8', 'UTF8');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', 'utf8', '-f', $dump ],
	'restored as UTF-8');
is( $node->safe_psql('utf8', "SELECT apikey_check_level('$value', 'admin'), name = repeat(U&'\\00e9', 100) FROM apikey_verify('$value')"),
	't|t', 'the same key, with the same name in other bytes');
is( $node->safe_psql('utf8', "SELECT count(*) FROM apikeys_private.apikey_key"),
	$node->safe_psql('latin1', "SELECT count(*) FROM apikeys_private.apikey_key"), 'as many keys');

# Where the lower case of I is another letter, a search finds names in any case
# all the same: what has only ASCII, and what has not.
SKIP:
{
	skip 'this server was built without ICU', 1
	  unless `pg_config --configure` =~ /--with-icu/;
	$node->safe_psql('postgres', <<EOS);
CREATE DATABASE turkish TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'tr-TR' LC_COLLATE 'C' LC_CTYPE 'C'
EOS
	is( $node->safe_psql('turkish', <<EOS),
SET client_min_messages = warning;
CREATE EXTENSION apikeys CASCADE;
SELECT apikey_save_org('acme', 'Acme'), apikey_save_member('acme', 'ann', 'IRIS\@acme.example', 'admin') \\g /dev/null
BEGIN;
SELECT apikey_act_as('acme', 'ann') \\g /dev/null
SELECT apikey_create(name) FROM unnest('{BILLING,billing,"Billing \xc5\x9eube"}'::text[]) name \\g /dev/null
SELECT lower('I') = 'i', count(*) FILTER (WHERE search ~* 'b'), count(*) FILTER (WHERE search ~* 's')
FROM unnest('{billing,BILLING,iris\@}'::text[]) search, apikey_page(search => search);
COMMIT;
EOS
		'f|6|3', 'a search where I has another lower case');
}

$node->stop;
done_testing();
