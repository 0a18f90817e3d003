// When a client comes back, and by which road.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AGAIN, FINAL, backoff, road } from '../../src/web/client/wait.js';

test('waits are anything up to a bound that doubles from 250 ms to 10 s', () => {
  for (const [tries, most] of [[0, 250], [1, 500], [2, 1_000], [5, 8_000], [6, 10_000], [60, 10_000], [5_000, 10_000]]) {
    assert.equal(backoff(tries, () => 1), most);
    assert.equal(backoff(tries, () => 0), 0);
    assert.equal(backoff(tries, () => 0.5), most / 2);
  }
});

const sequence = (worked) => Array.from({ length: 7 }, (_, misses) => road(misses, worked));

test('a WebSocket is tried twice before the fall-back, and again every other time', () => {
  assert.deepEqual(sequence('websocket'), ['websocket', 'websocket', 'sse', 'websocket', 'sse', 'websocket', 'sse']);
});

test('where the fall-back worked it goes first, and a WebSocket is still tried', () => {
  assert.deepEqual(sequence('sse'), ['sse', 'websocket', 'sse', 'websocket', 'sse', 'websocket', 'sse']);
});

test('the protocol names what is final and what is to be tried again', () => {
  for (const code of [4400, 4401, 4404, 4410]) assert.ok(FINAL.has(code), code);
  for (const code of [1001, 1006, 1011, 1012, 1013, 4413, 4429, 4503]) assert.ok(!FINAL.has(code), code);
  for (const code of ['overloaded', 'draining', 'database_unavailable', 'rate_limited']) assert.ok(AGAIN.has(code), code);
  for (const code of ['poll_closed', 'already_voted', 'session_ended', 'not_found', 'unprocessable']) assert.ok(!AGAIN.has(code), code);
});
