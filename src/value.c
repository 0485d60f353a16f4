/*
 * value.c
 *		The text format of a key's value: reading, making, suffix.
 *
 *	na1.b8Qx...43 base-62 characters...Zk2/3BTYMQW
 *	prefix           secret                suffix
 *
 * The digest covers every byte before the last slash, and the suffix is a
 * part of the digest: what is mistyped or invented is refused right here.
 * Nothing in this file touches the database or allocates memory; all text is
 * looked at byte by byte, whatever the encoding.
 */
#include "postgres.h"

#include "value.h"

#define P	IN_LEGACY			/* punctuation and the blank */
#define U	(IN_LEGACY | IN_SECRET)
#define L	(IN_LEGACY | IN_SECRET | IN_PREFIX)

/* Looked up byte by byte: a row for each 16 from the blank on. */
const uint8 apikey_classes[256] = {
	0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P,
	L, L, L, L, L, L, L, L, L, L, P, P, P, P, P, P,
	P, U, U, U, U, U, U, U, U, U, U, U, U, U, U, U,
	U, U, U, U, U, U, U, U, U, U, U, P, P, P, P, P,
	P, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L,
	L, L, L, L, L, L, L, L, L, L, L, P, P, P, P, 0,
};

#undef P
#undef U
#undef L

static const char base62[] =
"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/* Crockford's base 32 has no I, L, O or U. */
static const char base32[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/* Are all bytes of this class? */
static bool
all_in(const char *text, size_t len, uint8 wanted)
{
	uint8		common = 0xFF;

	for (size_t i = 0; i < len; i++)
		common &= apikey_classes[(unsigned char) text[i]];
	return (common & wanted) != 0;
}

static bool
is_prefix(const char *text, size_t len)
{
	return len >= 1 && len <= APIKEY_PREFIX_MAX &&
		text[0] >= 'a' && text[0] <= 'z' &&
		all_in(text, len, IN_PREFIX);
}

bool
apikey_is_alphanumeric(const char *text, size_t len)
{
	return all_in(text, len, IN_SECRET);
}

bool
apikey_is_printable(const char *text, size_t len)
{
	return all_in(text, len, IN_LEGACY);
}

bool
apikey_prefix_is_valid(const char *prefix)
{
	return is_prefix(prefix, strlen(prefix));
}

/*
 * Does the text look like a native value, whether or not its suffix is right?
 * The suffix may be any alphanumerics here: a mistyped one shall be refused
 * as a native value, not be looked up among the legacy keys.
 */
bool
apikey_has_native_shape(const char *text, size_t len)
{
	const char *secret;
	const char *slash;

	if (len < APIKEY_NATIVE_MIN || len > APIKEY_NATIVE_MAX)
		return false;
	slash = text + len - APIKEY_SUFFIX_LEN - 1;
	secret = slash - APIKEY_SECRET_LEN;
	return *slash == '/' && secret[-1] == '.' &&
		is_prefix(text, secret - 1 - text) &&
		all_in(secret, APIKEY_SECRET_LEN, IN_SECRET) &&
		all_in(slash + 1, APIKEY_SUFFIX_LEN, IN_SECRET);
}

/*
 * Tell what a text is, and its digest unless it is malformed.
 */
ApikeyShape
apikey_value_read(const char *text, size_t len, uint8 *digest)
{
	char		suffix[APIKEY_SUFFIX_LEN];
	size_t		covered = len - APIKEY_SUFFIX_LEN - 1;

	if (len < APIKEY_LEGACY_MIN || len > APIKEY_LEGACY_MAX)
		return SHAPE_MALFORMED;
	if (!apikey_has_native_shape(text, len))
	{
		if (!all_in(text, len, IN_LEGACY))
			return SHAPE_MALFORMED;
		apikey_digest(text, len, digest);
		return SHAPE_LEGACY;
	}
	apikey_digest(text, covered, digest);
	apikey_suffix_of(digest, suffix);
	if (memcmp(suffix, text + covered + 1, APIKEY_SUFFIX_LEN) != 0)
		return SHAPE_MALFORMED;
	return SHAPE_NATIVE;
}

/* The last 35 bits of a digest as seven characters, not terminated. */
void
apikey_suffix_of(const uint8 *digest, char *suffix)
{
	uint64		bits = 0;

	for (int i = APIKEY_DIGEST_LEN - 5; i < APIKEY_DIGEST_LEN; i++)
		bits = bits << 8 | digest[i];
	for (int i = APIKEY_SUFFIX_LEN - 1; i >= 0; i--)
	{
		suffix[i] = base32[bits & 31];
		bits >>= 5;
	}
}

/*
 * Draw a secret uniformly: of a random byte's 256 values, the highest 8 are
 * drawn again, because 248 is the largest multiple of 62.
 */
static bool
draw_secret(char *secret)
{
	uint8		bytes[APIKEY_SECRET_LEN + 5];
	size_t		used = sizeof(bytes);

	for (int i = 0; i < APIKEY_SECRET_LEN;)
	{
		if (used == sizeof(bytes))
		{
			if (!pg_strong_random(bytes, sizeof(bytes)))
				return false;
			used = 0;
		}
		if (bytes[used] < 4 * 62)
			secret[i++] = base62[bytes[used] % 62];
		used++;
	}
	explicit_bzero(bytes, sizeof(bytes));
	return true;
}

/*
 * Make a new value of at most APIKEY_NATIVE_MAX bytes, not terminated, and
 * its digest.  Returns its length, or 0 if there is no randomness to be had.
 */
size_t
apikey_value_generate(const char *prefix, char *value, uint8 *digest)
{
	size_t		len = strlen(prefix);

	memcpy(value, prefix, len);
	value[len++] = '.';
	if (!draw_secret(value + len))
		return 0;
	len += APIKEY_SECRET_LEN;
	apikey_digest(value, len, digest);
	value[len++] = '/';
	apikey_suffix_of(digest, value + len);
	return len + APIKEY_SUFFIX_LEN;
}
