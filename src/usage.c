/*
 * usage.c
 *		Counting in shared memory which keys are used, and what is refused.
 *
 * There is a fixed number of slots, one for each key that has been used since
 * its counts were written, and a hash table of chains that finds them.  What
 * does not fit is counted as dropped.
 *
 * Locking: who looks for a key holds its partition's lock in shared mode, and
 * touches the slot by atomics only; so requests of the same key do not wait
 * for each other.  Adding and removing a slot takes the lock in exclusive
 * mode.  Going through all slots takes no lock: what is found there is no
 * more than a key to look for.
 *
 * A use is noted in this order: its time, if none is newer; the address that
 * goes with it; the count.  Who reads a count of n will therefore find the
 * time and address of these n uses or of newer ones, and what it has missed
 * will be seen with a later count.  Whoever finds another at writing the
 * address leaves it at that: both are uses of the same moment.
 *
 * Nothing here raises an error or waits for I/O: verification calls it.
 * Events are counted by each backend in a place of its own, and summed when
 * they are read.
 */
#include "postgres.h"

#include <unistd.h>

#include "access/xact.h"
#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "port/pg_bitutils.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "apikeys.h"
#include "usage.h"

#define NUM_PARTITIONS 64		/* a power of two */
#define NO_SLOT PG_UINT32_MAX
#define ASK_INTERVAL USECS_PER_SEC	/* between two asks for room */
#define SAVED_FILE PGSTAT_STAT_PERMANENT_DIRECTORY "/apikeys.usage"
#define SAVED_MAGIC 0x41504B32	/* another one for another layout */

/* What the file begins with; keys follow. */
typedef struct SavedHeader
{
	uint32		magic;
	uint64		events[NUM_EVENTS];
	uint64		flushes;
	uint64		last_flush;
} SavedHeader;

typedef struct SavedSlot
{
	UsageKey	key;
	UsageCount	count;
} SavedSlot;

UsageShared *usage_shared = NULL;
UsageSlot  *usage_slots = NULL;
UsageCounters *usage_counters = NULL;
int			usage_max_keys = 65536;
int			usage_flush_interval = 10;

static uint32 *buckets = NULL;	/* the first slots of the chains */
static LWLockPadded *partition_locks = NULL;
static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

/* ----- The slots ----- */

static uint32
bucket_of(const UsageKey *key)
{
	uint32		hash = hash_combine(murmurhash32((uint32) key->key_id),
									key->table ^ key->database);

	return hash & (usage_shared->num_buckets - 1);
}

static LWLock *
lock_of(uint32 bucket)
{
	return &partition_locks[bucket % NUM_PARTITIONS].lock;
}

/* The slot of a key, or NULL; the caller holds the lock. */
static UsageSlot *
find_slot(const UsageKey *key, uint32 bucket)
{
	for (uint32 i = buckets[bucket]; i != NO_SLOT; i = usage_slots[i].next)
	{
		UsageSlot  *slot = &usage_slots[i];

		if (slot->key.key_id == key->key_id &&
			slot->key.table == key->table &&
			slot->key.database == key->database)
			return slot;
	}
	return NULL;
}

static void
give_free_slot(uint32 i)
{
	SpinLockAcquire(&usage_shared->free_lock);
	usage_slots[i].next = usage_shared->first_free;
	usage_shared->first_free = i;
	SpinLockRelease(&usage_shared->free_lock);
}

static uint32
take_free_slot(void)
{
	uint32		i;

	SpinLockAcquire(&usage_shared->free_lock);
	i = usage_shared->first_free;
	if (i != NO_SLOT)
		usage_shared->first_free = usage_slots[i].next;
	SpinLockRelease(&usage_shared->free_lock);
	return i;
}

/*
 * The slot of a key, made if it was not there; NULL if there is no room.  The
 * caller holds the lock in exclusive mode.
 */
static UsageSlot *
add_slot(const UsageKey *key, uint32 bucket)
{
	UsageSlot  *slot = find_slot(key, bucket);
	uint32		i;

	if (slot != NULL)
		return slot;			/* somebody was faster */
	i = take_free_slot();
	if (i == NO_SLOT)
		return NULL;
	slot = &usage_slots[i];
	slot->key = *key;
	pg_atomic_write_u64(&slot->uses, 0);
	pg_atomic_write_u64(&slot->last_used_at, 0);
	memset(&slot->addr, 0, sizeof(slot->addr));
	slot->next = buckets[bucket];
	buckets[bucket] = i;
	/* who goes through the slots without a lock must find the key */
	pg_write_barrier();
	pg_atomic_write_u32(&slot->used, true);
	pg_atomic_fetch_add_u32(&usage_shared->num_used, 1);
	return slot;
}

/* Remove the slot of a key; the caller holds the lock in exclusive mode. */
static void
remove_slot(UsageSlot *slot, uint32 bucket)
{
	uint32		i = slot - usage_slots;
	uint32	   *link = &buckets[bucket];

	while (*link != i)
		link = &usage_slots[*link].next;
	*link = slot->next;
	pg_atomic_write_u32(&slot->used, false);
	pg_atomic_fetch_sub_u32(&usage_shared->num_used, 1);
	give_free_slot(i);
}

static void
note_addr(UsageSlot *slot, const inet_struct *addr)
{
	uint32		version = pg_atomic_read_u32(&slot->addr_version);

	if ((version & 1) != 0 ||
		!pg_atomic_compare_exchange_u32(&slot->addr_version, &version,
										version + 1))
		return;
	slot->addr = *addr;
	pg_write_barrier();
	pg_atomic_write_u32(&slot->addr_version, version + 2);
}

/*
 * The address, not half of one and half of another.  A writer takes some
 * nanoseconds, or a time slice if it loses its processor amid; should it have
 * been stopped for good, the address remains unknown.
 */
static void
read_addr(UsageSlot *slot, inet_struct *addr)
{
	for (int try = 0; try < 1000; try++)
	{
		uint32		version = pg_atomic_read_u32(&slot->addr_version);

		pg_read_barrier();
		*addr = slot->addr;
		pg_read_barrier();
		if ((version & 1) == 0 &&
			version == pg_atomic_read_u32(&slot->addr_version))
			return;
		pg_usleep(100);
	}
	memset(addr, 0, sizeof(*addr));
}

static void
touch_slot(UsageSlot *slot, const UsageCount *count)
{
	uint64		last = pg_atomic_read_u64(&slot->last_used_at);
	bool		newest = false;

	while (!newest && (TimestampTz) last < count->last_used_at)
		newest = pg_atomic_compare_exchange_u64(&slot->last_used_at, &last,
												(uint64) count->last_used_at);
	if (newest)
		note_addr(slot, &count->addr);
	/* last, and a barrier */
	pg_atomic_fetch_add_u64(&slot->uses, count->uses);
}

/* ----- Counting ----- */

/* Count uses of a key; false if there is no room for it. */
static bool
count_uses(const UsageKey *key, const UsageCount *count)
{
	uint32		bucket = bucket_of(key);
	LWLock	   *lock = lock_of(bucket);
	UsageSlot  *slot;

	LWLockAcquire(lock, LW_SHARED);
	slot = find_slot(key, bucket);
	if (unlikely(slot == NULL) && usage_shared->first_free != NO_SLOT)
	{
		LWLockRelease(lock);
		LWLockAcquire(lock, LW_EXCLUSIVE);
		slot = add_slot(key, bucket);
	}
	if (slot != NULL)
		touch_slot(slot, count);
	LWLockRelease(lock);
	return slot != NULL;
}

/* Count something that happened to a key that was presented. */
static void
count_event(UsageEvent event)
{
	int			me = APIKEY_MY_PROC_NUMBER;

	if (me >= 0 && (uint32) me < usage_shared->num_counters)
	{
		pg_atomic_uint64 *counter = &usage_counters[me].events[event];

		/* nobody else writes here */
		pg_atomic_write_u64(counter, pg_atomic_read_u64(counter) + 1);
	}
}

/* The client's address, which a session keeps; family 0 for a local one. */
static const inet_struct *
client_addr(void)
{
	static inet_struct addr;
	static bool known = false;

	LOCAL_FCINFO(fcinfo, 0);
	Datum		client;

	if (likely(known))
		return &addr;
	InitFunctionCallInfoData(*fcinfo, NULL, 0, InvalidOid, NULL, NULL);
	client = inet_client_addr(fcinfo);
	if (!fcinfo->isnull)
	{
		inet	   *value = DatumGetInetPP(client);

		memcpy(&addr, VARDATA_ANY(value),
			   Min(VARSIZE_ANY_EXHDR(value), sizeof(addr)));
	}
	known = true;
	return &addr;
}

/* Wake the launcher, which writes what there is. */
void
usage_ask_for_flush(void)
{
	Latch	   *launcher = usage_shared->launcher;

	if (launcher != NULL)
		SetLatch(launcher);
}

/*
 * There is no room: ask for a flush, but not all the time, for it may be that
 * nothing can be written.
 */
static void
ask_for_room(TimestampTz now)
{
	uint64		last = pg_atomic_read_u64(&usage_shared->asked_at);

	if (now - (TimestampTz) last >= ASK_INTERVAL &&
		pg_atomic_compare_exchange_u64(&usage_shared->asked_at, &last,
									   (uint64) now))
		usage_ask_for_flush();
}

/* A key was verified: note its use. */
void
apikey_count_use(const ApikeyGrant *grant, bool from_cache)
{
	UsageKey	key;
	UsageCount	count;

	if (usage_shared == NULL)
		return;
	key.database = MyDatabaseId;
	key.table = apikey_catalog()->tables[TABLE_KEY];
	key.key_id = grant->key_id;
	count.uses = 1;
	count.last_used_at = GetCurrentStatementStartTimestamp();
	count.addr = *client_addr();
	count_event(EVENT_VERIFIED);
	if (from_cache)
		count_event(EVENT_CACHE_HIT);
	if (unlikely(!count_uses(&key, &count)))
	{
		count_event(EVENT_DROPPED);
		ask_for_room(count.last_used_at);
	}
}

/* A key was refused. */
void
apikey_count_refusal(ApikeyStatus status)
{
	static const UsageEvent events[] = {
		[STATUS_MALFORMED] = EVENT_MALFORMED,
		[STATUS_UNKNOWN] = EVENT_UNKNOWN,
		[STATUS_EXPIRED] = EVENT_EXPIRED,
		[STATUS_ACTIVE] = EVENT_LEVEL_TOO_LOW
	};

	if (usage_shared != NULL)
		count_event(events[status]);
}

/* ----- For those who read, write and forget counts ----- */

/*
 * What has been counted of a key and not been written yet; false if nothing
 * is known of it.
 */
bool
usage_read(const UsageKey *key, UsageCount *count)
{
	uint32		bucket = bucket_of(key);
	LWLock	   *lock = lock_of(bucket);
	UsageSlot  *slot;

	LWLockAcquire(lock, LW_SHARED);
	slot = find_slot(key, bucket);
	if (slot != NULL)
	{
		count->uses = pg_atomic_read_u64(&slot->uses);
		/* the count first: see the top of this file */
		pg_read_barrier();
		count->last_used_at =
			(TimestampTz) pg_atomic_read_u64(&slot->last_used_at);
		read_addr(slot, &count->addr);
	}
	LWLockRelease(lock);
	return slot != NULL;
}

/* The key of a slot that has counts to be written; false if it has none. */
bool
usage_has_counts(uint32 i, UsageKey *key)
{
	UsageSlot  *slot = &usage_slots[i];

	if (!pg_atomic_read_u32(&slot->used) ||
		pg_atomic_read_u64(&slot->uses) == 0)
		return false;
	pg_read_barrier();
	*key = slot->key;
	return true;
}

/* These counts of a key have been written. */
void
usage_subtract(const UsageKey *key, uint64 uses)
{
	uint32		bucket = bucket_of(key);
	LWLock	   *lock = lock_of(bucket);
	UsageSlot  *slot;

	LWLockAcquire(lock, LW_SHARED);
	slot = find_slot(key, bucket);
	if (slot != NULL)
		pg_atomic_fetch_sub_u64(&slot->uses, uses);
	LWLockRelease(lock);
}

/* Forget a key; only if there is nothing to write of it, unless told so. */
void
usage_forget(const UsageKey *key, bool counts_too)
{
	uint32		bucket = bucket_of(key);
	LWLock	   *lock = lock_of(bucket);
	UsageSlot  *slot;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	slot = find_slot(key, bucket);
	if (slot != NULL &&
		(counts_too || pg_atomic_read_u64(&slot->uses) == 0))
		remove_slot(slot, bucket);
	LWLockRelease(lock);
}

/*
 * When most slots are taken, those that have been written can go.  Until then
 * they stay, so that keys in use need not be added again and again.
 */
void
usage_make_room(void)
{
	if (pg_atomic_read_u32(&usage_shared->num_used) <
		usage_shared->num_slots / 4 * 3)
		return;
	for (uint32 i = 0; i < usage_shared->num_slots; i++)
	{
		UsageSlot  *slot = &usage_slots[i];
		UsageKey	key;

		if (!pg_atomic_read_u32(&slot->used) ||
			pg_atomic_read_u64(&slot->uses) != 0)
			continue;
		pg_read_barrier();
		key = slot->key;
		usage_forget(&key, false);
	}
}

/* ----- Across restarts ----- */

/*
 * Were backends and workers given the time to finish?  If not, a batch may
 * have been committed without having been subtracted.
 */
static bool
shut_down_cleanly(void)
{
	bool		crc_ok;
	ControlFileData *control = get_controlfile(DataDir, &crc_ok);

	return crc_ok && (control->state == DB_SHUTDOWNED ||
					  control->state == DB_SHUTDOWNED_IN_RECOVERY);
}

static bool
save_header(FILE *file)
{
	SavedHeader header;

	memset(&header, 0, sizeof(header));
	header.magic = SAVED_MAGIC;
	for (uint32 i = 0; i < usage_shared->num_counters; i++)
		for (int e = 0; e < NUM_EVENTS; e++)
			header.events[e] +=
				pg_atomic_read_u64(&usage_counters[i].events[e]);
	header.flushes = pg_atomic_read_u64(&usage_shared->flushes);
	header.last_flush = pg_atomic_read_u64(&usage_shared->last_flush);
	return fwrite(&header, sizeof(header), 1, file) == 1;
}

static bool
save_slots(FILE *file)
{
	for (uint32 i = 0; i < usage_shared->num_slots; i++)
	{
		SavedSlot	saved;

		memset(&saved, 0, sizeof(saved));
		if (usage_has_counts(i, &saved.key) &&
			usage_read(&saved.key, &saved.count) &&
			fwrite(&saved, sizeof(saved), 1, file) != 1)
			return false;
	}
	return true;
}

/*
 * At the end of the server, when nobody counts any more, save what was
 * counted.
 */
static void
save_usage(int code, Datum arg pg_attribute_unused())
{
	FILE	   *file;
	bool		saved;

	if (code != 0 || !shut_down_cleanly())
		return;
	file = AllocateFile(SAVED_FILE ".tmp", PG_BINARY_W);
	saved = file != NULL && save_header(file) && save_slots(file);
	if (file != NULL && FreeFile(file) != 0)
		saved = false;
	if (saved)
		(void) durable_rename(SAVED_FILE ".tmp", SAVED_FILE, LOG);
	else
	{
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", SAVED_FILE ".tmp")));
		unlink(SAVED_FILE ".tmp");
	}
}

static void
load_header(const SavedHeader *header)
{
	for (int e = 0; e < NUM_EVENTS; e++)
		pg_atomic_write_u64(&usage_counters[0].events[e], header->events[e]);
	pg_atomic_write_u64(&usage_shared->flushes, header->flushes);
	pg_atomic_write_u64(&usage_shared->last_flush, header->last_flush);
}

/*
 * Read what was saved.  The file goes before it is counted: if it cannot go,
 * it would be counted for a second time one day.
 */
static void
load_usage(void)
{
	FILE	   *file = AllocateFile(SAVED_FILE, PG_BINARY_R);
	pg_atomic_uint64 *dropped = &usage_counters[0].events[EVENT_DROPPED];
	SavedHeader header;
	SavedSlot	saved;

	if (file == NULL)
		return;
	if (durable_unlink(SAVED_FILE, LOG) == 0)
	{
		if (fread(&header, sizeof(header), 1, file) == 1 &&
			header.magic == SAVED_MAGIC)
		{
			load_header(&header);
			while (fread(&saved, sizeof(saved), 1, file) == 1)
				if (!count_uses(&saved.key, &saved.count))
					pg_atomic_fetch_add_u64(dropped, saved.count.uses);
		}
		else
			ereport(LOG, (errmsg("ignoring file \"%s\"", SAVED_FILE)));
	}
	FreeFile(file);
}

/* ----- Shared memory ----- */

static uint32
buckets_for_slots(void)
{
	return pg_nextpower2_32(Max(usage_max_keys, NUM_PARTITIONS));
}

/* It begins with UsageShared; what follows begins at these offsets. */
typedef struct UsageLayout
{
	Size		counters;
	Size		buckets;
	Size		slots;
	Size		size;
} UsageLayout;

static UsageLayout
layout_shared(void)
{
	UsageLayout at;

	at.counters = CACHELINEALIGN(sizeof(UsageShared));
	at.buckets = CACHELINEALIGN(add_size(at.counters,
										 mul_size(MaxBackends,
												  sizeof(UsageCounters))));
	at.slots = CACHELINEALIGN(add_size(at.buckets,
									   mul_size(buckets_for_slots(),
												sizeof(uint32))));
	at.size = add_size(at.slots, mul_size(usage_max_keys, sizeof(UsageSlot)));
	return at;
}

static void
usage_shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(layout_shared().size);
	RequestNamedLWLockTranche("apikeys_usage", NUM_PARTITIONS);
}

static void
init_slots(void)
{
	for (uint32 i = 0; i < usage_shared->num_buckets; i++)
		buckets[i] = NO_SLOT;
	usage_shared->first_free = NO_SLOT;
	SpinLockInit(&usage_shared->free_lock);
	for (uint32 i = usage_shared->num_slots; i-- > 0;)
	{
		UsageSlot  *slot = &usage_slots[i];

		pg_atomic_init_u64(&slot->uses, 0);
		pg_atomic_init_u64(&slot->last_used_at, 0);
		pg_atomic_init_u32(&slot->used, false);
		pg_atomic_init_u32(&slot->addr_version, 0);
		give_free_slot(i);
	}
}

static void
init_shared(Size size)
{
	UsageShared *shared = usage_shared;

	memset(shared, 0, sizeof(*shared));
	shared->size = size;
	shared->num_slots = usage_max_keys;
	shared->num_buckets = buckets_for_slots();
	shared->num_counters = MaxBackends;
	pg_atomic_init_u32(&shared->num_used, 0);
	pg_atomic_init_u64(&shared->asked_at, 0);
	pg_atomic_init_u64(&shared->requested, 0);
	pg_atomic_init_u64(&shared->completed, 0);
	pg_atomic_init_u64(&shared->left_over, 0);
	ConditionVariableInit(&shared->done);
	pg_atomic_init_u64(&shared->workers_done, 0);
	pg_atomic_init_u64(&shared->committing, 0);
	pg_atomic_init_u64(&shared->settled, 0);
	pg_atomic_init_u64(&shared->flushes, 0);
	pg_atomic_init_u64(&shared->last_flush, 0);
	for (uint32 i = 0; i < shared->num_counters; i++)
		for (int e = 0; e < NUM_EVENTS; e++)
			pg_atomic_init_u64(&usage_counters[i].events[e], 0);
	init_slots();
}

static void
usage_shmem_startup(void)
{
	UsageLayout at = layout_shared();
	char	   *start;
	bool		found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	start = ShmemInitStruct("apikeys usage", at.size, &found);
	usage_shared = (UsageShared *) start;
	usage_counters = (UsageCounters *) (start + at.counters);
	buckets = (uint32 *) (start + at.buckets);
	usage_slots = (UsageSlot *) (start + at.slots);
	partition_locks = GetNamedLWLockTranche("apikeys_usage");
	if (!found)
		init_shared(at.size);
	LWLockRelease(AddinShmemInitLock);

	if (!IsUnderPostmaster)
	{
		on_shmem_exit(save_usage, (Datum) 0);
		if (!found)
			load_usage();
	}
}

/*
 * Called when the library is loaded.  Shared memory can only be had while the
 * server starts.
 */
void
usage_init(void)
{
	if (!process_shared_preload_libraries_in_progress || usage_max_keys == 0)
		return;
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = usage_shmem_request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = usage_shmem_startup;
	usage_register_launcher();
}
