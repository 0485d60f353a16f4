/*
 * value.h
 *		The text format of a key's value.
 *
 * Kept apart from apikeys.h so that what reads values can be built, and
 * fuzzed, without a server.
 */
#ifndef APIKEYS_VALUE_H
#define APIKEYS_VALUE_H

#define APIKEY_PREFIX_MAX	8	/* characters of a prefix, at most */
#define APIKEY_SECRET_LEN	43	/* base-62 characters: 256 bits */
#define APIKEY_SUFFIX_LEN	7	/* base-32 characters: 35 bits */
#define APIKEY_DIGEST_LEN	32	/* bytes of a SHA-256 digest */

/* prefix "." secret "/" suffix */
#define APIKEY_NATIVE_MIN	(1 + 1 + APIKEY_SECRET_LEN + 1 + APIKEY_SUFFIX_LEN)
#define APIKEY_NATIVE_MAX	(APIKEY_NATIVE_MIN + APIKEY_PREFIX_MAX - 1)

#define APIKEY_LEGACY_MIN	16	/* bytes of a legacy key */
#define APIKEY_LEGACY_MAX	255

/* What a text can be, as far as it can be told without a table. */
typedef enum ApikeyShape
{
	SHAPE_MALFORMED,			/* cannot be a key */
	SHAPE_NATIVE,				/* a native value with the right suffix */
	SHAPE_LEGACY				/* could be a legacy key */
} ApikeyShape;

/* Classes of bytes; a byte may be in several. */
#define IN_SECRET	0x01		/* 0-9 A-Z a-z */
#define IN_PREFIX	0x02		/* 0-9 a-z */
#define IN_LEGACY	0x04		/* printable ASCII */

/* Where a text has what looks like a native value; see find.c. */
typedef struct ApikeyMatch
{
	size_t		secret;			/* offset of its first byte */
	size_t		suffix;			/* 0 if the text was cut before its end */
	size_t		prefix_len;		/* bytes that can be the prefix, at most */
} ApikeyMatch;

/* in value.c */
extern const uint8 apikey_classes[256];
extern bool apikey_prefix_is_valid(const char *prefix);
extern bool apikey_is_alphanumeric(const char *text, size_t len);
extern bool apikey_has_native_shape(const char *text, size_t len);
extern ApikeyShape apikey_value_read(const char *text, size_t len,
									 uint8 *digest);
extern bool apikey_is_printable(const char *text, size_t len);
extern void apikey_suffix_of(const uint8 *digest, char *suffix);
extern size_t apikey_value_generate(const char *prefix, char *value,
									uint8 *digest);

/* in find.c */
extern bool apikey_find_match(const char *text, size_t len, size_t *from,
							  ApikeyMatch *match);
extern size_t apikey_confirm_match(const char *text, const ApikeyMatch *match,
								   uint8 *digest);
extern bool apikey_is_cut_short(const char *text, size_t len);

/* in digest.c */
extern void apikey_digest(const void *data, size_t len, uint8 *digest);

#endif							/* APIKEYS_VALUE_H */
