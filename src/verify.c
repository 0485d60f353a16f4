/*
 * verify.c
 *		Is a presented key alive, and what may it do?
 *
 * Verification writes nothing, goes through neither SPI nor the executor, and
 * needs no privilege on any table.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#include "apikeys.h"
#include "history.h"

PG_FUNCTION_INFO_V1(apikey_check_level);
PG_FUNCTION_INFO_V1(apikey_check);
PG_FUNCTION_INFO_V1(apikey_verify);
PG_FUNCTION_INFO_V1(apikey_me);
PG_FUNCTION_INFO_V1(apikey_inspect);

/* Is the presented key alive?  Counted as a verification or refusal. */
static bool
verify_presented(Datum value, ApikeyKey *key)
{
	uint8		digest[APIKEY_DIGEST_LEN];
	ApikeyShape shape = apikey_shape_of_datum(value, digest);
	ApikeyStatus status = apikey_find_active(shape, digest, key, NULL);

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
			apikey_status_of(&grant) : STATUS_UNKNOWN;
	if (status == STATUS_ACTIVE && grant.level < required)
		status = STATUS_LEVEL;
	if (status == STATUS_ACTIVE)
		apikey_count_use(&grant, from_cache);
	else
		apikey_count_refusal(status);
	return status == STATUS_ACTIVE;
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

static void
tell_deletion(ApikeyRow *row, const ApikeyDeletion *deletion)
{
	apikey_set_text(row, "org_id", deletion->org_id);
	apikey_set_text(row, "user_id", deletion->owner_id);
	apikey_set(row, "level", ObjectIdGetDatum(deletion->level));
	apikey_set_text(row, "name", deletion->name);
	if (!deletion->legacy)
		apikey_set_text(row, "suffix", deletion->suffix);
	apikey_set(row, "legacy", BoolGetDatum(deletion->legacy));
	apikey_set(row, "deleted_at", TimestampTzGetDatum(deletion->at));
	apikey_set_text(row, "deleted_by", deletion->by);
}

/*
 * apikey_inspect(key text, OUT status text, ...)
 */
Datum
apikey_inspect(PG_FUNCTION_ARGS)
{
	uint8		digest[APIKEY_DIGEST_LEN];
	ApikeyShape shape = SHAPE_MALFORMED;
	ApikeyStatus status;
	const char *name;
	ApikeyKey	key;
	ApikeyDeletion deletion;
	ApikeyRow	row;

	apikey_begin_row(&row, apikey_result_desc(fcinfo));
	if (!PG_ARGISNULL(0))
		shape = apikey_shape_of_datum(PG_GETARG_DATUM(0), digest);
	status = apikey_find_active(shape, digest, &key, &row);
	name = apikey_status_name(status);
	if (status == STATUS_ACTIVE || status == STATUS_EXPIRED)
	{
		apikey_set_text(&row, "user_id", key.owner_id);
		apikey_set(&row, "legacy", BoolGetDatum(key.grant.legacy));
	}
	else if (status == STATUS_UNKNOWN &&
			 apikey_find_deletion(shape, digest, &deletion))
	{
		name = "deleted";
		tell_deletion(&row, &deletion);
	}
	else if (!PG_ARGISNULL(0) && apikey_is_mangled(PG_GETARG_DATUM(0)))
		name = "mangled";
	apikey_set(&row, "status", CStringGetTextDatum(name));
	PG_RETURN_DATUM(apikey_row_datum(&row));
}
