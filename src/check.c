/*
 * check.c
 *		What arguments must be like, for the functions and, as predicates, for
 *		the tables' constraints.
 *
 * Messages never repeat an argument: it might be a key in the wrong place.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "catalog/pg_proc.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "apikeys.h"

PG_FUNCTION_INFO_V1(apikey_is_id);
PG_FUNCTION_INFO_V1(apikey_is_name);

#define NAME_MAX_CHARS	100

/* Encodings whose bytes from 0x80 to 0x9F are control characters. */
static bool
is_iso_8859(int encoding)
{
	return (encoding >= PG_LATIN1 && encoding <= PG_LATIN10) ||
		(encoding >= PG_ISO_8859_5 && encoding <= PG_ISO_8859_8);
}

/*
 * ASCII's control characters, and those of the C1 block, which terminals obey
 * as well, where the encoding tells which bytes are theirs.
 */
static bool
has_control_character(const char *text, int len)
{
	bool		utf8 = GetDatabaseEncoding() == PG_UTF8;
	bool		iso_8859 = is_iso_8859(GetDatabaseEncoding());

	for (int i = 0; i < len; i++)
	{
		unsigned char c = text[i];

		if (c < 0x20 || c == 0x7F)
			return true;
		if (utf8 && c == 0xC2 && i + 1 < len &&
			(unsigned char) text[i + 1] < 0xA0)
			return true;
		if (iso_8859 && c >= 0x80 && c < 0xA0)
			return true;
	}
	return false;
}

static bool
is_id(Datum id)
{
	text	   *value;
	int			len;

	if (toast_raw_datum_size(id) > APIKEY_ID_MAX + VARHDRSZ)
		return false;
	value = DatumGetTextPP(id);
	len = VARSIZE_ANY_EXHDR(value);
	return len >= 1 && !has_control_character(VARDATA_ANY(value), len);
}

static bool
is_name(Datum name)
{
	text	   *value;
	int			len;

	if (toast_raw_datum_size(name) >
		NAME_MAX_CHARS * MAX_MULTIBYTE_CHAR_LEN + VARHDRSZ)
		return false;
	value = DatumGetTextPP(name);
	len = VARSIZE_ANY_EXHDR(value);
	return len >= 1 &&
		pg_mbstrlen_with_len(VARDATA_ANY(value), len) <= NAME_MAX_CHARS &&
		!has_control_character(VARDATA_ANY(value), len);
}

/*
 * apikey_is_id(id text) returns boolean
 */
Datum
apikey_is_id(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(is_id(PG_GETARG_DATUM(0)));
}

/*
 * apikey_is_name(name text) returns boolean
 */
Datum
apikey_is_name(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(is_name(PG_GETARG_DATUM(0)));
}

void
apikey_check_id(Datum id)
{
	if (!is_id(id))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid organization or user identifier"),
				 errdetail("An identifier has 1 to %d bytes and no control characters.",
						   APIKEY_ID_MAX)));
}

void
apikey_check_name(Datum name)
{
	if (!is_name(name))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid key name"),
				 errdetail("A name has 1 to %d characters and no control characters.",
						   NAME_MAX_CHARS)));
}

void
apikey_check_expiry(TimestampTz expires_at)
{
	if (expires_at <= GetCurrentTimestamp())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the expiry must be in the future")));
}

/* An argument's name, by its number from 0; NULL if it has none. */
static const char *
argument_name(FunctionCallInfo fcinfo, int n)
{
	Datum		oid = ObjectIdGetDatum(fcinfo->flinfo->fn_oid);
	HeapTuple	function = SearchSysCache1(PROCOID, oid);
	Oid		   *types;
	char	  **names = NULL;
	char	   *modes;

	/* the extension may have been dropped meanwhile */
	if (!HeapTupleIsValid(function))
		return NULL;
	/* what goes in comes first in all of our functions */
	if (n >= get_func_arg_info(function, &types, &names, &modes))
		names = NULL;
	ReleaseSysCache(function);
	return names != NULL ? names[n] : NULL;
}

void
apikey_null_argument(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			 errmsg("argument \"%s\" must not be null", name)));
}

/* The argument of this number, from 0, must not be NULL. */
void
apikey_require_argument(FunctionCallInfo fcinfo, int n)
{
	const char *name;

	if (!PG_ARGISNULL(n))
		return;
	name = argument_name(fcinfo, n);
	apikey_null_argument(name != NULL ? name : psprintf("$%d", n + 1));
}

void
apikey_require_arguments(FunctionCallInfo fcinfo)
{
	for (int i = 0; i < PG_NARGS(); i++)
		apikey_require_argument(fcinfo, i);
}

/*
 * All arguments as they came, behind room for others, and which are NULL, as
 * SPI has it.
 */
Datum *
apikey_copy_arguments(FunctionCallInfo fcinfo, int room, char **nulls)
{
	Datum	   *args = palloc((room + PG_NARGS()) * sizeof(Datum));

	*nulls = palloc(room + PG_NARGS());
	memset(*nulls, ' ', room);
	for (int i = 0; i < PG_NARGS(); i++)
	{
		args[room + i] = PG_GETARG_DATUM(i);
		(*nulls)[room + i] = PG_ARGISNULL(i) ? 'n' : ' ';
	}
	return args;
}

bool
apikey_text_equal(const text *a, const text *b)
{
	return VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) &&
		memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) == 0;
}

/* Something that is named by an identifier does not exist. */
void
apikey_no_such(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("there is no such %s", what)));
}
