/*
 * usage_file.c
 *		Keeping what has been counted, and not been written yet, across a clean
 *		restart.
 *
 * The file is written at the end of the server, when nobody counts any more,
 * and read and removed at its start, before anybody does.  Nothing is saved
 * after a crash: then a batch may have been committed and not been subtracted,
 * and its uses would be counted twice.
 */
#include "postgres.h"

#include <unistd.h>

#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/fd.h"

#include "usage_internal.h"

#define SAVED_FILE PGSTAT_STAT_PERMANENT_DIRECTORY "/apikeys.usage"

/* The file begins with this text, which differs where the layout does. */
#define COUNTER_TEXT(counter, name) " " name
#define SAVED_LAYOUT "apikeys usage 3:" USAGE_COUNTERS(COUNTER_TEXT)

/* Keys follow. */
typedef struct SavedHeader
{
	char		layout[sizeof(SAVED_LAYOUT)];
	uint64		counters[NUM_COUNTERS];
	uint64		last_flush;
} SavedHeader;

typedef struct SavedSlot
{
	UsageKey	key;
	UsageCount	count;
} SavedSlot;

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
	memcpy(header.layout, SAVED_LAYOUT, sizeof(SAVED_LAYOUT));
	for (int c = 0; c < NUM_COUNTERS; c++)
		header.counters[c] = usage_sum(c);
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
void
usage_save(int code, Datum arg pg_attribute_unused())
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
	for (int c = 0; c < NUM_COUNTERS; c++)
		usage_count_before(c, header->counters[c]);
	pg_atomic_write_u64(&usage_shared->last_flush, header->last_flush);
}

/*
 * Read what was saved.  The file goes before it is counted: if it cannot go,
 * it would be counted for a second time one day.
 */
void
usage_load(void)
{
	FILE	   *file = AllocateFile(SAVED_FILE, PG_BINARY_R);
	SavedHeader header;
	SavedSlot	saved;

	if (file == NULL)
		return;
	if (durable_unlink(SAVED_FILE, LOG) == 0)
	{
		if (fread(&header, sizeof(header), 1, file) == 1 &&
			memcmp(header.layout, SAVED_LAYOUT, sizeof(SAVED_LAYOUT)) == 0)
		{
			load_header(&header);
			while (fread(&saved, sizeof(saved), 1, file) == 1)
				if (!usage_add(&saved.key, &saved.count))
					usage_count_before(COUNTER_DROPPED,
									   saved.count.uses);
		}
		else
			ereport(LOG, (errmsg("ignoring file \"%s\"", SAVED_FILE)));
	}
	FreeFile(file);
}
