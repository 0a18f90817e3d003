// When to come back, and by which road. Pure: no timers here. Used by plenum.js.

const FIRST_MS = 250;
const LONGEST_MS = 10_000;

/** Close codes after which coming back would change nothing. */
export const FINAL = new Map([
  [1002, 'protocol'],
  [1007, 'protocol'],
  [1009, 'protocol'],
  [4400, 'protocol'],
  [4401, 'invalid_token'],
  [4404, 'not_found'],
  [4410, 'deleted'],
]);

/** Verdicts that mean "send the same vote again"; every other one is final. */
export const AGAIN = new Set(['overloaded', 'draining', 'database_unavailable', 'rate_limited', 'unreachable']);

/**
 * Full jitter: anything up to a bound that doubles, so that those who were cut off together do not return together.
 * @param {number} tries how many have failed
 * @param {() => number} [random]
 * @returns {number} milliseconds
 */
export const backoff = (tries, random = Math.random) => random() * Math.min(LONGEST_MS, FIRST_MS * 2 ** tries);

/**
 * WebSocket first; where it fails twice, every other try goes by server-sent events. What worked last goes first next time.
 * @param {number} misses tries without a welcome since the last one
 * @param {'websocket'|'sse'} worked
 * @returns {'websocket'|'sse'}
 */
export function road(misses, worked) {
  const other = misses % 2 === 0;
  if (worked === 'sse') return other ? 'sse' : 'websocket';
  return misses > 1 && other ? 'sse' : 'websocket';
}
