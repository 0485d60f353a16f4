<?php
// Is a text a well-formed value? Needs no database: mistyped ones are refused.

const SHAPE = '~\A([a-z][a-z0-9]{0,7}\.[0-9A-Za-z]{43})/([0-9A-Z]{7})\z~';
const DIGITS = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';

function is_wellformed(string $key): bool
{
    if (!preg_match(SHAPE, $key, $match)) {
        return false;
    }
    $bits = hexdec(substr(hash('sha256', $match[1]), -10));
    for ($i = 6; $i >= 0; $i--, $bits >>= 5) {
        if ($match[2][$i] !== DIGITS[$bits & 31]) {
            return false;
        }
    }
    return true;
}

while (($line = fgets(STDIN)) !== false) {
    echo is_wellformed(substr($line, 0, -1)) ? 'yes' : 'no', "\n";
}
