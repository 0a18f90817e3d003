// The state as a fold of messages.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { beginning, happened, welcomed } from '../../src/web/client/fold.js';
import { poll, welcome } from './support.mjs';

const counts = (seq, votes, n = 1) => ({ poll: n, seq, votes, counts: [votes, 0] });
const joined = (special) => welcomed(beginning(), welcome(special));
const event = (seq, kind, data) => ({ type: 'event', seq, prev: seq - 1, kind, data });

test('a welcome is the whole state', () => {
  const state = joined({ polls: [poll(2), poll(1)], results: [counts(5, 3)], my_votes: { 1: { choices: [0] } } });
  assert.deepEqual(state.polls.map(({ n }) => n), [1, 2]);
  assert.equal(state.results[1].votes, 3);
  assert.deepEqual(state.myVotes[1], { choices: [0] });
  assert.deepEqual([state.seq, state.epoch, state.connection, state.participants], [5, 'e1', 'open', 3]);
});

test('resumed, what we have goes on and the events fill it up', () => {
  const old = happened(joined(), event(6, 'poll.results', counts(6, 1)));
  // The server is already at the close of poll 1; we are told so by events, in order.
  const state = welcomed(old, welcome({ resumed: true, seq: 6, polls: [poll(1, { state: 'closed' }), poll(2)], results: [counts(9, 4)] }));
  assert.equal(state.polls.length, 1);
  assert.equal(state.polls[0].state, 'open');
  assert.equal(state.results[1].votes, 1);
});

test('resumed, drafts are taken from the welcome, for there are no events of them', () => {
  const old = joined({ polls: [poll(1), poll(2, { state: 'draft' })] });
  const drafts = [poll(1, { state: 'closed' }), poll(3, { state: 'draft' })];
  const state = welcomed(old, welcome({ resumed: true, polls: drafts }));
  assert.deepEqual(state.polls.map(({ n, state: now }) => [n, now]), [[1, 'open'], [3, 'draft']]);
});

test('an older result never replaces a newer one', () => {
  let state = happened(joined(), event(9, 'poll.results', counts(9, 7)));
  state = happened(state, event(10, 'poll.results', counts(8, 2)));
  assert.equal(state.results[1].votes, 7);
});

test('opened again, counts that were shown after the close are hidden from participants', () => {
  const closed = poll(1, { results: 'after_close', state: 'closed' });
  let state = happened(joined({ polls: [closed] }), event(6, 'poll.closed', { poll: closed, results: counts(6, 2) }));
  assert.equal(state.results[1].votes, 2);
  state = happened(state, event(7, 'poll.opened', { ...closed, state: 'open' }));
  assert.equal(state.results[1], undefined);
  // A presenter goes on seeing them.
  const presenter = { ...joined({ participant: undefined, my_votes: undefined }), results: { 1: counts(6, 2) } };
  assert.equal(happened(presenter, event(7, 'poll.opened', { ...closed, state: 'open' })).results[1].votes, 2);
});

test('kinds of a newer server move the number and nothing else', () => {
  const state = joined();
  assert.deepEqual(happened(state, event(6, 'poll.sung', { loud: true })), { ...state, seq: 6 });
});

test('states are replaced, never changed', () => {
  const state = Object.freeze(joined());
  Object.freeze(state.polls);
  Object.freeze(state.results);
  happened(state, event(6, 'poll.opened', poll(2)));
  happened(state, event(7, 'session.ended', { state: 'ended' }));
  assert.equal(state.polls.length, 1);
});
