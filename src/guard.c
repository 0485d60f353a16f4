/*
 * guard.c
 *		The rules of plans, roles and levels, and what a change of a key
 *		entails: triggers, so that they hold for plain DML as well.
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
#include "access/xlog.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "replication/logicalworker.h"
#include "storage/proc.h"
#include "storage/sinval.h"
#include "storage/standby.h"
#include "utils/catcache.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "apikeys.h"

PG_FUNCTION_INFO_V1(apikey_guard_org);
PG_FUNCTION_INFO_V1(apikey_guard_member);
PG_FUNCTION_INFO_V1(apikey_guard_key);
PG_FUNCTION_INFO_V1(apikey_announce_change);
PG_FUNCTION_INFO_V1(apikey_carry_along);

/* The last transaction here that took something away from a key. */
static LocalTransactionId revoking_transaction = InvalidLocalTransactionId;

/* The highest level that a role may create, and that it has itself. */
ApikeyLevel
apikey_level_of_role(ApikeyRole role)
{
	switch (role)
	{
		case ROLE_STANDARD:
			return LEVEL_STANDARD;
		case ROLE_ARCHITECT:
			return LEVEL_ARCHITECT;
		case ROLE_ADMIN:
			return LEVEL_ADMIN;
		default:
			return LEVEL_NONE;
	}
}

/* May it see, change and delete keys, its own at least? */
bool
apikey_manages_keys(const ApikeyActor *actor)
{
	return !actor->is_key && actor->role > ROLE_GUEST;
}

/* May it see and delete everybody's in the organization? */
bool
apikey_manages_all(const ApikeyActor *actor)
{
	return !actor->is_key && actor->role == ROLE_ADMIN;
}

/*
 * The trigger's data, for a function that is for one or two of our tables.
 *
 * Whoever was granted too much may call it from a trigger of another table,
 * or for another event, where the columns and rows it reads are not there.
 */
static TriggerData *
trigger_data(FunctionCallInfo fcinfo, bool before,
			 ApikeyTable table, ApikeyTable or_table)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	const ApikeyCatalog *catalog = apikey_catalog();
	TriggerEvent event;
	Oid			relid;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("this function must be called by a trigger")));
	event = trigger->tg_event;
	relid = RelationGetRelid(trigger->tg_relation);
	if ((relid != catalog->tables[table] &&
		 relid != catalog->tables[or_table]) ||
		(before ?
		 !TRIGGER_FIRED_BEFORE(event) || TRIGGER_FIRED_BY_DELETE(event) :
		 !TRIGGER_FIRED_AFTER(event) || TRIGGER_FIRED_BY_INSERT(event)) ||
		!(TRIGGER_FIRED_FOR_ROW(event) ||
		  (!before && TRIGGER_FIRED_BY_TRUNCATE(event))))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("this function serves only the triggers of extension \"apikeys\"")));
	return trigger;
}

/* The row as it will be. */
static HeapTuple
new_row(TriggerData *trigger)
{
	return TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ?
		trigger->tg_newtuple : trigger->tg_trigtuple;
}

static Datum
get(TriggerData *trigger, HeapTuple row, AttrNumber attnum)
{
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);
	bool		isnull;
	Datum		value = heap_getattr(row, attnum, desc, &isnull);

	/* Constraints refuse it too, but not before this trigger has run. */
	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("column \"%s\" of table \"%s\" must not be null",
						NameStr(TupleDescAttr(desc, attnum - 1)->attname),
						RelationGetRelationName(trigger->tg_relation))));
	return value;
}

/* Does the update change this column? */
static bool
changes(TriggerData *trigger, AttrNumber attnum)
{
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);
	Form_pg_attribute attr = TupleDescAttr(desc, attnum - 1);

	return !datumIsEqual(get(trigger, trigger->tg_trigtuple, attnum),
						 get(trigger, trigger->tg_newtuple, attnum),
						 attr->attbyval, attr->attlen);
}

static ApikeyLevel
get_level(TriggerData *trigger, HeapTuple row)
{
	Datum		level = get(trigger, row, Anum_key_level);

	return apikey_level_of_oid(DatumGetObjectId(level));
}

static const char *
label_of(Oid label)
{
	return DatumGetCString(OidFunctionCall1(F_ENUM_OUT,
											ObjectIdGetDatum(label)));
}

/* Is whoever runs the statement subject to row-level security? */
static bool
is_subject_to_rls(TriggerData *trigger)
{
	return check_enable_rls(RelationGetRelid(trigger->tg_relation), InvalidOid,
							true) == RLS_ENABLED;
}

/*
 * Under session_replication_role = replica rows may come in any order, so what
 * is not there cannot be judged; elsewhere foreign keys see to it.
 */
static bool
is_replica(void)
{
	return SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA;
}

/*
 * What a subscription brings was judged at the publisher, when it was made
 * there.  Here the tables may be at different points of its history, so that
 * the rules cannot be asked again: a refusal would be repeated for ever.
 */
static bool
is_subscription(void)
{
	return IsLogicalWorker();
}

/* Will the changes that foreign keys make in a table arrive by themselves? */
static bool
is_subscribed(ApikeyTable table)
{
	CatCList   *subscriptions;
	bool		found;

	if (!is_subscription())
		return false;
	subscriptions =
		SearchSysCacheList1(SUBSCRIPTIONRELMAP,
							ObjectIdGetDatum(apikey_catalog()->tables[table]));
	found = subscriptions->n_members > 0;
	ReleaseCatCacheList(subscriptions);
	return found;
}

/*
 * apikey_guard_org(): BEFORE UPDATE OF plan
 */
Datum
apikey_guard_org(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = trigger_data(fcinfo, true, TABLE_ORG, TABLE_ORG);
	HeapTuple	row = new_row(trigger);
	Oid			plan = DatumGetObjectId(get(trigger, row, Anum_org_plan));
	ApikeyBorrow borrow;
	Datum		args[1];
	int64		count;

	if (plan == apikey_catalog()->enterprise || is_subscription())
		PG_RETURN_POINTER(row);
	args[0] = get(trigger, trigger->tg_trigtuple, Anum_org_org_id);
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
		if (!is_replica())
			apikey_no_such("organization");
		return;
	}
	if (plan != apikey_catalog()->enterprise)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("role \"architect\" exists only on plan \"enterprise\"")));
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
	if (architect && lock_plan(org_id) != apikey_catalog()->enterprise)
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
	TriggerData *trigger = trigger_data(fcinfo, true,
										TABLE_MEMBER, TABLE_MEMBER);
	HeapTuple	row = new_row(trigger);
	Oid			role = DatumGetObjectId(get(trigger, row, Anum_member_role));
	Datum		org_id = get(trigger, row, Anum_member_org_id);
	bool		architect = apikey_role_of_oid(role) == ROLE_ARCHITECT;
	bool		insert = TRIGGER_FIRED_BY_INSERT(trigger->tg_event);

	if (is_subscription())
		PG_RETURN_POINTER(row);
	if (insert && is_subject_to_rls(trigger))
		check_inserted_unseen(trigger, org_id, architect);
	else if (architect && (insert ||
						   changes(trigger, Anum_member_role) ||
						   changes(trigger, Anum_member_org_id)))
		require_plan_of_architects(lock_plan(org_id));
	else if (insert && !is_replica() && !apikey_org_exists(org_id))
		apikey_no_such("organization");
	PG_RETURN_POINTER(row);
}

/* The levels that a role other than admin may create, as a hint. */
const char *
apikey_levels_hint(ApikeyRole role)
{
	switch (role)
	{
		case ROLE_STANDARD:
			return "It may create keys of level \"standard\".";
		case ROLE_ARCHITECT:
			return "It may create keys of level \"standard\" and \"architect\".";
		default:
			return "It may create no keys.";
	}
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
	const ApikeyCatalog *catalog = apikey_catalog();
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
		if (!is_replica())
			apikey_no_such("member");
		return;
	}
	if (!lowering && wanted > apikey_level_of_role(role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role \"%s\" may not create keys of level \"%s\"",
						label_of(catalog->roles[role]), label_of(level)),
				 errhint("%s", apikey_levels_hint(role))));
	if (wanted == LEVEL_ARCHITECT && plan != catalog->enterprise)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("level \"architect\" exists only on plan \"enterprise\"")));
}

/* What those who are subject to row-level security may not change. */
static void
check_changed_columns(TriggerData *trigger)
{
	static const AttrNumber fixed[] = {
		Anum_key_key_id, Anum_key_org_id, Anum_key_owner_id, Anum_key_digest,
		Anum_key_created_at
	};

	if (!is_subject_to_rls(trigger))
		return;
	for (int i = 0; i < (int) lengthof(fixed); i++)
		if (changes(trigger, fixed[i]))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("of a key, only name, level and expiry can be changed")));
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

	return (changes(trigger, Anum_key_org_id) ||
			changes(trigger, Anum_key_owner_id)) &&
		apikey_find_member(get(trigger, old, Anum_key_org_id),
						   get(trigger, old, Anum_key_owner_id), &owner);
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
	TriggerData *trigger = trigger_data(fcinfo, true, TABLE_KEY, TABLE_KEY);
	HeapTuple	row = new_row(trigger);
	Datum		org_id = get(trigger, row, Anum_key_org_id);
	Datum		owner_id = get(trigger, row, Anum_key_owner_id);
	Oid			level = DatumGetObjectId(get(trigger, row, Anum_key_level));

	if (is_subscription())
		PG_RETURN_POINTER(row);
	if (TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
	{
		Datum		created_at = get(trigger, row, Anum_key_created_at);

		if (is_subject_to_rls(trigger))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("keys are created by apikey_create() only")));
		if (DatumGetTimestampTz(created_at) >=
			GetCurrentTransactionStartTimestamp())
			require_level(org_id, owner_id, level, false);
		PG_RETURN_POINTER(row);
	}

	check_changed_columns(trigger);
	if (changes_hands(trigger))
		require_level(org_id, owner_id, level, false);
	else if (changes(trigger, Anum_key_level))
	{
		require_level(org_id, owner_id, level,
					  get_level(trigger, trigger->tg_newtuple) <
					  get_level(trigger, trigger->tg_trigtuple));
	}
	PG_RETURN_POINTER(row);
}

/*
 * Make the commit of who revoked a key wait until synchronous standbys have
 * applied it, unless the user has chosen not to wait for them at all.  What is
 * in force then counts: a function that revoked had its own settings.
 */
static void
commit_at_remote_apply(XactEvent event, void *arg pg_attribute_unused())
{
	if (event == XACT_EVENT_PRE_COMMIT &&
		revoking_transaction == APIKEY_MY_LXID &&
		apikey_revoke_remote_apply &&
		(synchronous_commit == SYNCHRONOUS_COMMIT_REMOTE_WRITE ||
		 synchronous_commit == SYNCHRONOUS_COMMIT_REMOTE_FLUSH))
		(void) set_config_option("synchronous_commit", "remote_apply",
								 PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_LOCAL, true, 0, false);
}

void
apikey_guard_init(void)
{
	RegisterXactCallback(commit_at_remote_apply, NULL);
}

/* Does this change take anything away from a key? */
static bool
revokes(TriggerData *trigger)
{
	HeapTuple	old = trigger->tg_trigtuple;
	HeapTuple	new = trigger->tg_newtuple;

	if (!TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
		return true;
	if (RelationGetRelid(trigger->tg_relation) !=
		apikey_catalog()->tables[TABLE_KEY])
		return false;
	return DatumGetTimestampTz(get(trigger, new, Anum_key_expires_at)) <
		DatumGetTimestampTz(get(trigger, old, Anum_key_expires_at)) ||
		get_level(trigger, new) < get_level(trigger, old);
}

/*
 * Tell all backends, here and on standbys, to drop what they keep of keys; at
 * once, not at commit: see cache.c.  Once for each command is enough, because
 * AFTER triggers fire when all its rows have been marked.  That is the command
 * which marked the row: the current one may be that of a function which it
 * called, and which changed keys before the others were marked.
 *
 * The message is for the relation of a type that nobody uses, not for the
 * table: nobody's descriptor of the table, and no plan, must be made anew.
 */
static void
announce(TriggerData *trigger)
{
	static LocalTransactionId last_transaction = InvalidLocalTransactionId;
	static SubTransactionId last_subtransaction = InvalidSubTransactionId;
	static CommandId last_command = InvalidCommandId;
	static Oid	last_relid = InvalidOid;
	Oid			relid = RelationGetRelid(trigger->tg_relation);
	Oid			change = apikey_catalog()->change;
	CommandId	command = InvalidCommandId;
	SharedInvalidationMessage message;

	apikey_cache_reset();
	if (TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		command = HeapTupleHeaderGetCmax(trigger->tg_trigtuple->t_data);
	if (command != InvalidCommandId && last_command == command &&
		last_transaction == APIKEY_MY_LXID &&
		last_subtransaction == GetCurrentSubTransactionId() &&
		last_relid == relid)
		return;

	memset(&message, 0, sizeof(message));
	message.rc.id = SHAREDINVALRELCACHE_ID;
	message.rc.dbId = MyDatabaseId;
	message.rc.relId = change;
	SendSharedInvalidMessages(&message, 1);
	if (XLogStandbyInfoActive())
		LogStandbyInvalidations(1, &message, false);
	/* and once more at commit, in PostgreSQL's own way */
	CacheInvalidateRelcacheByRelid(change);

	last_transaction = APIKEY_MY_LXID;
	last_subtransaction = GetCurrentSubTransactionId();
	last_command = command;
	last_relid = relid;
}

/*
 * apikey_announce_change(): AFTER UPDATE OR DELETE, for each row, and AFTER
 * TRUNCATE
 */
Datum
apikey_announce_change(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = trigger_data(fcinfo, false, TABLE_KEY, TABLE_LEGACY);

	if (revokes(trigger))
		revoking_transaction = APIKEY_MY_LXID;
	announce(trigger);
	PG_RETURN_POINTER(NULL);
}

static void
carry_org_along(TriggerData *trigger)
{
	bool		members = !is_subscribed(TABLE_MEMBER);
	bool		legacy = !is_subscribed(TABLE_LEGACY);
	Datum		args[2] = {
		get(trigger, trigger->tg_trigtuple, Anum_org_org_id)
	};

	if (TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
	{
		if (members)
			apikey_run(STATEMENT_DELETE_MEMBERS_OF, args, NULL);
		if (legacy)
			apikey_run(STATEMENT_DELETE_LEGACY, args, NULL);
	}
	else if (changes(trigger, Anum_org_org_id))
	{
		args[1] = get(trigger, trigger->tg_newtuple, Anum_org_org_id);
		if (members)
			apikey_run(STATEMENT_MOVE_MEMBERS, args, NULL);
		if (legacy)
			apikey_run(STATEMENT_MOVE_LEGACY, args, NULL);
	}
}

static void
carry_member_along(TriggerData *trigger)
{
	Datum		args[4] = {
		get(trigger, trigger->tg_trigtuple, Anum_member_org_id),
		get(trigger, trigger->tg_trigtuple, Anum_member_user_id)
	};

	if (is_subscribed(TABLE_KEY))
		return;
	if (TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
		apikey_run(STATEMENT_DELETE_KEYS_OF, args, NULL);
	else if (changes(trigger, Anum_member_org_id) ||
			 changes(trigger, Anum_member_user_id))
	{
		args[2] = get(trigger, trigger->tg_newtuple, Anum_member_org_id);
		args[3] = get(trigger, trigger->tg_newtuple, Anum_member_user_id);
		apikey_run(STATEMENT_MOVE_KEYS, args, NULL);
	}
}

/*
 * apikey_carry_along(): AFTER UPDATE OR DELETE, under
 * session_replication_role = replica only
 *
 * Foreign keys do not act there; no key may outlive its owner all the same.
 * Where a subscription brings what they did at the publisher, that is left to
 * it: it may be ahead, with keys of a member who was added again.
 */
Datum
apikey_carry_along(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = trigger_data(fcinfo, false, TABLE_ORG, TABLE_MEMBER);

	if (RelationGetRelid(trigger->tg_relation) ==
		apikey_catalog()->tables[TABLE_ORG])
		carry_org_along(trigger);
	else
		carry_member_along(trigger);
	PG_RETURN_POINTER(NULL);
}
