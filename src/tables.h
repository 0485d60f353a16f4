/*
 * tables.h
 *		The tables as the install script makes them: each column once.
 *
 * From these lists come the attribute numbers, what catalog.c checks, what
 * guard.c lets a member change, which changes change.c announces as taking
 * something away, and what is shown of a key: by the views and privileges, for
 * which sql/columns.awk reads this file, apikey_page() and apikey_inspect().
 * A new column is one line here and one in sql/parts/tables.sql.
 *
 * Only what reads or writes rows includes this file.
 */
#ifndef APIKEYS_TABLES_H
#define APIKEYS_TABLES_H

#include "catalog/pg_type.h"

/* Stands for our enums, whose OIDs differ by database. */
#define ENUM_TYPE InvalidOid

/* What is special about a column; the least is the rule. */
#define MEMBER_CHANGES	0x01	/* an owner may change it in its own row */
#define REVOKES_IF_LESS 0x02	/* a lower value takes something away; NULL is
								 * the highest */
#define MEMBER_LOWERS	(MEMBER_CHANGES | REVOKES_IF_LESS)
#define SORTS_AS_TEXT	0x04	/* by the database's collation, not "C" */
#define SHOWN			0x08	/* to whoever may see the row */
#define SHOWN_LAST		(SHOWN | 0x10)	/* in lists behind all others; of a
										 * legacy key NULL */
#define TOLD_AT_INSERT	0x20	/* history tells it of a new row, */
#define TOLD_AT_UPDATE	0x40	/* that it changed, */
#define TOLD_AT_DELETE	0x80	/* and of a row that is no more */
#define TOLD	(TOLD_AT_INSERT | TOLD_AT_UPDATE | TOLD_AT_DELETE)

#define ORG_COLUMNS(COLUMN) \
	COLUMN(org, org_id, TEXTOID, TOLD_AT_UPDATE) \
	COLUMN(org, name, TEXTOID, SORTS_AS_TEXT) \
	COLUMN(org, plan, ENUM_TYPE, TOLD) \
	COLUMN(org, created_at, TIMESTAMPTZOID, TOLD_AT_DELETE)

#define MEMBER_COLUMNS(COLUMN) \
	COLUMN(member, org_id, TEXTOID, TOLD_AT_UPDATE) \
	COLUMN(member, user_id, TEXTOID, TOLD_AT_UPDATE) \
	COLUMN(member, email, TEXTOID, SORTS_AS_TEXT) \
	COLUMN(member, role, ENUM_TYPE, TOLD) \
	COLUMN(member, db_role, NAMEOID, TOLD) \
	COLUMN(member, created_at, TIMESTAMPTZOID, TOLD_AT_DELETE) \
	COLUMN(member, db_role_oid, OIDOID, 0)

#define KEY_COLUMNS(COLUMN) \
	COLUMN(key, key_id, INT8OID, 0) \
	COLUMN(key, org_id, TEXTOID, SHOWN | TOLD_AT_UPDATE) \
	COLUMN(key, owner_id, TEXTOID, SHOWN | TOLD_AT_UPDATE) \
	COLUMN(key, name, TEXTOID, \
		   SHOWN | MEMBER_CHANGES | SORTS_AS_TEXT | TOLD_AT_UPDATE) \
	COLUMN(key, level, ENUM_TYPE, SHOWN | MEMBER_LOWERS | TOLD_AT_UPDATE) \
	COLUMN(key, digest, BYTEAOID, 0) \
	COLUMN(key, suffix, TEXTOID, SHOWN | TOLD_AT_UPDATE) \
	COLUMN(key, created_at, TIMESTAMPTZOID, \
		   SHOWN | TOLD_AT_UPDATE | TOLD_AT_DELETE) \
	COLUMN(key, expires_at, TIMESTAMPTZOID, SHOWN | MEMBER_LOWERS | TOLD)

#define LEGACY_COLUMNS(COLUMN) \
	COLUMN(legacy, org_id, TEXTOID, TOLD_AT_UPDATE) \
	COLUMN(legacy, key_id, INT8OID, 0) \
	COLUMN(legacy, digest, BYTEAOID, 0) \
	COLUMN(legacy, created_at, TIMESTAMPTZOID, TOLD_AT_DELETE)

#define CAPABILITY_COLUMNS(COLUMN) \
	COLUMN(capability, capability, TEXTOID, 0) \
	COLUMN(capability, level, ENUM_TYPE, 0)

#define USAGE_COLUMNS(COLUMN) \
	COLUMN(usage, key_id, INT8OID, 0) \
	COLUMN(usage, last_used_at, TIMESTAMPTZOID, 0) \
	COLUMN(usage, last_used_addr, INETOID, 0) \
	COLUMN(usage, uses, INT8OID, 0)

#define EVENT_COLUMNS(COLUMN) \
	COLUMN(event, event_id, INT8OID, 0) \
	COLUMN(event, xid, INT8OID, 0) \
	COLUMN(event, at, TIMESTAMPTZOID, 0) \
	COLUMN(event, kind, TEXTOID, 0) \
	COLUMN(event, org_id, TEXTOID, 0) \
	COLUMN(event, suffix, TEXTOID, 0) \
	COLUMN(event, owner_id, TEXTOID, 0) \
	COLUMN(event, name, TEXTOID, SORTS_AS_TEXT) \
	COLUMN(event, level, ENUM_TYPE, 0) \
	COLUMN(event, actor_kind, TEXTOID, 0) \
	COLUMN(event, actor_id, TEXTOID, 0) \
	COLUMN(event, db_role, NAMEOID, 0) \
	COLUMN(event, client_addr, INETOID, 0) \
	COLUMN(event, changes, JSONBOID, 0)

#define SEAL_COLUMNS(COLUMN) \
	COLUMN(seal, seal_id, INT8OID, 0) \
	COLUMN(seal, sealed_at, TIMESTAMPTZOID, 0) \
	COLUMN(seal, xid, INT8OID, 0) \
	COLUMN(seal, event_id, INT8OID, 0) \
	COLUMN(seal, events, INT8OID, 0) \
	COLUMN(seal, events_hash, BYTEAOID, 0) \
	COLUMN(seal, seal, BYTEAOID, 0) \
	COLUMN(seal, pruned, INT8OID, 0) \
	COLUMN(seal, pruned_hash, BYTEAOID, 0)

/* Anum_key_level and so on, from 1. */
#define ATTRIBUTE_NUMBER(table, column, type, flags) Anum_##table##_##column,
enum
{
	Before_org, ORG_COLUMNS(ATTRIBUTE_NUMBER) Natts_org
};
enum
{
	Before_member, MEMBER_COLUMNS(ATTRIBUTE_NUMBER) Natts_member
};
enum
{
	Before_key, KEY_COLUMNS(ATTRIBUTE_NUMBER) Natts_key
};
enum
{
	Before_legacy, LEGACY_COLUMNS(ATTRIBUTE_NUMBER) Natts_legacy
};
enum
{
	Before_capability, CAPABILITY_COLUMNS(ATTRIBUTE_NUMBER) Natts_capability
};
enum
{
	Before_usage, USAGE_COLUMNS(ATTRIBUTE_NUMBER) Natts_usage
};
enum
{
	Before_event, EVENT_COLUMNS(ATTRIBUTE_NUMBER) Natts_event
};
enum
{
	Before_seal, SEAL_COLUMNS(ATTRIBUTE_NUMBER) Natts_seal
};

typedef struct ColumnSpec
{
	const char *name;
	Oid			type;			/* or ENUM_TYPE */
	int			flags;
} ColumnSpec;

typedef struct TableSpec
{
	const char *name;
	int			natts;
	const ColumnSpec *columns;
} TableSpec;

#define MAX_INDEX_KEYS 3

typedef struct IndexSpec
{
	ApikeyTable table;
	Oid			am;
	int			nkeys;
	AttrNumber	keys[MAX_INDEX_KEYS];
	bool		is_plain;		/* needs not enforce anything */
} IndexSpec;

/* in catalog.c */
extern const TableSpec apikey_tables[NUM_TABLES];
extern const IndexSpec apikey_indexes[NUM_INDEXES];
extern const ColumnSpec *apikey_column_of(const IndexSpec *index, int k);
extern Oid	apikey_collation_of(const ColumnSpec *column);

#endif							/* APIKEYS_TABLES_H */
