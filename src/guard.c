/*
 * guard.c
 *		The rules of plans, roles and levels, as triggers, so that they hold for
 *		plain DML as well.
 *
 * Reading a role or plan for a rule locks the row it is read from, the
 * organization's before the member's, until the transaction ends: the rule is
 * still true when it commits.  Counting members while a plan changes needs no
 * lock beyond that of the organization's row, which the trigger's statement
 * holds and which every new architect must lock too.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "apikeys.h"
#include "tables.h"
#include "trigger.h"

PG_FUNCTION_INFO_V1(apikey_guard_org);
PG_FUNCTION_INFO_V1(apikey_guard_member);
PG_FUNCTION_INFO_V1(apikey_guard_key);

static ApikeyLevel
get_level(TriggerData *trigger, HeapTuple row)
{
	Datum		level = apikey_get(trigger, row, Anum_key_level);

	return apikey_level_of_oid(DatumGetObjectId(level));
}

/*
 * A key that never expires has NULL there, by whatever way infinity came.
 */
static HeapTuple
store_never_as_null(TriggerData *trigger, HeapTuple row)
{
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);
	int			attnum = Anum_key_expires_at;
	Datum		value;
	bool		isnull;

	value = heap_getattr(row, attnum, desc, &isnull);
	if (isnull || !TIMESTAMP_IS_NOEND(DatumGetTimestampTz(value)))
		return row;
	isnull = true;
	return heap_modify_tuple_by_cols(row, desc, 1, &attnum, &value, &isnull);
}

static const char *
label_of(Oid label)
{
	return DatumGetCString(OidFunctionCall1(F_ENUM_OUT,
											ObjectIdGetDatum(label)));
}

/*
 * apikey_guard_org(): BEFORE UPDATE OF plan
 */
Datum
apikey_guard_org(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = apikey_trigger_data(fcinfo, true,
											   TABLE_ORG, TABLE_ORG);
	HeapTuple	row = apikey_new_row(trigger);
	Datum		new_plan = apikey_get(trigger, row, Anum_org_plan);
	Oid			plan = DatumGetObjectId(new_plan);
	ApikeyBorrow borrow;
	Datum		args[1];
	int64		count;

	if (plan == apikey_catalog()->enterprise || apikey_is_subscription())
		PG_RETURN_POINTER(row);
	args[0] = apikey_get(trigger, trigger->tg_trigtuple, Anum_org_org_id);
	apikey_borrow_owner(&borrow);
	apikey_execute(STATEMENT_COUNT_ARCHITECTS, args, NULL);
	count = DatumGetInt64(apikey_result(1));
	apikey_return_owner(&borrow);
	if (count > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg_plural("plan \"%s\" has no role \"architect\", which %lld member has",
							   "plan \"%s\" has no role \"architect\", which %lld members have",
							   count, label_of(plan), (long long) count),
				 errhint("Give them another role first.")));
	PG_RETURN_POINTER(row);
}

/*
 * The organization's plan, which stays so until this transaction ends, or
 * InvalidOid if there is no such organization.
 */
static Oid
lock_plan(Datum org_id)
{
	ApikeyBorrow borrow;
	Oid			plan = InvalidOid;

	apikey_borrow_owner(&borrow);
	if (apikey_execute(STATEMENT_LOCK_PLAN, &org_id, NULL) > 0)
		plan = DatumGetObjectId(apikey_result(1));
	apikey_return_owner(&borrow);
	return plan;
}

/* Error unless the plan, and there is one, has the role. */
static void
require_plan_of_architects(Oid plan)
{
	if (!OidIsValid(plan))
	{
		if (!apikey_is_replica())
			apikey_no_such("organization");
		return;
	}
	if (plan != apikey_catalog()->enterprise)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("role \"architect\" exists only on plan \"enterprise\""),
				 errhint("Give the organization this plan by apikey_save_org() first.")));
}

/*
 * A row that somebody who is subject to row-level security inserts.  Policies
 * are asked after this trigger, and whoever they refuse is not told which
 * organizations there are, nor their plans: so the rule refuses as they do,
 * and leaves it to the foreign key to miss an organization.
 */
static void
check_inserted_unseen(TriggerData *trigger, Datum org_id, bool architect)
{
	Oid			plan = architect ? lock_plan(org_id) : InvalidOid;

	if (architect && plan != apikey_catalog()->enterprise)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("new row violates row-level security policy for table \"%s\"",
						RelationGetRelationName(trigger->tg_relation))));
}

/*
 * apikey_guard_member(): BEFORE INSERT OR UPDATE
 */
Datum
apikey_guard_member(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = apikey_trigger_data(fcinfo, true,
											   TABLE_MEMBER, TABLE_MEMBER);
	HeapTuple	row = apikey_new_row(trigger);
	Datum		new_role = apikey_get(trigger, row, Anum_member_role);
	Oid			role = DatumGetObjectId(new_role);
	Datum		org_id = apikey_get(trigger, row, Anum_member_org_id);
	bool		architect = apikey_role_of_oid(role) == ROLE_ARCHITECT;
	bool		insert = TRIGGER_FIRED_BY_INSERT(trigger->tg_event);

	if (apikey_is_subscription())
		PG_RETURN_POINTER(apikey_store_db_role(trigger, row));
	if (insert && apikey_is_subject_to_rls(trigger))
		check_inserted_unseen(trigger, org_id, architect);
	else if (architect && (insert ||
						   apikey_changes(trigger, Anum_member_role) ||
						   apikey_changes(trigger, Anum_member_org_id)))
		require_plan_of_architects(lock_plan(org_id));
	else if (insert && !apikey_is_replica() && !apikey_org_exists(org_id))
		apikey_no_such("organization");
	PG_RETURN_POINTER(apikey_store_db_role(trigger, row));
}

/*
 * Error unless the member's role and the organization's plan allow keys of
 * this level, and go on to until this transaction ends.  Lowering a key does
 * not ask the role.
 *
 * The organization is locked for level architect only, which alone depends on
 * the plan: else all who create keys in it at the same time would share the
 * lock of its row, which costs each of them a multixact.
 */
static void
require_level(Datum org_id, Datum user_id, Oid level, bool lowering)
{
	Datum		args[2] = {org_id, user_id};
	ApikeyBorrow borrow;
	ApikeyLevel wanted = apikey_level_of_oid(level);
	ApikeyRole	role = ROLE_NONE;
	Oid			plan = InvalidOid;

	apikey_borrow_owner(&borrow);
	if (apikey_execute(wanted == LEVEL_ARCHITECT ?
					   STATEMENT_LOCK_ROLE_AND_PLAN : STATEMENT_LOCK_ROLE,
					   args, NULL) > 0)
	{
		role = apikey_role_of_oid(DatumGetObjectId(apikey_result(1)));
		if (wanted == LEVEL_ARCHITECT)
			plan = DatumGetObjectId(apikey_result(2));
	}
	apikey_return_owner(&borrow);
	if (role == ROLE_NONE)
	{
		if (!apikey_is_replica())
			apikey_no_such("member");
		return;
	}
	if (!lowering && wanted > apikey_level_of_role(role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role \"%s\" may not create keys of level \"%s\"",
						label_of(apikey_catalog()->roles[role]),
						label_of(level)),
				 errhint("%s", apikey_levels_hint(role))));
	if (wanted == LEVEL_ARCHITECT && plan != apikey_catalog()->enterprise)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("level \"architect\" exists only on plan \"enterprise\""),
				 errhint("Take another level, or have the organization's plan changed.")));
}

/*
 * Those who are subject to row-level security change what a member may, and
 * nothing else, nor a column that somebody added.
 */
static void
check_changed_columns(TriggerData *trigger)
{
	const TableSpec *table = &apikey_tables[TABLE_KEY];
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);

	if (!apikey_is_subject_to_rls(trigger))
		return;
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(desc, i);

		/* what is generated follows what it is generated from */
		if (attr->attisdropped || attr->attgenerated != '\0' ||
			(i < table->natts && (table->columns[i].flags & MEMBER_CHANGES)))
			continue;
		if (apikey_changes(trigger, i + 1))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("column \"%s\" of a key cannot be changed",
							NameStr(attr->attname))));
	}
}

/*
 * Has a key been given to another member?  If its old owner is no more, the
 * identifiers have been changed and foreign keys carry the key along.
 */
static bool
changes_hands(TriggerData *trigger)
{
	HeapTuple	old = trigger->tg_trigtuple;
	ApikeyMember owner;

	return (apikey_changes(trigger, Anum_key_org_id) ||
			apikey_changes(trigger, Anum_key_owner_id)) &&
		apikey_find_member(apikey_get(trigger, old, Anum_key_org_id),
						   apikey_get(trigger, old, Anum_key_owner_id), &owner);
}

/*
 * apikey_guard_key(): BEFORE INSERT OR UPDATE
 *
 * A row that says it was created before this transaction is history that a
 * restore brings back: the rules of its time allowed it.  Policies are asked
 * after this trigger, whose refusals tell of members; so whoever is subject to
 * them is refused first.
 */
Datum
apikey_guard_key(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = apikey_trigger_data(fcinfo, true,
											   TABLE_KEY, TABLE_KEY);
	HeapTuple	row = apikey_new_row(trigger);
	Datum		org_id = apikey_get(trigger, row, Anum_key_org_id);
	Datum		owner_id = apikey_get(trigger, row, Anum_key_owner_id);
	Datum		new_level = apikey_get(trigger, row, Anum_key_level);
	Oid			level = DatumGetObjectId(new_level);

	if (apikey_is_subscription())
		PG_RETURN_POINTER(store_never_as_null(trigger, row));
	if (TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
	{
		Datum		created_at = apikey_get(trigger, row, Anum_key_created_at);

		if (apikey_is_subject_to_rls(trigger))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("keys are created by apikey_create() only")));
		if (DatumGetTimestampTz(created_at) >=
			GetCurrentTransactionStartTimestamp())
			require_level(org_id, owner_id, level, false);
		PG_RETURN_POINTER(store_never_as_null(trigger, row));
	}

	check_changed_columns(trigger);
	if (changes_hands(trigger))
		require_level(org_id, owner_id, level, false);
	else if (apikey_changes(trigger, Anum_key_level))
	{
		require_level(org_id, owner_id, level,
					  get_level(trigger, trigger->tg_newtuple) <
					  get_level(trigger, trigger->tg_trigtuple));
	}
	PG_RETURN_POINTER(store_never_as_null(trigger, row));
}
