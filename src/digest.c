/*
 * digest.c
 *		SHA-256, as fast as the libraries at hand allow.
 *
 * With OpenSSL, a context and the algorithm are fetched once per backend:
 * fetching them costs five times as much as hashing one block.  They live
 * until the backend ends.  Without OpenSSL, PostgreSQL's own code is used.
 */
#include "postgres.h"

#ifdef USE_OPENSSL
#include <openssl/evp.h>
#else
#include "common/cryptohash.h"
#include "common/sha2.h"
#endif

#include "value.h"

#ifdef USE_OPENSSL

static EVP_MD_CTX *context = NULL;
static const EVP_MD *sha256 = NULL;

static void
fetch_sha256(void)
{
	if (context == NULL)
		context = EVP_MD_CTX_new();
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
	sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
#else
	sha256 = EVP_sha256();
#endif
	if (context == NULL || sha256 == NULL)
		elog(ERROR, "could not set up SHA-256");
}

void
apikey_digest(const void *data, size_t len, uint8 *digest)
{
	if (unlikely(context == NULL || sha256 == NULL))
		fetch_sha256();
	if (EVP_DigestInit_ex(context, sha256, NULL) != 1 ||
		EVP_DigestUpdate(context, data, len) != 1 ||
		EVP_DigestFinal_ex(context, digest, NULL) != 1)
		elog(ERROR, "could not compute SHA-256");
}

#else							/* not USE_OPENSSL */

void
apikey_digest(const void *data, size_t len, uint8 *digest)
{
	pg_cryptohash_ctx *context = pg_cryptohash_create(PG_SHA256);
	bool		ok;

	if (context == NULL)
		elog(ERROR, "could not set up SHA-256");
	ok = pg_cryptohash_init(context) >= 0 &&
		pg_cryptohash_update(context, data, len) >= 0 &&
		pg_cryptohash_final(context, digest, PG_SHA256_DIGEST_LENGTH) >= 0;
	pg_cryptohash_free(context);
	if (!ok)
		elog(ERROR, "could not compute SHA-256");
}

#endif							/* USE_OPENSSL */
