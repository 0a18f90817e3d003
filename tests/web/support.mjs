// Stand-ins for a browser's clock, storage and sockets, so that units of plenum.js run without waiting. What runs against the
// real server in a real browser is in tests/browser/.

import { webcrypto } from 'node:crypto';
import { memory } from '../../src/web/client/outbox.js';
import { Plenum } from '../../src/web/plenum.js';

globalThis.crypto ??= webcrypto;

/** A clock that stands still until it is told to go on. Ends with `restore`. */
export function stoppedClock() {
  const real = { setTimeout, clearTimeout, now: Date.now };
  const waiting = new Map();
  let now = 1_000_000;
  let last = 0;
  globalThis.setTimeout = (act, ms = 0) => {
    last += 1;
    waiting.set(last, { at: now + ms, act });
    return last;
  };
  globalThis.clearTimeout = (id) => void waiting.delete(id);
  Date.now = () => now;
  return {
    /** Goes on by `ms`, doing what falls due in between, in order. */
    async pass(ms) {
      const until = now + ms;
      for (;;) {
        await settled();
        const due = [...waiting].filter(([, { at }]) => at <= until).sort((a, b) => a[1].at - b[1].at)[0];
        if (!due) break;
        waiting.delete(due[0]);
        now = due[1].at;
        due[1].act();
      }
      now = until;
      await settled();
    },
    restore() {
      Object.assign(globalThis, { setTimeout: real.setTimeout, clearTimeout: real.clearTimeout });
      Date.now = real.now;
    },
  };
}

/** Everything that only waited for promises has run. */
export const settled = () => new Promise((resolve) => setImmediate(resolve));

/** A WebSocket whose other end is the test. */
export class Wire {
  static all = [];
  static get last() { return Wire.all.at(-1); }

  constructor(url, protocol) {
    Object.assign(this, { url, protocol, sent: [], closed: false });
    Wire.all.push(this);
  }

  send(text) { this.sent.push(JSON.parse(text)); }
  close() { this.closed = true; }

  open() { this.onopen(); }
  say(message) { this.onmessage({ data: JSON.stringify(message) }); }
  drop(code = 1006) { this.onclose({ code }); }

  /** Opens, and welcomes with whatever is to be special. */
  welcome(special = {}) {
    this.open();
    this.say(welcome(special));
  }

  votes() { return this.sent.filter(({ type }) => type === 'vote'); }
}

export const session = { id: 's-1', code: '12345678', title: 'Hall', state: 'live', participants: 3, join_url: 'http://x/j/12345678' };

export const poll = (n, special = {}) => ({
  n, kind: 'choice', question: `Question ${n}?`, options: ['Tea', 'Coffee'], max_choices: 1, results: 'live', state: 'open',
  opened_at: `2026-01-01T10:00:0${n}.000Z`, ...special,
});

export const welcome = (special = {}) => ({
  type: 'welcome', session, participant: { id: 'p-1', token: 'token-1' }, seq: 5, epoch: 'e1', resumed: false,
  polls: [poll(1)], results: [], my_votes: {}, heartbeat_ms: 25_000, ...special,
});

/** A client on `Wire`, started. */
export function client(special = {}) {
  Wire.all.length = 0;
  const plenum = new Plenum({
    server: 'http://hall.example', code: '1234 5678', storage: memory(), WebSocket: Wire,
    fetch: () => Promise.reject(new Error('no network')), ...special,
  });
  plenum.start();
  return plenum;
}
