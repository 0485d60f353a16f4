/*
 * usage.c
 *		Counting in shared memory which keys are used, and what is refused.
 *
 * There is a fixed number of slots, one for each key that has been used since
 * its counts were written, and a partitioned hash table that finds them.
 *
 * Locking: whoever looks a key up holds its partition's lock in shared mode
 * while touching the slot; a known key is counted under that and atomics
 * only.  Adding and removing a slot needs the lock in exclusive mode.  Slots
 * are read without a lock by the flusher, which is the only one to remove
 * them (usage_worker.c).  The last use and its address are guarded by a flag
 * that nobody waits for: who finds it taken knows that a use as recent as its
 * own is being noted.
 *
 * Nothing here raises an error or waits for I/O: verification calls it.
 * Counters of events are each backend's own, and are summed when read.
 */
#include "postgres.h"

#include <unistd.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"

#include "apikeys.h"
#include "usage.h"

#define NUM_PARTITIONS 64
#define SAVED_FILE PGSTAT_STAT_PERMANENT_DIRECTORY "/apikeys.usage"
#define SAVED_MAGIC 0x41504B31	/* another one for another layout */

typedef struct UsageEntry
{
	UsageKey	key;
	uint32		slot;
} UsageEntry;

/* What the file begins with; counters and slots follow. */
typedef struct SavedHeader
{
	uint32		magic;
	uint32		num_slots;
	uint64		events[NUM_EVENTS];
} SavedHeader;

typedef struct SavedSlot
{
	UsageKey	key;
	TimestampTz last_used_at;
	uint64		uses;
	char		addr[USAGE_ADDR_LEN];
} SavedSlot;

UsageShared *usage_shared = NULL;
UsageSlot  *usage_slots = NULL;
UsageCounters *usage_counters = NULL;
int			usage_max_keys = 65536;
int			usage_flush_interval = 10;

static HTAB *index_of_key = NULL;
static LWLockPadded *partition_locks = NULL;
static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

static Size
slots_size(void)
{
	return mul_size(usage_max_keys, sizeof(UsageSlot));
}

static Size
shared_size(void)
{
	Size		size = MAXALIGN(sizeof(UsageShared));

	size = add_size(size, mul_size(MaxBackends, sizeof(UsageCounters)));
	return add_size(size, slots_size());
}

static void
usage_shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(add_size(shared_size(),
									hash_estimate_size(usage_max_keys,
													   sizeof(UsageEntry))));
	RequestNamedLWLockTranche("apikeys_usage", NUM_PARTITIONS);
}

static void
free_slot(uint32 i)
{
	UsageSlot  *slot = &usage_slots[i];

	SpinLockAcquire(&usage_shared->free_lock);
	slot->next_free = usage_shared->first_free;
	usage_shared->first_free = i;
	SpinLockRelease(&usage_shared->free_lock);
}

static void
init_shared(void)
{
	memset(usage_shared, 0, shared_size());
	usage_shared->size = shared_size() +
		hash_estimate_size(usage_max_keys, sizeof(UsageEntry));
	usage_shared->max_slots = usage_max_keys;
	usage_shared->num_counters = MaxBackends;
	usage_shared->first_free = usage_max_keys;
	pg_atomic_init_u32(&usage_shared->num_used, 0);
	SpinLockInit(&usage_shared->free_lock);
	pg_atomic_init_u32(&usage_shared->flush_asked, false);
	pg_atomic_init_u64(&usage_shared->requested, 0);
	pg_atomic_init_u64(&usage_shared->completed, 0);
	ConditionVariableInit(&usage_shared->done);
	pg_atomic_init_u64(&usage_shared->flushes, 0);
	pg_atomic_init_u64(&usage_shared->last_flush, 0);
	for (uint32 i = 0; i < usage_shared->num_counters; i++)
		for (int e = 0; e < NUM_EVENTS; e++)
			pg_atomic_init_u64(&usage_counters[i].events[e], 0);
	for (uint32 i = usage_shared->max_slots; i-- > 0;)
	{
		pg_atomic_init_u32(&usage_slots[i].used, false);
		pg_atomic_init_flag(&usage_slots[i].busy);
		pg_atomic_init_u64(&usage_slots[i].uses, 0);
		free_slot(i);
	}
}

static LWLock *
partition_lock(uint32 hash)
{
	return &partition_locks[hash % NUM_PARTITIONS].lock;
}

/*
 * The slot of a key, or NULL; the caller holds its partition's lock.
 */
static UsageSlot *
find_slot(const UsageKey *key, uint32 hash)
{
	UsageEntry *entry = hash_search_with_hash_value(index_of_key, key, hash,
													HASH_FIND, NULL);

	return entry == NULL ? NULL : &usage_slots[entry->slot];
}

/*
 * The same, made if it was not there; NULL if there is no room.  The lock is
 * held in exclusive mode.
 */
static UsageSlot *
add_slot(const UsageKey *key, uint32 hash)
{
	UsageEntry *entry;
	UsageSlot  *slot = find_slot(key, hash);
	uint32		i;

	if (slot != NULL)
		return slot;			/* somebody was faster */
	SpinLockAcquire(&usage_shared->free_lock);
	i = usage_shared->first_free;
	if (i < usage_shared->max_slots)
		usage_shared->first_free = usage_slots[i].next_free;
	SpinLockRelease(&usage_shared->free_lock);
	if (i == usage_shared->max_slots)
		return NULL;
	entry = hash_search_with_hash_value(index_of_key, key, hash,
										HASH_ENTER_NULL, NULL);
	if (entry == NULL)
	{
		free_slot(i);
		return NULL;
	}
	entry->slot = i;
	slot = &usage_slots[i];
	slot->key = *key;
	slot->last_used_at = 0;
	slot->addr[0] = '\0';
	pg_atomic_write_u64(&slot->uses, 0);
	/* the flusher reads without a lock: the flag comes last */
	pg_write_barrier();
	pg_atomic_write_u32(&slot->used, true);
	pg_atomic_fetch_add_u32(&usage_shared->num_used, 1);
	return slot;
}

/* The client's address as text, empty for a local one; found out once. */
static const char *
client_addr(void)
{
	static char addr[USAGE_ADDR_LEN];
	static bool known = false;

	LOCAL_FCINFO(fcinfo, 0);
	Datum		client;

	if (likely(known))
		return addr;
	InitFunctionCallInfoData(*fcinfo, NULL, 0, InvalidOid, NULL, NULL);
	client = inet_client_addr(fcinfo);
	if (!fcinfo->isnull)
		strlcpy(addr, DatumGetCString(DirectFunctionCall1(inet_out, client)),
				sizeof(addr));
	known = true;
	return addr;
}

static void
touch_slot(UsageSlot *slot, uint64 uses, TimestampTz at, const char *addr)
{
	pg_atomic_fetch_add_u64(&slot->uses, uses);
	if (!pg_atomic_test_set_flag(&slot->busy))
		return;
	if (at >= slot->last_used_at)
	{
		slot->last_used_at = at;
		strlcpy(slot->addr, addr, sizeof(slot->addr));
	}
	pg_atomic_clear_flag(&slot->busy);
}

/* Count uses of a key; false if there is no room for it. */
static bool
count_uses(const UsageKey *key, uint64 uses, TimestampTz at, const char *addr)
{
	uint32		hash = get_hash_value(index_of_key, key);
	LWLock	   *lock = partition_lock(hash);
	UsageSlot  *slot;

	LWLockAcquire(lock, LW_SHARED);
	slot = find_slot(key, hash);
	if (unlikely(slot == NULL))
	{
		LWLockRelease(lock);
		/* a glance without the lock, lest all wait when there is no room */
		if (usage_shared->first_free == usage_shared->max_slots)
			return false;
		LWLockAcquire(lock, LW_EXCLUSIVE);
		slot = add_slot(key, hash);
	}
	if (slot != NULL)
		touch_slot(slot, uses, at, addr);
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

/*
 * Wake the launcher, which writes what there is; once is enough until it has
 * begun.
 */
void
usage_ask_for_flush(void)
{
	Latch	   *launcher = usage_shared->launcher;

	if (launcher != NULL &&
		pg_atomic_exchange_u32(&usage_shared->flush_asked, true) == false)
		SetLatch(launcher);
}

/* A key was verified: note its use. */
void
apikey_count_use(const ApikeyGrant *grant, bool from_cache)
{
	UsageKey	key;

	if (usage_shared == NULL)
		return;
	key.database = MyDatabaseId;
	key.table = apikey_catalog()->tables[TABLE_KEY];
	key.key_id = grant->key_id;
	count_event(EVENT_VERIFIED);
	if (from_cache)
		count_event(EVENT_CACHE_HIT);
	if (unlikely(!count_uses(&key, 1, GetCurrentStatementStartTimestamp(),
							 client_addr())))
	{
		count_event(EVENT_DROPPED);
		usage_ask_for_flush();
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

/*
 * What has been counted of a key and not been written yet; false if nothing.
 */
bool
usage_read(const UsageKey *key, TimestampTz *last_used_at, uint64 *uses)
{
	char		addr[USAGE_ADDR_LEN];
	uint32		hash = get_hash_value(index_of_key, key);
	LWLock	   *lock = partition_lock(hash);
	UsageSlot  *slot;

	LWLockAcquire(lock, LW_SHARED);
	slot = find_slot(key, hash);
	if (slot != NULL)
	{
		*uses = pg_atomic_read_u64(&slot->uses);
		usage_snapshot_slot(slot, last_used_at, addr);
	}
	LWLockRelease(lock);
	return slot != NULL;
}

/*
 * The last use of a slot and its address as they belong together.  A writer
 * holds the flag for some nanoseconds; it cannot be interrupted meanwhile.
 */
void
usage_snapshot_slot(UsageSlot *slot, TimestampTz *last_used_at, char *addr)
{
	SpinDelayStatus delay;

	init_local_spin_delay(&delay);
	while (!pg_atomic_test_set_flag(&slot->busy))
		perform_spin_delay(&delay);
	finish_spin_delay(&delay);
	*last_used_at = slot->last_used_at;
	strlcpy(addr, slot->addr, USAGE_ADDR_LEN);
	pg_atomic_clear_flag(&slot->busy);
}

/* Remove a slot, unless there is something to write that must not be lost. */
static void
remove_slot(uint32 i, bool even_if_counted)
{
	UsageSlot  *slot = &usage_slots[i];
	uint32		hash = get_hash_value(index_of_key, &slot->key);
	LWLock	   *lock = partition_lock(hash);

	LWLockAcquire(lock, LW_EXCLUSIVE);
	if (even_if_counted || pg_atomic_read_u64(&slot->uses) == 0)
	{
		pg_atomic_write_u32(&slot->used, false);
		hash_search_with_hash_value(index_of_key, &slot->key, hash,
									HASH_REMOVE, NULL);
		pg_atomic_fetch_sub_u32(&usage_shared->num_used, 1);
		free_slot(i);
	}
	LWLockRelease(lock);
}

/* Forget a key whatever has been counted of it. By the flusher only. */
void
usage_forget_slot(uint32 slot)
{
	remove_slot(slot, true);
}

/*
 * Make room: when most slots are taken, those that have been written can go.
 * By the flusher only.
 */
void
usage_forget_unused(void)
{
	if (pg_atomic_read_u32(&usage_shared->num_used) <
		usage_shared->max_slots / 4 * 3)
		return;
	for (uint32 i = 0; i < usage_shared->max_slots; i++)
		if (pg_atomic_read_u32(&usage_slots[i].used) &&
			pg_atomic_read_u64(&usage_slots[i].uses) == 0)
			remove_slot(i, false);
}

/* Forget the keys of a database that is no more. By the flusher only. */
void
usage_forget_database(Oid database)
{
	for (uint32 i = 0; i < usage_shared->max_slots; i++)
		if (pg_atomic_read_u32(&usage_slots[i].used) &&
			usage_slots[i].key.database == database)
			usage_forget_slot(i);
}

static bool
save_slots(FILE *file)
{
	for (uint32 i = 0; i < usage_shared->max_slots; i++)
	{
		UsageSlot  *slot = &usage_slots[i];
		SavedSlot	saved;

		if (!pg_atomic_read_u32(&slot->used) ||
			pg_atomic_read_u64(&slot->uses) == 0)
			continue;
		memset(&saved, 0, sizeof(saved));
		saved.key = slot->key;
		saved.uses = pg_atomic_read_u64(&slot->uses);
		usage_snapshot_slot(slot, &saved.last_used_at, saved.addr);
		if (fwrite(&saved, sizeof(saved), 1, file) != 1)
			return false;
	}
	return true;
}

/*
 * At a clean shutdown, when nobody counts any more, save what was counted.
 */
static void
save_usage(int code, Datum arg pg_attribute_unused())
{
	SavedHeader header = {.magic = SAVED_MAGIC};
	FILE	   *file;
	bool		saved;

	if (code != 0)
		return;
	for (uint32 i = 0; i < usage_shared->num_counters; i++)
		for (int e = 0; e < NUM_EVENTS; e++)
			header.events[e] +=
				pg_atomic_read_u64(&usage_counters[i].events[e]);
	file = AllocateFile(SAVED_FILE ".tmp", PG_BINARY_W);
	saved = file != NULL &&
		fwrite(&header, sizeof(header), 1, file) == 1 &&
		save_slots(file);
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

/*
 * Read what was saved.  The file goes at once: after a crash it would count
 * for a second time.
 */
static void
load_usage(void)
{
	FILE	   *file = AllocateFile(SAVED_FILE, PG_BINARY_R);
	SavedHeader header;
	SavedSlot	saved;

	if (file == NULL)
		return;
	if (fread(&header, sizeof(header), 1, file) == 1 &&
		header.magic == SAVED_MAGIC)
	{
		for (int e = 0; e < NUM_EVENTS; e++)
			pg_atomic_write_u64(&usage_counters[0].events[e],
								header.events[e]);
		while (fread(&saved, sizeof(saved), 1, file) == 1)
		{
			saved.addr[USAGE_ADDR_LEN - 1] = '\0';
			if (!count_uses(&saved.key, saved.uses, saved.last_used_at,
							saved.addr))
				break;			/* there are fewer slots than before */
		}
	}
	else
		ereport(LOG, (errmsg("ignoring file \"%s\"", SAVED_FILE)));
	FreeFile(file);
	durable_unlink(SAVED_FILE, LOG);
}

static void
usage_shmem_startup(void)
{
	HASHCTL		info = {
		.keysize = sizeof(UsageKey),
		.entrysize = sizeof(UsageEntry),
		.num_partitions = NUM_PARTITIONS
	};
	bool		found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	usage_shared = ShmemInitStruct("apikeys usage", shared_size(), &found);
	usage_counters = (UsageCounters *)
		((char *) usage_shared + MAXALIGN(sizeof(UsageShared)));
	usage_slots = (UsageSlot *) (usage_counters + MaxBackends);
	partition_locks = GetNamedLWLockTranche("apikeys_usage");
	index_of_key = APIKEY_SHMEM_INIT_HASH("apikeys usage index",
										  usage_max_keys, &info,
										  HASH_ELEM | HASH_BLOBS |
										  HASH_PARTITION);
	if (!found)
		init_shared();
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
 * server starts, and a setting that takes a restart only be defined then.
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
