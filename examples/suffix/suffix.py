# Is a text a well-formed value? Needs no database: mistyped ones are refused.
import hashlib
import re
import sys

SHAPE = re.compile(r'([a-z][a-z0-9]{0,7}\.[0-9A-Za-z]{43})/([0-9A-Z]{7})')
DIGITS = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'


def is_wellformed(key: str) -> bool:
    match = SHAPE.fullmatch(key)
    if not match:
        return False
    digest = hashlib.sha256(match[1].encode()).digest()
    bits = int.from_bytes(digest[-5:], 'big')
    return match[2] == ''.join(DIGITS[bits >> 5 * i & 31] for i in range(6, -1, -1))


for line in sys.stdin:
    print('yes' if is_wellformed(line.rstrip('\n')) else 'no')
