// The order of drafts. A poll's number is its place, the same on every device, so moving a draft means that two drafts change
// contents. That takes two calls: what is to be written is kept on this device until both are done, so that a closed laptop
// loses no question. Used by present.js.

import { draftOf } from './api.js';

const key = (desk) => `plenum:${desk.session}:moving`;
const keep = (desk, moving) => {
  try {
    if (moving) localStorage.setItem(key(desk), JSON.stringify(moving));
    else localStorage.removeItem(key(desk));
  } catch { /* then a crash between the two calls may double a draft */ }
};
const isTaken = ({ code }) => code === 'poll_not_draft' || code === 'not_found';

/** Lets two drafts change places. */
export const swap = (desk, one, other) =>
  write(desk, { steps: [{ n: one.n, draft: draftOf(other) }, { n: other.n, draft: draftOf(one) }], done: 0 });

/** Ends a move that was cut off. */
export async function finish(desk) {
  let moving = null;
  try {
    moving = JSON.parse(localStorage.getItem(key(desk)));
  } catch { /* unreadable: nothing to finish */ }
  if (moving?.steps) await write(desk, moving);
}

async function write(desk, { steps: [first, second], done }) {
  keep(desk, { steps: [first, second], done });
  try {
    if (done === 0) await desk.change(first.n, first.draft);
  } catch (problem) {
    if (!isTaken(problem)) throw problem;
    return keep(desk, null); // opened on another device meanwhile; nothing has happened yet
  }
  keep(desk, { steps: [first, second], done: 1 });
  try {
    await desk.change(second.n, second.draft);
  } catch (problem) {
    if (!isTaken(problem)) throw problem;
    // The second was opened meanwhile, so the first goes back to where it was; or, opened too, to a place of its own.
    await desk.change(first.n, second.draft).catch(() => desk.create(second.draft));
  }
  return keep(desk, null);
}
