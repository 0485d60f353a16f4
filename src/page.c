/*
 * page.c
 *		A page of the keys that the principal may see, in a wanted order.
 *
 * Where an index has the order, as many rows are read as the page has, however
 * long the list: the scan starts behind the cursor.  Elsewhere all rows of the
 * organization, or of the member, are read, and the best are kept.  A member's
 * page reads the member's own rows only, as the view apikeys_mine does.
 *
 * An organization's legacy key has no name, suffix and owner: by these it is
 * the last, and the first if the order is descending.  Rows that are equal by
 * what they are sorted by are told apart by their suffix.  Members' keys are
 * read with the statement's snapshot; the legacy key, owners and usage with the
 * latest.  All is allocated in the memory of the call.
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
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/formatting.h"
#include "utils/hsearch.h"
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
#define PAGE_COLUMNS 12

/* What a list can be sorted by; NO_INDEX where none has the order. */
#define NO_INDEX NUM_INDEXES

typedef struct PageSort
{
	const char *name;
	ApikeyIndex index;			/* of an organization's keys */
	AttrNumber	attnum;			/* 0 for what is no column */
} PageSort;

static const PageSort sorts[] = {
	{"created_at", INDEX_KEY_CREATED, Anum_key_created_at},
	{"name", INDEX_KEY_NAME, Anum_key_name},
	{"suffix", INDEX_KEY_SUFFIX, Anum_key_suffix},
	{"owner_id", INDEX_KEY_OWNER, Anum_key_owner_id},
	{"expires_at", NO_INDEX, Anum_key_expires_at},
	{"last_used_at", NO_INDEX, 0},
};

static const char *const tabs[] = {"all", "mine", "legacy"};
typedef enum PageTab
{
	TAB_ALL,
	TAB_MINE,
	TAB_LEGACY
} PageTab;

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
	ApikeyKey	key;
} PageRow;

/* An owner whose email address has been looked up. */
typedef struct PageOwner
{
	char		owner_id[APIKEY_ID_MAX + 1];
	const char *email;			/* in lower case; NULL if there is none */
} PageOwner;

/* A page in the making. */
typedef struct ListPage
{
	const ApikeyActor *actor;
	PageTab		tab;
	bool		own;			/* the member's keys, not the organization's */
	const PageSort *sort;
	ScanDirection direction;
	bool		has_cursor;
	PagePlace	cursor;			/* rows come after it */
	const char *part;			/* wanted in name, owner or email, in lower
								 * case; NULL for any */
	char		suffix[APIKEY_SUFFIX_LEN + 1];	/* or wanted as suffix */
	bool		is_value;		/* a whole value was given: suffix only */
	HTAB	   *emails;			/* of owners, in lower case, for the search */
	ApikeyUses *uses;			/* when keys were last used, for the order */
	int			size;
	int			nrows;
	PageRow    *rows;
} ListPage;

/* ----- The order ----- */

static const ColumnSpec *
column_of(const PageSort *sort)
{
	return &apikey_tables[TABLE_KEY].columns[sort->attnum - 1];
}

static bool
is_by_time(const PageSort *sort)
{
	return sort->attnum == 0 || column_of(sort)->type == TIMESTAMPTZOID;
}

static Oid
collation_of(const PageSort *sort)
{
	return apikey_collation_of(column_of(sort));
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
		result = compare_text(a->text, b->text, collation_of(page->sort));
	if (result == 0)
		result = strcmp(a->suffix, b->suffix);
	return ScanDirectionIsForward(page->direction) ? result : -result;
}

/* Keep a row among the best; the last of them goes if there are enough. */
static void
keep_row(ListPage *page, const PageRow *row)
{
	int			i = page->nrows < page->size ? page->nrows++ : page->size - 1;

	while (i > 0 && compare(page, &row->place, &page->rows[i - 1].place) < 0)
	{
		page->rows[i] = page->rows[i - 1];
		i--;
	}
	page->rows[i] = *row;
}

/* ----- The cursor: sort, suffix and value, separated by commas ----- */

static text *
cursor_of(const ListPage *page, const PagePlace *place)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfo(&text, "%s,%s,", page->sort->name, place->suffix);
	if (is_by_time(page->sort))
		appendStringInfo(&text, INT64_FORMAT, place->time);
	else if (place->text != NULL)
		appendBinaryStringInfo(&text, VARDATA_ANY(place->text),
							   VARSIZE_ANY_EXHDR(place->text));
	return cstring_to_text_with_len(text.data, text.len);
}

static bool
parse_cursor(ListPage *page, char *cursor)
{
	char	   *suffix = strchr(cursor, ',');
	char	   *value = suffix ? strchr(suffix + 1, ',') : NULL;
	PagePlace  *place = &page->cursor;
	char	   *end;
	size_t		len;

	if (value == NULL)
		return false;
	*suffix++ = '\0';
	*value++ = '\0';
	len = strlen(suffix);
	if (strcmp(cursor, page->sort->name) != 0 ||
		(len != 0 && len != APIKEY_SUFFIX_LEN) ||
		(len != 0 && !apikey_is_alphanumeric(suffix, len)))
		return false;
	memcpy(place->suffix, suffix, len + 1);
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

static char *
lower_text(const text *value)
{
	return str_tolower(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value),
					   DEFAULT_COLLATION_OID);
}

/* Is the part, in lower case, anywhere in the text? */
static bool
contains(const text *value, const char *part)
{
	const char *data = VARDATA_ANY(value);
	size_t		len = VARSIZE_ANY_EXHDR(value);
	char		ascii[256];

	if (len >= sizeof(ascii))
		return strstr(lower_text(value), part) != NULL;
	for (size_t i = 0; i < len; i++)
	{
		if (IS_HIGHBIT_SET(data[i]))
			return strstr(lower_text(value), part) != NULL;
		ascii[i] = pg_ascii_tolower(data[i]);
	}
	ascii[len] = '\0';
	return strstr(ascii, part) != NULL;
}

/* An owner's email address in lower case; each owner is looked up once. */
static const char *
email_of(ListPage *page, const text *owner_id)
{
	PageOwner  *entry;
	char		name[sizeof(entry->owner_id)];
	bool		found;
	ApikeyMember member;

	text_to_cstring_buffer(owner_id, name, sizeof(name));
	if (page->emails == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(name),.entrysize = sizeof(*entry),
		.hcxt = CurrentMemoryContext};

		page->emails = hash_create("apikeys emails", 64, &ctl,
								   HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	}
	entry = hash_search(page->emails, name, HASH_ENTER, &found);
	if (!found)
	{
		entry->email = NULL;
		if (apikey_find_member(PointerGetDatum(page->actor->org_id),
							   PointerGetDatum(owner_id), &member))
			entry->email = lower_text(member.email);
	}
	return entry->email;
}

static bool
is_wanted(ListPage *page, const ApikeyKey *key, const char *suffix)
{
	const char *email;

	if (page->part == NULL || strcmp(suffix, page->suffix) == 0)
		return true;
	if (page->is_value)
		return false;
	if (contains(key->name, page->part) || contains(key->owner_id, page->part))
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
		page->part = "";
		page->is_value = true;	/* that nobody has */
		return;
	}
	value = DatumGetTextPP(search);
	if (VARSIZE_ANY_EXHDR(value) == 0)
		return;					/* an empty field searches for nothing */
	page->part = lower_text(value);
	if (apikey_shape_of_datum(search, digest) == SHAPE_NATIVE)
	{
		page->is_value = true;
		apikey_suffix_of(digest, page->suffix);
	}
	else if (VARSIZE_ANY_EXHDR(value) == APIKEY_SUFFIX_LEN)
		for (int i = 0; i < APIKEY_SUFFIX_LEN; i++)
			page->suffix[i] = pg_ascii_toupper(VARDATA_ANY(value)[i]);
}

/* ----- Reading ----- */

static void
set_place(const ListPage *page, PageRow *row)
{
	const ApikeyKey *key = &row->key;
	PagePlace  *place = &row->place;

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

/* Keep a row if it is wanted and comes after the cursor. */
static void
consider(ListPage *page, PageRow *row)
{
	set_place(page, row);
	if ((page->has_cursor &&
		 compare(page, &row->place, &page->cursor) <= 0) ||
		(page->nrows == page->size &&
		 compare(page, &row->place, &page->rows[page->nrows - 1].place) >= 0))
		return;
	apikey_keep_key(&row->key);
	set_place(page, row);
	keep_row(page, row);
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

/* One column of "(column, suffix) after the cursor", from the index's n-th. */
static void
set_member(PageScan *scan, int member, bool last, AttrNumber attno,
		   StrategyNumber strategy, const PageSort *sort, Datum value)
{
	bool		by_time = is_by_time(sort);

	ScanKeyEntryInitialize(&scan->after[member],
						   SK_ROW_MEMBER | (last ? SK_ROW_END : 0),
						   attno, strategy, InvalidOid,
						   by_time ? InvalidOid : collation_of(sort),
						   by_time ? F_TIMESTAMPTZ_CMP : F_BTTEXTCMP, value);
}

/*
 * Start behind the cursor: the columns of the index that follow those which are
 * fixed are compared as a row.
 */
static void
add_after(const ListPage *page, PageScan *scan)
{
	static const PageSort by_suffix = {"suffix", NO_INDEX, Anum_key_suffix};
	StrategyNumber strategy = ScanDirectionIsForward(page->direction) ?
	BTGreaterStrategyNumber : BTLessStrategyNumber;
	ScanKey		header = &scan->keys[scan->nkeys];
	AttrNumber	attno = scan->nkeys + 1;
	int			member = 0;

	/* the suffix alone tells a member's keys and those sorted by it apart */
	if (attno < apikey_indexes[scan->which].nkeys)
	{
		Datum		value = is_by_time(page->sort) ?
		TimestampTzGetDatum(page->cursor.time) :
		PointerGetDatum(page->cursor.text);

		set_member(scan, member, false, attno + member, strategy, page->sort,
				   value);
		member++;
	}
	set_member(scan, member, true, attno + member, strategy, &by_suffix,
			   CStringGetTextDatum(page->cursor.suffix));
	memset(header, 0, sizeof(*header));
	header->sk_flags = SK_ROW_HEADER;
	header->sk_attno = attno;
	header->sk_strategy = strategy;
	header->sk_argument = PointerGetDatum(scan->after);
	scan->nkeys++;
}

static void
plan_scan(const ListPage *page, PageScan *scan)
{
	ApikeyIndex index = page->sort->index;

	scan->nkeys = 0;
	scan->ordered = page->own ?
		index == INDEX_KEY_SUFFIX || index == INDEX_KEY_OWNER :
		index != NO_INDEX;
	scan->which = page->own || index == NO_INDEX ? INDEX_KEY_OWNER : index;
	add_equal(scan, page->actor->org_id);
	if (page->own)
		add_equal(scan, page->actor->user_id);
	/* a text that comes last is no place in an index */
	if (scan->ordered && page->has_cursor &&
		(is_by_time(page->sort) || page->cursor.text != NULL))
		add_after(page, scan);
}

static void
scan_keys(ListPage *page)
{
	PageScan	plan;
	Relation	table;
	Relation	index;
	TupleTableSlot *slot;
	IndexScanDesc scan;

	plan_scan(page, &plan);
	apikey_open(plan.which, &table, &index);
	slot = table_slot_create(table, NULL);
	scan = apikey_index_beginscan(table, index, GetActiveSnapshot(),
								  plan.nkeys);
	index_rescan(scan, plan.keys, plan.nkeys, NULL, 0);
	while (!(plan.ordered && page->nrows == page->size) &&
		   index_getnext_slot(scan, plan.ordered ? page->direction :
							  ForwardScanDirection, slot))
	{
		PageRow		row = {0};
		char		suffix[APIKEY_SUFFIX_LEN + 1];

		CHECK_FOR_INTERRUPTS();
		apikey_read_key(SHAPE_NATIVE, slot, &row.key);
		text_to_cstring_buffer(row.key.suffix, suffix, sizeof(suffix));
		if (is_wanted(page, &row.key, suffix))
			consider(page, &row);
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, AccessShareLock);
	table_close(table, AccessShareLock);
}

/* The legacy key, which nothing can be searched for in. */
static void
add_legacy_key(ListPage *page)
{
	PageRow		row = {0};

	if (page->part != NULL ||
		!apikey_find_legacy_key(PointerGetDatum(page->actor->org_id),
								&row.key))
		return;
	consider(page, &row);
}

/* ----- The result ----- */

static void
set_time(Datum *values, bool *nulls, int i, TimestampTz value, TimestampTz none)
{
	values[i] = TimestampTzGetDatum(value);
	nulls[i] = value == none;
}

static void
put_row(const ListPage *page, PageRow *row, ReturnSetInfo *result)
{
	const ApikeyKey *key = &row->key;
	Datum		values[PAGE_COLUMNS];
	bool		nulls[PAGE_COLUMNS] = {false};
	ApikeyMember owner = {0};
	ApikeyUse	use;
	bool		counted;
	int			i = 0;

	counted = apikey_find_usage(key->grant.key_id, &use);
	if (!key->grant.legacy)
		(void) apikey_find_member(PointerGetDatum(key->org_id),
								  PointerGetDatum(key->owner_id), &owner);
	values[i++] = CStringGetTextDatum(key->grant.legacy ? "legacy" : "user");
	apikey_set_text(values, nulls, i++, key->org_id);
	apikey_set_text(values, nulls, i++, key->owner_id);
	apikey_set_text(values, nulls, i++, owner.email);
	apikey_set_text(values, nulls, i++, key->name);
	values[i++] = ObjectIdGetDatum(apikey_catalog()->levels[key->grant.level]);
	apikey_set_text(values, nulls, i++, key->suffix);
	values[i++] = TimestampTzGetDatum(key->created_at);
	set_time(values, nulls, i++, key->grant.expires_at, DT_NOEND);
	set_time(values, nulls, i++, use.last_used_at, 0);
	values[i] = Int64GetDatum(use.uses);
	nulls[i++] = !counted;
	apikey_set_text(values, nulls, i++, cursor_of(page, &row->place));
	Assert(i == PAGE_COLUMNS);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* ----- The arguments ----- */

/* The number of a name in a list, which an error tells. */
static int
choose(FunctionCallInfo fcinfo, int n, const char *what,
	   const char *const *names, int stride, int count)
{
	char	   *wanted;
	StringInfoData list;

	apikey_require_argument(fcinfo, n);
	wanted = text_to_cstring(PG_GETARG_TEXT_PP(n));
	initStringInfo(&list);
	for (int i = 0; i < count; i++)
	{
		const char *name = *(const char *const *)
		((const char *) names + (size_t) i * stride);

		if (strcmp(wanted, name) == 0)
			return i;
		appendStringInfo(&list, "%s\"%s\"", i > 0 ? ", " : "", name);
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("there is no such %s", what),
			 errhint("There are: %s.", list.data)));
}

static void
read_arguments(FunctionCallInfo fcinfo, ListPage *page)
{
	page->tab = choose(fcinfo, 0, "tab", tabs, sizeof(tabs[0]),
					   lengthof(tabs));
	page->sort = &sorts[choose(fcinfo, 1, "sort", &sorts[0].name,
							   sizeof(sorts[0]), lengthof(sorts))];
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
				 errmsg("this is no cursor of a page with this sort"),
				 errhint("Give the \"cursor\" of the last row of the page before, and the same sort.")));
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
	bool		manages_all;

	InitMaterializedSRF(fcinfo, 0);
	read_arguments(fcinfo, &page);
	if (!apikey_actor(&actor) || !apikey_manages_keys(&actor))
		PG_RETURN_NULL();
	manages_all = apikey_manages_all(&actor);
	page.own = page.tab == TAB_MINE || !manages_all;
	page.rows = palloc(page.size * sizeof(PageRow));
	if (page.sort->attnum == 0)
		page.uses = apikey_begin_uses();
	if (page.tab != TAB_LEGACY)
		scan_keys(&page);
	if (page.tab != TAB_MINE && manages_all)
		add_legacy_key(&page);
	if (page.uses != NULL)
		apikey_end_uses(page.uses);
	for (int i = 0; i < page.nrows; i++)
		put_row(&page, &page.rows[i], (ReturnSetInfo *) fcinfo->resultinfo);
	PG_RETURN_NULL();
}
