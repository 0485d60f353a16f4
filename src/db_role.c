/*
 * db_role.c
 *		Which database role stands for a member.
 *
 * A member has the role by name, as a dump does, and by the OID of the role
 * that had the name when it was set: a role that was dropped and made anew, or
 * has taken the name of another, is not the one that was meant.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/xact.h"
#include "catalog/pg_proc.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "apikeys.h"
#include "tables.h"
#include "trigger.h"

PG_FUNCTION_INFO_V1(apikey_db_role_fault);

/*
 * Can the role get to execute this function?  A membership counts even if its
 * privileges are not inherited: the role can become the other by SET ROLE.
 */
static bool
can_execute(Oid role, HeapTuple function)
{
	Form_pg_proc form = (Form_pg_proc) GETSTRUCT(function);
	Oid		   *grantees;
	int			count;
	Datum		acl;
	bool		isnull;

	if (apikey_may_execute(form->oid, role))
		return true;
	acl = SysCacheGetAttr(PROCOID, function, Anum_pg_proc_proacl, &isnull);
	count = isnull ? 0 : aclmembers(DatumGetAclP(acl), &grantees);
	for (int i = 0; i < count; i++)
		if (is_member_of_role_nosuper(role, grantees[i]))
			return true;
	return false;
}

/* Can it execute a function of the application that says who somebody is? */
bool
apikey_can_be_application(Oid role)
{
	static const char *const names[] = {
		"apikey_act_as", "apikey_authenticate", "apikey_save_member"
	};
	bool		found = false;

	for (int i = 0; i < (int) lengthof(names); i++)
	{
		CatCList   *functions;

		functions = SearchSysCacheList1(PROCNAMEARGSNSP,
										CStringGetDatum(names[i]));
		for (int k = 0; k < functions->n_members; k++)
		{
			HeapTuple	function = &functions->members[k]->tuple;

			found |= ((Form_pg_proc) GETSTRUCT(function))->pronamespace ==
				apikey_catalog()->namespace && can_execute(role, function);
		}
		ReleaseCatCacheList(functions);
	}
	return found;
}

/*
 * Why a role cannot be a member's database role; NULL if it can.
 *
 * The application's role has no principal where none was set.  If it were a
 * member, whoever can inject SQL into a request could make it any member, and
 * be that whenever a request comes without its principal.
 */
static const char *
why_no_db_role(Oid role)
{
	if (superuser_arg(role))
		return "It is a superuser.";
	if (is_member_of_role_nosuper(role, apikey_catalog()->owner))
		return "It owns extension \"apikeys\", or is a member of the role that does.";
	if (apikey_can_be_application(role))
		return "It can execute functions of the application.";
	return NULL;
}

/*
 * apikey_db_role_fault(role oid) returns text
 *
 * For the self-check: a role may have become one that cannot be.
 */
Datum
apikey_db_role_fault(PG_FUNCTION_ARGS)
{
	const char *reason;

	apikey_require_arguments(fcinfo);
	reason = why_no_db_role(PG_GETARG_OID(0));
	if (reason == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(reason));
}

/*
 * Is what the row says to be stored, rather than judged?  What a subscription
 * brings would be refused for ever; a restore would lose all members because
 * of one, and is told by a row that says it was created before.
 */
static bool
is_history(TriggerData *trigger, HeapTuple row)
{
	Datum		created_at = apikey_get(trigger, row, Anum_member_created_at);

	return apikey_is_subscription() || apikey_is_replica() ||
		(TRIGGER_FIRED_BY_INSERT(trigger->tg_event) &&
		 DatumGetTimestampTz(created_at) <
		 GetCurrentTransactionStartTimestamp());
}

/*
 * The OID of the role by the name that is set, as a value of the column; NULL
 * if there is no such role, and if it may not be one but the row is stored all
 * the same: then the name has no effect.
 */
static Datum
resolve_db_role(TriggerData *trigger, HeapTuple row, bool *isnull)
{
	Datum		db_role = heap_getattr(row, Anum_member_db_role,
									   RelationGetDescr(trigger->tg_relation),
									   isnull);
	const char *name;
	const char *reason;
	Oid			role;

	if (*isnull)
		return (Datum) 0;
	*isnull = true;
	name = NameStr(*DatumGetName(db_role));
	role = get_role_oid(name, true);
	if (!OidIsValid(role))
		return (Datum) 0;
	reason = why_no_db_role(role);
	if (reason != NULL)
	{
		ereport(is_history(trigger, row) ? WARNING : ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("role \"%s\" cannot be a member's database role", name),
				 errdetail_internal("%s", reason)));
		return (Datum) 0;
	}
	*isnull = false;
	return ObjectIdGetDatum(role);
}

/*
 * Does the statement set db_role, to the name that it has already included?
 * A subscription sets all columns; there, only another name counts.
 */
static bool
sets_db_role(TriggerData *trigger)
{
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);
	bool		was_null;
	bool		is_null;
	Datum		was;
	Datum		is;

	if (TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		return true;
	if (!apikey_is_subscription() &&
		bms_is_member(Anum_member_db_role - FirstLowInvalidHeapAttributeNumber,
					  trigger->tg_updatedcols))
		return true;
	was = heap_getattr(trigger->tg_trigtuple, Anum_member_db_role, desc,
					   &was_null);
	is = heap_getattr(trigger->tg_newtuple, Anum_member_db_role, desc,
					  &is_null);
	return was_null != is_null ||
		(!is_null &&
		 strcmp(NameStr(*DatumGetName(was)), NameStr(*DatumGetName(is))) != 0);
}

/*
 * Store the OID of the role that db_role names, whenever that is set; it is
 * nobody else's to set.  A dump or publisher has OIDs of another cluster.
 */
HeapTuple
apikey_store_db_role(TriggerData *trigger, HeapTuple row)
{
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);
	int			attnum = Anum_member_db_role_oid;
	bool		isnull;
	Datum		oid;

	if (sets_db_role(trigger))
		oid = resolve_db_role(trigger, row, &isnull);
	else
		oid = heap_getattr(trigger->tg_trigtuple, attnum, desc, &isnull);
	return heap_modify_tuple_by_cols(row, desc, 1, &attnum, &oid, &isnull);
}
