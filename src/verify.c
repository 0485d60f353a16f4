/*
 * verify.c
 *		Is a presented key alive, and what may it do?
 *
 * Verification writes nothing, goes through neither SPI nor the executor, and
 * needs no privilege on any table.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#include "apikeys.h"

/* of type apikey_identity */
#define IDENTITY_COLUMNS 7

PG_FUNCTION_INFO_V1(apikey_check_level);
PG_FUNCTION_INFO_V1(apikey_check);
PG_FUNCTION_INFO_V1(apikey_verify);
PG_FUNCTION_INFO_V1(apikey_me);
PG_FUNCTION_INFO_V1(apikey_inspect);

static ApikeyStatus
status_of(const ApikeyGrant *grant)
{
	if (TIMESTAMP_IS_NOEND(grant->expires_at) ||
		grant->expires_at > GetCurrentTimestamp())
		return STATUS_ACTIVE;
	return STATUS_EXPIRED;
}

/*
 * Find the key of this digest; it is filled in if active or expired.
 */
ApikeyStatus
apikey_find_active(ApikeyShape shape, const uint8 *digest, ApikeyKey *key)
{
	if (shape == SHAPE_MALFORMED)
		return STATUS_MALFORMED;
	if (!apikey_find_key(shape, digest, key))
		return STATUS_UNKNOWN;
	return status_of(&key->grant);
}

/* The same for a text. */
static ApikeyStatus
find_presented(Datum value, ApikeyKey *key)
{
	uint8		digest[APIKEY_DIGEST_LEN];
	ApikeyShape shape = apikey_shape_of_datum(value, digest);

	return apikey_find_active(shape, digest, key);
}

/* The same, counted as a verification or refusal. */
static bool
verify_presented(Datum value, ApikeyKey *key)
{
	ApikeyStatus status = find_presented(value, key);

	if (status == STATUS_ACTIVE)
		apikey_count_use(&key->grant, false);
	else
		apikey_count_refusal(status);
	return status == STATUS_ACTIVE;
}

static bool
value_reaches(Datum value, ApikeyLevel required)
{
	uint8		digest[APIKEY_DIGEST_LEN];
	ApikeyShape shape = apikey_shape_of_datum(value, digest);
	ApikeyStatus status = STATUS_MALFORMED;
	ApikeyGrant grant;
	bool		from_cache;

	if (shape != SHAPE_MALFORMED)
		status = apikey_find_grant(shape, digest, &grant, &from_cache) ?
			status_of(&grant) : STATUS_UNKNOWN;
	if (status == STATUS_ACTIVE && grant.level >= required)
	{
		apikey_count_use(&grant, from_cache);
		return true;
	}
	apikey_count_refusal(status);
	return false;
}

/*
 * apikey_check_level(key text, required apikey_level) returns boolean
 */
Datum
apikey_check_level(PG_FUNCTION_ARGS)
{
	ApikeyLevel required;

	apikey_require_argument(fcinfo, 1);
	required = apikey_level_of_oid(PG_GETARG_OID(1));
	if (PG_ARGISNULL(0))
		PG_RETURN_BOOL(false);
	PG_RETURN_BOOL(value_reaches(PG_GETARG_DATUM(0), required));
}

/* The least level that a capability needs. */
ApikeyLevel
apikey_required_level(Datum capability)
{
	ApikeyLevel required;

	if (!apikey_find_capability(capability, &required))
		apikey_no_such("capability");
	return required;
}

/*
 * apikey_check(key text, capability text) returns boolean
 */
Datum
apikey_check(PG_FUNCTION_ARGS)
{
	ApikeyLevel required;

	apikey_require_argument(fcinfo, 1);
	required = apikey_required_level(PG_GETARG_DATUM(1));
	if (PG_ARGISNULL(0))
		PG_RETURN_BOOL(false);
	PG_RETURN_BOOL(value_reaches(PG_GETARG_DATUM(0), required));
}

/* The row type of the function called, looked up once for each call site. */
TupleDesc
apikey_result_desc(FunctionCallInfo fcinfo)
{
	TupleDesc	desc = fcinfo->flinfo->fn_extra;
	MemoryContext old;

	if (desc != NULL)
		return desc;
	old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	desc = BlessTupleDesc(desc);
	MemoryContextSwitchTo(old);
	fcinfo->flinfo->fn_extra = desc;
	return desc;
}

static void
set_text(Datum *values, bool *nulls, int i, const text *value)
{
	values[i] = PointerGetDatum(value);
	nulls[i] = value == NULL;
}

static bool
is_identity(TupleDesc desc)
{
	const Oid	types[IDENTITY_COLUMNS] = {
		TEXTOID, TEXTOID, apikey_catalog()->level_type, TEXTOID, TEXTOID,
		BOOLOID, TIMESTAMPTZOID
	};

	if (desc->natts != IDENTITY_COLUMNS)
		return false;
	for (int i = 0; i < IDENTITY_COLUMNS; i++)
		if (TupleDescAttr(desc, i)->atttypid != types[i])
			return false;
	return true;
}

/*
 * The row type, looked at once for each call site: type apikey_identity can be
 * altered, unlike what functions return by OUT.
 */
static TupleDesc
identity_desc(FunctionCallInfo fcinfo)
{
	TupleDesc	desc = fcinfo->flinfo->fn_extra;

	if (desc != NULL)
		return desc;
	desc = apikey_result_desc(fcinfo);
	if (!is_identity(desc))
	{
		fcinfo->flinfo->fn_extra = NULL;	/* whoever asks again is told so */
		apikey_not_as_installed("type", "apikey_identity");
	}
	return desc;
}

/*
 * A key as a row of type apikey_identity.
 */
Datum
apikey_identity_datum(FunctionCallInfo fcinfo, const ApikeyKey *key)
{
	TupleDesc	desc = identity_desc(fcinfo);
	Datum		values[IDENTITY_COLUMNS];
	bool		nulls[IDENTITY_COLUMNS] = {false};

	set_text(values, nulls, 0, key->org_id);
	set_text(values, nulls, 1, key->owner_id);
	values[2] = ObjectIdGetDatum(apikey_catalog()->levels[key->grant.level]);
	set_text(values, nulls, 3, key->name);
	set_text(values, nulls, 4, key->suffix);
	values[5] = BoolGetDatum(key->grant.legacy);
	values[6] = TimestampTzGetDatum(key->grant.expires_at);
	return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}

/*
 * apikey_verify(key text) returns setof apikey_identity
 *
 * There is one row at most, so it comes as a single result, or none.
 */
Datum
apikey_verify(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	ApikeyKey	key;

	if (result == NULL || !IsA(result, ReturnSetInfo))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("set-valued function called in context that cannot accept a set")));
	if (PG_ARGISNULL(0) || !verify_presented(PG_GETARG_DATUM(0), &key))
	{
		result->isDone = ExprEndResult;
		PG_RETURN_NULL();
	}
	result->isDone = ExprSingleResult;
	PG_RETURN_DATUM(apikey_identity_datum(fcinfo, &key));
}

/*
 * apikey_me(key text) returns json
 */
Datum
apikey_me(PG_FUNCTION_ARGS)
{
	static const char *const roles[] = {NULL, "USER", "ARCHITECT", "ADMIN"};
	ApikeyKey	key;
	ApikeyMember owner;
	StringInfoData json;

	if (PG_ARGISNULL(0) || !verify_presented(PG_GETARG_DATUM(0), &key))
		PG_RETURN_NULL();

	initStringInfo(&json);
	appendStringInfoString(&json, "{\"email\": ");
	if (key.grant.legacy)
		escape_json(&json, "");
	else if (apikey_find_member(PointerGetDatum(key.org_id),
								PointerGetDatum(key.owner_id), &owner))
		escape_json(&json, text_to_cstring(owner.email));
	else
		PG_RETURN_NULL();		/* removed since the key was found */
	appendStringInfoString(&json, ", \"orgId\": ");
	escape_json(&json, text_to_cstring(key.org_id));
	appendStringInfo(&json, ", \"role\": \"%s\"}", roles[key.grant.level]);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(json.data, json.len));
}

/*
 * apikey_inspect(key text, OUT status text, ...)
 */
Datum
apikey_inspect(PG_FUNCTION_ARGS)
{
	static const char *const names[] = {"malformed", "unknown", "expired", "active"};
	TupleDesc	desc = apikey_result_desc(fcinfo);
	Datum		values[9];
	bool		nulls[9];
	ApikeyKey	key;
	ApikeyStatus status = STATUS_MALFORMED;

	if (!PG_ARGISNULL(0))
		status = find_presented(PG_GETARG_DATUM(0), &key);
	memset(nulls, true, sizeof(nulls));
	set_text(values, nulls, 0, cstring_to_text(names[status]));
	if (status == STATUS_ACTIVE || status == STATUS_EXPIRED)
	{
		set_text(values, nulls, 1, key.org_id);
		set_text(values, nulls, 2, key.owner_id);
		values[3] = ObjectIdGetDatum(apikey_catalog()->levels[key.grant.level]);
		set_text(values, nulls, 4, key.name);
		set_text(values, nulls, 5, key.suffix);
		values[6] = BoolGetDatum(key.grant.legacy);
		values[7] = TimestampTzGetDatum(key.created_at);
		values[8] = TimestampTzGetDatum(key.grant.expires_at);
		nulls[3] = nulls[6] = nulls[7] = nulls[8] = false;
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}
