/*
 * usage_slots.c
 *		The keys that have been used, and how often, in shared memory.
 *
 * There is a fixed number of slots, one for each key that has been used since
 * its counts were written, and a hash table of chains that finds them.
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
 * will be seen with a later count.  If another backend is writing the address,
 * it is not written: both uses happened at the same time.
 *
 * Nothing here raises an error or waits for I/O: verification calls it.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "port/pg_bitutils.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "usage.h"
#include "usage_internal.h"

#define NO_SLOT PG_UINT32_MAX

/*
 * A key and its counts.  See the top for who may touch what.
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

StaticAssertDecl(sizeof(UsageSlot) == CACHE_LINE,
				 "a slot is not a cache line");

static UsageSlot *slots = NULL;
static uint32 *buckets = NULL;	/* the first slots of the chains */
static LWLockPadded *partition_locks = NULL;

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
	for (uint32 i = buckets[bucket]; i != NO_SLOT; i = slots[i].next)
	{
		UsageSlot  *slot = &slots[i];

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
	slots[i].next = usage_shared->first_free;
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
		usage_shared->first_free = slots[i].next;
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
	slot = &slots[i];
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
	uint32		i = slot - slots;
	uint32	   *link = &buckets[bucket];

	while (*link != i)
		link = &slots[*link].next;
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

/* Count uses of a key; false if there is no room for it. */
bool
usage_add(const UsageKey *key, const UsageCount *count)
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
	UsageSlot  *slot = &slots[i];

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
		UsageSlot  *slot = &slots[i];
		UsageKey	key;

		if (!pg_atomic_read_u32(&slot->used) ||
			pg_atomic_read_u64(&slot->uses) != 0)
			continue;
		pg_read_barrier();
		key = slot->key;
		usage_forget(&key, false);
	}
}

/* ----- Shared memory ----- */

static uint32
num_buckets(void)
{
	return pg_nextpower2_32(Max(usage_max_keys, NUM_PARTITIONS));
}

static Size
buckets_size(void)
{
	return CACHELINEALIGN(mul_size(num_buckets(), sizeof(uint32)));
}

Size
usage_slots_size(void)
{
	return add_size(buckets_size(),
					mul_size(usage_max_keys, sizeof(UsageSlot)));
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
		UsageSlot  *slot = &slots[i];

		pg_atomic_init_u64(&slot->uses, 0);
		pg_atomic_init_u64(&slot->last_used_at, 0);
		pg_atomic_init_u32(&slot->used, false);
		pg_atomic_init_u32(&slot->addr_version, 0);
		give_free_slot(i);
	}
}

/* The memory is here; found if another process has made it. */
void
usage_attach_slots(char *start, bool found)
{
	buckets = (uint32 *) start;
	slots = (UsageSlot *) (start + buckets_size());
	partition_locks = GetNamedLWLockTranche(USAGE_LOCKS);
	if (found)
		return;
	usage_shared->num_slots = usage_max_keys;
	usage_shared->num_buckets = num_buckets();
	init_slots();
}
