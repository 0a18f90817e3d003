// The order of drafts. A poll's number is its place, the same on every device, so moving a draft means that two drafts change
// contents. That takes two calls: what is to be written is kept on this device until both are done, so that a closed laptop
// loses no question. Used by present.js.

import { draftOf } from './api.js';

const key = (desk) => `plenum:${desk.session}:moving`;
const keep = (desk, steps) => {
  try {
    if (steps.length) localStorage.setItem(key(desk), JSON.stringify(steps));
    else localStorage.removeItem(key(desk));
  } catch { /* then a crash between the two calls may double a draft */ }
};

/** Lets two drafts change places. */
export async function swap(desk, one, other) {
  const steps = [{ n: one.n, draft: draftOf(other) }, { n: other.n, draft: draftOf(one) }];
  keep(desk, steps);
  await write(desk, steps);
}

/** Ends a move that was cut off. */
export async function finish(desk) {
  let steps = [];
  try {
    steps = JSON.parse(localStorage.getItem(key(desk))) ?? [];
  } catch { /* unreadable: nothing to finish */ }
  if (steps.length) await write(desk, steps);
}

async function write(desk, steps) {
  const left = [...steps];
  for (const [at, { n, draft }] of steps.entries()) {
    try {
      await desk.change(n, draft);
    } catch (problem) {
      if (problem.code !== 'poll_not_draft' && problem.code !== 'not_found') throw problem;
      // Opened on another device meanwhile. Before the first step nothing has happened; after it, the question that was
      // to go there gets a place of its own.
      if (at === 0 && steps.length === 2) break;
      await desk.create(draft);
    }
    left.shift();
    keep(desk, left);
  }
  keep(desk, []);
}
