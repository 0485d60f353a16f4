/*
 * loadgen.c
 *		Presents keys to contenders over connections that stay open.
 *
 * pgbench has numbers but no texts, and connects anew for each of its runs.
 * This keeps all connections of all contenders, and gives them slices of time
 * in turn (A B C, B C A, ...), so that whatever else the machine does hits all
 * of them alike.  Texts are drawn before a slice: the statements alone are
 * measured.  In one round every contender is presented the same keys.
 *
 * usage: loadgen OPTION...
 *				{ [-h DIRECTORY] [-d DATABASE] [-n KEYS] [-k KIND] LABEL=FILE }...
 *	-h DIRECTORY	socket of the server
 *	-c CLIENTS		connections that are used at once
 *	-s SECONDS		length of a slice
 *	-w SECONDS		length of the slices that are not counted, at first
 *	-r ROUNDS		slices for each contender
 *	-b CALLS		in transactions of so many calls
 *	-z EXPONENT		of the Zipf distribution
 *	-S				simple protocol instead of prepared statements
 * -h, -d, -n and -k hold for the contenders after them.
 *
 * A file has statements that each end in a semicolon at the end of a line;
 * :key is where the key goes.  Comments at its head may say who connects
 * ("-- user: NAME") and what a connection does first ("-- first: STATEMENT",
 * where :client is the number of the client).
 *
 * Prints a line for each contender: its label and the calls per second in
 * each round, separated by tabs.
 */
#include <errno.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "keys.h"

#define MAX_CONTENDERS	64
#define MAX_STATEMENTS	8
#define MAX_CLIENTS		64
#define RING			65536	/* texts drawn for a slice */
#define BOOL_OID		16
#define TEXT_OID		25

typedef struct Statement
{
	char		name[24];		/* when prepared */
	char	   *sql;			/* with $1 */
	char	   *before_key;		/* for the simple protocol: around the key */
	char	   *after_key;
	bool		has_key;
} Statement;

typedef struct Contender
{
	const char *label;
	const char *host;
	const char *database;
	const char *user;			/* NULL for bench_app */
	const char *first;			/* NULL if nothing */
	KeyKind		kind;
	uint64_t	keys;
	Statement	statements[MAX_STATEMENTS];
	int			nstatements;
	int			session;		/* first contender with the same connection */
	double	   *rates;			/* of each round */
} Contender;

typedef struct Client
{
	int			number;
	pthread_t	thread;
	PGconn	   *sessions[MAX_CONTENDERS];
	KeySource	source;
	char	   *texts;			/* terminated, of text_size bytes each */
	size_t		text_size;
	uint64_t	calls;
	double		seconds;
} Client;

static const char *host = NULL;
static int	nclients = 1;
static double slice = 1;
static double warm_up = 1;
static int	rounds = 1;
static int	batch = 0;
static double exponent = 1.01;
static bool simple = false;

static Contender contenders[MAX_CONTENDERS];
static int	ncontenders = 0;
static Client clients[MAX_CLIENTS];

/* What the main thread tells the others between two barriers. */
static pthread_barrier_t barrier;
static Contender *current = NULL;	/* NULL to end */
static int	current_round;
static atomic_bool stop;

static void
fail(const char *format,...)
{
	va_list		args;

	va_start(args, format);
	fprintf(stderr, "loadgen: ");
	vfprintf(stderr, format, args);
	fprintf(stderr, "\n");
	va_end(args);
	exit(1);
}

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

/* ----- reading the contenders ----- */

static char *
read_file(const char *path)
{
	FILE	   *file = fopen(path, "r");
	char	   *text = calloc(1, 65536);

	if (file == NULL)
		fail("cannot read %s: %s", path, strerror(errno));
	if (fread(text, 1, 65535, file) == 0)
		fail("%s is empty", path);
	fclose(file);
	return text;
}

/* What a comment line says after this word; NULL if it is another. */
static char *
directive(char *line, const char *word)
{
	size_t		len = strlen(word);

	return strncmp(line, word, len) == 0 ? strdup(line + len) : NULL;
}

static void
add_statement(Contender *contender, char *sql)
{
	Statement  *statement = &contender->statements[contender->nstatements];
	char	   *key = strstr(sql, ":key");

	if (contender->nstatements == MAX_STATEMENTS)
		fail("%s has too many statements", contender->label);
	snprintf(statement->name, sizeof(statement->name), "s%d_%d",
			 (int) (contender - contenders), contender->nstatements++);
	statement->sql = sql;
	statement->has_key = key != NULL;
	if (key == NULL)
		return;
	statement->before_key = strndup(sql, key - sql);
	statement->after_key = strdup(key + 4);
	if (strstr(statement->after_key, ":key") != NULL)
		fail("%s has :key twice in a statement", contender->label);
	statement->sql = malloc(strlen(sql) + 1);
	sprintf(statement->sql, "%s$1%s", statement->before_key,
			statement->after_key);
}

static void
parse_file(Contender *contender, char *text)
{
	char	   *position;
	char	   *sql = calloc(1, strlen(text) + 1);

	for (char *line = strtok_r(text, "\n", &position); line != NULL;
		 line = strtok_r(NULL, "\n", &position))
	{
		char	   *value;

		if ((value = directive(line, "-- user: ")) != NULL)
			contender->user = value;
		else if ((value = directive(line, "-- first: ")) != NULL)
			contender->first = value;
		if (strncmp(line, "--", 2) == 0)
			continue;
		strcat(strcat(sql, line), " ");
		if (line[strlen(line) - 1] == ';')
		{
			add_statement(contender, sql);
			sql = calloc(1, strlen(position) + 2);
		}
	}
	if (contender->nstatements == 0)
		fail("%s has no statement", contender->label);
}

static bool
is_same(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

/* Contenders share a connection if nothing tells them apart. */
static int
session_of(const Contender *contender)
{
	int			i = 0;

	while (!is_same(contenders[i].host, contender->host) ||
		   !is_same(contenders[i].database, contender->database) ||
		   !is_same(contenders[i].user, contender->user) ||
		   !is_same(contenders[i].first, contender->first))
		i++;
	return i;
}

static void
add_contender(char *argument, const char *database, uint64_t keys, KeyKind kind)
{
	Contender  *contender = &contenders[ncontenders++];
	char	   *path = strrchr(argument, '=');

	if (ncontenders > MAX_CONTENDERS)
		fail("too many contenders");
	if (path == NULL)
		fail("not LABEL=FILE: %s", argument);
	*path++ = '\0';
	contender->label = argument;
	contender->host = host;
	contender->database = database;
	contender->keys = keys;
	contender->kind = kind;
	contender->rates = calloc(rounds, sizeof(double));
	parse_file(contender, read_file(path));
	contender->session = session_of(contender);
}

static void
parse_arguments(int argc, char **argv)
{
	const char *database = "postgres";
	uint64_t	keys = 1;
	KeyKind		kind = KIND_UNIFORM;

	for (int i = 1; i < argc; i++)
	{
		char		option = argv[i][0] == '-' ? argv[i][1] : 0;
		char	   *value = NULL;

		if (option == 'S')
		{
			simple = true;
			continue;
		}
		if (option != 0 && (value = argv[++i]) == NULL)
			fail("-%c needs a value", option);
		switch (option)
		{
			case 0:
				add_contender(argv[i], database, keys, kind);
				break;
			case 'h':
				host = value;
				break;
			case 'c':
				nclients = atoi(value);
				break;
			case 's':
				slice = atof(value);
				break;
			case 'w':
				warm_up = atof(value);
				break;
			case 'r':
				rounds = atoi(value);
				break;
			case 'b':
				batch = atoi(value);
				break;
			case 'z':
				exponent = atof(value);
				break;
			case 'd':
				database = value;
				break;
			case 'n':
				keys = strtoull(value, NULL, 10);
				break;
			case 'k':
				kind = key_kind(value);
				if (kind == NUM_KINDS)
					fail("there is no kind %s", value);
				break;
			default:
				fail("there is no option -%c", option);
		}
	}
	if (ncontenders == 0 || nclients < 1 || nclients > MAX_CLIENTS)
		fail("nothing to do");
}

/* ----- connections ----- */

static void
expect(PGconn *connection, PGresult *result, const Contender *contender)
{
	ExecStatusType status = PQresultStatus(result);

	if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
		fail("%s: %s", contender->label, PQerrorMessage(connection));
}

/* A statement with :client replaced. */
static char *
for_client(const char *sql, int client)
{
	const char *place = strstr(sql, ":client");
	char	   *result = malloc(strlen(sql) + 12);

	if (place == NULL)
		return strcpy(result, sql);
	sprintf(result, "%.*s%d%s", (int) (place - sql), sql, client, place + 7);
	return result;
}

static PGconn *
open_session(const Contender *contender, int client)
{
	const char *keywords[] = {"host", "dbname", "user", NULL};
	const char *values[] = {
		contender->host, contender->database,
		contender->user ? contender->user : "bench_app", NULL
	};
	PGconn	   *connection = PQconnectdbParams(keywords, values, 0);

	if (PQstatus(connection) != CONNECTION_OK)
		fail("%s", PQerrorMessage(connection));
	if (contender->first != NULL)
	{
		char	   *sql = for_client(contender->first, client);
		PGresult   *result = PQexec(connection, sql);

		expect(connection, result, contender);
		PQclear(result);
		free(sql);
	}
	return connection;
}

static void
prepare(PGconn *connection, const Contender *contender)
{
	Oid			type = TEXT_OID;

	for (int i = 0; i < contender->nstatements; i++)
	{
		const Statement *statement = &contender->statements[i];
		PGresult   *result = PQprepare(connection, statement->name,
									   statement->sql, statement->has_key,
									   &type);

		expect(connection, result, contender);
		PQclear(result);
	}
}

static void
connect_client(Client *client)
{
	for (int i = 0; i < ncontenders; i++)
	{
		Contender  *contender = &contenders[i];

		if (contender->session == i)
			client->sessions[i] = open_session(contender, client->number);
		if (!simple)
			prepare(client->sessions[contender->session], contender);
	}
}

/* ----- calls ----- */

static PGresult *
run_simple(PGconn *connection, const Statement *statement, const char *key)
{
	static _Thread_local char *query = NULL;
	static _Thread_local size_t size = 0;
	size_t		needed;
	PGresult   *result;

	if (!statement->has_key)
		return PQexec(connection, statement->sql);
	needed = strlen(statement->sql) + strlen(key) + 8;
	if (size < needed)
		query = realloc(query, size = needed);
	/* keys have no quotes */
	sprintf(query, "%s'%s'%s", statement->before_key, key,
			statement->after_key);
	result = PQexec(connection, query);
	return result;
}

/* What a contender says of a key must be right, if it says anything. */
static void
check_verdict(PGresult *result, const Contender *contender)
{
	bool		yes;

	if (PQnfields(result) != 1 || PQftype(result, 0) != BOOL_OID)
		return;
	yes = PQntuples(result) > 0 && PQgetvalue(result, 0, 0)[0] == 't';
	if (yes != key_kind_is_valid(contender->kind))
		fail("%s gives the wrong answer", contender->label);
}

static void
call(PGconn *connection, const Contender *contender, const char *key)
{
	for (int i = 0; i < contender->nstatements; i++)
	{
		const Statement *statement = &contender->statements[i];
		PGresult   *result;

		if (simple)
			result = run_simple(connection, statement, key);
		else
			result = PQexecPrepared(connection, statement->name,
									statement->has_key, &key, NULL, NULL, 0);
		expect(connection, result, contender);
		check_verdict(result, contender);
		PQclear(result);
	}
}

static void
command(PGconn *connection, const Contender *contender, const char *sql)
{
	PGresult   *result = PQexec(connection, sql);

	expect(connection, result, contender);
	PQclear(result);
}

static const char *
text_of(const Client *client, const Contender *contender, uint64_t n)
{
	if (contender->kind == KIND_HUGE)
		return client->texts;
	return client->texts + n % RING * client->text_size;
}

/* The same in one round for all contenders, but for fresh keys. */
static void
draw_texts(Client *client, const Contender *contender)
{
	uint64_t	seed = current_round * 1000 + client->number;

	if (contender->kind == KIND_FRESH)
		seed ^= (uint64_t) (now() * 1e9) << 8;
	client->text_size = KEY_TEXT_MAX + 1;
	if (client->texts == NULL)
		client->texts = malloc(RING * client->text_size);
	if (contender->kind == KIND_HUGE)
	{
		memset(client->texts, 'x', KEY_HUGE_LEN);
		client->texts[KEY_HUGE_LEN] = '\0';
		return;
	}
	if (contender->kind != KIND_MALFORMED)
		client->text_size = KEY_LEN + 1;	/* closer together */
	key_source_init(&client->source, contender->kind, contender->keys,
					exponent, seed);
	for (int i = 0; i < RING; i++)
	{
		char	   *text = client->texts + i * client->text_size;

		text[key_draw(&client->source, text)] = '\0';
	}
}

static void
run_slice(Client *client, Contender *contender)
{
	PGconn	   *connection = client->sessions[contender->session];
	double		start = now();
	uint64_t	n = 0;

	while (!atomic_load_explicit(&stop, memory_order_relaxed) ||
		   (batch > 0 && n % batch != 0))
	{
		if (contender->kind == KIND_FRESH && n == RING)
			break;				/* never the same key again */
		if (batch > 0 && n % batch == 0)
			command(connection, contender, "BEGIN");
		call(connection, contender, text_of(client, contender, n));
		n++;
		if (batch > 0 && n % batch == 0)
			command(connection, contender, "COMMIT");
	}
	if (batch > 0 && n % batch != 0)
		command(connection, contender, "COMMIT");
	client->calls = n;
	client->seconds = now() - start;
}

static void *
run_client(void *argument)
{
	Client	   *client = argument;

	connect_client(client);
	for (;;)
	{
		pthread_barrier_wait(&barrier); /* what to do is known */
		if (current == NULL)
			break;
		draw_texts(client, current);
		pthread_barrier_wait(&barrier); /* all are ready */
		run_slice(client, current);
		pthread_barrier_wait(&barrier); /* all are done */
	}
	for (int i = 0; i < ncontenders; i++)
		if (client->sessions[i] != NULL)
			PQfinish(client->sessions[i]);
	return NULL;
}

/* Returns calls per second of all clients together. */
static double
measure(Contender *contender, int round, double seconds)
{
	struct timespec length = {
		(time_t) seconds, (long) ((seconds - (time_t) seconds) * 1e9)
	};
	double		rate = 0;

	current = contender;
	current_round = round;
	atomic_store(&stop, false);
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	nanosleep(&length, NULL);
	atomic_store(&stop, true);
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < nclients; i++)
		rate += clients[i].calls / clients[i].seconds;
	return rate;
}

int
main(int argc, char **argv)
{
	parse_arguments(argc, argv);
	pthread_barrier_init(&barrier, NULL, nclients + 1);
	for (int i = 0; i < nclients; i++)
	{
		clients[i].number = i + 1;
		pthread_create(&clients[i].thread, NULL, run_client, &clients[i]);
	}

	for (int i = 0; i < ncontenders; i++)
		(void) measure(&contenders[i], rounds, warm_up);
	for (int round = 0; round < rounds; round++)
		for (int i = 0; i < ncontenders; i++)
		{
			Contender  *contender = &contenders[(i + round) % ncontenders];

			contender->rates[round] = measure(contender, round, slice);
		}
	current = NULL;
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < nclients; i++)
		pthread_join(clients[i].thread, NULL);

	for (int i = 0; i < ncontenders; i++)
	{
		printf("%s", contenders[i].label);
		for (int round = 0; round < rounds; round++)
			printf("\t%.1f", contenders[i].rates[round]);
		printf("\n");
	}
	return 0;
}
