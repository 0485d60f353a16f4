/*
 * value_fuzz.c
 *		A libFuzzer target over the value parser: see script/instrument/fuzz.
 *
 * Proves, beyond that nothing is read or computed out of bounds, that
 *
 *	(1) any text is judged as by the slow reference below, which goes through
 *		it forwards, a character at a time, where value.c counts from the end;
 *	(2) every value that is generated reads back as native, with the digest it
 *		was stored by;
 *	(3) no such value that was changed, cut off or added to is native, unless
 *		the changes undo each other;
 *	(4) without randomness there is no value;
 *	(5) of a text with values in it, those and no others are found where a value
 *		begins at any of its bytes, as the reference says.
 *
 * The first byte of the input chooses among (1), (5) and the others, because no
 * fuzzer can guess a suffix; the rest is the text, or the randomness that the
 * values are made of and the changes to them.
 */
#include "postgres.h"

#include <openssl/evp.h>

#include "value.h"

extern int	LLVMFuzzerTestOneInput(const uint8 *data, size_t size);

/* ----- what value.c and digest.c want of the server ----- */

/* The input, read byte by byte; zeroes and then a count when it has ended. */
static const uint8 *input;
static size_t input_left;
static uint32 after_input;
static bool out_of_randomness;

static uint8
next_byte(void)
{
	if (input_left == 0)
		return (uint8) (after_input++ >> 4);
	input_left--;
	return *input++;
}

bool
pg_strong_random(void *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		((uint8 *) buf)[i] = next_byte();
	return !out_of_randomness;
}

/* Nothing may raise an error; abort() is what libFuzzer takes for a finding. */
bool
errstart(int elevel pg_attribute_unused(),
		 const char *domain pg_attribute_unused())
{
	abort();
}

bool
errstart_cold(int elevel pg_attribute_unused(),
			  const char *domain pg_attribute_unused())
{
	abort();
}

int
errmsg_internal(const char *fmt pg_attribute_unused(),...)
{
	abort();
}

void
errfinish(const char *filename pg_attribute_unused(),
		  int lineno pg_attribute_unused(),
		  const char *funcname pg_attribute_unused())
{
	abort();
}

static void
must(bool holds, const char *what)
{
	if (holds)
		return;
	fputs("broken: ", stderr);
	fputs(what, stderr);
	fputs("\n", stderr);
	abort();
}

/* ----- the reference ----- */

#define LOWER 1
#define UPPER 2
#define DIGIT 4

static bool
is_one(uint8 c, int of)
{
	return ((of & LOWER) != 0 && c >= 'a' && c <= 'z') ||
		((of & UPPER) != 0 && c >= 'A' && c <= 'Z') ||
		((of & DIGIT) != 0 && c >= '0' && c <= '9');
}

/* How many characters from here on are of these? */
static size_t
span(const uint8 *text, size_t len, int of)
{
	size_t		n = 0;

	while (n < len && is_one(text[n], of))
		n++;
	return n;
}

/* [a-z][a-z0-9]{0,7} */
static bool
reference_prefix(const uint8 *text, size_t len)
{
	return span(text, len, LOWER) >= 1 && len <= 8 &&
		span(text, len, LOWER | DIGIT) == len;
}

/* That, and \.[0-9A-Za-z]{43}/[0-9A-Za-z]{7} */
static bool
reference_native_shape(const uint8 *text, size_t len)
{
	static const size_t runs[] = {43, 7};
	static const uint8 separators[] = {'.', '/'};
	size_t		at = span(text, len, LOWER | DIGIT);

	if (!reference_prefix(text, at))
		return false;
	for (int i = 0; i < 2; i++)
	{
		if (at == len || text[at++] != separators[i] ||
			span(text + at, len - at, LOWER | UPPER | DIGIT) != runs[i])
			return false;
		at += runs[i];
	}
	return at == len;
}

static void
reference_digest(const uint8 *text, size_t len, uint8 *digest)
{
	must(EVP_Digest(text, len, digest, NULL, EVP_sha256(), NULL) == 1,
		 "OpenSSL");
}

/* Bit by bit, from the digest's bit 256 - 35 on. */
static void
reference_suffix(const uint8 *digest, char *suffix)
{
	int			bit = 256 - 35;

	for (int i = 0; i < 7; i++)
	{
		int			number = 0;

		for (int end = bit + 5; bit < end; bit++)
			number = 2 * number + (digest[bit / 8] >> (7 - bit % 8) & 1);
		suffix[i] = '0';
		while (number-- > 0)
			do
				suffix[i] = suffix[i] == '9' ? 'A' : suffix[i] + 1;
			while (suffix[i] == 'I' || suffix[i] == 'L' ||
				   suffix[i] == 'O' || suffix[i] == 'U');
	}
}

static bool
reference_printable(const uint8 *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (text[i] < ' ' || text[i] > '~')
			return false;
	return true;
}

static ApikeyShape
reference_read(const uint8 *text, size_t len, uint8 *digest)
{
	char		suffix[7];

	if (len < 16 || len > 255)
		return SHAPE_MALFORMED;
	if (reference_native_shape(text, len))
	{
		reference_digest(text, len - 8, digest);
		reference_suffix(digest, suffix);
		return memcmp(suffix, text + len - 7, 7) == 0 ?
			SHAPE_NATIVE : SHAPE_MALFORMED;
	}
	if (!reference_printable(text, len))
		return SHAPE_MALFORMED;
	reference_digest(text, len, digest);
	return SHAPE_LEGACY;
}

static const char *const slashes[] = {
	"/", "\\/", "\\\\\\/", "%2F", "%2f", "%252F", "\\u002f", "\\\\u002F", "&#47;",
	"&#x2F;", "&#X2f;", "&sol;", "&SoL;"
};

/* Is there a value that begins at this byte, with one of these slashes? */
static bool
reference_begins(const uint8 *text, size_t len)
{
	size_t		prefix = span(text, len, LOWER | DIGIT);
	size_t		secret = prefix + 1;
	uint8		digest[APIKEY_DIGEST_LEN];
	char		suffix[7];

	if (!reference_prefix(text, prefix) || prefix == len || text[prefix] != '.' ||
		span(text + secret, len - secret, LOWER | UPPER | DIGIT) != 43)
		return false;
	text += secret + 43;
	len -= secret + 43;
	reference_digest(text - secret - 43, secret + 43, digest);
	reference_suffix(digest, suffix);
	for (size_t i = 0; i < lengthof(slashes); i++)
	{
		size_t		n = strlen(slashes[i]);

		if (len >= n + 7 && memcmp(text, slashes[i], n) == 0 &&
			memcmp(text + n, suffix, 7) == 0)
			return true;
	}
	return false;
}

/* ----- what is proved ----- */

/* A copy that ends where its memory does, for the sanitizer. */
static void *
exact_copy(const void *data, size_t len)
{
	void	   *copy = malloc(len > 0 ? len : 1);

	must(copy != NULL, "malloc");
	memcpy(copy, data, len);
	return copy;
}

/* Is the text judged as by the reference?  Returns what it is. */
static ApikeyShape
judge(const void *data, size_t len)
{
	char	   *text = exact_copy(data, len);
	uint8	   *bytes = (uint8 *) text;
	uint8		digest[APIKEY_DIGEST_LEN];
	uint8		wanted[APIKEY_DIGEST_LEN];
	char		suffix[APIKEY_SUFFIX_LEN];
	char		wanted_suffix[APIKEY_SUFFIX_LEN];
	ApikeyShape shape = apikey_value_read(text, len, digest);

	must(shape == reference_read(bytes, len, wanted), "the kind of a text");
	must(shape == SHAPE_MALFORMED || memcmp(digest, wanted, sizeof(digest)) == 0,
		 "the digest");
	must(apikey_has_native_shape(text, len) == reference_native_shape(bytes, len),
		 "the native shape");
	must(apikey_is_alphanumeric(text, len) ==
		 (span(bytes, len, LOWER | UPPER | DIGIT) == len), "alphanumerics");
	must(apikey_is_printable(text, len) == reference_printable(bytes, len),
		 "what can be printed");
	if (shape != SHAPE_MALFORMED)
	{
		apikey_suffix_of(digest, suffix);
		reference_suffix(digest, wanted_suffix);
		must(memcmp(suffix, wanted_suffix, sizeof(suffix)) == 0, "the suffix");
	}
	free(text);
	return shape;
}

/* A prefix as the input has it, mostly a valid one. */
static void
choose_prefix(char *prefix)
{
	size_t		len = 1 + next_byte() % APIKEY_PREFIX_MAX;

	for (size_t i = 0; i < len; i++)
	{
		int			n = next_byte() % (i == 0 ? 26 : 36);

		prefix[i] = (char) (n < 26 ? 'a' + n : '0' + n - 26);
	}
	prefix[len] = '\0';
}

/* Change the text in one place; returns its new length. */
static size_t
edit(char *text, size_t len, size_t room)
{
	size_t		at = len > 0 ? next_byte() % len : 0;
	size_t		rest = len - at;

	switch (next_byte() % 4)
	{
		case 0:					/* another byte */
			if (len > 0)
				text[at] = (char) next_byte();
			return len;
		case 1:					/* one bit */
			if (len > 0)
				text[at] = (char) (text[at] ^ 1 << next_byte() % 8);
			return len;
		case 2:					/* a piece cut out */
			if (len == 0)
				return len;
			memmove(text + at, text + at + 1, rest - 1);
			return len - 1;
		default:				/* a byte added */
			if (len == room)
				return len;
			memmove(text + at + 1, text + at, rest);
			text[at] = (char) next_byte();
			return len + 1;
	}
}

static void
make_and_change(void)
{
	char		prefix[APIKEY_PREFIX_MAX + 1];
	char	   *value = malloc(APIKEY_NATIVE_MAX);
	char		changed[APIKEY_NATIVE_MAX + 16];
	uint8		digest[APIKEY_DIGEST_LEN];
	uint8		read[APIKEY_DIGEST_LEN];
	size_t		len;
	size_t		changed_len;

	must(value != NULL, "malloc");
	choose_prefix(prefix);
	must(apikey_prefix_is_valid(prefix), "the prefix");
	len = apikey_value_generate(prefix, value, digest);
	if (out_of_randomness)
	{
		must(len == 0, "no value without randomness");
		free(value);
		return;
	}
	must(len == strlen(prefix) + 1 + APIKEY_SECRET_LEN + 1 + APIKEY_SUFFIX_LEN,
		 "the length of a value");
	must(memcmp(value, prefix, strlen(prefix)) == 0, "the prefix of a value");
	must(judge(value, len) == SHAPE_NATIVE, "a value is native");
	must(apikey_value_read(value, len, read) == SHAPE_NATIVE &&
		 memcmp(read, digest, sizeof(digest)) == 0, "the digest of a value");

	memcpy(changed, value, len);
	changed_len = len;
	for (int edits = 1 + next_byte() % 4; edits > 0; edits--)
		changed_len = edit(changed, changed_len, sizeof(changed));
	must(judge(changed, changed_len) != SHAPE_NATIVE ||
		 (changed_len == len && memcmp(changed, value, len) == 0),
		 "what was changed is not native");
	free(value);
}

/* Add a value, its slash spelled as the input says; returns the new length. */
static size_t
append_value(char *text, size_t len)
{
	char		prefix[APIKEY_PREFIX_MAX + 1];
	char		value[APIKEY_NATIVE_MAX];
	uint8		digest[APIKEY_DIGEST_LEN];
	size_t		covered;
	const char *slash = slashes[next_byte() % lengthof(slashes)];

	choose_prefix(prefix);
	covered = apikey_value_generate(prefix, value, digest);
	if (covered == 0)
		return len;
	covered -= 1 + APIKEY_SUFFIX_LEN;
	memcpy(text + len, value, covered);
	len += covered;
	memcpy(text + len, slash, strlen(slash));
	len += strlen(slash);
	memcpy(text + len, value + covered + 1, APIKEY_SUFFIX_LEN);
	return len + APIKEY_SUFFIX_LEN;
}

/* Bytes of the input, and values where it has one of the rarest. */
static size_t
make_text(char *text, size_t room)
{
	size_t		len = 0;

	while (input_left > 0 && len < room - 2 * APIKEY_NATIVE_MAX)
	{
		uint8		byte = next_byte();

		if (byte >= 0xF8)
			len = append_value(text, len);
		else
			text[len++] = (char) byte;
	}
	for (int edits = next_byte() % 4; edits > 0; edits--)
		len = edit(text, len, room);
	return len;
}

static void
make_and_find(void)
{
	static char room[1024];
	size_t		len = make_text(room, sizeof(room));
	char	   *text = exact_copy(room, len);
	bool		begins[sizeof(room)] = {false};
	uint8		digest[APIKEY_DIGEST_LEN];
	ApikeyMatch match;
	size_t		from = 0;

	while (apikey_find_match(text, len, &from, &match))
	{
		size_t		prefix = apikey_confirm_match(text, &match, digest);

		must(from > match.secret && from <= len, "where to go on");
		must(match.suffix + APIKEY_SUFFIX_LEN <= len, "where a suffix is");
		if (prefix > 0)
			begins[match.secret - 1 - prefix] = true;
	}
	for (size_t i = 0; i < len; i++)
		must(begins[i] == reference_begins((uint8 *) text + i, len - i),
			 "what is found");
	(void) apikey_is_cut_short(text, len);
	free(text);
}

/* As a setting's text, which ends at a zero. */
static void
judge_prefix(const uint8 *data, size_t size)
{
	size_t		len = strnlen((const char *) data, size);
	char	   *text = malloc(len + 1);

	must(text != NULL, "malloc");
	memcpy(text, data, len);
	text[len] = '\0';
	must(apikey_prefix_is_valid(text) == reference_prefix(data, len),
		 "the prefix");
	free(text);
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	uint8		mode;

	if (size == 0)
		return 0;
	mode = *data % 8;
	input = data + 1;
	input_left = size - 1;
	after_input = 0;
	out_of_randomness = *data == 0xFF;

	if (mode == 0)
	{
		judge_prefix(data + 1, size - 1);
		(void) judge(data + 1, size - 1);
	}
	else if (mode >= 4)
		make_and_find();
	else
		make_and_change();
	return 0;
}
