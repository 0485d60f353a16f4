/*
 * usage_internal.h
 *		What the files of usage, and nobody else, share.
 *
 * The direction of calls: each of these calls those below it, never back.
 *
 *	usage_shmem.c						(start and end of the server)
 *	usage_file.c						(what is kept in between)
 *	usage_funcs.c, usage_worker.c, usage_launcher.c	(reading, writing, when)
 *	usage.c								(what verification calls)
 *	usage_slots.c						(the keys in shared memory)
 */
#ifndef APIKEYS_USAGE_INTERNAL_H
#define APIKEYS_USAGE_INTERNAL_H

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "storage/spin.h"
#include "utils/inet.h"

#include "status.h"

/* Of the processors that we know. */
#define CACHE_LINE 64

/* The locks that guard parts of the slots: how many, a power of two. */
#define USAGE_LOCKS "apikeys_usage"
#define NUM_PARTITIONS 64

#define LAUNCHER_RESTART 5		/* s until a terminated launcher is back */

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
 * What is counted of the whole server, under its name in apikey_stats: what
 * became of the keys presented, and then what else happens.
 */
#define USAGE_COUNTERS(COUNTER) \
	APIKEY_STATUSES(COUNTER) \
	COUNTER(CACHE_HITS, "cache_hits") \
	COUNTER(DROPPED, "dropped") \
	COUNTER(FLUSHES, "flushes")

#define COUNTER_NUMBER(counter, name) COUNTER_##counter,
typedef enum UsageCounter
{
	USAGE_COUNTERS(COUNTER_NUMBER) NUM_COUNTERS
} UsageCounter;

typedef struct UsageShared
{
	Size		size;			/* of all of it, in bytes */
	uint32		num_slots;
	uint32		num_buckets;
	uint32		num_counters;
	pg_atomic_uint32 num_used;	/* slots that are keys' */
	slock_t		free_lock;		/* guards first_free and next of free slots */
	uint32		first_free;

	/* flushing: see usage_launcher.c and usage_worker.c */
	Latch	   *launcher;		/* NULL if it is not running */
	pg_atomic_uint64 asked_at;	/* when room was asked for, a TimestampTz */
	pg_atomic_uint64 requested; /* rounds asked for */
	pg_atomic_uint64 completed; /* the last of them that has been made */
	pg_atomic_uint64 left_over; /* databases that it could not write */
	ConditionVariable done;
	pg_atomic_uint64 workers_done;	/* that did what they were started for */
	pg_atomic_uint64 committing;	/* batches about to commit */
	pg_atomic_uint64 settled;	/* of those, the ones that ended */
	pg_atomic_uint64 last_flush;	/* a TimestampTz; 0 for never */
} UsageShared;

extern UsageShared *usage_shared;	/* NULL: usage is not counted */

/* in usage.c */
extern void usage_count(UsageCounter counter);
extern void usage_count_before(UsageCounter counter, uint64 n);
extern uint64 usage_sum(UsageCounter counter);
extern void usage_ask_for_flush(void);
extern Size usage_counters_size(void);
extern void usage_attach_counters(char *start, bool found);

/* in usage_file.c */
extern void usage_save(int code, Datum arg);
extern void usage_load(void);

/* in usage_slots.c */
extern bool usage_add(const UsageKey *key, const UsageCount *count);
extern bool usage_read(const UsageKey *key, UsageCount *count);
extern bool usage_has_counts(uint32 slot, UsageKey *key);
extern void usage_subtract(const UsageKey *key, uint64 uses);
extern void usage_forget(const UsageKey *key, bool counts_too);
extern void usage_make_room(void);
extern Size usage_slots_size(void);
extern void usage_attach_slots(char *start, bool found);

#endif							/* APIKEYS_USAGE_INTERNAL_H */
