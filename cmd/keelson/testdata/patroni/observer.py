# Watches the PostgreSQL servers of a Patroni cluster from outside, until its standard input ends. One thread looks for two that
# take writes at the same time; another one writes through whichever takes writes, and remembers what was acknowledged. At a line
# "report" it says what it has seen. At the end it ends the servers, however the test ended: they are children of nobody.
import glob, json, os, signal, sys, threading, time
import psycopg2

base, password, ports = sys.argv[1], sys.argv[2], [int(p) for p in sys.argv[3:]]
lock = threading.Lock()
seen = {'both': [], 'looks': 0, 'acknowledged': 0}
acknowledged = []


class Server:
    def __init__(self, port):
        self.port, self.connection = port, None

    def ask(self, query, *values):
        """The rows, or None: the server is down, starting, or had the connection cut."""
        try:
            if self.connection is None:
                self.connection = psycopg2.connect(host='127.0.0.1', port=self.port, user='postgres', password=password,
                                                   dbname='postgres', connect_timeout=2)
                self.connection.autocommit = True
            with self.connection.cursor() as cursor:
                cursor.execute(query, values)
                return cursor.fetchall()
        except psycopg2.Error:
            if self.connection is not None:
                self.connection.close()
            self.connection = None
            return None

    def writable(self):
        return self.ask('SELECT pg_is_in_recovery()') == [(False,)]


def look(servers):
    first = [s for s in servers if s.writable()]
    for a in first:
        for b in servers:
            # Whoever takes writes before and after another one does took them at that moment, too.
            if a is not b and b.writable() and a.writable():
                return [a.port, b.port]


def watch():
    servers = [Server(p) for p in ports]
    while True:
        both = look(servers)
        with lock:
            seen['looks'] += 1
            if both:
                seen['both'].append(both)
        time.sleep(0.02)


def write():
    servers = [Server(p) for p in ports]
    number = 0
    while True:
        for s in servers:
            number += 1
            if s.writable() and s.ask('INSERT INTO written VALUES (%s) RETURNING number', number) == [(number,)]:
                with lock:
                    acknowledged.append(number)
        time.sleep(0.05)


def report(server):
    with lock:
        expected = set(acknowledged)
        answer = dict(seen, acknowledged=len(expected))
    rows = server.ask('SELECT number FROM written')
    answer['missing'] = None if rows is None else sorted(expected - {r[0] for r in rows})
    print(json.dumps(answer), flush=True)


def postmasters():
    for file in glob.glob(os.path.join(base, '*', 'postmaster.pid')):
        try:
            with open(file) as f:
                pid = int(f.readline())
            os.kill(pid, 0)
            yield pid
        except (OSError, ValueError):
            pass


def end():
    for sent in [signal.SIGQUIT] * 5 + [signal.SIGKILL]:  # SIGQUIT takes their shared memory away, too
        for pid in postmasters():
            try:
                os.kill(pid, sent)
            except ProcessLookupError:
                pass
        limit = time.monotonic() + 2
        while list(postmasters()) and time.monotonic() < limit:
            time.sleep(0.02)


try:
    for f in (watch, write):
        threading.Thread(target=f, daemon=True).start()
    for line in sys.stdin:
        report(Server(int(line.split()[1])))
finally:
    end()
    os._exit(0)
