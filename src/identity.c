/*
 * identity.c
 *		Who a key is: its status, and what is told of it in a row.
 *
 * verify.c, where keys are presented, and principal.c, where one acts, call
 * this file, and it calls neither.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/timestamp.h"

#include "apikeys.h"

/* of type apikey_identity */
#define IDENTITY_COLUMNS 7

/* What apikey_inspect() calls it: a key that is alive is good for something. */
const char *
apikey_status_name(ApikeyStatus status)
{
#define STATUS_NAME(status, name) name,
	static const char *const names[] = {APIKEY_STATUSES(STATUS_NAME)};

	return status == STATUS_ACTIVE ? "active" : names[status];
}

/* The status of a key that was found. */
ApikeyStatus
apikey_status_of(const ApikeyGrant *grant)
{
	if (TIMESTAMP_IS_NOEND(grant->expires_at) ||
		grant->expires_at > GetCurrentTimestamp())
		return STATUS_ACTIVE;
	return STATUS_EXPIRED;
}

/*
 * Find the key of this digest; it is filled in if active or expired, and so is
 * what is shown of it, if that is wanted.
 */
ApikeyStatus
apikey_find_active(ApikeyShape shape, const uint8 *digest, ApikeyKey *key,
				   ApikeyRow *shown)
{
	if (shape == SHAPE_MALFORMED)
		return STATUS_MALFORMED;
	if (!apikey_find_key(shape, digest, key, shown))
		return STATUS_UNKNOWN;
	return apikey_status_of(&key->grant);
}

/* The same for a key that was found before. */
ApikeyStatus
apikey_find_active_by_id(ApikeyShape shape, int64 key_id, ApikeyKey *key)
{
	if (!apikey_find_key_by_id(shape, key_id, key))
		return STATUS_UNKNOWN;
	return apikey_status_of(&key->grant);
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
	Datum		values[IDENTITY_COLUMNS] = {
		PointerGetDatum(key->org_id), PointerGetDatum(key->owner_id),
		ObjectIdGetDatum(apikey_catalog()->levels[key->grant.level]),
		PointerGetDatum(key->name), PointerGetDatum(key->suffix),
		BoolGetDatum(key->grant.legacy),
		TimestampTzGetDatum(key->grant.expires_at)
	};

	/* never is NULL, because many drivers cannot read infinity */
	bool		nulls[IDENTITY_COLUMNS] = {
		false, key->owner_id == NULL, false, key->name == NULL,
		key->suffix == NULL, false, TIMESTAMP_IS_NOEND(key->grant.expires_at)
	};

	return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}
