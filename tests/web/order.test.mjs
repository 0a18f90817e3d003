// Moving a draft takes two calls; whatever happens between them, no question is lost.

import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { memory } from '../../src/web/client/outbox.js';
import { finish, swap } from '../../src/web/order.js';

const question = (n, text) => ({ n, kind: 'rating', question: text, max: 5, results: 'live', state: 'draft' });

/** A desk that keeps its drafts here. `fail` is called before each change and may throw. */
function desk(fail = () => {}) {
  const polls = new Map([[1, 'first'], [2, 'second']]);
  return {
    session: 's', polls,
    async change(n, draft) {
      fail(n);
      polls.set(n, draft.question);
    },
    async create(draft) { polls.set(polls.size + 1, draft.question); },
  };
}

const all = ({ polls }) => [...polls.values()];

beforeEach(() => { globalThis.localStorage = memory(); });

test('two drafts change places', async () => {
  const here = desk();
  await swap(here, question(1, 'first'), question(2, 'second'));
  assert.deepEqual(all(here), ['second', 'first']);
});

test('cut off between the calls, it is finished the next time', async () => {
  let calls = 0;
  const here = desk(() => {
    calls += 1;
    if (calls === 2) throw new Error('the lid was closed');
  });
  await assert.rejects(swap(here, question(1, 'first'), question(2, 'second')));
  assert.deepEqual(all(here), ['second', 'second']);
  await finish(here);
  assert.deepEqual(all(here), ['second', 'first']);
  await finish(here); // and only once
  assert.deepEqual(all(here), ['second', 'first']);
});

const opened = (at) => (n) => {
  if (n === at) throw Object.assign(new Error(), { code: 'poll_not_draft' });
};

test('where the first was opened meanwhile, nothing happens', async () => {
  const here = desk(opened(1));
  await swap(here, question(1, 'first'), question(2, 'second'));
  assert.deepEqual(all(here), ['first', 'second']);
});

test('where the second was opened meanwhile, the first goes back to its place', async () => {
  const here = desk(opened(2));
  await swap(here, question(1, 'first'), question(2, 'second'));
  assert.deepEqual(all(here), ['first', 'second']);
});

test('where both were opened, the question gets a place of its own', async () => {
  let calls = 0;
  const here = desk((n) => {
    calls += 1;
    if (calls > 1) opened(n)(n);
  });
  await swap(here, question(1, 'first'), question(2, 'second'));
  assert.deepEqual(all(here), ['second', 'second', 'first']);
});
