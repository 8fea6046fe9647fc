# The whole surface of python3-etcd3 and python3-etcd3gw, as their users call it.
import io, sys, threading
import etcd3
from etcd3gw.client import Etcd3Client as Gateway
from etcd3 import exceptions

host, port, ca, user, password = sys.argv[1], int(sys.argv[2]), sys.argv[3] or None, sys.argv[4] or None, sys.argv[5] or None
# A channel without users may be open: the client asks for certificates when there is an authority.
c = etcd3.client(host=host, port=port, ca_cert=ca, user=user, password=password, timeout=30)


def refused(kind, f, *a, **k):
    try:
        f(*a, **k)
    except kind as e:
        return e
    raise AssertionError('not refused: %r %r' % (a, k))


# Keys.
assert c.get('none') == (None, None)
assert c.put('k/a', 'one') is not None
value, meta = c.get('k/a')
assert value == b'one' and meta.version == 1 and meta.lease_id == 0, (value, meta.version)
assert c.put('k/a', 'two', prev_kv=True).prev_kv.value == b'one'
assert c.put_if_not_exists('k/a', 'x') is False and c.put_if_not_exists('k/b', 'x') is True
assert c.replace('k/a', 'two', 'three') is True and c.replace('k/a', 'two', 'four') is False
c.put('k/c', 'z')
assert [m.key for _, m in c.get_prefix('k/', sort_order='descend')] == [b'k/c', b'k/b', b'k/a']
assert [v for v, _ in c.get_prefix('k/', sort_target='value', sort_order='ascend')] == [b'three', b'x', b'z']
assert [m.key for _, m in c.get_prefix('k/', keys_only=True)] == [b'k/a', b'k/b', b'k/c']
assert c.get_prefix_response('k/').count == 3 and len(list(c.get_range('k/a', 'k/c'))) == 2
assert len(list(c.get_all())) == 3 and c.get_response('k/a').kvs[0].value == b'three'
assert c.delete('k/c') is True and c.delete('k/c') is False
assert c.delete('k/b', prev_kv=True, return_response=True).prev_kvs[0].value == b'x'

# Transactions.
t = c.transactions
ok, out = c.transaction(
    compare=[t.value('k/a') == 'three', t.version('k/a') > 2, t.create('k/a') > 0, t.mod('k/a') > 0],
    success=[t.put('k/d', '1'), t.get('k/d'), t.delete('k/a')], failure=[t.get('k/a')])
assert ok and out[1][0][0] == b'1', (ok, out)
ok, out = c.transaction(compare=[t.version('k/a') > 0], success=[], failure=[t.put('k/a', 'again'), t.txn([t.version('k/d') > 0], [t.get('k/d')], [])])
assert not ok and out[-1] is not None, out

# Leases.
lease = c.lease(300)
c.put('l/a', 'x', lease=lease)
assert 240 < lease.remaining_ttl <= 300 and lease.granted_ttl == 300 and list(lease.keys) == [b'l/a']
assert lease.refresh()[0].TTL == 300 and c.get('l/a')[1].lease_id == lease.id
lease.revoke()
assert c.get('l/a') == (None, None)

# Watches.
seen, enough = [], threading.Event()


def called(response):
    if isinstance(response, Exception):
        raise response
    seen.extend(response.events)
    if len(seen) >= 2:
        enough.set()


watch = c.add_watch_callback('w/', called, range_end='w0', prev_kv=True)
c.put('w/a', '1')
c.delete('w/a')
assert enough.wait(30) and seen[1].prev_value == b'1', seen
assert isinstance(seen[0], etcd3.events.PutEvent) and isinstance(seen[1], etcd3.events.DeleteEvent)
c.cancel_watch(watch)
revision = c.get_response('k/d').header.revision
c.put('w/b', '2')
events, cancel = c.watch_prefix('w/', start_revision=revision + 1)
assert next(events).value == b'2'
cancel()
revision = c.get_response('k/d').header.revision
timer = threading.Timer(0.2, lambda: c.put('w/once', '3'))
timer.start()
assert c.watch_once('w/once', timeout=30, start_revision=revision + 1).value == b'3'
refused(exceptions.WatchTimedOut, c.watch_prefix_once, 'w/never', timeout=0.2)

# Locks. To wait for one is beyond this library with the tenacity that Debian has.
lock, other = c.lock('job', ttl=30), c.lock('job', ttl=30)
assert lock.acquire() and lock.is_acquired() and not other.is_acquired()
lock.refresh()
assert lock.release() and other.acquire(timeout=30)
other.release()
with c.lock('with', ttl=30) as held:
    assert held.is_acquired()

# Maintenance and the cluster.
s = c.status()
assert s.version.startswith('3.') and s.db_size > 0 and s.leader.name, s.version
if not user:  # the library asks for the hash in nobody's name
    c.hash()
c.defragment()
copy = io.BytesIO()
c.snapshot(copy)
assert len(copy.getvalue()) > 1000
assert list(c.create_alarm()) and [a.alarm_type for a in c.list_alarms()] == [etcd3.etcdrpc.NOSPACE]
refused(Exception, c.put, 'k/full', 'x')
assert list(c.disarm_alarm()) and not list(c.list_alarms())
members = list(c.members)
assert len(members) == 1 and members[0].client_urls
members[0].update(members[0].peer_urls)
assert c.get_lease_info(4711).TTL == -1
c.compact(c.get_response('k/d').header.revision)
events, cancel = c.watch('w/b', start_revision=1)
refused(exceptions.RevisionCompactedError, next, events)
c.close()

# The gateway's client has no users.
if not user:
    g = Gateway(host=host, port=port, protocol='https' if ca else 'http', ca_cert=ca, timeout=30, api_path='/v3/')
    assert g.status()['version'].startswith('3.') and len(g.members()) == 1
    assert g.put('g/a', '1') and g.get('g/a') == [b'1'] and g.get('none') == []
    assert g.create('g/a', 'x') is False and g.create('g/b', '2') is True
    assert g.replace('g/b', '2', '3') is True and g.replace('g/b', '2', '4') is False
    assert [v for v, _ in g.get_prefix('g/', sort_order='descend', sort_target='key')] == [b'3', b'1']
    assert g.get('g/a', metadata=True)[0][1]['version'] == '1' and len(g.get_all()) >= 2
    assert g.delete('g/a') is True and g.delete('g/a') is False
    l = g.lease(ttl=300)
    g.put('g/l', 'x', lease=l)
    assert 240 < l.ttl() <= 300 and l.refresh() == 300 and l.keys() == [b'g/l'] and l.revoke() is True and g.get('g/l') == []
    with g.lock('gl', ttl=30) as held:
        assert held.is_acquired() and held.refresh() == 30
    g.put('g/now', 'x')
    revision = int(g.get('g/now', metadata=True)[0][1]['mod_revision'])
    timer = threading.Timer(0.2, lambda: g.put('g/w', '5'))
    timer.start()
    assert g.watch_once('g/w', timeout=30, start_revision=revision + 1)['kv']['value'] == b'5'
    events, cancel = g.watch_prefix('g/p')
    g.put('g/p1', '6')
    assert next(events)['kv']['value'] == b'6'
    cancel()
    assert g.delete_prefix('g/') is True and g.get_prefix('g/') == []
print('done')
