/*
 * page.c
 *		A page of the keys that the principal may see, in a wanted order.
 *
 * Where an index has the order, as many rows are read as the page has, however
 * long the list: the scan starts behind the cursor.  Elsewhere, and for a
 * search, all rows of the organization, or of the member, are read by owner,
 * and the best are kept in a heap, whose first is the last of the page.  A
 * member's page reads the member's own rows only, as view apikeys_mine does.
 *
 * An organization's legacy key has no name, suffix and owner: by these it is
 * the last, and the first if the order is descending.  Rows that are equal by
 * what they are sorted by are told apart by their suffix.  Members' keys are
 * read with the statement's snapshot; the legacy key, owners and usage with the
 * latest.  All is allocated in the memory of the call; of a row that is read
 * and not kept, nothing stays.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/genam.h"
#include "access/relscan.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "funcapi.h"
#include "lib/binaryheap.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/formatting.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/varlena.h"

#include "apikeys.h"
#include "tables.h"

PG_FUNCTION_INFO_V1(apikey_page);

#define MAX_SIZE 1000			/* rows of a page */
#define CURSOR_MAX 1024			/* bytes; a name has 400 at most */

/* What a list can be sorted by; NO_INDEX where none has the order. */
#define NO_INDEX NUM_INDEXES

/* What an argument can be; a tab has a name only. */
typedef struct PageChoice
{
	const char *name;
	ApikeyIndex index;			/* of an organization's keys */
	AttrNumber	attnum;			/* 0 for what is no column */
} PageChoice;

static const PageChoice sorts[] = {
	{"created_at", INDEX_KEY_CREATED, Anum_key_created_at},
	{"name", INDEX_KEY_NAME, Anum_key_name},
	{"suffix", INDEX_KEY_SUFFIX, Anum_key_suffix},
	{"owner_id", INDEX_KEY_OWNER, Anum_key_owner_id},
	{"expires_at", NO_INDEX, Anum_key_expires_at},
	{"last_used_at", NO_INDEX, 0},
};

typedef enum PageTab
{
	TAB_ALL,
	TAB_MINE,
	TAB_LEGACY
} PageTab;

static const PageChoice tabs[] = {
	{.name = "all"}, {.name = "mine"}, {.name = "legacy"}
};

/* A place in the order. */
typedef struct PagePlace
{
	TimestampTz time;			/* by a time */
	text	   *text;			/* by a text; NULL comes last */
	char		suffix[APIKEY_SUFFIX_LEN + 1];	/* "" for a legacy key */
} PagePlace;

typedef struct PageRow
{
	PagePlace	place;
	HeapTuple	tuple;			/* NULL for the legacy key */
} PageRow;

/* A page in the making. */
typedef struct ListPage
{
	const ApikeyActor *actor;
	PageTab		tab;
	bool		own;			/* the member's keys, not the organization's */
	const PageChoice *sort;
	ScanDirection direction;
	bool		has_cursor;
	PagePlace	cursor;			/* rows come after it */
	const char *part;			/* wanted in name, owner or email, folded;
								 * NULL for any */
	char		suffix[APIKEY_SUFFIX_LEN + 1];	/* or wanted as suffix */
	bool		is_value;		/* a whole value was given: suffix only */
	bool		is_empty;		/* nothing can be found */
	text	   *owner_id;		/* whose email address was looked up last */
	char	   *email;			/* folded; NULL if there is none */
	ApikeyUses *uses;			/* when keys were last used, for the order */
	Relation	table;			/* of members' keys, if they were read */
	TupleTableSlot *slot;
	ApikeyKey	legacy;
	int			size;
	binaryheap *rows;
} ListPage;

/* ----- The order ----- */

static const ColumnSpec *
column_of(const PageChoice *sort)
{
	return &apikey_tables[TABLE_KEY].columns[sort->attnum - 1];
}

static bool
is_by_time(const PageChoice *sort)
{
	return sort->attnum == 0 || column_of(sort)->type == TIMESTAMPTZOID;
}

static int
compare_text(const text *a, const text *b, Oid collation)
{
	if (a == NULL || b == NULL)
		return (a == NULL) - (b == NULL);
	return varstr_cmp(VARDATA_ANY(a), VARSIZE_ANY_EXHDR(a),
					  VARDATA_ANY(b), VARSIZE_ANY_EXHDR(b), collation);
}

/* Below, at, or above 0 as the first comes earlier in the page or later. */
static int
compare(const ListPage *page, const PagePlace *a, const PagePlace *b)
{
	int			result;

	if (is_by_time(page->sort))
		result = (a->time > b->time) - (a->time < b->time);
	else
		result = compare_text(a->text, b->text,
							  apikey_collation_of(column_of(page->sort)));
	if (result == 0)
		result = strcmp(a->suffix, b->suffix);
	return ScanDirectionIsForward(page->direction) ? result : -result;
}

static int
compare_rows(Datum a, Datum b, void *page)
{
	return compare(page, &((PageRow *) DatumGetPointer(a))->place,
				   &((PageRow *) DatumGetPointer(b))->place);
}

/* ----- The cursor: its page, suffix and value, between commas ----- */

static char *
cursor_prefix(const ListPage *page)
{
	return psprintf("%s,%s,%s,", tabs[page->tab].name, page->sort->name,
					ScanDirectionIsForward(page->direction) ? "asc" : "desc");
}

static text *
cursor_of(const ListPage *page, const PagePlace *place)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfo(&text, "%s%s,", cursor_prefix(page), place->suffix);
	if (is_by_time(page->sort))
		appendStringInfo(&text, INT64_FORMAT, place->time);
	else if (place->text != NULL)
		appendBinaryStringInfo(&text, VARDATA_ANY(place->text),
							   VARSIZE_ANY_EXHDR(place->text));
	return cstring_to_text_with_len(text.data, text.len);
}

static bool
parse_cursor(ListPage *page, const char *cursor)
{
	const char *prefix = cursor_prefix(page);
	const char *suffix = cursor + strlen(prefix);
	const char *value;
	PagePlace  *place = &page->cursor;
	char	   *end;
	size_t		len;

	if (strncmp(cursor, prefix, strlen(prefix)) != 0)
		return false;
	len = strcspn(suffix, ",");
	if (suffix[len] == '\0' ||
		(len != 0 && (len != APIKEY_SUFFIX_LEN ||
					  !apikey_is_alphanumeric(suffix, len))))
		return false;
	memcpy(place->suffix, suffix, len);
	value = suffix + len + 1;
	if (!is_by_time(page->sort))
	{
		place->text = len == 0 ? NULL : cstring_to_text(value);
		return len != 0 || *value == '\0';
	}
	errno = 0;
	place->time = strtoll(value, &end, 10);
	return errno == 0 && end != value && *end == '\0';
}

/* ----- The search ----- */

/*
 * A text as texts are compared in a search, in lower case: ASCII's letters as
 * everywhere, so that most texts need nothing else, and then the others as the
 * database's locale has it.
 */
static char *
fold(const text *value)
{
	char	   *folded = text_to_cstring(value);
	bool		is_ascii = true;
	char	   *lower;

	for (char *c = folded; *c != '\0'; c++)
	{
		is_ascii &= !IS_HIGHBIT_SET(*c);
		*c = pg_ascii_tolower(*c);
	}
	if (is_ascii)
		return folded;
	lower = str_tolower(folded, strlen(folded), DEFAULT_COLLATION_OID);
	pfree(folded);
	return lower;
}

static bool
contains(const text *value, const char *part)
{
	char	   *folded = fold(value);
	bool		result = strstr(folded, part) != NULL;

	pfree(folded);
	return result;
}

/* An owner's email address, folded; the keys of an owner come together. */
static const char *
email_of(ListPage *page, const text *owner_id)
{
	ApikeyMember member;

	if (page->owner_id != NULL && apikey_text_equal(page->owner_id, owner_id))
		return page->email;
	if (page->email != NULL)
		pfree(page->email);
	if (page->owner_id != NULL)
		pfree(page->owner_id);
	page->owner_id = apikey_copy_text(owner_id);
	page->email = NULL;
	if (apikey_find_member(PointerGetDatum(page->actor->org_id),
						   PointerGetDatum(owner_id), &member))
	{
		page->email = fold(member.email);
		pfree(member.org_id);
		pfree(member.user_id);
		pfree(member.email);
	}
	return page->email;
}

static bool
is_wanted(ListPage *page, const ApikeyKey *key, const char *suffix)
{
	const char *email;

	if (page->part == NULL || strcmp(suffix, page->suffix) == 0 ||
		contains(key->name, page->part) || contains(key->owner_id, page->part))
		return true;
	email = email_of(page, key->owner_id);
	return email != NULL && strstr(email, page->part) != NULL;
}

/* What is searched for: a whole value, a suffix, or a part of something. */
static void
set_search(ListPage *page, Datum search)
{
	uint8		digest[APIKEY_DIGEST_LEN];
	text	   *value;

	if (!apikey_may_be_key(search))
	{
		page->is_empty = true;	/* longer than what anybody searches for */
		return;
	}
	value = DatumGetTextPP(search);
	if (VARSIZE_ANY_EXHDR(value) == 0)
		return;					/* an empty field searches for nothing */
	page->part = fold(value);
	if (apikey_shape_of_datum(search, digest) == SHAPE_NATIVE)
	{
		page->is_value = true;
		apikey_suffix_of(digest, page->suffix);
	}
	else if (apikey_has_native_shape(VARDATA_ANY(value),
									 VARSIZE_ANY_EXHDR(value)))
		page->is_empty = true;	/* a value with a wrong suffix */
	else if (VARSIZE_ANY_EXHDR(value) == APIKEY_SUFFIX_LEN)
		for (int i = 0; i < APIKEY_SUFFIX_LEN; i++)
			page->suffix[i] = pg_ascii_toupper(VARDATA_ANY(value)[i]);
}

/* ----- Reading ----- */

static void
set_place(const ListPage *page, const ApikeyKey *key, PagePlace *place)
{
	memset(place, 0, sizeof(*place));
	if (key->suffix != NULL)
		text_to_cstring_buffer(key->suffix, place->suffix,
							   sizeof(place->suffix));
	switch (page->sort->attnum)
	{
		case Anum_key_created_at:
			place->time = key->created_at;
			break;
		case Anum_key_expires_at:
			place->time = key->grant.expires_at;
			break;
		case Anum_key_name:
			place->text = key->name;
			break;
		case Anum_key_suffix:
			place->text = key->suffix;
			break;
		case Anum_key_owner_id:
			place->text = key->owner_id;
			break;
		default:
			place->time = apikey_last_use(page->uses, key->grant.key_id);
			if (place->time == 0)
				place->time = DT_NOBEGIN;
	}
}

static bool
is_full(const ListPage *page)
{
	return page->rows->bh_size == page->size;
}

/*
 * Keep a row if it comes after the cursor and is among the best; the last of
 * them goes if there are enough.
 */
static void
consider(ListPage *page, const ApikeyKey *key)
{
	PagePlace	place;
	PageRow    *row = NULL;

	set_place(page, key, &place);
	if (page->has_cursor && compare(page, &place, &page->cursor) <= 0)
		return;
	if (is_full(page))
	{
		row = (PageRow *) DatumGetPointer(binaryheap_first(page->rows));
		if (compare(page, &place, &row->place) >= 0)
			return;
		binaryheap_remove_first(page->rows);
		if (row->place.text != NULL)
			pfree(row->place.text);
		if (row->tuple != NULL)
			heap_freetuple(row->tuple);
	}
	else
		row = palloc(sizeof(PageRow));
	row->place = place;
	row->place.text = apikey_copy_text(place.text);
	row->tuple = key->grant.legacy ? NULL : ExecCopySlotHeapTuple(page->slot);
	binaryheap_add(page->rows, PointerGetDatum(row));
}

/* ----- The scan ----- */

typedef struct PageScan
{
	ApikeyIndex which;
	bool		ordered;		/* as the page wants it */
	int			nkeys;
	ScanKeyData keys[MAX_INDEX_KEYS];
	ScanKeyData after[2];		/* members of a row comparison */
} PageScan;

static void
add_equal(PageScan *scan, const text *value)
{
	ScanKeyEntryInitialize(&scan->keys[scan->nkeys], 0, scan->nkeys + 1,
						   BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID,
						   F_TEXTEQ, PointerGetDatum(value));
	scan->nkeys++;
}

/*
 * Start behind the cursor: the columns of the index that follow those which are
 * fixed are compared as a row; or as a value, if that is the suffix alone,
 * which tells a member's keys apart, and those sorted by it.  PostgreSQL knows
 * no row of one column.
 */
static void
add_after(const ListPage *page, PageScan *scan)
{
	bool		forward = ScanDirectionIsForward(page->direction);
	StrategyNumber strategy = BTGreaterStrategyNumber;
	Datum		suffix = CStringGetTextDatum(page->cursor.suffix);
	ScanKey		key = &scan->keys[scan->nkeys++];
	AttrNumber	attno = scan->nkeys;
	bool		by_time = is_by_time(page->sort);

	if (!forward)
		strategy = BTLessStrategyNumber;
	if (attno == apikey_indexes[scan->which].nkeys)
	{
		ScanKeyEntryInitialize(key, 0, attno, strategy, InvalidOid,
							   C_COLLATION_OID,
							   forward ? F_TEXT_GT : F_TEXT_LT, suffix);
		return;
	}
	ScanKeyEntryInitialize(&scan->after[0], SK_ROW_MEMBER, attno, strategy,
						   InvalidOid,
						   by_time ? InvalidOid :
						   apikey_collation_of(column_of(page->sort)),
						   by_time ? F_TIMESTAMPTZ_CMP : F_BTTEXTCMP,
						   by_time ? TimestampTzGetDatum(page->cursor.time) :
						   PointerGetDatum(page->cursor.text));
	ScanKeyEntryInitialize(&scan->after[1], SK_ROW_MEMBER | SK_ROW_END,
						   attno + 1, strategy, InvalidOid, C_COLLATION_OID,
						   F_BTTEXTCMP, suffix);
	memset(key, 0, sizeof(*key));
	key->sk_flags = SK_ROW_HEADER;
	key->sk_attno = attno;
	key->sk_strategy = strategy;
	key->sk_argument = PointerGetDatum(scan->after);
}

static void
plan_scan(const ListPage *page, PageScan *scan)
{
	ApikeyIndex index = page->is_value ? INDEX_KEY_SUFFIX :
	page->part != NULL ? NO_INDEX : page->sort->index;

	scan->nkeys = 0;
	scan->ordered = page->own ?
		index == INDEX_KEY_SUFFIX || index == INDEX_KEY_OWNER :
		index != NO_INDEX;
	scan->which = page->own || index == NO_INDEX ? INDEX_KEY_OWNER : index;
	add_equal(scan, page->actor->org_id);
	if (page->own)
		add_equal(scan, page->actor->user_id);
	if (page->is_value)
		add_equal(scan, cstring_to_text(page->suffix));
	/* a text that comes last is no place in an index */
	else if (scan->ordered && page->has_cursor &&
			 (is_by_time(page->sort) || page->cursor.text != NULL))
		add_after(page, scan);
}

static void
scan_keys(ListPage *page)
{
	PageScan	plan;
	Relation	index;
	IndexScanDesc scan;

	plan_scan(page, &plan);
	apikey_open(plan.which, &page->table, &index);
	page->slot = table_slot_create(page->table, NULL);
	scan = apikey_index_beginscan(page->table, index, GetActiveSnapshot(),
								  plan.nkeys);
	index_rescan(scan, plan.keys, plan.nkeys, NULL, 0);
	while (!(plan.ordered && is_full(page)) &&
		   index_getnext_slot(scan, plan.ordered ? page->direction :
							  ForwardScanDirection, page->slot))
	{
		ApikeyKey	key;
		char		suffix[APIKEY_SUFFIX_LEN + 1];

		CHECK_FOR_INTERRUPTS();
		apikey_read_key(SHAPE_NATIVE, page->slot, &key);
		text_to_cstring_buffer(key.suffix, suffix, sizeof(suffix));
		if (is_wanted(page, &key, suffix))
			consider(page, &key);
	}
	index_endscan(scan);
	index_close(index, AccessShareLock);
}

/* Has the cursor's row, the legacy key, nothing behind it? */
static bool
is_at_end(const ListPage *page)
{
	return page->has_cursor && !is_by_time(page->sort) &&
		page->cursor.text == NULL && ScanDirectionIsForward(page->direction);
}

static void
read_rows(ListPage *page)
{
	bool		manages_all = apikey_manages_all(page->actor);

	page->own = page->tab == TAB_MINE || !manages_all;
	page->rows = binaryheap_allocate(page->size, compare_rows, page);
	if (page->is_empty || is_at_end(page))
		return;
	if (page->sort->attnum == 0)
		page->uses = apikey_begin_uses();
	if (page->tab != TAB_LEGACY)
		scan_keys(page);
	/* nothing can be searched for in the legacy key */
	if (page->tab != TAB_MINE && manages_all && page->part == NULL &&
		apikey_find_legacy_key(PointerGetDatum(page->actor->org_id),
							   &page->legacy))
		consider(page, &page->legacy);
	if (page->uses != NULL)
		apikey_end_uses(page->uses);
}

/* ----- The result ----- */

static void
put_row(ListPage *page, const PageRow *row, ReturnSetInfo *result)
{
	ApikeyKey	key = page->legacy;
	ApikeyMember owner;
	ApikeyRow	shown;
	ApikeyUse	use;

	apikey_begin_row(&shown, result->setDesc);
	if (row->tuple == NULL)
		apikey_show_legacy_key(&shown, &key);
	else
	{
		ExecForceStoreHeapTuple(row->tuple, page->slot, false);
		apikey_read_key(SHAPE_NATIVE, page->slot, &key);
		apikey_show_key(&shown, page->slot);
		if (apikey_find_member(PointerGetDatum(key.org_id),
							   PointerGetDatum(key.owner_id), &owner))
			apikey_set_text(&shown, "owner_email", owner.email);
	}
	apikey_set(&shown, "kind",
			   CStringGetTextDatum(key.grant.legacy ? "legacy" : "user"));
	if (apikey_find_usage(key.grant.key_id, &use))
	{
		apikey_set(&shown, "uses", Int64GetDatum(use.uses));
		if (use.last_used_at != 0)
			apikey_set(&shown, "last_used_at",
					   TimestampTzGetDatum(use.last_used_at));
	}
	apikey_set_text(&shown, "cursor", cursor_of(page, &row->place));
	tuplestore_putvalues(result->setResult, result->setDesc, shown.values,
						 shown.nulls);
}

/* The heap gives the last row first. */
static void
put_rows(ListPage *page, ReturnSetInfo *result)
{
	PageRow   **rows = palloc(page->size * sizeof(PageRow *));
	int			count = 0;

	while (!binaryheap_empty(page->rows))
		rows[count++] = (PageRow *)
			DatumGetPointer(binaryheap_remove_first(page->rows));
	while (count > 0)
		put_row(page, rows[--count], result);
	if (page->table != NULL)
	{
		ExecDropSingleTupleTableSlot(page->slot);
		table_close(page->table, AccessShareLock);
	}
}

/* ----- The arguments ----- */

/* The number of a name among those that an argument can be. */
static int
choose(FunctionCallInfo fcinfo, int n, const char *what,
	   const PageChoice *choices, int count)
{
	char	   *wanted;
	StringInfoData list;

	apikey_require_argument(fcinfo, n);
	wanted = text_to_cstring(PG_GETARG_TEXT_PP(n));
	initStringInfo(&list);
	for (int i = 0; i < count; i++)
	{
		if (strcmp(wanted, choices[i].name) == 0)
			return i;
		appendStringInfo(&list, "%s\"%s\"", i > 0 ? ", " : "",
						 choices[i].name);
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("there is no such %s", what),
			 errhint("There are: %s.", list.data)));
}

static void
read_arguments(FunctionCallInfo fcinfo, ListPage *page)
{
	page->tab = choose(fcinfo, 0, "tab", tabs, lengthof(tabs));
	page->sort = &sorts[choose(fcinfo, 1, "sort", sorts, lengthof(sorts))];
	apikey_require_argument(fcinfo, 2);
	apikey_require_argument(fcinfo, 3);
	page->direction = PG_GETARG_BOOL(2) ?
		BackwardScanDirection : ForwardScanDirection;
	page->size = PG_GETARG_INT32(3);
	if (page->size < 1 || page->size > MAX_SIZE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a page has 1 to %d rows", MAX_SIZE)));
	page->has_cursor = !PG_ARGISNULL(4);
	if (page->has_cursor &&
		(toast_raw_datum_size(PG_GETARG_DATUM(4)) > CURSOR_MAX ||
		 !parse_cursor(page, text_to_cstring(PG_GETARG_TEXT_PP(4)))))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("this is no cursor of such a page"),
				 errhint("Give the \"cursor\" of the last row of the page before, and the same tab, sort and direction.")));
	if (!PG_ARGISNULL(5))
		set_search(page, PG_GETARG_DATUM(5));
}

/*
 * apikey_page(tab text, sort text, descending boolean, size integer,
 * after text, search text) returns table
 */
Datum
apikey_page(PG_FUNCTION_ARGS)
{
	ApikeyActor actor;
	ListPage	page = {.actor = &actor};

	InitMaterializedSRF(fcinfo, 0);
	read_arguments(fcinfo, &page);
	if (!apikey_actor(&actor) || !apikey_manages_keys(&actor))
		PG_RETURN_NULL();
	read_rows(&page);
	put_rows(&page, (ReturnSetInfo *) fcinfo->resultinfo);
	PG_RETURN_NULL();
}
