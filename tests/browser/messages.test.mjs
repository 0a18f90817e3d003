// What a real server says over a WebSocket and an event stream, held against the AsyncAPI document that it serves: every message
// that the document has is heard, and every message that is heard is as the document says.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { until } from './support/browser.mjs';
import { asyncapi, misfits, openapi } from './support/contract.mjs';
import { hall } from './support/room.mjs';

const here = hall();
const { messages } = asyncapi.components;

/** All that is said over a WebSocket of the browser. */
async function socket(session) {
  const page = await here.browser.device();
  const said = [];
  await page.exposeFunction('heard', (message) => said.push(JSON.parse(message)));
  await page.goto(`${here.server.base}/check`);
  await page.evaluate((hello) => {
    window.socket = new WebSocket(`ws://${location.host}/v1/ws`, 'polling.v1');
    window.socket.onopen = () => window.socket.send(hello);
    window.socket.onmessage = ({ data }) => window.heard(data);
  }, JSON.stringify({ type: 'hello', code: session.code }));
  const send = (message) => page.evaluate((data) => window.socket.send(data), JSON.stringify(message));
  return { said, send };
}

/** All that is said in an event stream. */
async function stream(session) {
  const { participant } = await here.server.call('POST', '/v1/join', null, { code: session.code });
  const response = await fetch(`${here.server.base}/v1/sessions/${session.id}/stream?token=${participant.token}`);
  const said = [];
  const ended = (async () => {
    let rest = '';
    for await (const piece of response.body.pipeThrough(new TextDecoderStream())) {
      const blocks = (rest + piece).split('\n\n');
      rest = blocks.pop();
      for (const block of blocks.filter((lines) => !lines.startsWith(':'))) {
        const [, id, data] = block.match(/^(?:id: (\d+)\n)?data: (.*)$/);
        const message = JSON.parse(data);
        if (message.type === 'event') assert.equal(Number(id), message.seq);
        said.push(message);
      }
    }
  })();
  return { said, ended };
}

test('a real server says what its document says', async () => {
  assert.deepEqual(await here.server.call('GET', '/v1/asyncapi.json'), asyncapi);
  const session = await here.server.session();
  const [byStream, bySocket] = [await stream(session), await socket(session)];
  const heard = (what, ask) => until(what, () => [byStream, bySocket].every(({ said }) => said.some(ask)));
  await heard('who is here', ({ type, participants }) => type === 'presence' && participants === 2);
  const poll = await session.ask('Tea or coffee?');
  await heard('the poll', ({ kind }) => kind === 'poll.opened');

  const vote = { type: 'vote', id: crypto.randomUUID(), poll, answer: { choices: [1] } };
  const again = { ...vote, id: crypto.randomUUID() };
  for (const message of [{ type: 'ping' }, vote, vote, again, { ...again, poll: 99 }, { type: 'nothing' }]) {
    assert.deepEqual(messages[message.type] ? misfits(messages[message.type], message) : [], []);
    await bySocket.send(message);
  }
  await heard('the counts', ({ kind, data }) => kind === 'poll.results' && data.votes === 1);
  await session.close(poll);
  await here.server.call('PATCH', `/v1/sessions/${session.id}`, session.token, { title: 'Town hall, recorded' });
  await session.end();
  await heard('the end', ({ kind }) => kind === 'session.ended');
  await until('every answer', () => bySocket.said.filter(({ type }) => ['ack', 'error', 'pong'].includes(type)).length === 6);
  here.server.child.kill('SIGTERM');
  await heard('the farewell', ({ type }) => type === 'bye');
  await byStream.ended;

  for (const [name, { said }] of [['stream', byStream], ['socket', bySocket]]) {
    const sent = Object.keys(asyncapi.channels[name].messages).filter((type) => !['hello', 'vote', 'ping'].includes(type));
    assert.deepEqual([...new Set(said.map(({ type }) => type))].sort(), sent.sort(), name);
    assert.deepEqual(new Set(said.flatMap(({ kind }) => kind ?? [])), new Set(openapi.components.schemas.EventKind.enum), name);
    assert.deepEqual(said.flatMap((message) => misfits(messages[message.type], message)), []);
  }
});
