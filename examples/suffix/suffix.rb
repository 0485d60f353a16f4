# Is a text a well-formed value? Needs no database: mistyped ones are refused.
require 'digest'

SHAPE = %r{\A([a-z][a-z0-9]{0,7}\.[0-9A-Za-z]{43})/([0-9A-Z]{7})\z}
DIGITS = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'

def wellformed?(key)
  match = SHAPE.match(key) or return false
  bits = Digest::SHA256.hexdigest(match[1])[-10..].hex
  match[2] == 6.downto(0).map { |i| DIGITS[bits >> 5 * i & 31] }.join
end

$stdin.set_encoding('UTF-8')
$stdin.each_line(chomp: true) { |line| puts wellformed?(line) ? 'yes' : 'no' }
