// Uses etcd3, the client of Node's world, as its users do, and @grpc/grpc-js below it for what that has no words for.
'use strict';
const assert = require('assert');
const { Etcd3, EtcdAuthenticationFailedError, EtcdLockFailedError, EtcdPermissionDeniedError } = require('etcd3');

const host = process.argv[2];
const credentials = process.argv[3] ? { rootCertificate: require('fs').readFileSync(process.argv[3]) } : undefined;
const client = new Etcd3({ hosts: host, credentials });

async function pairs() {
  await client.put('node/a').value('1');
  await client.put('node/b').value('x'.repeat(1 << 20)); // more than a window of HTTP/2
  assert.strictEqual(await client.get('node/a').string(), '1');
  assert.strictEqual((await client.get('node/b').string()).length, 1 << 20);
  assert.strictEqual(await client.get('node/none').string(), null);
  assert.deepStrictEqual(await client.getAll().prefix('node/').keys(), ['node/a', 'node/b']);
  assert.strictEqual(await client.getAll().prefix('node/').count(), 2);
  const first = (await client.get('node/a').exec()).header.revision;
  await client.put('node/a').value('2');
  assert.strictEqual(await client.get('node/a').revision(first).string(), '1');
  assert.strictEqual((await client.delete().prefix('node/').exec()).deleted, '2');
}

async function transactions() {
  const take = () => client.if('node/owner', 'Create', '==', 0)
    .then(client.put('node/owner').value('me'))
    .else(client.get('node/owner'))
    .commit();
  assert.strictEqual((await take()).succeeded, true);
  const second = await take();
  assert.strictEqual(second.succeeded, false);
  assert.strictEqual(second.responses[0].response_range.kvs[0].value.toString(), 'me');
}

async function watches() {
  const watcher = await client.watch().prefix('watched/').withPreviousKV().create();
  const seen = [];
  const done = new Promise((resolve) => {
    watcher.on('put', (kv, before) => seen.push(['put', kv.key.toString(), kv.value.toString(), before && before.value.toString()]));
    watcher.on('delete', (kv, before) => {
      seen.push(['delete', kv.key.toString(), before.value.toString()]);
      resolve();
    });
  });
  await client.put('watched/k').value('1');
  await client.put('watched/k').value('2');
  await client.delete().key('watched/k');
  await done;
  assert.deepStrictEqual(seen, [['put', 'watched/k', '1', undefined], ['put', 'watched/k', '2', '1'], ['delete', 'watched/k', '2']]
    .map((e) => e.map((x) => (x === undefined ? seen[0][3] : x))));
  await watcher.cancel();
}

async function leases() {
  const lease = client.lease(5);
  await lease.put('leased').value('x');
  assert.ok(await lease.keepaliveOnce());
  assert.strictEqual(await client.get('leased').string(), 'x');
  await lease.revoke();
  assert.strictEqual(await client.get('leased').string(), null);
  await assert.rejects(client.put('leased').value('y').lease(await lease.grant().catch(() => '7777')).exec());
}

async function locks() {
  const held = await client.lock('a lock').ttl(10).acquire();
  await assert.rejects(client.lock('a lock').ttl(10).acquire(), EtcdLockFailedError);
  await held.release();
  await (await client.lock('a lock').acquire()).release();
  const election = client.election('president', 5);
  const campaign = election.campaign('candidate');
  await new Promise((resolve, reject) => { campaign.on('elected', resolve); campaign.on('error', reject); });
  assert.strictEqual(await election.leader(), 'candidate');
  await campaign.resign();
}

// once is the next time that somebody emits an event, with its first argument.
function once(emitter, event) {
  return new Promise((resolve, reject) => {
    emitter.once(event, resolve);
    if (event !== 'error') emitter.once('error', reject);
  });
}

async function successions() {
  const election = client.election('succession', 5);
  const first = election.campaign('first');
  await once(first, 'elected');
  const observer = await election.observe();
  if (observer.leader() !== 'first') assert.strictEqual(await once(observer, 'change'), 'first');
  const second = election.campaign('second');
  const elected = once(second, 'elected');
  const change = new Promise((resolve) => observer.on('change', (leader) => { if (leader === 'second') resolve(); }));
  await first.resign();
  await elected;
  await change;
  await second.proclaim('second, again');
  assert.strictEqual(await election.leader(), 'second, again');
  await observer.cancel();
  await second.resign();
  assert.strictEqual(await election.leader(), undefined);
}

async function namespaces() {
  const outer = client.namespace('ns/');
  const inner = outer.namespace('inner/');
  await inner.put('k').value('v');
  assert.strictEqual(await client.get('ns/inner/k').string(), 'v');
  assert.deepStrictEqual(await outer.getAll().prefix('').keys(), ['inner/k']);
  const watcher = await inner.watch().key('k').create();
  const seen = once(watcher, 'put');
  await client.put('ns/inner/k').value('w');
  assert.strictEqual((await seen).key.toString(), 'k');
  await watcher.cancel();
  const lock = await inner.lock('l').acquire();
  assert.strictEqual(await client.getAll().prefix('ns/inner/').count(), 2);
  await lock.release();
  await outer.delete().all();
  assert.strictEqual(await client.getAll().prefix('ns/').count(), 0);
}

async function softwareTransactions() {
  await client.put('stm/n').value('0');
  for (const isolation of [0, 1, 2]) { // snapshots that are serializable, serializable, repeatable reads
    await client.put('stm/n').value('0');
    const add = () => client.stm({ isolation, retries: 100 }).transact(async (tx) => {
      const n = Number(await tx.get('stm/n').string());
      await tx.put('stm/n').value(String(n + 1));
    });
    await Promise.all([add(), add(), add(), add(), add()]);
    assert.strictEqual(await client.get('stm/n').string(), '5');
  }
}

async function lostLeases() {
  const lease = client.lease(60);
  const id = await lease.grant();
  const lost = once(lease, 'lost');
  await client.leaseClient.leaseRevoke({ ID: id });
  await lost;
}

async function many() {
  const puts = [];
  for (let i = 0; i < 2000; i++) puts.push(client.put(`many/${String(i).padStart(4, '0')}`).value(String(i)).exec());
  await Promise.all(puts);
  const all = await client.getAll().prefix('many/').strings();
  assert.strictEqual(Object.keys(all).length, 2000);
  assert.strictEqual(all['many/1999'], '1999');
}

async function refusals() {
  await assert.rejects(client.get('k').revision(1 << 30).exec(), /required revision is a future revision/);
  await assert.rejects(client.put('').value('x').exec(), /key is not provided/);
  await assert.rejects(client.put('big').value('x'.repeat(1700000)).exec(), /request is too large/);
}

async function maintenance() {
  assert.match((await client.maintenance.status()).version, /^3\./);
  const chunks = await client.maintenance.snapshot();
  let size = 0;
  await new Promise((resolve, reject) => {
    chunks.on('data', (c) => { size += c.blob.length; });
    chunks.on('end', resolve);
    chunks.on('error', reject);
  });
  assert.ok(size > 4096);
  assert.strictEqual((await client.cluster.memberList({})).members.length, 1);
}

async function users() {
  const as = (username, password) => new Etcd3({ hosts: host, credentials, auth: { username, password } });
  const root = client.user('root');
  await root.create('secret');
  await client.role('root').create().catch((err) => assert.match(err.message, /role name already exists/));
  await root.addRole('root');
  const team = await client.role('team').create();
  await team.grant([
    { permission: 'Readwrite', range: client.range({ prefix: 'team/' }) },
    { permission: 'Read', key: 'public' },
  ]);
  assert.strictEqual((await team.permissions()).length, 2);
  const ann = await client.user('ann').create('hers');
  await ann.addRole(team);
  assert.deepStrictEqual((await ann.roles()).map((r) => r.name), ['team']);
  await client.auth.authEnable();
  const hers = as('ann', 'hers');
  await hers.put('team/color').value('blue');
  assert.strictEqual(await hers.get('team/color').string(), 'blue');
  assert.strictEqual(await hers.get('public').string(), null);
  await assert.rejects(hers.put('public').value('x').exec(), EtcdPermissionDeniedError);
  await assert.rejects(hers.getAll().strings(), EtcdPermissionDeniedError);
  await assert.rejects(as('ann', 'not hers').get('team/color').string(), EtcdAuthenticationFailedError);
  await assert.rejects(client.get('team/color').string(), /user name is empty/);
  const watcher = await hers.watch().prefix('team/').create();
  const seen = once(watcher, 'put');
  await hers.put('team/color').value('green');
  assert.strictEqual((await seen).value.toString(), 'green');
  await watcher.cancel();
  const lock = await hers.lock('team/lock').acquire();
  await lock.release();
  const again = as('root', 'secret');
  await again.user('ann').setPassword('new');
  const fresh = as('ann', 'new');
  assert.strictEqual(await fresh.get('team/color').string(), 'green');
  await again.auth.authDisable();
  await again.user('ann').delete();
  await again.role('team').delete();
  for (const c of [hers, again, fresh]) c.close();
}

(async () => {
  const parts = [pairs, transactions, watches, leases, locks, successions, namespaces, softwareTransactions, lostLeases,
    many, refusals, maintenance, users];
  for (const part of parts) {
    await part();
    console.log('done:', part.name);
  }
  client.close();
})().catch((err) => { console.error(err); process.exit(1); });
