// Where WebSocket is blocked: server-sent events and POST. The network is a function of the test.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { Wire, client, session, settled, stoppedClock, welcome } from './support.mjs';

let clock;
beforeEach(() => { clock = stoppedClock(); });
afterEach(() => { clock.restore(); });

const json = (status, body, headers = {}) => new Response(JSON.stringify(body), { status, headers });

/** A server that speaks HTTP alone. Keeps the calls; `say` sends on the open stream. */
function network(votes = () => json(201, { type: 'ack' })) {
  const calls = [];
  let stream;
  const fetch = async (url, options = {}) => {
    const path = url.replace('http://hall.example', '');
    calls.push({ path, ...options });
    if (path === '/v1/join') return json(200, { session, participant: { id: 'p-1', token: 'token-1' } });
    if (path.endsWith('/votes')) return votes(JSON.parse(options.body));
    const body = new ReadableStream({ start: (controller) => { stream = controller; } });
    options.signal.addEventListener('abort', () => { try { stream.close(); } catch { /* closed */ } });
    return new Response(body, { status: 200 });
  };
  return {
    calls, fetch,
    bytes: (bytes) => stream.enqueue(bytes),
    say(message) { this.bytes(new TextEncoder().encode(`id: ${message.seq ?? ''}\ndata: ${JSON.stringify(message)}\n\n`)); },
  };
}

/** Until the promises of a stream have run. */
const turns = async () => { for (let n = 0; n < 20; n += 1) await settled(); };

async function fallenBack(net) {
  const plenum = client({ fetch: net.fetch });
  Wire.last.drop();
  await clock.pass(500);
  Wire.last.drop();
  await clock.pass(1_000);
  await turns();
  return plenum;
}

test('two WebSockets that do not open, and it goes on by server-sent events', async () => {
  const net = network();
  const plenum = await fallenBack(net);
  assert.deepEqual(net.calls.map(({ path }) => path), ['/v1/join', `/v1/sessions/${session.id}/stream`]);
  assert.equal(net.calls[1].headers.authorization, 'Bearer token-1');
  net.say(welcome());
  await turns();
  assert.deepEqual([plenum.state.connection, plenum.state.transport], ['open', 'sse']);
});

test('messages cut anywhere by the network are put together', async () => {
  const net = network();
  const plenum = await fallenBack(net);
  const text = `data: ${JSON.stringify(welcome({ session: { ...session, title: 'Süße Grüße' } }))}\n\n: still here\n\n`;
  for (const byte of new TextEncoder().encode(text)) net.bytes(Uint8Array.of(byte));
  for (let n = 0; n < 40; n += 1) await turns();
  assert.equal(plenum.state.connection, 'open');
  assert.equal(plenum.state.session.title, 'Süße Grüße');
});

test('a vote goes by POST, and its answer is the same as over a WebSocket', async () => {
  const net = network(({ id, poll: n }) => json(201, { type: 'ack', id, poll: n, seq: 8, repeat: false }));
  const plenum = await fallenBack(net);
  net.say(welcome());
  await turns();
  plenum.vote(1, { choices: [0] });
  await turns();
  assert.equal(plenum.state.votes[1].state, 'counted');
  assert.equal(net.calls.at(-1).path, `/v1/sessions/${session.id}/votes`);
});

test('a POST that gets no answer is sent again with the same id; a refusal is final', async () => {
  const bodies = [];
  const answers = [
    () => Promise.reject(new Error('cut')),
    () => json(503, { code: 'database_unavailable' }, { 'retry-after': '2' }),
    () => new Response('<html>a proxy</html>', { status: 502 }),
    () => json(409, { code: 'already_voted', answer: { choices: [1] } }),
  ];
  const net = network((body) => {
    bodies.push(body);
    return answers.shift()();
  });
  const plenum = await fallenBack(net);
  net.say(welcome());
  await turns();
  const { id } = plenum.vote(1, { choices: [0] });
  for (let n = 0; n < 4; n += 1) {
    await turns();
    await clock.pass(4_000);
  }
  await turns();
  assert.deepEqual(bodies.map((body) => body.id), [id, id, id, id]);
  assert.deepEqual([plenum.state.votes[1].state, plenum.state.votes[1].code], ['refused', 'already_voted']);
  assert.deepEqual(plenum.state.myVotes[1], { choices: [1] });
});

test('coming back, it says what it has seen', async () => {
  const net = network();
  const plenum = await fallenBack(net);
  net.say(welcome({ seq: 7 }));
  await turns();
  plenum.stop();
  plenum.start();
  await turns();
  assert.equal(net.calls.at(-1).path, `/v1/sessions/${session.id}/stream?after=7`);
});

test('a stream that goes on in another history is left, and the whole state asked for', async () => {
  const net = network();
  const plenum = await fallenBack(net);
  net.say(welcome({ seq: 7, results: [{ poll: 1, seq: 7, votes: 9, counts: [9, 0] }] }));
  await turns();
  plenum.stop();
  plenum.start();
  await turns();
  net.say(welcome({ epoch: 'e2', seq: 9, resumed: true, polls: [] }));
  await turns();
  await clock.pass(10);
  await turns();
  assert.equal(net.calls.at(-1).path, `/v1/sessions/${session.id}/stream`);
  net.say(welcome({ epoch: 'e2', seq: 9, results: [{ poll: 1, seq: 8, votes: 2, counts: [1, 1] }] }));
  await turns();
  assert.deepEqual([plenum.state.epoch, plenum.state.seq, plenum.state.results[1].votes], ['e2', 9, 2]);
});
