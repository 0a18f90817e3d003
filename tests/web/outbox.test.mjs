// Votes that are kept until they are answered.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Outbox, memory, read, usable, uuid, write } from '../../src/web/client/outbox.js';
import './support.mjs';

const vote = (n, id = `id-${n}`) => ({ id, poll: n, answer: { choices: [0] }, state: 'sending' });

test('a vote is there after a reload, with its id', () => {
  const storage = memory();
  new Outbox(storage, 's').put(vote(3));
  const again = new Outbox(storage, 's');
  assert.deepEqual(again.waiting, [vote(3)]);
  assert.deepEqual(again.byId('id-3'), vote(3));
});

test('sessions do not mix', () => {
  const storage = memory();
  new Outbox(storage, 'one').put(vote(1));
  assert.deepEqual(new Outbox(storage, 'other').votes, {});
});

test('two tabs do not overwrite each other', () => {
  const storage = memory();
  const [left, right] = [new Outbox(storage, 's'), new Outbox(storage, 's')];
  left.put(vote(1));
  right.put(vote(2));
  left.reload();
  assert.deepEqual(Object.keys(left.votes), ['1', '2']);
  assert.equal(new Outbox(storage, 's').waiting.length, 2);
});

test('what was answered waits no longer', () => {
  const outbox = new Outbox(memory(), 's');
  outbox.put(vote(1));
  outbox.put({ ...vote(1), state: 'counted' });
  outbox.put({ ...vote(2), state: 'refused', code: 'poll_closed' });
  assert.deepEqual(outbox.waiting, []);
});

test('storage that cannot be written, or holds nonsense, stops nobody', () => {
  const broken = { setItem() { throw new Error('full'); }, removeItem() {}, getItem: () => '{', key: () => null, length: 0 };
  const stand = usable(broken);
  assert.notEqual(stand, broken);
  new Outbox(stand, 's').put(vote(1));
  assert.equal(new Outbox(stand, 's').waiting.length, 1);
  assert.equal(read(broken, 'x'), null);
  assert.doesNotThrow(() => write(broken, 'x', 1));
  assert.equal(usable(undefined).length, 0);
});

test('ids are UUIDs of version 4, without crypto.randomUUID', () => {
  const ids = new Set(Array.from({ length: 200 }, uuid));
  assert.equal(ids.size, 200);
  for (const id of ids) assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
});
