package main

import (
	"bytes"
	"context"
	"net"
	"os/exec"
	"testing"

	"keelson/internal/testkit"
)

// pythonScript uses python3-etcd as its users do: reads and writes, conditions, directories, TTLs, waits, the lock recipe,
// members and leader, users and roles.
const pythonScript = `
import etcd, sys, threading, time
host, port = sys.argv[1], int(sys.argv[2])
c = etcd.Client(host=host, port=port, allow_reconnect=True, version_prefix='/v2')

def refused(kind, f, *a, **k):
    try:
        f(*a, **k)
    except kind as e:
        return e
    raise AssertionError('not refused: %r %r' % (a, k))

assert len(c.machines) >= 1 or c.base_uri
assert c.leader['clientURLs'], c.leader
assert list(c.members.values())[0]['name']
assert c.stats['state'] == 'StateLeader', c.stats
assert c.leader_stats['followers'] == {}
assert c.store_stats['setsSuccess'] >= 0
assert float(c.version[:3]) >= 2.3 if isinstance(c.version, str) else True

r = c.write('/n/x', 'one')
assert r.newKey and r.action == 'set' and r.value == 'one'
r = c.write('/n/x', 'two', prevValue='one')
assert r.action == 'compareAndSwap' and r._prev_node.value == 'one'
refused(etcd.EtcdCompareFailed, c.write, '/n/x', 'three', prevValue='one')
refused(etcd.EtcdCompareFailed, c.write, '/n/x', 'three', prevIndex=1)
refused(etcd.EtcdAlreadyExist, c.write, '/n/x', 'three', prevExist=False)
refused(etcd.EtcdKeyNotFound, c.read, '/nothing')
refused(etcd.EtcdNotFile, c.write, '/n', 'x')
refused(etcd.EtcdNotDir, c.write, '/n/x/y', 'x')
refused(etcd.EtcdRootReadOnly, c.write, '/', 'x')
refused(etcd.EtcdDirNotEmpty, c.delete, '/n', dir=True)
assert c.test_and_set('/n/x', 'four', 'two').value == 'four'

r = c.write('/q', 'job', append=True)
assert r.key.startswith('/q/0000000000'), r.key
c.write('/n/d', None, dir=True)
assert sorted(x.key for x in c.read('/n', recursive=True).children) == ['/n/d', '/n/x']
assert sorted(x.key for x in c.read('/n', sorted=True).leaves)

r = c.write('/t', 'x', ttl=300)
assert r.ttl == 300 and 240 < c.read('/t').ttl <= 300
r = c.refresh('/t', ttl=60)
assert r.ttl == 60 and r.value == 'x'

seen = []
def watcher():
    w = etcd.Client(host=host, port=port)
    seen.append(w.watch('/w', recursive=True, timeout=30))
thread = threading.Thread(target=watcher)
index = c.write('/other', 'x').etcd_index
thread.start()
for _ in range(300):
    if c.store_stats['watchers'] > 0:
        break
    time.sleep(0.02)
c.write('/w/key', 'value')
thread.join(40)
assert seen and seen[0].key == '/w/key' and seen[0].action == 'set', seen
assert c.read('/w/key', wait=True, waitIndex=index, timeout=30).value == 'value'
refused(etcd.EtcdWatchTimedOut, c.read, '/w/key', wait=True, timeout=0.2)

lock = etcd.Lock(c, 'job')
assert lock.acquire(blocking=True, lock_ttl=30) and lock.is_acquired
other = etcd.Lock(etcd.Client(host=host, port=port), 'job')
assert not other.acquire(blocking=False)
lock.release()
assert other.acquire(blocking=True, lock_ttl=30, timeout=20)
other.release()

c.delete('/n/x')
refused(etcd.EtcdKeyNotFound, c.get, '/n/x')
c.delete('/n', recursive=True, dir=True)

import etcd.auth as auth
u = auth.EtcdUser(c, 'root'); u.password = 'secret'; u.roles = []; u.write()
role = auth.EtcdRole(c, 'reader'); role.grant('/pub/*', 'R'); role.write()
role = auth.EtcdRole(c, 'reader'); role.read(); assert role.acls == {'/pub/*': 'R'}, role.acls
role.grant('/other', 'W'); role.write()
role = auth.EtcdRole(c, 'reader'); role.read(); role.revoke('/other', 'W'); role.write()
role = auth.EtcdRole(c, 'reader'); role.read(); assert role.acls == {'/pub/*': 'R'}, role.acls
u = auth.EtcdUser(c, 'alice'); u.password = 'pass'; u.roles = ['reader']; u.write()
assert auth.Auth(c).active is False
auth.Auth(c).active = True
root = etcd.Client(host=host, port=port, username='root', password='secret')
root.write('/pub/x', 'public')
g = auth.EtcdRole(root, 'guest'); g.read(); g.revoke('/*', 'RW'); g.write()
refused(etcd.EtcdInsufficientPermissions, c.read, '/pub/x')
alice = etcd.Client(host=host, port=port, username='alice', password='pass')
assert alice.read('/pub/x').value == 'public'
refused(etcd.EtcdInsufficientPermissions, alice.write, '/pub/x', 'y')
auth.Auth(root).active = False
assert c.read('/pub/x').value == 'public'
print('done')
`

// TestV2PythonEtcd runs Debian's python3-etcd, the client that Patroni uses, against a member.
func TestV2PythonEtcd(t *testing.T) {
	if err := exec.Command("/usr/bin/python3", "-c", "import etcd").Run(); err != nil {
		t.Fatalf("python3-etcd is not installed: %v", err)
	}
	p := testkit.NewProcess(t)
	p.Start()
	host, port, err := net.SplitHostPort(p.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/usr/bin/python3", "-c", pythonScript, host, port)
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.HasSuffix(out, []byte("done\n")) {
		t.Errorf("%v\n%s", err, out)
	}
}
