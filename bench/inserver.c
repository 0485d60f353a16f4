/*
 * inserver.c
 *		What the benchmark needs inside its throwaway server: keys by number,
 *		and calls in a loop, timed, over a sample that is held in memory.
 *
 * The server loads it into every session (session_preload_libraries).  As it
 * loads, it maps all of the buffer pool that is in use: otherwise a new backend
 * pays for the page faults in its first some hundred thousand calls, which
 * makes everything that reads tables look slow.
 */
#include "postgres.h"

#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/buf_internals.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "keys.h"

PG_MODULE_MAGIC;

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

PG_FUNCTION_INFO_V1(bench_value);
PG_FUNCTION_INFO_V1(bench_number);
PG_FUNCTION_INFO_V1(bench_key);
PG_FUNCTION_INFO_V1(bench_sample);
PG_FUNCTION_INFO_V1(bench_call);
PG_FUNCTION_INFO_V1(bench_query);
PG_FUNCTION_INFO_V1(bench_empty);
PG_FUNCTION_INFO_V1(bench_spi_btree);

/* Keys to present, one after the other, round and round. */
typedef struct Sample
{
	Datum	   *keys;
	int64		count;
	int64		next;
} Sample;

static Sample samples[NUM_KINDS];
static EVP_MD_CTX *sha256_context = NULL;

extern PGDLLEXPORT void _PG_init(void);

/*
 * Have the kernel map this memory, writable, in one go: a fault for each page
 * would take much longer.  Where it cannot (before Linux 5.14), read each page.
 */
static void
map_memory(void *start, size_t len)
{
	const uintptr_t page = sysconf(_SC_PAGESIZE);
	uintptr_t	begin = (uintptr_t) start & ~(page - 1);
	uintptr_t	end = ((uintptr_t) start + len + page - 1) & ~(page - 1);
	volatile char sink;

	if (len == 0 || madvise((void *) begin, end - begin, MADV_POPULATE_WRITE) == 0)
		return;
	for (; begin < end; begin += page)
		sink = *(char *) begin;
	(void) sink;
}

/* What maps a page to its buffer. */
static void
touch_mapping(BufferDesc *buffer)
{
	BufferTag	tag = buffer->tag;
	uint32		hash = BufTableHashCode(&tag);
	LWLock	   *lock = BufMappingPartitionLock(hash);

	LWLockAcquire(lock, LW_SHARED);
	(void) BufTableLookup(&tag, hash);
	LWLockRelease(lock);
}

/* Map what a lookup in the buffer pool touches, as far as it is in use. */
static void
touch_buffers(void)
{
	int			first = 0;		/* of those in use and not mapped yet */

	map_memory(BufferDescriptors, (Size) NBuffers * sizeof(BufferDescPadded));
	for (int i = 0; i < NBuffers; i++)
	{
		BufferDesc *buffer = GetBufferDescriptor(i);

		if (pg_atomic_read_u32(&buffer->state) & BM_TAG_VALID)
			touch_mapping(buffer);
		else
		{
			map_memory(BufferBlocks + (Size) first * BLCKSZ,
					   (Size) (i - first) * BLCKSZ);
			first = i + 1;
		}
	}
	map_memory(BufferBlocks + (Size) first * BLCKSZ,
			   (Size) (NBuffers - first) * BLCKSZ);
}

void
_PG_init(void)
{
	sha256_context = key_digest_context();
	touch_buffers();
}

static Datum
value_datum(uint64 number)
{
	text	   *value = palloc(VARHDRSZ + KEY_LEN);

	SET_VARSIZE(value, VARHDRSZ + KEY_LEN);
	key_value(sha256_context, number, VARDATA(value));
	return PointerGetDatum(value);
}

/*
 * bench_value(number bigint) returns text
 */
Datum
bench_value(PG_FUNCTION_ARGS)
{
	return value_datum(PG_GETARG_INT64(0));
}

/*
 * bench_number(rank bigint, keys bigint) returns bigint
 *
 * Ranks are from 1 here, as pgbench draws them.
 */
Datum
bench_number(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(key_number(PG_GETARG_INT64(0) - 1, PG_GETARG_INT64(1)));
}

/*
 * bench_key(rank bigint, keys bigint) returns text
 *
 * For pgbench, which has numbers but no texts.
 */
Datum
bench_key(PG_FUNCTION_ARGS)
{
	return value_datum(key_number(PG_GETARG_INT64(0) - 1, PG_GETARG_INT64(1)));
}

static Sample *
sample_of(text *name)
{
	KeyKind		kind = key_kind(text_to_cstring(name));

	if (kind == NUM_KINDS)
		elog(ERROR, "there is no such kind of keys");
	return &samples[kind];
}

/* Make one text of the sample; as parameters come, with a header of 4 bytes. */
static Datum
draw(KeySource *source)
{
	char		buffer[KEY_TEXT_MAX];
	text	   *result;

	if (source->kind != KIND_HUGE)
		return PointerGetDatum(cstring_to_text_with_len(buffer,
														key_draw(source, buffer)));
	result = palloc(VARHDRSZ + KEY_HUGE_LEN);
	SET_VARSIZE(result, VARHDRSZ + KEY_HUGE_LEN);
	memset(VARDATA(result), 'x', KEY_HUGE_LEN);
	return PointerGetDatum(result);
}

/*
 * bench_sample(kind text, count bigint, keys bigint, exponent float8)
 * returns void
 */
Datum
bench_sample(PG_FUNCTION_ARGS)
{
	static KeySource source;
	static MemoryContext context = NULL;
	Sample	   *sample = sample_of(PG_GETARG_TEXT_PP(0));
	int64		count = PG_GETARG_INT64(1);
	MemoryContext old;

	if (context == NULL)
		context = AllocSetContextCreate(TopMemoryContext, "bench sample",
										ALLOCSET_DEFAULT_SIZES);
	key_source_init(&source, sample - samples, PG_GETARG_INT64(2),
					PG_GETARG_FLOAT8(3), 1);
	old = MemoryContextSwitchTo(context);
	sample->keys = palloc_extended(count * sizeof(Datum), MCXT_ALLOC_HUGE);
	for (int64 i = 0; i < count; i++)
		sample->keys[i] = draw(&source);
	sample->count = count;
	sample->next = 0;
	MemoryContextSwitchTo(old);
	PG_RETURN_VOID();
}

static inline Datum
next_key(Sample *sample)
{
	if (sample->next >= sample->count)
		sample->next = 0;
	return sample->keys[sample->next++];
}

static double
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

/* (ns float8, yes bigint): nanoseconds for each call, and how often yes. */
static Datum
timing(FunctionCallInfo fcinfo, double start, int64 calls, int64 yes)
{
	TupleDesc	desc;
	Datum		values[2] = {
		Float8GetDatum((now_ns() - start) / calls), Int64GetDatum(yes)
	};
	bool		nulls[2] = {false, false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values,
											 nulls));
}

/*
 * bench_call(function regprocedure, argument anyelement, kind text,
 * calls bigint, OUT ns float8, OUT yes bigint)
 *
 * Calls function(key text, argument) that returns boolean.  What it leaves in
 * memory is freed after each call, as the executor does after each row.
 */
Datum
bench_call(PG_FUNCTION_ARGS)
{
	LOCAL_FCINFO(call, 2);
	FmgrInfo	function;
	Sample	   *sample = sample_of(PG_GETARG_TEXT_PP(2));
	int64		calls = PG_GETARG_INT64(3);
	int64		yes = 0;
	double		start;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "bench call",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old;

	if (sample->count == 0)
		elog(ERROR, "there is no sample of these keys");
	fmgr_info(PG_GETARG_OID(0), &function);
	InitFunctionCallInfoData(*call, &function, 2, DEFAULT_COLLATION_OID,
							 NULL, NULL);
	call->args[0].isnull = false;
	call->args[1].isnull = false;
	call->args[1].value = PG_GETARG_DATUM(1);

	old = MemoryContextSwitchTo(context);
	start = now_ns();
	for (int64 i = 0; i < calls; i++)
	{
		call->args[0].value = next_key(sample);
		call->isnull = false;
		yes += DatumGetBool(FunctionCallInvoke(call));
		MemoryContextReset(context);
		CHECK_FOR_INTERRUPTS();
	}
	MemoryContextSwitchTo(old);
	return timing(fcinfo, start, calls, yes);
}

/* Is the first column of the first row true? */
static bool
first_is_true(void)
{
	bool		isnull;
	Datum		value;

	if (SPI_processed == 0 || SPI_tuptable == NULL ||
		TupleDescAttr(SPI_tuptable->tupdesc, 0)->atttypid != BOOLOID)
		return false;
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
						  &isnull);
	return !isnull && DatumGetBool(value);
}

/*
 * bench_query(query text, kind text, calls bigint, OUT ns float8,
 * OUT yes bigint)
 *
 * Runs a prepared query, its $1 (if it has one) being a key.
 */
Datum
bench_query(PG_FUNCTION_ARGS)
{
	const char *query = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Sample	   *sample = sample_of(PG_GETARG_TEXT_PP(1));
	int64		calls = PG_GETARG_INT64(2);
	int64		yes = 0;
	int			nargs = strstr(query, "$1") != NULL;
	Oid			type = TEXTOID;
	Datum		key = (Datum) 0;
	double		start;
	Datum		result;
	SPIPlanPtr	plan;

	if (nargs > 0 && sample->count == 0)
		elog(ERROR, "there is no sample of these keys");
	SPI_connect();
	plan = SPI_prepare(query, nargs, &type);
	if (plan == NULL)
		elog(ERROR, "could not prepare the query");
	start = now_ns();
	for (int64 i = 0; i < calls; i++)
	{
		if (nargs > 0)
			key = next_key(sample);
		if (SPI_execute_plan(plan, &key, NULL, false, 0) < 0)
			elog(ERROR, "could not run the query");
		yes += first_is_true();
		SPI_freetuptable(SPI_tuptable);
		CHECK_FOR_INTERRUPTS();
	}
	result = timing(fcinfo, start, calls, yes);
	result = SPI_datumTransfer(result, false, -1);
	SPI_finish();
	return result;
}

/*
 * bench_empty(key text, required apikey_level) returns boolean
 */
Datum
bench_empty(PG_FUNCTION_ARGS pg_attribute_unused())
{
	PG_RETURN_BOOL(true);
}

/*
 * bench_spi_btree(key text, required apikey_level) returns boolean
 *
 * How one would write apikey_check_level() without knowing better: the digest
 * in C, the lookup by SPI with a plan that is kept, on a btree.  As in a
 * volatile function, the lookup sees what was committed just now.
 */
Datum
bench_spi_btree(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;
	text	   *key = PG_GETARG_TEXT_PP(0);
	char		digest[VARHDRSZ + 32];
	Datum		args[2] = {PointerGetDatum(digest), PG_GETARG_DATUM(1)};
	bool		yes;

	SPI_connect();
	if (plan == NULL)
	{
		Oid			types[2] = {BYTEAOID};
		Oid		   *declared;
		int			nargs;

		(void) get_func_signature(fcinfo->flinfo->fn_oid, &declared, &nargs);
		types[1] = declared[1];
		plan = SPI_prepare("SELECT level >= $2 FROM public.hand_key"
						   " WHERE digest = $1 AND expires_at > now()",
						   2, types);
		SPI_keepplan(plan);
	}
	SET_VARSIZE(digest, sizeof(digest));
	key_digest(sha256_context, VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key),
			   (uint8_t *) VARDATA(digest));
	if (SPI_execute_plan(plan, args, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not run the query");
	yes = first_is_true();
	SPI_finish();
	PG_RETURN_BOOL(yes);
}
