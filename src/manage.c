/*
 * manage.c
 *		What members do with keys: create, update, rotate, delete.
 *
 * Each function asks for the principal first, as the caller, then runs its
 * statements as the owner.  The rows of organization and member are locked
 * before those of keys, as by a removal of the member.  That a level is allowed
 * is the business of the trigger in guard.c, which holds for plain DML as well.
 * What deletes keys waits for nobody who would hold that up: see revoke.c.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "apikeys.h"
#include "history.h"

PG_FUNCTION_INFO_V1(apikey_create);
PG_FUNCTION_INFO_V1(apikey_update);
PG_FUNCTION_INFO_V1(apikey_rotate);
PG_FUNCTION_INFO_V1(apikey_delete);
PG_FUNCTION_INFO_V1(apikey_delete_all);
PG_FUNCTION_INFO_V1(apikey_delete_legacy);

/*
 * How often a value is drawn again before something else must be the matter.
 * One clash with a suffix of the organization is rare already.
 */
#define MAX_DRAWS 100

/*
 * The principal, which must be a member that may have keys.  From here on, all
 * is of one extension: the keys that are looked up and those that are changed.
 */
static void
require_member(ApikeyActor *actor, bool creates)
{
	apikey_hold_extension();
	if (!apikey_actor(actor))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("there is no principal"),
				 errhint("Use apikey_act_as(), or connect as a member's database role.")));
	if (actor->is_key)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("a key may not manage keys"),
				 creates ? errhint("It may create no keys.") : 0));
	if (!apikey_manages_keys(actor))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role \"guest\" may not manage keys"),
				 creates ? errhint("It may create no keys.") : 0));
}

static void
require_admin(ApikeyActor *actor)
{
	require_member(actor, false);
	if (!apikey_manages_all(actor))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("only an admin may do this")));
}

/* Missing and forbidden look the same. */
static void
no_such_key(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_NO_DATA_FOUND),
			 errmsg("you have no such key")));
}

/*
 * The same for what is no suffix, but a whole value, or in lower case.  It is
 * not repeated.
 */
static void
require_suffix(Datum suffix)
{
	static const char letters[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

	if (toast_raw_datum_size(suffix) != APIKEY_SUFFIX_LEN + VARHDRSZ ||
		strspn(TextDatumGetCString(suffix), letters) != APIKEY_SUFFIX_LEN)
		ereport(ERROR,
				(errcode(ERRCODE_NO_DATA_FOUND),
				 errmsg("you have no such key"),
				 errhint("A key is named by its suffix, the last %d characters of its value, in upper case.",
						 APIKEY_SUFFIX_LEN)));
}

/*
 * The id of a key by its suffix: of the member's own, or of any in the
 * organization.
 */
static Datum
key_id_of(const ApikeyActor *actor, Datum suffix, bool any_owner)
{
	Datum		org_id = PointerGetDatum(actor->org_id);
	int64		key_id;

	require_suffix(suffix);
	if (any_owner ? !apikey_find_key_of_org(org_id, suffix, &key_id) :
		!apikey_find_key_of_member(org_id, PointerGetDatum(actor->user_id),
								   suffix, &key_id))
		no_such_key();
	return Int64GetDatum(key_id);
}

/*
 * Insert a key with a new value, which is returned.
 */
static text *
insert_key(const ApikeyActor *actor, Datum name, Datum level, Datum expires_at)
{
	char		value[APIKEY_NATIVE_MAX];
	bytea	   *digest = palloc(VARHDRSZ + APIKEY_DIGEST_LEN);
	Datum		args[] = {
		PointerGetDatum(actor->org_id), PointerGetDatum(actor->user_id),
		name, level, PointerGetDatum(digest), expires_at
	};
	ApikeyBorrow borrow;
	text	   *result;
	size_t		len;
	int			draws = 0;

	SET_VARSIZE(digest, VARHDRSZ + APIKEY_DIGEST_LEN);
	apikey_borrow_owner(&borrow);
	do
	{
		CHECK_FOR_INTERRUPTS();
		if (draws++ == MAX_DRAWS)
			elog(ERROR, "could not insert a key");
		len = apikey_value_generate(apikey_prefix, value,
									(uint8 *) VARDATA(digest));
		if (len == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate random bytes")));
	} while (apikey_execute(STATEMENT_INSERT_KEY, args, NULL) == 0);
	apikey_return_owner(&borrow);

	result = cstring_to_text_with_len(value, len);
	explicit_bzero(value, sizeof(value));
	return result;
}

/*
 * apikey_create(name text, level apikey_level, expires_at timestamptz)
 * returns text
 */
Datum
apikey_create(PG_FUNCTION_ARGS)
{
	ApikeyActor actor;

	require_member(&actor, true);
	apikey_require_arguments(fcinfo);
	apikey_check_name(PG_GETARG_DATUM(0));
	apikey_check_expiry(PG_GETARG_TIMESTAMPTZ(2));
	PG_RETURN_TEXT_P(insert_key(&actor, PG_GETARG_DATUM(0),
								PG_GETARG_DATUM(1), PG_GETARG_DATUM(2)));
}

/*
 * apikey_update(suffix text, name text, level apikey_level,
 * expires_at timestamptz) returns void
 */
Datum
apikey_update(PG_FUNCTION_ARGS)
{
	ApikeyActor actor;
	Datum	   *args;
	char	   *nulls;

	require_member(&actor, false);
	apikey_require_argument(fcinfo, 0);
	if (!PG_ARGISNULL(1))
		apikey_check_name(PG_GETARG_DATUM(1));
	if (!PG_ARGISNULL(3))
		apikey_check_expiry(PG_GETARG_TIMESTAMPTZ(3));

	/* whose key it is, then what to change */
	args = apikey_copy_arguments(fcinfo, 2, &nulls);
	args[0] = key_id_of(&actor, PG_GETARG_DATUM(0), false);
	args[1] = PointerGetDatum(actor.org_id);
	args[2] = PointerGetDatum(actor.user_id);
	if (!PG_ARGISNULL(2))
	{
		if (apikey_run(STATEMENT_LOCK_ROLE_AND_PLAN, args + 1, NULL) == 0)
			no_such_key();
		require_member(&actor, false);	/* what it is now, having waited */
	}
	if (apikey_run(STATEMENT_UPDATE_KEY, args, nulls) == 0)
		no_such_key();
	PG_RETURN_VOID();
}

/*
 * apikey_rotate(suffix text, overlap interval) returns text
 */
Datum
apikey_rotate(PG_FUNCTION_ARGS)
{
	Interval	zero = {0};
	ApikeyActor actor;
	ApikeyBorrow borrow;
	Datum		args[4];
	Datum		name;
	Datum		level;
	Datum		expires_at;
	ApikeyNote	note = {.kind = EVENT_KEY_ROTATE};
	text	   *value;

	require_member(&actor, false);
	apikey_require_arguments(fcinfo);
	if (DatumGetBool(DirectFunctionCall2(interval_lt, PG_GETARG_DATUM(1),
										 IntervalPGetDatum(&zero))))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the overlap must not be negative")));

	args[0] = key_id_of(&actor, PG_GETARG_DATUM(0), false);
	args[1] = PointerGetDatum(actor.org_id);
	args[2] = PointerGetDatum(actor.user_id);
	args[3] = PG_GETARG_DATUM(1);
	apikey_run(STATEMENT_LOCK_ROLE_AND_PLAN, args + 1, NULL);
	apikey_borrow_owner(&borrow);
	if (apikey_execute(STATEMENT_LOCK_KEY, args, NULL) == 0)
		no_such_key();
	name = SPI_datumTransfer(apikey_result(1), false, -1);
	level = apikey_result(2);
	expires_at = apikey_result(3);
	apikey_return_owner(&borrow);
	if (DatumGetTimestampTz(expires_at) <= GetCurrentTimestamp())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the key has expired")));
	value = insert_key(&actor, name, level, expires_at);
	note.new_suffix = cstring_to_text_with_len(VARDATA(value) +
											   VARSIZE(value) - VARHDRSZ -
											   APIKEY_SUFFIX_LEN,
											   APIKEY_SUFFIX_LEN);
	apikey_run_noted(STATEMENT_EXPIRE_KEY, args, &note);
	PG_RETURN_TEXT_P(value);
}

/* Delete keys, one's own or not; returns how many. */
static uint64
delete_keys(const ApikeyActor *actor, bool own, ApikeyStatement statement,
			Datum *args, ApikeyStatement find)
{
	ApikeyRevocation revocation = {
		.statement = statement,
		.find = find,
		.args = args,
		.actor = actor,
		.own = own
	};

	return apikey_revoke(&revocation);
}

/*
 * apikey_delete(suffix text) returns void
 */
Datum
apikey_delete(PG_FUNCTION_ARGS)
{
	ApikeyActor actor;
	Datum		args[4];
	int64		key_id;
	bool		own;

	require_member(&actor, false);
	apikey_require_arguments(fcinfo);
	args[0] = key_id_of(&actor, PG_GETARG_DATUM(0), apikey_manages_all(&actor));
	own = apikey_find_key_of_member(PointerGetDatum(actor.org_id),
									PointerGetDatum(actor.user_id),
									PG_GETARG_DATUM(0), &key_id);
	args[1] = PointerGetDatum(actor.org_id);
	args[2] = PointerGetDatum(actor.user_id);
	args[3] = BoolGetDatum(apikey_manages_all(&actor));
	if (delete_keys(&actor, own, STATEMENT_DELETE_KEY, args,
					STATEMENT_FIND_KEY) == 0)
		no_such_key();
	PG_RETURN_VOID();
}

/*
 * apikey_delete_all(user_id text) returns bigint
 */
Datum
apikey_delete_all(PG_FUNCTION_ARGS)
{
	ApikeyActor actor;
	ApikeyMember member;
	Datum		args[2];

	require_admin(&actor);
	apikey_require_arguments(fcinfo);
	args[0] = PointerGetDatum(actor.org_id);
	args[1] = PG_GETARG_DATUM(0);
	if (!apikey_find_member(args[0], args[1], &member))
		apikey_no_such("member");
	PG_RETURN_INT64(delete_keys(&actor,
								apikey_text_equal(actor.user_id,
												  PG_GETARG_TEXT_PP(0)),
								STATEMENT_DELETE_KEYS_OF, args,
								STATEMENT_FIND_KEYS_OF));
}

/*
 * apikey_delete_legacy() returns void
 */
Datum
apikey_delete_legacy(APIKEY_NO_ARGS)
{
	ApikeyActor actor;
	Datum		org_id;

	require_admin(&actor);
	org_id = PointerGetDatum(actor.org_id);
	if (delete_keys(&actor, false, STATEMENT_DELETE_LEGACY, &org_id,
					STATEMENT_FIND_LEGACY) == 0)
		no_such_key();
	PG_RETURN_VOID();
}
