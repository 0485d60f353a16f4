"""Loads keys into a throwaway server and measures: called by bench/run."""

import argparse
import concurrent.futures
import datetime
import os
import platform
import re
import subprocess
import time

from picture import draw
from results import NAMES, Results, Targets
from server import Psql, Server, memory_total, say

HERE = os.path.dirname(os.path.abspath(__file__))
SQL = os.path.join(HERE, 'sql')

SECTIONS = ('server', 'client', 'refusals', 'pgbench', 'growth', 'memory', 'wal',
            'list', 'usage', 'update', 'create', 'history')
MILLION = 1000000


# ----- the arguments -----

def parse_arguments():
    parser = argparse.ArgumentParser(usage=argparse.SUPPRESS, add_help=False)
    add = parser.add_argument
    add('--help', action='help', help=argparse.SUPPRESS)
    add('--check', action='store_true', help=argparse.SUPPRESS)
    for name in ('--bindir', '--work', '--commit'):
        add(name, help=argparse.SUPPRESS)
    add('--keys', type=int, help='how many keys (default 1000000)')
    add('--sizes', help='for the growth (default 1000,10000,100000,1000000,10000000)')
    add('--sections', default=','.join(SECTIONS),
        help='which of %s (default: all)' % ','.join(SECTIONS))
    add('--rounds', type=int, help='slices for each contender (default 9)')
    add('--slice', type=float, help='seconds of each (default 0.4)')
    add('--zipf', type=float, default=1.01, help='exponent of the Zipf distribution (default 1.01)')
    add('--memory-calls', type=int, default=MILLION,
        help='verifications in one backend to see if it grows (default 1000000)')
    add('--set', action='append', default=[], metavar='NAME=VALUE',
        help='a setting of the server, such as shared_preload_libraries=apikeys')
    add('--quick', action='store_true', help='a small run, only to see that all works')
    args = parser.parse_args()

    quick = args.quick
    args.keys = args.keys or (100000 if quick else MILLION)
    sizes = args.sizes or ('1000,10000,100000' if quick else '1000,10000,100000,1000000,10000000')
    args.sizes = sorted({int(size) for size in sizes.split(',')})
    args.rounds = args.rounds or (3 if quick else 9)
    args.slice = args.slice or (0.15 if quick else 0.4)
    args.sections = args.sections.split(',')
    if set(args.sections) - set(SECTIONS):
        parser.error('sections are ' + ', '.join(SECTIONS))
    if min(args.sizes + [args.keys]) < 1000:
        parser.error('at least 1000 keys are needed')
    if not all('=' in setting for setting in args.set):
        parser.error('--set takes NAME=VALUE')
    return args


# ----- the databases -----

def database(keys):
    return 'bench_%d' % keys


def sizes_needed(args):
    sizes = {args.keys}
    if 'growth' in args.sections:
        sizes |= set(args.sizes)
    if 'pgbench' in args.sections:
        sizes |= {args.sizes[0], args.sizes[-1]}
    return sorted(sizes)


def shared_buffers(args):
    """Room for all tables, but not more than two thirds of memory."""
    rows = 750 * sum(sizes_needed(args)) + 1200 * args.keys
    return min(rows + (256 << 20), memory_total() * 2 // 3)


def load(server, keys, is_main):
    name = database(keys)
    start = datetime.datetime.now()
    server.sql('postgres', 'CREATE DATABASE ' + name)
    server.sql(name, 'CREATE EXTENSION apikeys CASCADE')
    server.sql(name, "SELECT apikey_grant_application('bench_app')")
    server.sql(name, 'CREATE EXTENSION pg_prewarm')
    server.script(name, SQL + '/functions.sql', '-v', 'library=' + HERE + '/inserver.so')
    size = ('-v', 'keys=%d' % keys)
    server.script(name, SQL + '/load.sql', *size)
    server.script(name, SQL + '/by_hand.sql')
    if is_main:
        server.script(name, SQL + '/main.sql', *size)
    server.sql(name, 'VACUUM (FREEZE, ANALYZE)')
    say('loaded %s keys in %.0f s' % (format(keys, ','),
                                      (datetime.datetime.now() - start).total_seconds()))


def load_all(server, args):
    server.start(loading=True)
    server.sql('postgres', 'CREATE ROLE bench_app LOGIN; ALTER ROLE bench_app SET apikeys.session_principal = on')
    # the largest first, and beside it all others
    sizes = sizes_needed(args)[::-1]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(load, server, size, size == args.keys) for size in sizes]:
            done.result()
    server.restart()
    os.sync()
    for size in sizes:
        server.sql(database(size), "SELECT pg_prewarm(oid) FROM pg_class"
                   " WHERE relkind IN ('r', 'i') AND relnamespace = 'public'::regnamespace")


# ----- what is presented to whom -----

def call_file(contender):
    return '%s/call/%s.sql' % (SQL, contender)


def statements(contender):
    """The text of a contender without its comments."""
    with open(call_file(contender)) as file:
        return ''.join(line for line in file if not line.startswith('--'))


def as_query(contender):
    return statements(contender).strip().rstrip(';').replace(':key', '$1')


def quoted(text):
    return "'%s'" % text.replace("'", "''")


class Bench:
    def __init__(self, server, args, results):
        self.server = server
        self.args = args
        self.results = results
        self.main = database(args.keys)

    # Over connections: entries are (case, contender, kind, keys); what is
    # recorded as the reference is the contender of this name in the same case.

    def loadgen(self, clients, entries, simple=False, batch=0, rounds=None, file_of=call_file,
                server_of=None, slice=None, options=''):
        args = self.args
        slice = slice or args.slice
        command = [HERE + '/loadgen', '-c', str(clients),
                   '-s', str(slice), '-w', str(slice), '-z', str(args.zipf),
                   '-r', str(rounds or args.rounds), '-b', str(batch)]
        command += ['-S'] if simple else []
        for i, (_, contender, kind, keys) in enumerate(entries):
            server = server_of(contender) if server_of else self.server
            command += ['-h', server.work, '-d', database(keys), '-n', str(keys), '-k', kind,
                        '%d=%s' % (i, file_of(contender))]
        environment = dict(self.server.environment)
        environment['PGOPTIONS'] += options
        output = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True,
                                env=environment).stdout
        lines = [line.split('\t') for line in output.splitlines()]
        return [[float(rate) for rate in line[1:]] for line in lines]

    def compare(self, section, clients, entries, references=None, **options):
        """Measures entries, and records calls per second."""
        rates = self.loadgen(clients, entries, **options)
        for (case, contender, _, _), values in zip(entries, rates):
            reference = (references or {}).get(contender, 'floor')
            self.results.add(section, case, contender, 'per second', values,
                             reference if reference != contender else None)

    # In the server: entries are (case, contender, session, SQL of a timing).

    @staticmethod
    def calls_within(seconds, session, sql):
        """How many calls take so long; the first ones, which fill caches, do not count."""
        count, taken = 20, 0
        while taken < seconds / 2:
            ns = float(session.rows(sql % count)[0][0])
            taken = ns * count / 1e9
            count = max(2, min(count * 20, int(seconds * 1e9 / ns)))
        return count

    def time_in_server(self, section, entries, references=None, unit='ns', yes=None):
        """Each timing is SQL with %d for the number of calls; gives ns and yes."""
        seconds = self.args.slice / 2
        calls = [self.calls_within(seconds, session, sql) for _, _, session, sql in entries]
        values = [[] for _ in entries]
        for round in range(self.args.rounds):
            for i in range(len(entries)):
                i = (i + round) % len(entries)
                case, contender, session, sql = entries[i]
                ns, said_yes = session.rows(sql % calls[i])[0]
                if yes and int(said_yes) != (calls[i] if yes(case, contender) else 0):
                    raise RuntimeError('%s gives the wrong answer: %s' % (contender, case))
                values[i].append(float(ns) / (1000 if unit == 'µs' else 1))
        for (case, contender, _, _), measured in zip(entries, values):
            reference = (references or {}).get(contender)
            self.results.add(section, case, contender, unit, measured, reference)

    def session(self, keys, *kinds, user='postgres', server=None):
        """A session that has a sample of keys of each kind."""
        few = dict.fromkeys(('hot', 'mistyped', 'malformed'), 200000)
        few.update(one=1, huge=1)
        session = Psql(server or self.server, database(keys), user)
        for kind in kinds:
            count = few.get(kind, min(max(keys, 200000), 4 * MILLION))
            session.rows("SELECT bench_sample('%s', %d, %d, %g)"
                         % (kind, count, keys, self.args.zipf))
        return session


FUNCTIONS = {
    'empty': ('bench_empty(text,apikey_level)', "'standard'::apikey_level"),
    'check_level': ('apikey_check_level(text,apikey_level)', "'standard'::apikey_level"),
    'check': ('apikey_check(text,text)', "'send_events'::text"),
    'spi_btree': ('bench_spi_btree(text,apikey_level)', "'standard'::apikey_level"),
    'hand_plpgsql': ('hand_plpgsql(text,apikey_level)', "'standard'::apikey_level"),
}


def timed_function(contender, kind):
    return "SELECT * FROM bench_call('%s', %s, '%s', %%d)" % (FUNCTIONS[contender] + (kind,))


def timed_query(query, kind):
    return 'SELECT * FROM bench_query(%s, \'%s\', %%d)' % (quoted(query).replace('%', '%%'), kind)


KINDS = {
    'one': 'one key again and again',
    'hot': '1,000 hot keys',
    'zipf': 'Zipf over {}',
    'uniform': 'any of {}',
    'unknown': 'unknown',
    'unknown_legacy': 'unknown, not native',
    'mistyped': 'mistyped',
    'malformed': 'malformed',
    'huge': '1 MB',
    'fresh': '',
}
VALID = ('one', 'hot', 'zipf', 'uniform')


def presented(kind, keys):
    return KINDS[kind].format(format(keys, ','))


def over(protocol, clients, kind, keys):
    """Names a case of calls over connections."""
    return '%s, %d client%s, %s' % (protocol, clients, 's' if clients > 1 else '',
                                    presented(kind, keys))


# ----- the sections -----

def in_server(bench):
    keys = bench.args.keys
    plan = {
        'empty': ('one', 'hot', 'uniform'),
        'check_level': tuple(kind for kind in KINDS if kind != 'fresh'),
        'check': ('hot', 'uniform'),
        'spi_btree': ('hot', 'uniform'),
        'hand_plpgsql': ('hot', 'uniform'),
    }
    session = bench.session(keys, *[kind for kind in KINDS if kind != 'fresh'])
    kind_of = {presented(kind, keys): kind for kind in KINDS}
    entries = [(presented(kind, keys), contender, session, timed_function(contender, kind))
               for kind in KINDS for contender in plan if kind in plan[contender]]
    bench.time_in_server('in the server', entries,
                         dict.fromkeys(('check_level', 'check', 'hand_plpgsql'), 'spi_btree'),
                         yes=lambda case, contender: contender == 'empty' or kind_of[case] in VALID)
    queries = [(presented('uniform', keys), contender, session,
                timed_query(as_query(contender), 'uniform'))
               for contender in ('floor', 'check_level', 'verify', 'hand_prepared')]
    bench.time_in_server('in the server, as a query', queries,
                         dict.fromkeys(('check_level', 'verify'), 'hand_prepared'))
    session.close()


def over_connections(bench):
    keys = bench.args.keys
    few = ('floor', 'check_level', 'hand_prepared', 'hand_plpgsql')
    many = ('floor', 'check_level', 'check', 'verify', 'hand_prepared', 'hand_plpgsql',
            'floor_request', 'authenticate')
    references = {'authenticate': 'floor_request', 'floor_request': 'floor_request'}
    for clients in (1, 2, 8):
        entries = [(over('prepared', clients, kind, keys), contender, kind, keys)
                   for kind, contenders in (('uniform', many), ('zipf', few), ('hot', few))
                   for contender in contenders]
        bench.compare('calls', clients, entries, references)
    for clients in (1, 2, 8):
        entries = [(over('simple', clients, 'uniform', keys), contender, 'uniform', keys)
                   for contender in few]
        bench.compare('calls', clients, entries, simple=True)


def refusals(bench):
    keys = bench.args.keys
    kinds = ('uniform', 'unknown', 'unknown_legacy', 'mistyped', 'malformed', 'huge')
    entries = [(over('prepared', 2, kind, keys), contender, kind, keys) for kind in kinds
               for contender in ('floor', 'check_level', 'hand_prepared')]
    bench.compare('refusals', 2, entries)


RANKS = {
    'hot': 'random(1, 1000)',
    'zipf': 'random_zipfian(1, {keys}, {zipf})',
    'uniform': 'random(1, {keys})',
}


def pgbench_script(bench, contender, kind, keys):
    rank = RANKS[kind].format(keys=keys, zipf=bench.args.zipf)
    return '\\set rank %s\n%s' % (
        rank, statements(contender).replace(':key', 'bench_key(:rank, %d)' % keys))


def pgbench(bench, runs, rounds):
    """Runs are (contender, kind, keys, protocol), two clients each."""
    quick = bench.args.quick
    rounds, seconds = (2, 1) if quick else (rounds, 2)
    rates = [[] for _ in runs]
    for round in range(rounds):
        for i in range(len(runs)):
            i = (i + round) % len(runs)
            contender, kind, keys, protocol = runs[i]
            script = pgbench_script(bench, contender, kind, keys)
            rates[i].append(bench.server.pgbench(database(keys), script, 2, protocol, seconds))
    reference = runs[0][0]
    for (contender, kind, keys, protocol), values in zip(runs, rates):
        bench.results.add('pgbench against ' + NAMES[reference],
                          over(protocol, 2, kind, keys), contender, 'per second', values,
                          reference if contender != reference else None)


def with_pgbench(bench):
    keys, smallest, largest = bench.args.keys, bench.args.sizes[0], bench.args.sizes[-1]
    wrong = bench.server.sql(bench.main, "SELECT count(*) FROM generate_series(1, 1000) i"
                             " WHERE NOT apikey_check_level(bench_key(i, %d), 'standard')" % keys)
    if wrong != '0':
        raise RuntimeError('bench_key() makes wrong keys')
    runs = [(contender, kind, keys, 'prepared') for kind in ('hot', 'zipf', 'uniform')
            for contender in ('floor', 'check_level', 'hand_plpgsql')]
    runs += [(contender, 'uniform', size, 'prepared') for size in (smallest, largest)
             if size != keys for contender in ('floor', 'check_level')]
    runs += [(contender, 'uniform', keys, 'simple') for contender in ('floor', 'check_level')]
    pgbench(bench, runs, 7)


def growth(bench):
    sizes = bench.args.sizes
    sessions = {size: bench.session(size, 'hot', 'uniform') for size in sizes}
    entries = [(presented(kind, size) if kind == 'uniform' else '1,000 hot of {:,}'.format(size),
                contender, sessions[size], timed_function(contender, kind))
               for size in sizes
               for contender, kind in (('empty', 'uniform'), ('check_level', 'hot'),
                                       ('check_level', 'uniform'), ('spi_btree', 'uniform'),
                                       ('hand_plpgsql', 'uniform'))]
    bench.time_in_server('growth in the server', entries)
    for session in sessions.values():
        session.close()
    entries = [(over('prepared', 2, 'uniform', size), contender, 'uniform', size) for size in sizes
               for contender in ('floor', 'check_level', 'hand_prepared', 'hand_plpgsql')]
    bench.compare('growth of calls', 2, entries)


def memory(bench):
    calls = bench.args.memory_calls
    session = bench.session(bench.args.keys, 'uniform')
    status = '/proc/%s/status' % session.value('SELECT pg_backend_pid()')
    counts = (1000, calls)
    measured = {}
    for path, sql in (('calls', timed_function('check_level', 'uniform')),
                      ('queries', timed_query(as_query('check_level'), 'uniform'))):
        for count in counts:
            session.rows(sql % count)
            contexts = session.value('SELECT sum(total_bytes) FROM pg_backend_memory_contexts')
            with open(status) as file:
                private = int(re.search(r'RssAnon:\s+(\d+) kB', file.read()).group(1))
            measured[path, count] = int(contexts) / 1024, private
    session.close()
    for (path, count), (contexts, private) in measured.items():
        case = 'after %s %s' % (format(count, ','), path)
        bench.results.add('memory of a backend', case, 'contexts', 'kB', [contexts])
        bench.results.add('memory of a backend', case, 'private', 'kB', [private])


def wal(bench):
    keys = bench.args.keys
    session = bench.session(keys, 'uniform')
    session.rows('CHECKPOINT')

    def written(work):
        """The least of three: somebody else may write."""
        amounts = []
        for _ in range(3):
            before = session.value('SELECT pg_current_wal_insert_lsn()')
            work()
            amounts.append(float(session.value(
                "SELECT pg_current_wal_insert_lsn() - '%s'::pg_lsn" % before)))
        return [min(amounts)]

    count = 100000
    bench.results.add('WAL', '{:,} calls in a statement'.format(count), 'check_level', 'bytes',
                      written(lambda: session.rows(timed_function('check_level', 'uniform') % count)))
    bench.results.add('WAL', 'calls in transactions of their own, for 2 s', 'check_level', 'bytes',
                      written(lambda: bench.loadgen(1, [('', 'check_level', 'uniform', keys)],
                                                    rounds=1, slice=1)))
    session.close()


ORDERS = {'date': 'created_at DESC', 'suffix': 'suffix', 'name': 'name'}
LISTS = ('list_page', 'list_view', 'list_view_superuser', 'list_table_superuser')


def list_file(bench, contender, order):
    """The contender's file with this order, in the work directory."""
    path = '%s/%s_%s.sql' % (bench.server.work, contender, order)
    with open(call_file(contender)) as file, open(path, 'w') as ordered:
        ordered.write(file.read().replace(':order', ORDERS[order]))
    return path


def lists(bench):
    keys = bench.args.keys
    count = bench.server.sql(bench.main, "SELECT count(*) FROM apikeys_private.apikey_key WHERE org_id = 'large'")
    references = {'list_view': 'list_view_superuser', 'list_page': 'list_table_superuser'}

    def case(order):
        return 'first 50 of {:,}, by {}'.format(int(count), order)

    admin = bench.session(keys, user='bench_app')
    admin.rows("SELECT apikey_act_as('large', 'admin', true)")
    superuser = bench.session(keys)
    entries = [(case(order), contender, superuser if 'superuser' in contender else admin,
                timed_query(statements(contender).strip().rstrip(';')
                            .replace(':order', ORDERS[order]), 'uniform'))
               for order in ORDERS for contender in LISTS]
    bench.time_in_server('list, in the server', entries, references, unit='µs')
    admin.close()
    superuser.close()

    named = [(order, contender) for order in ORDERS for contender in LISTS]
    rates = bench.loadgen(1, [(case(order), (contender, order), 'uniform', keys)
                              for order, contender in named],
                          file_of=lambda which: list_file(bench, *which))
    for (order, contender), values in zip(named, rates):
        bench.results.add('list, over a connection', case(order), contender, 'µs',
                          [1e6 / value for value in values], references.get(contender))


def usage(bench):
    """The same on two servers, of which the second counts usage."""
    keys = bench.args.keys
    servers = {'check_level': bench.server}
    servers['counted'] = counting = Server(
        bench.args.bindir, bench.server.work + '/counting', 256 << 20, HERE + '/inserver.so',
        bench.args.set + ['shared_preload_libraries=apikeys'])
    counting.initialize()
    counting.start(loading=True)
    counting.sql('postgres', 'CREATE ROLE bench_app LOGIN; ALTER ROLE bench_app SET apikeys.session_principal = on')
    load(counting, keys, False)
    counting.restart()

    kinds = ('one', 'hot')
    sessions = {contender: bench.session(keys, *kinds, server=server)
                for contender, server in servers.items()}
    bench.time_in_server('usage, in the server',
                         [(presented(kind, keys), contender, sessions[contender],
                           timed_function('check_level', kind))
                          for kind in kinds for contender in servers],
                         {'counted': 'check_level'})
    for session in sessions.values():
        session.close()
    for clients in (2, 8):
        bench.compare('usage', clients, [(over('prepared', clients, kind, keys), contender, kind, keys)
                                         for kind in kinds for contender in servers],
                      {'counted': 'check_level', 'check_level': 'check_level'},
                      file_of=lambda contender: call_file('check_level'),
                      server_of=servers.get)
    counting.control('stop', '-m', 'fast')


def updates(bench):
    """Against who writes at each verification: with fsync, and autovacuum."""
    keys = bench.args.keys
    bench.server.set('autovacuum', 'on')
    bench.server.sql('postgres', 'CHECKPOINT')
    plan = [('uniform', ('floor', 'check_level', 'hand_plpgsql', 'hand_update', 'hand_update_minute')),
            ('hot', ('floor', 'check_level', 'hand_update_minute', 'hand_bcrypt'))]
    for clients in (1, 2, 8):
        bench.compare('calls that write', clients,
                      [(over('prepared', clients, kind, keys), contender, kind, keys)
                       for kind, contenders in plan for contender in contenders])
    bench.compare('calls that write, synchronous_commit = off', 2,
                  [(over('prepared', 2, kind, keys), contender, kind, keys)
                   for kind, contenders in plan for contender in contenders],
                  options=' -c synchronous_commit=off')
    pgbench(bench, [(contender, 'uniform', keys, 'prepared')
                    for contender in ('hand_update', 'check_level')], 5)


def creation(bench):
    keys = bench.args.keys
    bench.server.set('autovacuum', 'on')
    bench.server.sql('postgres', 'CHECKPOINT')
    references = {'create': 'insert', 'insert_fk': 'insert', 'insert': 'insert',
                  'create_many': 'insert_many', 'insert_many': 'insert_many'}
    options = ' -c synchronous_commit=off'
    for clients in (1, 2):
        case = 'one per transaction, synchronous_commit = off, %d client%s' % (
            clients, 's' if clients > 1 else '')
        bench.compare('creation', clients, [(case, contender, 'fresh', keys)
                                            for contender in ('insert', 'insert_fk', 'create')],
                      references, options=options)
    bench.compare('creation', 1, [('10,000 per transaction', contender, 'fresh', keys)
                                  for contender in ('insert', 'insert_fk', 'create')],
                  references, batch=10000, rounds=min(bench.args.rounds, 5))
    rates = bench.loadgen(1, [('', contender, 'fresh', keys)
                              for contender in ('insert_many', 'create_many')],
                          rounds=min(bench.args.rounds, 5))
    for contender, values in zip(('insert_many', 'create_many'), rates):
        bench.results.add('creation', '10,000 per statement', contender, 'per second',
                          [10000 * value for value in values],
                          'insert_many' if contender == 'create_many' else None)


def private_memory(pid):
    with open('/proc/%s/status' % pid) as file:
        return int(re.search(r'RssAnon:\s*(\d+) kB', file.read()).group(1)) / 1024


def seal(session):
    """Seconds, and the most MB that the backend took meanwhile."""
    pid = session.value('SELECT pg_backend_pid()')
    before = most = private_memory(pid)
    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        sealing = executor.submit(session.value, 'SELECT apikey_seal_history() IS NOT NULL')
        while not sealing.done():
            time.sleep(0.02)
            most = max(most, private_memory(pid))
        sealing.result()
    return time.monotonic() - start, most - before


def history(bench):
    keys = bench.args.keys
    events = 100000 if bench.args.quick else MILLION
    name = database(keys)
    rounds = range(bench.args.rounds)
    bench.server.set('autovacuum', 'on')
    bench.server.sql(name, 'GRANT SET ON PARAMETER apikeys.history TO bench_app')
    bench.server.sql('postgres', 'CHECKPOINT')
    bench.compare('history', 1, [('creation, one per transaction, synchronous_commit = off', contender,
                                  'fresh', keys) for contender in ('create_unrecorded', 'create')],
                  {'create': 'create_unrecorded', 'create_unrecorded': 'create_unrecorded'},
                  options=' -c synchronous_commit=off')
    bench.server.script(name, SQL + '/events.sql', '-v', 'events=%d' % events)
    case = 'of {:,} events'.format(events)

    def add(contender, unit, values):
        bench.results.add('history', case, contender, unit, values)

    session = Psql(bench.server, name)
    seconds, memory = seal(session)
    add('seal', 'seconds', [seconds])
    add('seal_memory', 'MB', [memory])
    session.close()
    feed = 'SELECT count(*), max(position) FROM apikey_feed(NULL, 10000)'
    newest = 'SELECT * FROM apikeys_history ORDER BY at DESC LIMIT 50'
    session = Psql(bench.server, name, 'bench_app')
    session.rows("SELECT apikey_act_as('history', 'admin', true)")
    for contender, query in (('feed', feed), ('newest', newest)):
        session.rows(query)
        times = []
        for _ in rounds:
            start = time.monotonic()
            session.rows(query)
            times.append(time.monotonic() - start)
        if contender == 'feed':
            add(contender, 'events per second', [10000 / value for value in times])
        else:
            add(contender, 'ms', [1000 * value for value in times])
    session.close()


RUN = {
    'server': in_server, 'client': over_connections, 'refusals': refusals,
    'pgbench': with_pgbench, 'growth': growth, 'memory': memory, 'wal': wal,
    'list': lists, 'usage': usage, 'update': updates, 'create': creation, 'history': history,
}


# ----- the targets of the issue -----

def inverted(values):
    return values and [1 / value for value in values]


def greatest(*lists):
    """The list with the greatest median, of those that there are."""
    lists = [values for values in lists if values]
    return max(lists, key=lambda values: sorted(values)[len(values) // 2]) if lists else None


def targets_of(results, args):
    """Each in the words of the issue; in brackets if this run was smaller than those."""
    targets = Targets(results)
    keys, smallest, largest = args.keys, args.sizes[0], args.sizes[-1]
    full = keys == MILLION
    pgb = 'pgbench against ' + NAMES['floor']

    def through_pgbench(kind, size, contender, reference):
        case = over('prepared', 2, kind, size)
        return results.ratios((pgb, case, contender), (pgb, case, reference))

    def server(kind, contender, kind_below, below):
        return results.ratios(('in the server', presented(kind, keys), contender),
                              ('in the server', presented(kind_below, keys), below))

    for kind, least in (('hot', 0.95), ('zipf', 0.88), ('uniform', 0.80)):
        targets.at_least('`apikey_check_level` against the floor, pgbench prepared, 2 clients: '
                         + presented(kind, keys), least,
                         through_pgbench(kind, keys, 'check_level', 'floor'), full)
    if largest != keys:
        targets.at_least('the same: ' + presented('uniform', largest), 0.72,
                         through_pgbench('uniform', largest, 'check_level', 'floor'),
                         largest == 10 * MILLION)
    for kind, least in (('uniform', 1.6), ('zipf', 1.9)):
        targets.at_least('against PL/pgSQL with pgcrypto: ' + presented(kind, keys), least,
                         through_pgbench(kind, keys, 'check_level', 'hand_plpgsql'), full)
    case = over('prepared', 2, 'uniform', keys)
    writing = 'pgbench against ' + NAMES['hand_update']
    targets.at_least('against an UPDATE of `last_used_at` per call', 15,
                     results.ratios((writing, case, 'check_level'), (writing, case, 'hand_update')), full)

    hot = results.values('in the server', presented('hot', keys), 'check_level')
    targets.at_most('in the server, µs: a recently verified key', 0.35,
                    hot and [ns / 1000 for ns in hot])
    targets.at_most('the same against an empty C function', 8, server('hot', 'check_level', 'hot', 'empty'))
    targets.at_most('in the server, a random key against the same by SPI on a btree', 0.7,
                    server('uniform', 'check_level', 'uniform', 'spi_btree'), full)
    targets.at_most('refusing an unknown key against a random valid one, in the server', 1,
                    server('unknown', 'check_level', 'uniform', 'check_level'))
    for kind in ('mistyped', 'malformed', 'huge'):
        targets.at_most('refusing a key against a recently verified one, in the server: '
                        + presented(kind, keys), 1, server(kind, 'check_level', 'hot', 'check_level'))

    everything = (smallest, largest) == (1000, 10 * MILLION)
    growing = 'cost of a random key, from {:,} to {:,}: '.format(smallest, largest)
    targets.at_most(growing + 'in the server', 3, results.ratios(
        ('growth in the server', presented('uniform', largest), 'check_level'),
        ('growth in the server', presented('uniform', smallest), 'check_level')), everything)
    targets.at_most(growing + 'by pgbench', 1.3, results.ratios(
        (pgb, over('prepared', 2, 'uniform', smallest), 'check_level'),
        (pgb, over('prepared', 2, 'uniform', largest), 'check_level')), everything)

    for case in [row['case'] for row in results.rows if row['section'] == 'WAL']:
        targets.at_most('WAL, bytes: ' + case, 0, results.values('WAL', case, 'check_level'))
    case = 'one per transaction, synchronous_commit = off, 1 client'
    targets.at_least('creation against a plain INSERT: ' + case, 0.7, results.ratios(
        ('creation', case, 'create'), ('creation', case, 'insert')))

    case = 'creation, one per transaction, synchronous_commit = off'
    targets.at_least('history: ' + case, 0.8, results.ratios(
        ('history', case, 'create'), ('history', case, 'create_unrecorded')))
    cases = [row for row in results.rows if row['contender'] in ('feed', 'newest', 'seal', 'seal_memory')]
    for row in cases:
        asked = {'events per second': 100000, 'ms': 1, 'seconds': 10, 'MB': 64}[row['unit']]
        line = targets.at_least if row['contender'] == 'feed' else targets.at_most
        line('history: %s, %s, %s' % (NAMES[row['contender']], row['case'], row['unit']), asked,
             row['values'], '1,000,000' in row['case'])

    for kind in ('one', 'hot'):
        case = presented(kind, keys)
        pair = [results.values('usage, in the server', case, contender)
                for contender in ('counted', 'check_level')]
        targets.at_most('counting usage, ns more in the server: ' + case, 100,
                        [counted - plain for counted, plain in zip(*pair)] if all(pair) else None)
        for clients in (2, 8):
            case = over('prepared', clients, kind, keys)
            targets.at_least('counting usage against not counting: ' + case, 0.97,
                             results.ratios(('usage', case, 'counted'), ('usage', case, 'check_level')))

    cases = {row['case'] for row in results.rows if row['contender'] == 'list_view'}
    full_list = any('of 100,000' in case for case in cases)
    targets.at_most('first page, the worst order, in the server, against no row-level security', 1.2,
                    greatest(*[results.ratios(
                        ('list, in the server', case, 'list_view'),
                        ('list, in the server', case, 'list_view_superuser')) for case in cases]),
                    full_list)
    worst = greatest(*[results.values('list, over a connection', case, 'list_view') for case in cases])
    targets.at_most('first page, the worst order, over a connection, ms', 1,
                    worst and [value / 1000 for value in worst], full_list)
    return targets.lines


# ----- the whole -----

def processor():
    with open('/proc/cpuinfo') as file:
        names = re.findall(r'model name\s*: (.*)', file.read())
    return '%s, %d cores' % (names[0] if names else platform.machine(), os.cpu_count())


def describe(server, args):
    huge = server.huge_pages()
    if not huge:
        say('Without huge pages. As root, before the run: sysctl vm.nr_hugepages=%s'
            % server.sql('postgres', 'SHOW shared_memory_size_in_huge_pages'))
    return {
        'date': datetime.date.today().isoformat(),
        'commit': args.commit,
        'machine': '%s, %.0f GB' % (processor(), memory_total() / 2 ** 30),
        'system': '%s %s' % (platform.system(), platform.release()),
        'PostgreSQL': server.sql('postgres', 'SHOW server_version'),
        'huge pages': 'yes' if huge else 'no',
        'shared buffers': server.settings['shared_buffers'],
        'other settings': ', '.join(args.set) or 'none',
        'keys': '{:,}'.format(args.keys),
        'rounds and slices': '%d of %g s; pgbench %s' % (
            args.rounds, args.slice, '2 of 1 s' if args.quick else '7 of 2 s'),
        'while reads were measured': 'autovacuum, checkpoints, jit off',
        'while writes were compared': 'fsync and autovacuum on',
        'load of the machine before': '%.2f' % os.getloadavg()[0],
    }


def write(path, text):
    with open(path, 'w') as file:
        file.write(text)


def main():
    args = parse_arguments()
    if args.check:
        return
    server = Server(args.bindir, args.work, shared_buffers(args), HERE + '/inserver.so', args.set)
    server.initialize()
    load_all(server, args)
    results = Results(describe(server, args))
    bench = Bench(server, args, results)
    directory = args.work + '/results'
    os.makedirs(directory)
    for section in SECTIONS:
        if section not in args.sections:
            continue
        say('measuring: ' + section)
        RUN[section](bench)
        # after each, lest an accident in the next take all with it
        targets = targets_of(results, args)
        write(directory + '/results.md', results.markdown(targets))
        write(directory + '/results.json', results.json(targets))
    draw(results, args.sizes, directory + '/growth')
    print(results.markdown(targets_of(results, args)))


main()
