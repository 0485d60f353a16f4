/*
 * usage_shmem.c
 *		The shared memory of usage, from the start of the server to its end.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "usage.h"
#include "usage_internal.h"

int			usage_max_keys = 65536;

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

/* It begins with UsageShared; counters and slots follow. */
#define HEADER_SIZE CACHELINEALIGN(sizeof(UsageShared))

static Size
shared_size(void)
{
	return add_size(HEADER_SIZE,
					add_size(usage_counters_size(), usage_slots_size()));
}

static void
request_memory(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(shared_size());
	RequestNamedLWLockTranche(USAGE_LOCKS, NUM_PARTITIONS);
}

static void
init_shared(UsageShared *shared)
{
	memset(shared, 0, sizeof(*shared));
	shared->size = shared_size();
	pg_atomic_init_u32(&shared->num_used, 0);
	pg_atomic_init_u64(&shared->asked_at, 0);
	pg_atomic_init_u64(&shared->requested, 0);
	pg_atomic_init_u64(&shared->completed, 0);
	pg_atomic_init_u64(&shared->left_over, 0);
	ConditionVariableInit(&shared->done);
	pg_atomic_init_u64(&shared->workers_done, 0);
	pg_atomic_init_u64(&shared->committing, 0);
	pg_atomic_init_u64(&shared->settled, 0);
	pg_atomic_init_u64(&shared->last_flush, 0);
}

static void
start_memory(void)
{
	char	   *start;
	bool		found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	start = ShmemInitStruct("apikeys usage", shared_size(), &found);
	usage_shared = (UsageShared *) start;
	if (!found)
		init_shared(usage_shared);
	start += HEADER_SIZE;
	usage_attach_counters(start, found);
	usage_attach_slots(start + usage_counters_size(), found);
	LWLockRelease(AddinShmemInitLock);

	if (!IsUnderPostmaster)
	{
		on_shmem_exit(usage_save, (Datum) 0);
		if (!found)
			usage_load();
	}
}

/*
 * Called when the library is loaded while the server starts, which is the only
 * time when shared memory can be had.
 */
void
usage_shmem_init(void)
{
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_memory;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = start_memory;
}
