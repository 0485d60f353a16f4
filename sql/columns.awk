# Puts the install script together. A line of a part with one of these marks
# stands once for each name of its list: @shown@, the columns of keys that are
# SHOWN, and @shown_last@, those that are SHOWN_LAST, by src/tables.h, which is
# read first; @enum@, our enums, without "apikey_", that a part before has made.

FILENAME ~ /tables\.h$/ {
	# the flags may stand on the line after the name
	if (sub(/.*COLUMN\(/, ""))
		column = $1 $2
	if (column ~ /^key,/) {
		name = substr(column, 5)
		sub(",", "", name)
		if (/SHOWN/)
			names["@shown@"] = names["@shown@"] " " name
		if (/SHOWN_LAST/)
			names["@shown_last@"] = names["@shown_last@"] " " name
	}
	next
}

/^CREATE TYPE .* AS ENUM$/ {
	names["@enum@"] = names["@enum@"] " " substr($3, index($3, "_") + 1)
}

!match($0, /@(shown|shown_last|enum)@/) {
	print
	next
}

{
	mark = substr($0, RSTART, RLENGTH)
	count = split(names[mark], list, " ")
	for (i = 1; i <= count; i++) {
		line = $0
		gsub(mark, list[i], line)
		print line
	}
}
