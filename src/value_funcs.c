/*
 * value_funcs.c
 *		The SQL-callable functions about the text format, and reading a value
 *		from a datum.
 *
 * A text that is too long to be a key is refused by its stored size: it is
 * neither detoasted nor decompressed.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "utils/builtins.h"

#include "apikeys.h"

PG_FUNCTION_INFO_V1(apikey_suffix);
PG_FUNCTION_INFO_V1(apikey_is_wellformed);
PG_FUNCTION_INFO_V1(apikey_digest_suffix);

/*
 * Is a text short enough to be a key?  Looks at its stored size only.
 */
bool
apikey_may_be_key(Datum value)
{
	return toast_raw_datum_size(value) <= APIKEY_LEGACY_MAX + VARHDRSZ;
}

/*
 * Tell what a text is, and its digest unless it is malformed.
 */
ApikeyShape
apikey_shape_of_datum(Datum value, uint8 *digest)
{
	text	   *key;

	if (!apikey_may_be_key(value))
		return SHAPE_MALFORMED;
	key = DatumGetTextPP(value);
	return apikey_value_read(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key), digest);
}

/*
 * apikey_is_wellformed(key text) returns boolean
 */
Datum
apikey_is_wellformed(PG_FUNCTION_ARGS)
{
	uint8		digest[APIKEY_DIGEST_LEN];

	PG_RETURN_BOOL(apikey_shape_of_datum(PG_GETARG_DATUM(0),
										 digest) == SHAPE_NATIVE);
}

/*
 * apikey_suffix(key text) returns text
 */
Datum
apikey_suffix(PG_FUNCTION_ARGS)
{
	text	   *key;
	const char *data;
	int			len;
	int			start;

	if (!apikey_may_be_key(PG_GETARG_DATUM(0)))
		PG_RETURN_NULL();
	key = PG_GETARG_TEXT_PP(0);
	data = VARDATA_ANY(key);
	len = VARSIZE_ANY_EXHDR(key);
	start = len - APIKEY_SUFFIX_LEN;
	if (start < 1 || data[start - 1] != '/' ||
		!apikey_is_alphanumeric(data + start, APIKEY_SUFFIX_LEN))
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text_with_len(data + start, APIKEY_SUFFIX_LEN));
}

/*
 * apikey_digest_suffix(digest bytea) returns text
 *
 * What the column "suffix" is generated from.
 */
Datum
apikey_digest_suffix(PG_FUNCTION_ARGS)
{
	bytea	   *digest = PG_GETARG_BYTEA_PP(0);
	char		suffix[APIKEY_SUFFIX_LEN];

	if (VARSIZE_ANY_EXHDR(digest) != APIKEY_DIGEST_LEN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a digest must have %d bytes", APIKEY_DIGEST_LEN)));
	apikey_suffix_of((const uint8 *) VARDATA_ANY(digest), suffix);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(suffix, APIKEY_SUFFIX_LEN));
}
