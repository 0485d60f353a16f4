/*
 * usage.h
 *		What usage.c, which counts, shares with those who read and write the
 *		counts.
 */
#ifndef APIKEYS_USAGE_H
#define APIKEYS_USAGE_H

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "storage/spin.h"
#include "utils/inet.h"

/*
 * A key of any database.  The table tells keys apart that had the same number
 * before and after the extension was dropped and made again.
 */
typedef struct UsageKey
{
	Oid			database;
	Oid			table;
	int64		key_id;
} UsageKey;

/* What has been counted of one key since it was last written. */
typedef struct UsageCount
{
	uint64		uses;
	TimestampTz last_used_at;
	inet_struct addr;			/* family 0 if not by network */
} UsageCount;

/*
 * The same in shared memory, as large as a cache line.  See usage.c for who
 * may touch what.
 */
typedef struct UsageSlot
{
	UsageKey	key;
	pg_atomic_uint64 uses;
	pg_atomic_uint64 last_used_at;	/* a TimestampTz */
	pg_atomic_uint32 used;		/* is this slot a key's? */
	uint32		next;			/* in its bucket, or among the free */
	pg_atomic_uint32 addr_version;	/* odd while addr is being written */
	inet_struct addr;
} UsageSlot;

/* What happened to keys that were presented, and how they were found. */
typedef enum UsageEvent
{
	EVENT_VERIFIED,
	EVENT_MALFORMED,
	EVENT_UNKNOWN,
	EVENT_EXPIRED,
	EVENT_LEVEL_TOO_LOW,
	EVENT_CACHE_HIT,
	EVENT_DROPPED
} UsageEvent;
#define NUM_EVENTS (EVENT_DROPPED + 1)

/* Each backend counts in a place of its own, padded to a cache line. */
typedef struct UsageCounters
{
	pg_atomic_uint64 events[NUM_EVENTS];
	char		padding[64 - sizeof(pg_atomic_uint64) * NUM_EVENTS % 64];
} UsageCounters;

typedef struct UsageShared
{
	Size		size;			/* of all of it, in bytes */
	uint32		num_slots;
	uint32		num_buckets;
	uint32		num_counters;
	pg_atomic_uint32 num_used;	/* slots that are keys' */
	slock_t		free_lock;		/* guards first_free and next of free slots */
	uint32		first_free;

	/* flushing: see usage_worker.c */
	Latch	   *launcher;		/* NULL if it is not running */
	pg_atomic_uint64 asked_at;	/* when room was asked for, a TimestampTz */
	pg_atomic_uint64 requested; /* rounds asked for */
	pg_atomic_uint64 completed; /* the last of them that has been made */
	pg_atomic_uint64 left_over; /* databases that it could not write */
	ConditionVariable done;
	pg_atomic_uint64 workers_done;	/* that did what they were started for */
	pg_atomic_uint64 committing;	/* batches about to commit */
	pg_atomic_uint64 settled;	/* of those, the ones that ended */
	pg_atomic_uint64 flushes;	/* batches committed */
	pg_atomic_uint64 last_flush;	/* when, a TimestampTz; 0 for never */
} UsageShared;

extern UsageShared *usage_shared;	/* NULL: usage is not counted */
extern UsageSlot *usage_slots;
extern UsageCounters *usage_counters;

extern int	usage_max_keys;
extern int	usage_flush_interval;

/* in usage.c */
extern void usage_init(void);
extern bool usage_read(const UsageKey *key, UsageCount *count);
extern bool usage_has_counts(uint32 slot, UsageKey *key);
extern void usage_subtract(const UsageKey *key, uint64 uses);
extern void usage_forget(const UsageKey *key, bool counts_too);
extern void usage_make_room(void);
extern void usage_ask_for_flush(void);

/* in usage_worker.c */
extern void usage_register_launcher(void);

#endif							/* APIKEYS_USAGE_H */
