/*
 * cache.c
 *		Keys that this backend has just verified.
 *
 * A fixed array indexed by bits of the digest: nothing is allocated, linked
 * or evicted; what falls on the same place replaces what was there.  It holds
 * only what a decision about a level needs, only keys that exist, and nothing
 * that a transaction has yet to commit.
 *
 * When what is here must go, and why a hit is never a yes to a key that was
 * deleted before: see change.c.
 */
#include "postgres.h"

#include "apikeys.h"

#define CACHE_ENTRIES 8192		/* a power of two; 512 kB in all */

/* As large as a cache line, and aligned to it. */
typedef struct CacheEntry
{
	uint8		digest[APIKEY_DIGEST_LEN];
	TimestampTz expires_at;
	int64		key_id;
	uint32		generation;		/* valid if equal to the current one */
	uint8		level;
	bool		legacy;
	char		padding[10];
} CacheEntry;

StaticAssertDecl(sizeof(CacheEntry) == 64, "an entry must fill a cache line");

static CacheEntry entries[CACHE_ENTRIES] pg_attribute_aligned(64);
static uint32 current_generation = 1;

static inline CacheEntry *
entry_of(const uint8 *digest)
{
	return &entries[(digest[0] | digest[1] << 8) & (CACHE_ENTRIES - 1)];
}

uint32
apikey_cache_generation(void)
{
	return current_generation;
}

void
apikey_cache_reset(void)
{
	if (++current_generation != 0)
		return;
	/* Every four billion times, make old entries be old for good. */
	memset(entries, 0, sizeof(entries));
	current_generation = 1;
}

/*
 * The shape matters: a native value without its suffix is a text with the
 * same digest, and it is not the key.
 */
bool
apikey_cache_find(ApikeyShape shape, const uint8 *digest, ApikeyGrant *grant)
{
	const CacheEntry *entry = entry_of(digest);

	if (entry->generation != current_generation ||
		entry->legacy != (shape == SHAPE_LEGACY) ||
		memcmp(entry->digest, digest, APIKEY_DIGEST_LEN) != 0)
		return false;
	grant->key_id = entry->key_id;
	grant->expires_at = entry->expires_at;
	grant->level = entry->level;
	grant->legacy = entry->legacy;
	return true;
}

/*
 * Keep a key that was read from the table when the given generation was the
 * current one.
 */
void
apikey_cache_store(const uint8 *digest, const ApikeyGrant *grant,
				   uint32 generation)
{
	CacheEntry *entry = entry_of(digest);

	if (generation != current_generation)
		return;
	memcpy(entry->digest, digest, APIKEY_DIGEST_LEN);
	entry->expires_at = grant->expires_at;
	entry->key_id = grant->key_id;
	entry->level = grant->level;
	entry->legacy = grant->legacy;
	entry->generation = generation;
}
