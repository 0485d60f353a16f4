/*
 * keys.h
 *		The keys of the benchmark, and the order in which they are presented.
 *
 * The value of key number i is computed from i, so that nobody has to keep
 * values: inserver.c fills the tables with them, and whoever presents keys
 * makes them itself, outside the time that is measured.  Anybody can compute
 * these secrets: they are of no use elsewhere.
 */
#ifndef BENCH_KEYS_H
#define BENCH_KEYS_H

#include <math.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define KEY_PREFIX		"ak."
#define KEY_SECRET_LEN	43
#define KEY_COVERED_LEN (sizeof(KEY_PREFIX) - 1 + KEY_SECRET_LEN)
#define KEY_LEN			(KEY_COVERED_LEN + 1 + 7)
#define KEY_HUGE_LEN	(1024 * 1024)
#define KEY_TEXT_MAX	300		/* of all kinds but the huge */
#define HOT_KEYS		1000

/* Never loaded. */
#define FIRST_UNKNOWN	(UINT64_C(1) << 40)

typedef enum KeyKind
{
	KIND_ONE,					/* always the same */
	KIND_HOT,					/* one of HOT_KEYS */
	KIND_ZIPF,					/* some often, most seldom */
	KIND_UNIFORM,				/* any of those there are */
	KIND_UNKNOWN,				/* well-formed, but there is no such key */
	KIND_UNKNOWN_LEGACY,		/* what could be a legacy key, but is none */
	KIND_MISTYPED,				/* one character of a valid one is wrong */
	KIND_MALFORMED,				/* no key looks like that */
	KIND_HUGE,					/* a text of 1 MB */
	KIND_FRESH,					/* never seen before, to be inserted */
	NUM_KINDS
} KeyKind;

static const char *const key_kind_names[NUM_KINDS] = {
	"one", "hot", "zipf", "uniform", "unknown", "unknown_legacy",
	"mistyped", "malformed", "huge", "fresh"
};

/* What draws keys of one kind; made by key_source_init(). */
typedef struct KeySource
{
	KeyKind		kind;
	uint64_t	keys;			/* how many are loaded */
	uint64_t	state;			/* of the random generator */
	double		exponent;		/* of the Zipf distribution, and its constants */
	double		first_area;
	double		last_area;
	double		shift;
	EVP_MD_CTX *sha256;
} KeySource;

/* NUM_KINDS if there is no such kind. */
static inline KeyKind
key_kind(const char *name)
{
	int			kind = 0;

	while (kind < NUM_KINDS && strcmp(name, key_kind_names[kind]) != 0)
		kind++;
	return kind;
}

/* The splitmix64 generator. */
static inline uint64_t
next_random(uint64_t *state)
{
	uint64_t	z = *state += UINT64_C(0x9E3779B97F4A7C15);

	z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
	return z ^ z >> 31;
}

/* Less than one. */
static inline double
next_fraction(uint64_t *state)
{
	return (next_random(state) >> 11) * (1.0 / (UINT64_C(1) << 53));
}

/* The SHA-256 digest of a text, by a context that is kept. */
static inline void
key_digest(EVP_MD_CTX *context, const char *text, size_t len, uint8_t *digest)
{
	EVP_DigestInit_ex(context, NULL, NULL);
	EVP_DigestUpdate(context, text, len);
	EVP_DigestFinal_ex(context, digest, NULL);
}

static inline EVP_MD_CTX *
key_digest_context(void)
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();

	EVP_DigestInit_ex(context, EVP_sha256(), NULL);
	return context;
}

/* The value of key number "number": KEY_LEN bytes, not terminated. */
static inline void
key_value(EVP_MD_CTX *context, uint64_t number, char *value)
{
	static const char base62[] =
	"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
	static const char base32[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
	uint64_t	state = number * UINT64_C(0xD1342543DE82EF95);
	uint64_t	bits = 0;
	uint8_t		digest[32];

	memcpy(value, KEY_PREFIX, sizeof(KEY_PREFIX) - 1);
	for (char *c = value + sizeof(KEY_PREFIX) - 1; c < value + KEY_COVERED_LEN; c++)
		*c = base62[(next_random(&state) >> 32) * 62 >> 32];
	key_digest(context, value, KEY_COVERED_LEN, digest);
	value[KEY_COVERED_LEN] = '/';
	for (int i = 27; i < 32; i++)
		bits = bits << 8 | digest[i];
	for (int i = 7; i > 0; i--, bits >>= 5)
		value[KEY_COVERED_LEN + i] = base32[bits & 31];
}

/*
 * The number, from 1, of the key that is presented most often but "rank",
 * which is from 0.  Scattered, so that often used keys are not neighbours in
 * the table.  The factor is a prime and larger than any number of keys.
 */
static inline uint64_t
key_number(uint64_t rank, uint64_t keys)
{
	return rank * UINT64_C(2654435761) % keys + 1;
}

/* The integral of x to the power of -exponent, and its inverse. */
static inline double
zipf_area(const KeySource *source, double x)
{
	double		e = 1 - source->exponent;

	return (pow(x, e) - 1) / e;
}

static inline double
zipf_area_inverse(const KeySource *source, double area)
{
	double		e = 1 - source->exponent;

	return pow(1 + area * e, 1 / e);
}

/* Start anew from this seed. */
static inline void
key_source_init(KeySource *source, KeyKind kind, uint64_t keys,
				double exponent, uint64_t seed)
{
	source->kind = kind;
	source->keys = keys;
	source->exponent = exponent;
	source->state = seed;
	next_random(&source->state);
	source->first_area = zipf_area(source, 1.5) - 1;
	source->last_area = zipf_area(source, keys + 0.5);
	source->shift = 2 - zipf_area_inverse(source, zipf_area(source, 2.5) -
										  pow(2, -exponent));
	if (source->sha256 == NULL)
		source->sha256 = key_digest_context();
}

/* Zipf-distributed, from 0: rejection by inversion of the integral. */
static inline uint64_t
zipf_rank(KeySource *source)
{
	for (;;)
	{
		double		area = source->last_area + next_fraction(&source->state) *
		(source->first_area - source->last_area);
		double		x = zipf_area_inverse(source, area);
		double		k = floor(x + 0.5);

		k = k < 1 ? 1 : k > source->keys ? source->keys : k;
		if (k - x <= source->shift ||
			area >= zipf_area(source, k + 0.5) - pow(k, -source->exponent))
			return (uint64_t) k - 1;
	}
}

static inline uint64_t
uniform_rank(KeySource *source, uint64_t keys)
{
	return (uint64_t) (next_fraction(&source->state) * keys);
}

/* Texts that no key looks like, of several lengths. */
static inline size_t
malformed_text(uint64_t which, char *text)
{
	static const uint8_t lengths[] = {0, 1, 5, 15, 40, 54, 60, 255};
	size_t		len = lengths[which % sizeof(lengths)];

	memset(text, 'x', KEY_TEXT_MAX);
	if (len < 16)
		return len;
	if (len == 255)
		return KEY_TEXT_MAX;	/* too long, though printable */
	text[which % len] = '\n';
	return len;
}

/*
 * Draw the next text, of KEY_TEXT_MAX bytes at most, not terminated; returns
 * its length.  Not for KIND_HUGE.
 */
static inline size_t
key_draw(KeySource *source, char *text)
{
	uint64_t	number;

	switch (source->kind)
	{
		case KIND_ONE:
			number = key_number(0, source->keys);
			break;
		case KIND_HOT:
			number = key_number(uniform_rank(source, HOT_KEYS < source->keys ?
											 HOT_KEYS : source->keys),
								source->keys);
			break;
		case KIND_ZIPF:
			number = key_number(zipf_rank(source), source->keys);
			break;
		case KIND_UNKNOWN:
			number = FIRST_UNKNOWN + uniform_rank(source, FIRST_UNKNOWN);
			break;
		case KIND_FRESH:
			number = FIRST_UNKNOWN + (next_random(&source->state) >> 1);
			break;
		case KIND_UNKNOWN_LEGACY:
			key_value(source->sha256, next_random(&source->state), text);
			return KEY_SECRET_LEN;
		case KIND_MALFORMED:
			return malformed_text(next_random(&source->state), text);
		default:
			number = key_number(uniform_rank(source, source->keys),
								source->keys);
	}
	key_value(source->sha256, number, text);
	if (source->kind == KIND_MISTYPED)
		text[10] = text[10] == 'x' ? 'y' : 'x';
	return KEY_LEN;
}

/* Is the answer to keys of this kind yes? */
static inline bool
key_kind_is_valid(KeyKind kind)
{
	return kind <= KIND_UNIFORM;
}

#endif							/* BENCH_KEYS_H */
