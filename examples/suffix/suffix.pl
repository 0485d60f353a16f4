# Is a text a well-formed value? Needs no database: mistyped ones are refused.
use strict;
use warnings;
use Digest::SHA qw(sha256);

my $shape = qr{\A([a-z][a-z0-9]{0,7}\.[0-9A-Za-z]{43})/([0-9A-Z]{7})\z};
my @digits = split //, '0123456789ABCDEFGHJKMNPQRSTVWXYZ';

sub is_wellformed
{
	my ($covered, $suffix) = $_[0] =~ $shape or return 0;
	my $bits = substr unpack('B*', sha256($covered)), -35;
	return $suffix eq join '', map { $digits[ oct "0b$_" ] } $bits =~ /.{5}/g;
}

while (my $line = <STDIN>)
{
	chomp $line;
	print is_wellformed($line) ? "yes\n" : "no\n";
}
