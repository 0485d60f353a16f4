/*
 * apikeys.h
 *		What the files of the extension share.
 *
 * The direction of calls: each of these calls those below it, never back.
 *
 *	verify.c, manage.c, members.c, page.c, find_funcs.c		(functions)
 *	usage_funcs.c						(functions, too)
 *	guard.c, carry.c					(triggers; and db_role.c for guard.c)
 *	history.c and the other files of history (see history.h)
 *	principal.c, revoke.c				(who acts; who must not be in the way)
 *	identity.c, rights.c, check.c		(what a key, a role, an argument is)
 *	lookup.c, statement.c				(rows read, rows changed)
 *	change.c, cache.c					(what is kept of keys, and until when)
 *	trigger.c, row.c, catalog.c			(what a trigger has, what a function
 *										returns, where tables are)
 *
 * Beside them stand value_funcs.c, value.c, find.c and digest.c (the format of
 * values), usage.c and the other files of usage (see usage_internal.h), and
 * label.c, grants.c, redact.c and scanner.c, which need little of the others.
 */
#ifndef APIKEYS_H
#define APIKEYS_H

#include "datatype/timestamp.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "utils/inet.h"
#include "utils/relcache.h"

#include "compat.h"
#include "status.h"
#include "value.h"

/* The schema of the tables, which has the same name everywhere. */
#define APIKEYS_PRIVATE "apikeys_private"

/* The bytes of an identifier of an organization or user, at most. */
#define APIKEY_ID_MAX 128

/* Arguments of a function that has none. */
#define APIKEY_NO_ARGS FunctionCallInfo fcinfo pg_attribute_unused()

/* Levels and roles in their order; 0 stands for none. */
typedef enum ApikeyLevel
{
	LEVEL_NONE,
	LEVEL_STANDARD,
	LEVEL_ARCHITECT,
	LEVEL_ADMIN
} ApikeyLevel;

typedef enum ApikeyRole
{
	ROLE_NONE,
	ROLE_GUEST,
	ROLE_STANDARD,
	ROLE_ARCHITECT,
	ROLE_ADMIN
} ApikeyRole;

typedef enum ApikeyTable
{
	TABLE_ORG,
	TABLE_MEMBER,
	TABLE_KEY,
	TABLE_LEGACY,
	TABLE_CAPABILITY,
	TABLE_USAGE,				/* from here on verification reads none */
	TABLE_EVENT,
	TABLE_SEAL
} ApikeyTable;
#define NUM_TABLES (TABLE_SEAL + 1)

typedef enum ApikeyIndex
{
	INDEX_ORG,					/* org_id */
	INDEX_MEMBER,				/* org_id, user_id */
	INDEX_MEMBER_DB_ROLE,		/* db_role */
	INDEX_KEY,					/* digest */
	INDEX_KEY_ID,				/* key_id */
	INDEX_KEY_SUFFIX,			/* org_id, suffix */
	INDEX_KEY_OWNER,			/* org_id, owner_id, suffix */
	INDEX_KEY_CREATED,			/* org_id, created_at, suffix */
	INDEX_KEY_NAME,				/* org_id, name, suffix */
	INDEX_LEGACY,				/* digest */
	INDEX_LEGACY_ID,			/* key_id */
	INDEX_LEGACY_ORG,			/* org_id */
	INDEX_CAPABILITY,			/* capability */
	INDEX_USAGE,				/* key_id */
	INDEX_EVENT,				/* xid, event_id */
	INDEX_EVENT_SUFFIX,			/* suffix, org_id */
	INDEX_SEAL					/* seal_id */
} ApikeyIndex;
#define NUM_INDEXES (INDEX_SEAL + 1)

/* What this backend knows of the extension's objects; see catalog.c. */
typedef struct ApikeyCatalog
{
	Oid			owner;			/* of the tables */
	Oid			namespace;
	Oid			private_namespace;
	Oid			tables[NUM_TABLES];
	Oid			change;			/* stands for a change of any key */
	Oid			indexes[NUM_INDEXES];
	Oid			levels[LEVEL_ADMIN + 1];	/* the labels' OIDs */
	Oid			roles[ROLE_ADMIN + 1];
	Oid			enterprise;		/* the plan's OID */
	Oid			level_type;
	Oid			role_type;
	Oid			plan_type;
	bool		changes_are_announced;	/* by change.c's triggers */
} ApikeyCatalog;

/* All that a decision about a level needs. */
typedef struct ApikeyGrant
{
	int64		key_id;
	TimestampTz expires_at;
	ApikeyLevel level;
	bool		legacy;
} ApikeyGrant;

/* A key as verification tells it; the texts are copies, NULL if none. */
typedef struct ApikeyKey
{
	ApikeyGrant grant;
	TimestampTz created_at;
	text	   *org_id;
	text	   *owner_id;
	text	   *name;
	text	   *suffix;
} ApikeyKey;

typedef struct ApikeyMember
{
	text	   *org_id;
	text	   *user_id;
	text	   *email;
	ApikeyRole	role;
	Oid			db_role;		/* InvalidOid if none */
} ApikeyMember;

/* A row under construction: see row.c. */
typedef struct ApikeyRow
{
	TupleDesc	desc;
	Datum	   *values;
	bool	   *nulls;
} ApikeyRow;

/* What has been written of a key's usage; zeroes for never. */
typedef struct ApikeyUse
{
	TimestampTz last_used_at;
	int64		uses;
} ApikeyUse;

/* A look at the uses of many keys; see lookup.c. */
typedef struct ApikeyUses ApikeyUses;

/* On whose behalf the session acts, and what the tables say of it now. */
typedef struct ApikeyActor
{
	bool		is_key;
	bool		by_role;		/* a member, by database role */
	ApikeyLevel level;			/* of the key, or that the role has */
	ApikeyRole	role;			/* ROLE_NONE for a key */
	text	   *org_id;
	text	   *user_id;		/* NULL for a legacy key */
	text	   *suffix;			/* NULL but for a native key */
} ApikeyActor;

/* The statements that statement.c keeps plans for. */
typedef enum ApikeyStatement
{
	STATEMENT_LOCK_ORG,
	STATEMENT_LOCK_ORG_TO_SAVE,
	STATEMENT_LOCK_MEMBER_TO_SAVE,
	STATEMENT_LOCK_PLAN,
	STATEMENT_LOCK_ROLE,
	STATEMENT_LOCK_ROLE_AND_PLAN,
	STATEMENT_COUNT_ARCHITECTS,
	STATEMENT_INSERT_KEY,
	STATEMENT_UPDATE_KEY,
	STATEMENT_LOCK_KEY,
	STATEMENT_EXPIRE_KEY,
	STATEMENT_DELETE_KEY,
	STATEMENT_DELETE_KEYS_OF,
	STATEMENT_MOVE_KEYS,
	STATEMENT_DELETE_LEGACY,
	STATEMENT_INSERT_LEGACY,
	STATEMENT_MOVE_LEGACY,
	STATEMENT_SAVE_ORG,
	STATEMENT_DELETE_ORG,
	STATEMENT_SAVE_MEMBER,
	STATEMENT_SET_DB_ROLE,
	STATEMENT_DELETE_MEMBER,
	STATEMENT_DELETE_MEMBERS_OF,
	STATEMENT_MOVE_MEMBERS,
	STATEMENT_WRITE_USAGE,
	STATEMENT_SWEEP_USAGE,
	STATEMENT_FIND_ORG,
	STATEMENT_FIND_ORG_AND_ALL,
	STATEMENT_FIND_MEMBER,
	STATEMENT_FIND_MEMBER_AND_KEYS,
	STATEMENT_FIND_KEYS_OF,
	STATEMENT_FIND_KEY,
	STATEMENT_FIND_LEGACY,
	STATEMENT_DELETE_EVENTS,
	STATEMENT_PRUNE_SEAL,
	STATEMENT_FIND_EXPIRING
} ApikeyStatement;
#define NUM_STATEMENTS (STATEMENT_FIND_EXPIRING + 1)

/* The caller's identity while the owner's is borrowed. */
typedef struct ApikeyBorrow
{
	Oid			user;
	int			sec_context;
	int			nest_level;		/* of settings */
} ApikeyBorrow;

/* What takes something away, and what may be in its way: see revoke.c. */
typedef struct ApikeyRevocation
{
	uint64		(*run) (void *arg); /* NULL if a statement is enough */
	void	   *arg;
	ApikeyStatement statement;
	ApikeyStatement find;		/* the rows that it may have to wait for */
	Datum	   *args;			/* of both statements */
	bool		updates;		/* rows stay, with the key that they have */
	const ApikeyActor *actor;	/* NULL for the application */
	bool		own;			/* is it about keys of the actor? */
} ApikeyRevocation;

/* in apikeys.c */
extern bool apikey_history;
extern char *apikey_prefix;
extern bool apikey_revoke_remote_apply;
extern bool apikey_seal_principal;
extern bool apikey_session_principal;

/* in cache.c */
extern uint32 apikey_cache_generation(void);
extern void apikey_cache_reset(void);
extern bool apikey_cache_find(ApikeyShape shape, const uint8 *digest,
							  ApikeyGrant *grant);
extern void apikey_cache_store(const uint8 *digest, const ApikeyGrant *grant,
							   uint32 generation);

/* in catalog.c */
extern void apikey_catalog_init(void);
extern const ApikeyCatalog *apikey_catalog(void);
extern void apikey_open(ApikeyIndex which, Relation *table, Relation *index);
extern bool apikey_stands_for_keys(Oid relid);
pg_noreturn extern void apikey_not_as_installed(const char *what,
												const char *name);
extern ApikeyLevel apikey_level_of_oid(Oid oid);
extern ApikeyRole apikey_role_of_oid(Oid oid);
extern Oid	apikey_schema_of_extension(const char *name);

/* in lookup.c */
extern void apikey_lookup_init(void);
extern void apikey_read_key(ApikeyShape shape, TupleTableSlot *slot,
							ApikeyKey *key);
extern text *apikey_copy_text(const text *value);
extern bool apikey_find_grant(ApikeyShape shape, const uint8 *digest,
							  ApikeyGrant *grant, bool *from_cache);
extern bool apikey_find_key(ApikeyShape shape, const uint8 *digest,
							ApikeyKey *key, ApikeyRow *shown);
extern bool apikey_find_key_by_id(ApikeyShape shape, int64 key_id,
								  ApikeyKey *key);
extern bool apikey_find_member(Datum org_id, Datum user_id,
							   ApikeyMember *member);
extern bool apikey_find_member_of_role(Oid db_role, ApikeyMember *member);
extern bool apikey_org_exists(Datum org_id);
extern bool apikey_find_capability(Datum capability, ApikeyLevel *level);
extern bool apikey_find_key_of_org(Datum org_id, Datum suffix, int64 *key_id);
extern bool apikey_find_key_of_member(Datum org_id, Datum user_id,
									  Datum suffix, int64 *key_id);
extern bool apikey_find_legacy_key(Datum org_id, ApikeyKey *key);
extern ApikeyUses *apikey_begin_uses(void);
extern bool apikey_written_use(ApikeyUses *uses, int64 key_id, ApikeyUse *use);
extern void apikey_end_uses(ApikeyUses *uses);

/* in change.c */
extern void apikey_change_init(void);
extern void apikey_accept_changes(void);

/* in check.c */
pg_noreturn extern void apikey_null_argument(const char *name);
extern void apikey_require_argument(FunctionCallInfo fcinfo, int n);
extern void apikey_require_arguments(FunctionCallInfo fcinfo);
extern Datum *apikey_copy_arguments(FunctionCallInfo fcinfo, int room,
									char **nulls);
extern void apikey_check_id(Datum id);
extern void apikey_check_name(Datum name);
extern void apikey_check_expiry(TimestampTz expires_at);

pg_noreturn extern void apikey_no_such(const char *what);
extern bool apikey_text_equal(const text *a, const text *b);

/* in db_role.c */
extern bool apikey_can_be_application(Oid role);

/* in find_funcs.c */
extern bool apikey_is_mangled(Datum value);

/* in identity.c */
extern const char *apikey_status_name(ApikeyStatus status);
extern ApikeyStatus apikey_status_of(const ApikeyGrant *grant);
extern ApikeyStatus apikey_find_active(ApikeyShape shape, const uint8 *digest,
									   ApikeyKey *key, ApikeyRow *shown);
extern ApikeyStatus apikey_find_active_by_id(ApikeyShape shape, int64 key_id,
											 ApikeyKey *key);
extern ApikeyLevel apikey_required_level(Datum capability);
extern Datum apikey_identity_datum(FunctionCallInfo fcinfo,
								   const ApikeyKey *key);

/* in principal.c */
extern void apikey_principal_init(void);
extern bool apikey_actor(ApikeyActor *actor);
extern bool apikey_actor_of_session(ApikeyActor *actor);
extern uint64 apikey_principal_changes(void);

/* in redact.c */
extern void apikey_redact_init(void);

/* in revoke.c */
extern uint64 apikey_revoke(const ApikeyRevocation *revocation);

/* in rights.c */
extern ApikeyLevel apikey_level_of_role(ApikeyRole role);
extern const char *apikey_levels_hint(ApikeyRole role);
extern bool apikey_manages_keys(const ApikeyActor *actor);
extern bool apikey_manages_all(const ApikeyActor *actor);

/* in row.c */
extern TupleDesc apikey_result_desc(FunctionCallInfo fcinfo);
extern void apikey_begin_row(ApikeyRow *row, TupleDesc desc);
extern void apikey_set(ApikeyRow *row, const char *name, Datum value);
extern void apikey_set_text(ApikeyRow *row, const char *name,
							const text *value);
extern void apikey_show_key(ApikeyRow *row, TupleTableSlot *key);
extern void apikey_show_legacy_key(ApikeyRow *row, const ApikeyKey *key);
extern Datum apikey_row_datum(const ApikeyRow *row);

/* in statement.c */
extern void apikey_hold_extension(void);
extern void apikey_borrow_owner(ApikeyBorrow *borrow);
extern void apikey_return_owner(const ApikeyBorrow *borrow);
extern uint64 apikey_execute(ApikeyStatement which, Datum *args,
							 const char *nulls);
extern uint64 apikey_run(ApikeyStatement which, Datum *args,
						 const char *nulls);
extern Datum apikey_result(int column);

/* in usage.c */
extern const inet_struct *apikey_client_addr(void);
extern void apikey_count_use(const ApikeyGrant *grant, bool from_cache);
extern void apikey_count_refusal(ApikeyStatus status);

/* in usage_funcs.c */
extern bool apikey_find_usage(int64 key_id, ApikeyUse *use);
extern TimestampTz apikey_last_use(ApikeyUses *uses, int64 key_id);

/* in value_funcs.c */
extern bool apikey_may_be_key(Datum value);
extern ApikeyShape apikey_shape_of_datum(Datum value, uint8 *digest);

#endif							/* APIKEYS_H */
