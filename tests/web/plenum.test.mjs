// The client over a WebSocket whose other end is the test: joining, coming back, and above all, what becomes of a vote.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { Outbox, memory } from '../../src/web/client/outbox.js';
import { Plenum } from '../../src/web/plenum.js';
import { Wire, client, poll, session, settled, stoppedClock } from './support.mjs';

let clock;
beforeEach(() => { clock = stoppedClock(); });
afterEach(() => { clock.restore(); });

/** Past any wait before a reconnection. */
const back = () => clock.pass(10_000);

test('a code is eight digits, however it is typed', () => {
  assert.equal(Plenum.code(' 1234-5678 '), '12345678');
  for (const wrong of ['1234567', '123456789', 'abcdefgh', '', null]) assert.equal(Plenum.code(wrong), null);
});

test('joins by code, and comes back with the token and what it has seen', async () => {
  const plenum = client();
  assert.equal(Wire.last.url, 'ws://hall.example/v1/ws');
  assert.equal(Wire.last.protocol, 'polling.v1');
  Wire.last.welcome();
  assert.deepEqual(Wire.last.sent[0], { type: 'hello', code: '12345678' });
  assert.equal(plenum.state.connection, 'open');
  Wire.last.say({ type: 'event', seq: 6, prev: 5, kind: 'poll.opened', data: poll(2) });
  Wire.last.drop();
  assert.equal(plenum.state.connection, 'waiting');
  await back();
  Wire.last.open();
  assert.deepEqual(Wire.last.sent[0], { type: 'hello', token: 'token-1', after: 6, epoch: 'e1' });
});

test('after a reload it is the same participant, with the whole state anew', () => {
  const storage = memory();
  client({ storage });
  Wire.last.welcome();
  client({ storage });
  Wire.last.open();
  assert.deepEqual(Wire.last.sent[0], { type: 'hello', token: 'token-1' });
});

test('a vote is sent, then counted, and stands', async () => {
  const plenum = client();
  Wire.last.welcome();
  const vote = plenum.vote(1, { choices: [1] });
  assert.deepEqual(Wire.last.votes(), [{ type: 'vote', id: vote.id, poll: 1, answer: { choices: [1] } }]);
  assert.equal(plenum.state.votes[1].state, 'sending');
  assert.equal(plenum.vote(1, { choices: [0] }).id, vote.id);
  Wire.last.say({ type: 'ack', id: vote.id, poll: 1, seq: 6, repeat: false });
  assert.equal(plenum.state.votes[1].state, 'counted');
  assert.deepEqual(plenum.state.myVotes[1], { choices: [1] });
  assert.equal(plenum.vote(1, { choices: [0] }).state, 'counted');
  assert.equal(Wire.last.votes().length, 1);
});

test('without an answer it is sent again with the same id, on the next connection and after a reload', async () => {
  const storage = memory();
  const plenum = client({ storage });
  Wire.last.welcome();
  const { id } = plenum.vote(1, { choices: [1] });
  Wire.last.drop();
  await back();
  Wire.last.welcome({ resumed: true });
  assert.deepEqual(Wire.last.votes().map((vote) => vote.id), [id]);
  plenum.stop();
  const again = client({ storage });
  Wire.last.welcome();
  assert.deepEqual(Wire.last.votes().map((vote) => vote.id), [id]);
  Wire.last.say({ type: 'ack', id, poll: 1, seq: 6, repeat: true });
  assert.equal(again.state.votes[1].state, 'counted');
});

test('a vote cast while the connection is away waits for the welcome', async () => {
  const plenum = client();
  Wire.last.welcome();
  Wire.last.drop();
  const { id } = plenum.vote(1, { choices: [0] });
  await back();
  assert.equal(Wire.last.votes().length, 0);
  Wire.last.welcome({ resumed: true });
  assert.deepEqual(Wire.last.votes().map((vote) => vote.id), [id]);
});

test('"again" sends it again, after the time that was asked for; every other error is final', async () => {
  const plenum = client();
  Wire.last.welcome({ polls: [poll(1), poll(2)] });
  const { id } = plenum.vote(1, { choices: [1] });
  Wire.last.say({ type: 'error', id, code: 'overloaded', message: 'busy', retry_after_ms: 700 });
  await clock.pass(600);
  assert.equal(Wire.last.votes().length, 1);
  await clock.pass(900);
  assert.deepEqual(Wire.last.votes().map((vote) => vote.id), [id, id]);
  Wire.last.say({ type: 'error', id, code: 'poll_closed', message: 'closed' });
  assert.deepEqual([plenum.state.votes[1].state, plenum.state.votes[1].code], ['refused', 'poll_closed']);
  // Refused, another one may be cast, with an id of its own.
  const other = plenum.vote(1, { choices: [0] });
  assert.notEqual(other.id, id);
  Wire.last.say({ type: 'error', id: other.id, code: 'already_voted', message: 'no', answer: { choices: [1] } });
  assert.deepEqual(plenum.state.myVotes[1], { choices: [1] });
});

test('a vote that counts is shown though another tab has put its own in its place', async () => {
  const page = new EventTarget(); // as a browser's window is
  const { addEventListener, removeEventListener } = globalThis;
  globalThis.addEventListener = page.addEventListener.bind(page);
  globalThis.removeEventListener = page.removeEventListener.bind(page);
  for (const answered of ['before', 'after']) {
    const storage = memory();
    const plenum = client({ storage });
    Wire.last.welcome();
    const { id } = plenum.vote(1, { choices: [1] });
    const other = { id: 'of-another-tab', poll: 1, answer: { choices: [0] }, state: answered === 'before' ? 'refused' : 'sending' };
    new Outbox(storage, 's-1').put(other);
    page.dispatchEvent(Object.assign(new Event('storage'), { key: 'plenum:s-1:vote:1' }));
    Wire.last.say({ type: 'ack', id, poll: 1, seq: 6, repeat: false });
    assert.deepEqual(plenum.state.myVotes[1], { choices: [1] }, answered);
    assert.deepEqual([plenum.state.votes[1].id, plenum.state.votes[1].state], [id, 'counted']);
    plenum.stop();
  }
  Object.assign(globalThis, { addEventListener, removeEventListener });
});

test('a vote without any answer ends the connection, not the vote', async () => {
  const plenum = client();
  Wire.last.welcome();
  const { id } = plenum.vote(1, { choices: [1] });
  const first = Wire.last;
  for (let s = 0; s < 12; s += 1) {
    first.say({ type: 'presence', participants: s }); // the line as such is fine
    await clock.pass(1_000);
  }
  assert.ok(first.closed);
  await back();
  Wire.last.welcome({ resumed: true });
  assert.deepEqual(Wire.last.votes().map((vote) => vote.id), [id]);
});

test('a counted vote that a restored database has lost is sent again', async () => {
  const plenum = client();
  Wire.last.welcome();
  const { id } = plenum.vote(1, { choices: [1] });
  Wire.last.say({ type: 'ack', id, poll: 1, seq: 6, repeat: false });
  Wire.last.drop();
  await back();
  Wire.last.welcome({ epoch: 'e2', resumed: false, seq: 2, my_votes: {} });
  assert.deepEqual([plenum.state.epoch, plenum.state.seq], ['e2', 2]);
  assert.deepEqual(Wire.last.votes().map((vote) => vote.id), [id]);
});

test('a hole is seen by prev and filled by coming back', async () => {
  const plenum = client();
  Wire.last.welcome();
  Wire.last.say({ type: 'event', seq: 9, prev: 7, kind: 'poll.opened', data: poll(2) });
  assert.equal(plenum.state.seq, 5);
  assert.ok(Wire.last.closed);
  await back();
  Wire.last.open();
  assert.equal(Wire.last.sent[0].after, 5);
});

test('an event that was seen before changes nothing', () => {
  const plenum = client();
  Wire.last.welcome();
  Wire.last.say({ type: 'event', seq: 5, prev: 4, kind: 'session.ended', data: { state: 'ended' } });
  assert.equal(plenum.state.session.state, 'live');
});

test('bye: back at the moment that was named, no sooner', async () => {
  client();
  Wire.last.welcome();
  Wire.last.say({ type: 'bye', reason: 'draining', reconnect_after_ms: 3_000 });
  await clock.pass(2_900);
  assert.equal(Wire.all.length, 1);
  await clock.pass(200);
  assert.equal(Wire.all.length, 2);
  Wire.last.open();
  assert.equal(Wire.last.sent[0].token, 'token-1');
});

test('never back after 4400, 4401, 4404, 4410; the state says why', async () => {
  for (const [code, problem] of [[4400, 'protocol'], [4401, 'invalid_token'], [4404, 'not_found'], [4410, 'deleted']]) {
    const plenum = client();
    Wire.last.welcome();
    Wire.last.drop(code);
    await back();
    assert.equal(Wire.all.length, 1, String(code));
    assert.deepEqual([plenum.state.connection, plenum.state.problem], ['closed', problem]);
  }
});

test('back after every other code, within the bounds of the jitter', async () => {
  for (const code of [1001, 1006, 1011, 1012, 1013, 4408, 4413, 4429, 4503]) {
    client();
    Wire.last.welcome();
    Wire.last.drop(code);
    await clock.pass(250);
    assert.equal(Wire.all.length, 2, String(code));
  }
});

test('a remembered token that is no longer good is forgotten, and the code joins anew', () => {
  const storage = memory();
  client({ storage });
  Wire.last.welcome();
  client({ storage });
  Wire.last.open();
  assert.equal(Wire.last.sent[0].token, 'token-1');
  Wire.last.drop(4401);
  Wire.last.open();
  assert.deepEqual(Wire.last.sent[0], { type: 'hello', code: '12345678' });
});

test('silence is asked about, and a dead line given up', async () => {
  const plenum = client();
  Wire.last.welcome();
  await clock.pass(25_000);
  assert.deepEqual(Wire.last.sent.at(-1), { type: 'ping' });
  Wire.last.say({ type: 'pong' });
  await clock.pass(20_000);
  assert.equal(plenum.state.connection, 'open');
  await clock.pass(15_000);
  assert.equal(plenum.state.connection === 'open' && Wire.all.length === 1, false);
});

test('listeners hear the newest state once for many changes', async () => {
  const plenum = client();
  let heard = 0;
  plenum.subscribe(() => { heard += 1; });
  Wire.last.welcome();
  for (let n = 0; n < 50; n += 1) Wire.last.say({ type: 'presence', participants: n });
  await settled();
  assert.equal(heard, 2);
  assert.equal(plenum.state.participants, 49);
});

test('a presenter follows with a token and never joins', () => {
  const plenum = client({ code: undefined, session: session.id, token: 'presenter' });
  Wire.last.welcome({ participant: undefined, my_votes: undefined });
  assert.deepEqual(Wire.last.sent[0], { type: 'hello', token: 'presenter' });
  assert.equal(plenum.state.participant, null);
});
