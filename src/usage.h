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
#include "storage/s_lock.h"
#include "storage/spin.h"

#define USAGE_ADDR_LEN 48		/* INET6_ADDRSTRLEN, rounded up */

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
typedef struct UsageSlot
{
	UsageKey	key;
	pg_atomic_uint32 used;		/* is this slot a key's? */
	pg_atomic_flag busy;		/* guards the two below; never waited for */
	TimestampTz last_used_at;
	char		addr[USAGE_ADDR_LEN];	/* empty if not by network */
	pg_atomic_uint64 uses;
	uint32		next_free;		/* of a slot that is nobody's */
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
	uint32		max_slots;
	uint32		num_counters;
	pg_atomic_uint32 num_used;	/* slots that are keys' */
	slock_t		free_lock;		/* guards first_free and next_free of slots */
	uint32		first_free;		/* max_slots if there is none */

	/* flushing */
	Latch	   *launcher;		/* NULL if it is not running */
	pg_atomic_uint32 flush_asked;	/* and the launcher not awake yet */
	pg_atomic_uint64 requested; /* flushes asked for */
	pg_atomic_uint64 completed; /* the last of them that has been carried out */
	ConditionVariable done;
	pg_atomic_uint64 flushes;	/* statements that wrote something */
	pg_atomic_uint64 last_flush;	/* when, a TimestampTz; 0 for never */
} UsageShared;

extern UsageShared *usage_shared;	/* NULL: usage is not counted */
extern UsageSlot *usage_slots;
extern UsageCounters *usage_counters;

extern int	usage_max_keys;
extern int	usage_flush_interval;

/* in usage.c */
extern void usage_init(void);
extern bool usage_read(const UsageKey *key, TimestampTz *last_used_at,
					   uint64 *uses);
extern void usage_snapshot_slot(UsageSlot *slot, TimestampTz *last_used_at,
								char *addr);
extern void usage_ask_for_flush(void);
extern void usage_forget_slot(uint32 slot);
extern void usage_forget_unused(void);
extern void usage_forget_database(Oid database);

/* in usage_worker.c */
extern void usage_register_launcher(void);

#endif							/* APIKEYS_USAGE_H */
