#!/bin/sh
# Is a text a well-formed value? Needs no database: mistyped ones are refused.
# With sha256sum. The value goes through no argument that "ps" shows.
export LC_ALL=C
digits=0123456789ABCDEFGHJKMNPQRSTVWXYZ

is_wellformed()
{
	printf '%s\n' "$1" |
		grep -Eqx '[a-z][a-z0-9]{0,7}\.[0-9A-Za-z]{43}/[0-9A-Z]{7}' || return
	sha256=$(printf %s "${1%/*}" | sha256sum)
	bits=$((0x$(printf %s "${sha256%% *}" | tail -c 10))) suffix=
	for _ in 1 2 3 4 5 6 7; do
		rest=${digits#$(printf "%$((bits & 31))s" | tr ' ' '?')}
		suffix=${rest%"${rest#?}"}$suffix
		bits=$((bits >> 5))
	done
	[ "$suffix" = "${1##*/}" ]
}

while IFS= read -r line; do
	if is_wellformed "$line"; then echo yes; else echo no; fi
done
