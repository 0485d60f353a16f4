/*
 * apikeys.h
 *		What the files of the extension share.
 *
 * The direction of calls: SQL-callable functions (verify.c, manage.c,
 * members.c, value_funcs.c, principal.c) call the rules (guard.c), the rules
 * call the tables (catalog.c, statement.c), the tables call the value format
 * (value.c), which calls nobody.
 */
#ifndef APIKEYS_H
#define APIKEYS_H

#include "datatype/timestamp.h"
#include "executor/tuptable.h"
#include "fmgr.h"

#include "compat.h"
#include "value.h"

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
	TABLE_USAGE
} ApikeyTable;
#define NUM_TABLES (TABLE_USAGE + 1)

typedef enum ApikeyIndex
{
	INDEX_ORG,					/* org_id */
	INDEX_MEMBER,				/* org_id, user_id */
	INDEX_MEMBER_DB_ROLE,		/* db_role */
	INDEX_KEY,					/* digest */
	INDEX_KEY_SUFFIX,			/* org_id, suffix */
	INDEX_LEGACY,				/* digest */
	INDEX_LEGACY_ORG,			/* org_id */
	INDEX_CAPABILITY,			/* capability */
	INDEX_USAGE					/* key_id */
} ApikeyIndex;
#define NUM_INDEXES (INDEX_USAGE + 1)

/*
 * Attribute numbers, in the order of the install script; catalog.c checks
 * them against the tables.
 */
#define Anum_org_org_id			1
#define Anum_org_name			2
#define Anum_org_plan			3
#define Anum_member_org_id		1
#define Anum_member_user_id		2
#define Anum_member_email		3
#define Anum_member_role		4
#define Anum_member_db_role		5
#define Anum_key_key_id			1
#define Anum_key_org_id			2
#define Anum_key_owner_id		3
#define Anum_key_name			4
#define Anum_key_level			5
#define Anum_key_digest			6
#define Anum_key_suffix			7
#define Anum_key_created_at		8
#define Anum_key_expires_at		9
#define Anum_legacy_org_id		1
#define Anum_legacy_key_id		2
#define Anum_legacy_digest		3
#define Anum_legacy_created_at	4
#define Anum_capability_capability	1
#define Anum_capability_level	2
#define Anum_usage_key_id		1
#define Anum_usage_last_used_at 2
#define Anum_usage_uses			4

/* What this backend knows of the extension's objects; see catalog.c. */
typedef struct ApikeyCatalog
{
	Oid			owner;			/* of the tables */
	Oid			namespace;
	Oid			tables[NUM_TABLES];
	Oid			change;			/* stands for a change of any key */
	Oid			indexes[NUM_INDEXES];
	Oid			levels[LEVEL_ADMIN + 1];	/* the labels' OIDs */
	Oid			roles[ROLE_ADMIN + 1];
	Oid			enterprise;		/* the plan's OID */
	Oid			level_type;
	Oid			role_type;
	Oid			plan_type;
	bool		changes_are_announced;	/* by guard.c's triggers */
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
} ApikeyMember;

/* What has been written of a key's usage; zeroes for never. */
typedef struct ApikeyUse
{
	TimestampTz last_used_at;
	int64		uses;
} ApikeyUse;

typedef enum ApikeyStatus
{
	STATUS_MALFORMED,
	STATUS_UNKNOWN,
	STATUS_EXPIRED,
	STATUS_ACTIVE
} ApikeyStatus;

/* On whose behalf the session acts, and what the tables say of it now. */
typedef struct ApikeyActor
{
	bool		is_key;
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
	STATEMENT_DELETE_MEMBER,
	STATEMENT_DELETE_MEMBERS_OF,
	STATEMENT_MOVE_MEMBERS,
	STATEMENT_WRITE_USAGE,
	STATEMENT_SWEEP_USAGE
} ApikeyStatement;
#define NUM_STATEMENTS (STATEMENT_SWEEP_USAGE + 1)

/* The caller's identity while the owner's is borrowed. */
typedef struct ApikeyBorrow
{
	Oid			user;
	int			sec_context;
} ApikeyBorrow;

/* in apikeys.c */
extern char *apikey_prefix;
extern bool apikey_revoke_remote_apply;
extern bool apikey_seal_principal;

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
pg_noreturn extern void apikey_not_as_installed(const char *what,
												const char *name);
extern ApikeyLevel apikey_level_of_oid(Oid oid);
extern ApikeyRole apikey_role_of_oid(Oid oid);
extern Oid	apikey_schema_of_extension(const char *name);
extern bool apikey_find_grant(ApikeyShape shape, const uint8 *digest,
							  ApikeyGrant *grant, bool *from_cache);
extern bool apikey_find_key(ApikeyShape shape, const uint8 *digest,
							ApikeyKey *key);
extern bool apikey_find_member(Datum org_id, Datum user_id,
							   ApikeyMember *member);
extern bool apikey_find_member_of_role(Oid db_role, ApikeyMember *member);
extern bool apikey_org_exists(Datum org_id);
extern bool apikey_find_capability(Datum capability, ApikeyLevel *level);
extern bool apikey_find_listed(Datum org_id, Datum suffix, int64 *key_id,
							   Datum *owner_id);
extern bool apikey_find_legacy_id(Datum org_id, int64 *key_id);
extern bool apikey_find_use(int64 key_id, ApikeyUse *use);

/* in check.c */
extern void apikey_require_argument(FunctionCallInfo fcinfo, int n);
extern void apikey_require_arguments(FunctionCallInfo fcinfo);
extern void apikey_check_id(Datum id);
extern void apikey_check_name(Datum name);
extern void apikey_check_expiry(TimestampTz expires_at);

pg_noreturn extern void apikey_no_such(const char *what);
extern bool apikey_text_equal(const text *a, const text *b);

/* in guard.c */
extern void apikey_guard_init(void);
extern ApikeyLevel apikey_level_of_role(ApikeyRole role);
extern const char *apikey_levels_hint(ApikeyRole role);
extern bool apikey_manages_keys(const ApikeyActor *actor);
extern bool apikey_manages_all(const ApikeyActor *actor);

/* in principal.c */
extern void apikey_principal_init(void);
extern bool apikey_actor(ApikeyActor *actor);
extern uint64 apikey_principal_changes(void);

/* in statement.c */
extern void apikey_borrow_owner(ApikeyBorrow *borrow);
extern void apikey_return_owner(const ApikeyBorrow *borrow);
extern uint64 apikey_execute(ApikeyStatement which, Datum *args,
							 const char *nulls);
extern uint64 apikey_run(ApikeyStatement which, Datum *args,
						 const char *nulls);
extern Datum apikey_result(int column);

/* in usage.c */
extern void apikey_count_use(const ApikeyGrant *grant, bool from_cache);
extern void apikey_count_refusal(ApikeyStatus status);

/* in usage_funcs.c */
extern void apikey_require_usage(void);

/* in value_funcs.c */
extern bool apikey_may_be_key(Datum value);
extern ApikeyShape apikey_shape_of_datum(Datum value, uint8 *digest);

/* in verify.c */
extern ApikeyStatus apikey_find_active(ApikeyShape shape, const uint8 *digest,
									   ApikeyKey *key);
extern ApikeyLevel apikey_required_level(Datum capability);
extern TupleDesc apikey_result_desc(FunctionCallInfo fcinfo);
extern Datum apikey_identity_datum(FunctionCallInfo fcinfo,
								   const ApikeyKey *key);

#endif							/* APIKEYS_H */
