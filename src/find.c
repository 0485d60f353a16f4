/*
 * find.c
 *		Finding native values in a text, wherever they stand.
 *
 * A secret has 43 alphanumerics with something else on either side, a dot and
 * a slash.  So wherever a text has something else, no secret stands on it, and
 * the next one can end 43 bytes later at the earliest: of a text without values
 * few bytes are looked at, and of any text none more often than a few times.
 *
 * In a URL, in JSON and in HTML the slash is spelled otherwise; the other bytes
 * of a value are the same everywhere.  Nothing here touches the database or
 * allocates memory, so that it may run in any hook.
 */
#include "postgres.h"

#include "value.h"

/* Escapes within escapes are followed to this depth. */
#define MAX_ESCAPES 8

static bool
is_in(char c, uint8 class)
{
	return (apikey_classes[(unsigned char) c] & class) != 0;
}

/* Does the text go on with this, which is in lower case, in whatever case? */
static bool
goes_on(const char *text, const char *end, const char *with)
{
	while (*with != '\0' && text < end &&
		   (*text == *with ||
			(*text >= 'A' && *text <= 'Z' && *text - 'A' + 'a' == *with)))
	{
		text++;
		with++;
	}
	return *with == '\0';
}

/*
 * The bytes that a slash takes here, in any of its spellings: /, \/ and \u002f
 * (with more backslashes where a text was quoted again), %2F (or %252F, and so
 * on), &#47;, &#x2F; and &sol;.  0 if there is none.
 */
static size_t
slash_len(const char *text, const char *end)
{
	static const char *const entities[] = {"&#47;", "&#x2f;", "&sol;"};
	const char *at = text;

	if (at < end && *at == '%')
	{
		for (at++; at - text < 2 * MAX_ESCAPES && goes_on(at, end, "25");)
			at += 2;
		return goes_on(at, end, "2f") ? at + 2 - text : 0;
	}
	for (int i = 0; i < (int) lengthof(entities); i++)
		if (goes_on(at, end, entities[i]))
			return strlen(entities[i]);
	while (at < end && *at == '\\' && at - text < MAX_ESCAPES)
		at++;
	if (at < end && *at == '/')
		return at + 1 - text;
	return at > text && goes_on(at, end, "u002f") ? at + 5 - text : 0;
}

/* The bytes before a dot that can be a prefix, at most; 0 if none can. */
static size_t
prefix_len(const char *text, const char *dot)
{
	size_t		longest = 0;

	for (size_t n = 1; n <= APIKEY_PREFIX_MAX && text + n <= dot; n++)
	{
		if (!is_in(*(dot - n), IN_PREFIX))
			break;
		if (*(dot - n) >= 'a')
			longest = n;
	}
	return longest;
}

/*
 * Is what stands around these 43 alphanumerics what makes them a secret?  Also
 * where the text was cut behind them, as the log does with long parameters.
 */
static bool
is_secret(const char *text, const char *secret, const char *end,
		  ApikeyMatch *match)
{
	const char *slash = secret + APIKEY_SECRET_LEN;
	size_t		spelled = slash_len(slash, end);
	const char *at = slash + spelled;
	size_t		n = 0;

	if (secret == text || secret[-1] != '.')
		return false;
	for (; n < APIKEY_SUFFIX_LEN && at < end && is_in(*at, IN_SECRET); at++)
		n++;
	if (spelled > 0 && n == APIKEY_SUFFIX_LEN)
		match->suffix = at - n - text;
	else if (at == end || goes_on(at, end, "..."))
		match->suffix = 0;
	else
		return false;
	match->secret = secret - text;
	match->prefix_len = prefix_len(text, secret - 1);
	return match->prefix_len > 0;
}

/*
 * Find the next place, from an offset on, that looks like a native value,
 * whether or not its suffix is right or there.  Moves the offset behind its
 * secret.
 */
bool
apikey_find_match(const char *text, size_t len, size_t *from,
				  ApikeyMatch *match)
{
	const char *end = text + len;
	const char *secret = text + *from;

	/* "secret" stands where an alphanumeric would be the first of its run. */
	while (end - secret >= APIKEY_SECRET_LEN)
	{
		const char *last = secret + APIKEY_SECRET_LEN - 1;

		while (last >= secret && is_in(*last, IN_SECRET))
			last--;
		if (last >= secret)
		{
			secret = last + 1;
			continue;
		}
		last = secret + APIKEY_SECRET_LEN;
		if ((last == end || !is_in(*last, IN_SECRET)) &&
			is_secret(text, secret, end, match))
		{
			*from = last - text;
			return true;
		}
		while (last < end && is_in(*last, IN_SECRET))
			last++;
		secret = last;
	}
	*from = len;
	return false;
}

/*
 * Is what was found a value?  Returns the length of its prefix, with which the
 * suffix is right, and its digest; 0 if there is none.
 */
size_t
apikey_confirm_match(const char *text, const ApikeyMatch *match,
					 uint8 *digest)
{
	for (size_t n = match->suffix > 0 ? match->prefix_len : 0; n > 0; n--)
	{
		size_t		start = match->secret - 1 - n;
		char		suffix[APIKEY_SUFFIX_LEN];

		if (text[start] < 'a')
			continue;			/* a digit */
		apikey_digest(text + start, n + 1 + APIKEY_SECRET_LEN, digest);
		apikey_suffix_of(digest, suffix);
		if (memcmp(suffix, text + match->suffix, APIKEY_SUFFIX_LEN) == 0)
			return n;
	}
	return 0;
}

/*
 * Is this the beginning of a value, with half of the secret or more?
 */
bool
apikey_is_cut_short(const char *text, size_t len)
{
	const char *end = text + len;
	const char *dot = memchr(text, '.', Min(len, APIKEY_PREFIX_MAX + 1));
	const char *at;

	size_t		secret_len = 0;

	if (dot == NULL || dot == text || text + prefix_len(text, dot) != dot)
		return false;
	for (at = dot + 1; at < end && is_in(*at, IN_SECRET); at++)
		secret_len++;
	if (secret_len < APIKEY_SECRET_LEN / 2 || secret_len > APIKEY_SECRET_LEN)
		return false;
	at += slash_len(at, end);
	return end - at < APIKEY_SUFFIX_LEN &&
		apikey_is_alphanumeric(at, end - at);
}
