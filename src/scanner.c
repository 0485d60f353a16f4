/*
 * scanner.c
 *		Rules by which others' scanners find values.
 *
 * A rule finds what looks like a value of the prefix in force, wherever it
 * stands; the plugin for detect-secrets checks the suffix too.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "apikeys.h"

PG_FUNCTION_INFO_V1(apikey_scanner_rule);

/*
 * What follows the prefix, for POSIX, PCRE, RE2, Hyperscan and Python alike;
 * the slash in the spellings of find.c.
 */
static const char after_prefix[] =
"\\.[0-9A-Za-z]{43}"
"(?:\\\\{0,8}/|\\\\{1,8}[uU]002[fF]|%(?:25){0,7}2[fF]|&#47;|&#[xX]2[fF];|&[sS][oO][lL];)"
"[0-9A-HJKMNP-TV-Z]{7}";

/* In all of them %1$s is the prefix, and %2$s what follows it. */
static const char gitleaks[] =
"[[rules]]\n"
"id = \"apikeys-%1$s\"\n"
"description = \"API key with the prefix %1$s\"\n"
"regex = '''%1$s%2$s'''\n"
"keywords = [\"%1$s.\"]\n";

static const char trufflehog[] =
"detectors:\n"
"  - name: apikeys-%1$s\n"
"    keywords:\n"
"      - \"%1$s.\"\n"
"    regex:\n"
"      key: '%1$s%2$s'\n";

static const char github[] =
"Secret format: %1$s%2$s\n"
"Before secret: \\A|[^0-9A-Za-z]\n"
"After secret: \\z|[^0-9A-Za-z]\n";

static const char detect_secrets[] =
"import hashlib\n"
"import re\n"
"\n"
"from detect_secrets.constants import VerifiedResult\n"
"from detect_secrets.plugins.base import RegexBasedDetector\n"
"\n"
"\n"
"class ApikeysDetector(RegexBasedDetector):\n"
"    \"\"\"Finds API keys with the prefix %1$s.\"\"\"\n"
"    secret_type = 'API key %1$s'\n"
"    denylist = (re.compile(r'%1$s%2$s'),)\n"
"\n"
"    def verify(self, secret, *args, **kwargs):\n"
"        digest = hashlib.sha256(secret[:%3$d].encode()).digest()\n"
"        bits = int.from_bytes(digest, 'big')\n"
"        suffix = ''.join('0123456789ABCDEFGHJKMNPQRSTVWXYZ'[bits >> 5 * i & 31]\n"
"                         for i in reversed(range(7)))\n"
"        return (VerifiedResult.VERIFIED_TRUE if secret.endswith(suffix)\n"
"                else VerifiedResult.VERIFIED_FALSE)\n";

typedef struct ScannerRule
{
	const char *tool;
	const char *format;
} ScannerRule;

static const ScannerRule rules[] = {
	{"gitleaks", gitleaks},
	{"trufflehog", trufflehog},
	{"github", github},
	{"detect-secrets", detect_secrets},
};

/*
 * apikey_scanner_rule(tool text) returns text
 */
Datum
apikey_scanner_rule(PG_FUNCTION_ARGS)
{
	char	   *tool;

	apikey_require_arguments(fcinfo);
	tool = text_to_cstring(PG_GETARG_TEXT_PP(0));
	for (int i = 0; i < (int) lengthof(rules); i++)
		if (strcmp(tool, rules[i].tool) == 0)
		{
			int			covered = strlen(apikey_prefix) + 1 + APIKEY_SECRET_LEN;

			PG_RETURN_TEXT_P(cstring_to_text(psprintf(rules[i].format,
													  apikey_prefix,
													  after_prefix, covered)));
		}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("there is no rule for this scanner"),
			 errhint("There are rules for gitleaks, trufflehog, github and detect-secrets.")));
}
