"""The throwaway server of the benchmark, and the programs that talk to it."""

import os
import re
import subprocess
import sys
import time


def say(message):
    print(message, file=sys.stderr, flush=True)


def memory_total():
    """Bytes of this machine's memory."""
    return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')


class Psql:
    """A session that stays open: statements go in, rows of texts come out."""

    def __init__(self, server, database, user='postgres'):
        self.process = subprocess.Popen(
            [server.program('psql'), '-X', '-q', '-A', '-t', '-F', '\t',
             '-v', 'ON_ERROR_STOP=1', '-d', database, '-U', user],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=server.environment)

    def rows(self, sql):
        self.process.stdin.write(sql + ';\n\\echo <end>\n')
        self.process.stdin.flush()
        rows = []
        for line in self.process.stdout:
            line = line.rstrip('\n')
            if line == '<end>':
                return rows
            rows.append(line.split('\t'))
        raise RuntimeError('psql failed at: ' + sql)

    def value(self, sql):
        return self.rows(sql)[0][0]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Server:
    # While reads are measured, nothing else is to work or to write.
    SETTINGS = {
        'listen_addresses': "''",
        'max_connections': '300',
        'jit': 'off',
        'autovacuum': 'off',
        'bgwriter_lru_maxpages': '0',
        'checkpoint_timeout': '1d',
        'max_wal_size': '64GB',
        'huge_pages': 'try',
        'fsync': 'on',
        'max_locks_per_transaction': '128',
    }
    # Only while rows are loaded.
    LOADING = {
        'fsync': 'off',
        'full_page_writes': 'off',
        'wal_level': 'minimal',
        'max_wal_senders': '0',
        'maintenance_work_mem': '1GB',
    }

    def __init__(self, bindir, work, shared_buffers, library, others):
        self.bindir = bindir
        self.work = work
        os.makedirs(work, exist_ok=True)
        self.data = os.path.join(work, 'data')
        self.settings = dict(self.SETTINGS)
        self.settings['shared_buffers'] = '%dMB' % (shared_buffers >> 20)
        self.settings['unix_socket_directories'] = "'%s'" % work
        self.settings['session_preload_libraries'] = "'%s'" % library
        for setting in others:
            name, value = setting.split('=', 1)
            self.settings[name] = "'%s'" % value
        self.environment = dict(os.environ, PGHOST=work,
                                PGOPTIONS='-c client_min_messages=warning')

    def program(self, name):
        return os.path.join(self.bindir, name)

    def run(self, *command):
        result = subprocess.run([self.program(command[0])] + list(command[1:]),
                                capture_output=True, text=True, env=self.environment)
        if result.returncode != 0:
            raise RuntimeError('%s failed: %s' % (
                ' '.join(command)[:500], result.stdout[-2000:] + result.stderr[-2000:]))
        return result.stdout

    def initialize(self):
        self.run('initdb', '-D', self.data, '-U', 'postgres', '--auth=trust',
                 '--encoding=UTF8', '--locale=C', '--no-sync')
        with open(os.path.join(self.data, 'postgresql.conf'), 'a') as conf:
            for name, value in self.settings.items():
                conf.write('%s = %s\n' % (name, value))

    def start(self, loading=False):
        options = ''.join(' -c %s=%s' % item for item in self.LOADING.items())
        self.control('start', '-l', os.path.join(self.work, 'server.log'),
                     '-o', options if loading else '')

    def control(self, what, *options):
        # the server must not inherit a pipe that somebody waits for the end of
        subprocess.run([self.program('pg_ctl'), '-s', '-w', '-t', '3600',
                        '-D', self.data, what] + list(options),
                       stdout=subprocess.DEVNULL, check=True)

    def restart(self):
        self.control('stop', '-m', 'fast')
        self.start()

    def set(self, name, value):
        """Changes a setting of the running server."""
        self.sql('postgres', "ALTER SYSTEM SET %s = %s" % (name, value))
        self.sql('postgres', 'SELECT pg_reload_conf()')
        time.sleep(0.5)

    def sql(self, database, sql, *options):
        return self.run('psql', '-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1',
                        '-d', database, *options, '-c', sql).strip()

    def script(self, database, path, *options):
        return self.run('psql', '-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1',
                        '-d', database, '-o', os.devnull, *options, '-f', path)

    def huge_pages(self):
        """Do the shared buffers lie in huge pages?"""
        with open(os.path.join(self.data, 'postmaster.pid')) as file:
            pid = file.readline().strip()
        with open('/proc/%s/maps' % pid) as maps:
            return 'hugepage' in maps.read()

    def pgbench(self, database, script, clients, protocol, seconds):
        """Transactions per second of one run."""
        path = os.path.join(self.work, 'pgbench.sql')
        with open(path, 'w') as file:
            file.write(script)
        output = self.run('pgbench', '-n', '-M', protocol, '-c', str(clients),
                          '-j', str(clients), '-T', str(seconds), '-f', path,
                          '-U', 'bench_app', database)
        rate = re.search(r'tps = ([\d.]+) \(without', output)
        if not rate:
            raise RuntimeError('pgbench measured nothing: ' + output)
        return float(rate.group(1))
