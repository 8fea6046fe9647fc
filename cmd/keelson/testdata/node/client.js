// Uses etcd3, the client of Node's world, as its users do, and @grpc/grpc-js below it for what that has no words for.
'use strict';
const assert = require('assert');
const { Etcd3, EtcdLeaseInvalidError, EtcdLockFailedError, GRPCDeadlineExceededError } = require('etcd3');

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

(async () => {
  for (const part of [pairs, transactions, watches, leases, locks, many, refusals, maintenance]) {
    await part();
    console.log('done:', part.name);
  }
  client.close();
})().catch((err) => { console.error(err); process.exit(1); });
