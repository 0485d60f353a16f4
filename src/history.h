/*
 * history.h
 *		What the files of history share, and offer to who has something to tell.
 *
 * The direction of calls: each of these calls those below it, never back.
 *
 *	history_change.c, history_verify.c	(changes of rows; verifying)
 *	history_worker.c					(in the background)
 *	history_seal.c						(sealing and pruning)
 *	history_read.c						(reading events)
 *	history.c							(writing an event)
 */
#ifndef APIKEYS_HISTORY_H
#define APIKEYS_HISTORY_H

#include "access/genam.h"
#include "access/skey.h"
#include "utils/snapshot.h"

#include "apikeys.h"

/* The kinds of events under their names, which the table checks too. */
#define EVENT_KINDS(KIND) \
	KIND(KEY_CREATE, "key.create") \
	KIND(KEY_UPDATE, "key.update") \
	KIND(KEY_ROTATE, "key.rotate") \
	KIND(KEY_SUSPEND, "key.suspend") \
	KIND(KEY_RESUME, "key.resume") \
	KIND(KEY_DELETE, "key.delete") \
	KIND(KEY_LEAK, "key.leak") \
	KIND(KEY_IMPORT, "key.import") \
	KIND(KEY_EXPIRING, "key.expiring") \
	KIND(LEGACY_IMPORT, "legacy.import") \
	KIND(LEGACY_DELETE, "legacy.delete") \
	KIND(LEGACY_LEAK, "legacy.leak") \
	KIND(MEMBER_ROLE, "member.role") \
	KIND(MEMBER_UPDATE, "member.update") \
	KIND(MEMBER_REMOVE, "member.remove") \
	KIND(ORG_PLAN, "org.plan") \
	KIND(ORG_UPDATE, "org.update") \
	KIND(ORG_REMOVE, "org.remove") \
	KIND(LIMIT_CHANGE, "limit.change")

#define KIND_NUMBER(kind, name) EVENT_##kind,
typedef enum ApikeyEventKind
{
	EVENT_KINDS(KIND_NUMBER) NUM_EVENT_KINDS
} ApikeyEventKind;

/* What happened; what there is none of is NULL. */
typedef struct ApikeyEvent
{
	ApikeyEventKind kind;
	const		text *org_id;
	const		text *old_org_id;	/* if that changed */
	const		text *suffix;
	const		text *owner_id;
	const		text *name;
	Oid			level;			/* the label's OID, or InvalidOid */
	const char *changes;		/* JSON */
	bool		by_worker;
} ApikeyEvent;

/*
 * What a function of ours knows of the change that it makes, and a trigger
 * cannot see: it is of this kind, whenever the row was created.
 */
typedef struct ApikeyNote
{
	ApikeyEventKind kind;
	const		text *new_suffix;	/* of the key in its place */
} ApikeyNote;

/* Where an event stands among all. */
typedef struct EventPlace
{
	int64		xid;
	int64		event_id;
} EventPlace;

/* What is told of a key that was deleted; NULL if there is none. */
typedef struct ApikeyDeletion
{
	EventPlace	place;
	TimestampTz at;
	text	   *org_id;
	text	   *owner_id;
	text	   *name;
	text	   *suffix;
	Oid			level;
	bool		legacy;
	text	   *by;				/* kind of actor, and who */
} ApikeyDeletion;

/* Before all of them. */
#define APIKEY_BEGINNING {PG_INT64_MIN, PG_INT64_MIN}

/* Events being read, one after the other. */
typedef struct EventScan
{
	Relation	table;
	Relation	index;
	Snapshot	snapshot;
	ScanKeyData keys[2];
	IndexScanDesc scan;
	int64		below;			/* what is complete */
	TupleTableSlot *slot;		/* the event, */
	EventPlace	place;			/* and where it stands */
} EventScan;

extern int	history_seal_interval;
extern int	history_expiry_warning;

/* in history.c */
extern int64 apikey_xid_offset(void);
extern void apikey_insert(ApikeyIndex which, const Datum *values,
						  const bool *nulls, int natts);
extern void apikey_record(const ApikeyEvent *event);

/* in history_change.c */
extern uint64 apikey_run_noted(ApikeyStatement which, Datum *args,
							   const ApikeyNote *note);

/* in history_read.c */
extern void apikey_begin_events(EventScan *scan, Snapshot snapshot,
								EventPlace after);
extern bool apikey_next_event(EventScan *scan);
extern void apikey_end_events(EventScan *scan);
extern int	apikey_compare_places(EventPlace a, EventPlace b);
extern bool apikey_find_deletion(ApikeyShape shape, const uint8 *digest,
								 ApikeyDeletion *deletion);

/* in history_worker.c */
extern void history_register_launcher(void);

#endif							/* APIKEYS_HISTORY_H */
