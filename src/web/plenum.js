/**
 * The client of Plenum: joins a session, follows it, votes. A vote is kept on the device until the server has answered it, and
 * is sent again with the same id, so it arrives once whatever happens to the connection.
 *
 *     import { Plenum } from '/plenum.js';
 *     const plenum = new Plenum({ code: '1234 5678' });
 *     plenum.subscribe((state) => render(state));
 *     plenum.start();
 *     plenum.vote(1, { choices: [0] });
 *
 * Types: /plenum.d.ts. The rules: docs/PROTOCOL.md.
 */
import { AGAIN, FINAL, backoff, road } from './client/wait.js';
import { beginning, happened, welcomed } from './client/fold.js';
import { Outbox, read, usable, uuid, write } from './client/outbox.js';
import { socketLine, streamLine } from './client/line.js';

/** A line without a welcome by then is given up. */
const WELCOME_MS = 8_000;
/** A ping without an answer by then means that the line is dead; after sleep we are less patient. */
const PONG_MS = 10_000;
const AWAKE_PONG_MS = 3_000;
/** The server answers a vote within 10 s, even if only with "again". */
const VERDICT_MS = 12_000;
/** A connection that held so long ends the growth of the waits. */
const STEADY_MS = 5_000;

export class Plenum {
  #server; #code; #session; #token; #storage; #WebSocket; #fetch; #key;
  #state = beginning(); #listeners = new Set(); #told = true;
  #outbox = null; #line = null; #sent = new Map(); #proven = false;
  #running = false; #tries = 0; #misses = 0; #worked = 'websocket'; #heartbeat = 25_000; #heardAt = 0;
  #timers = new Map(); #undo = [];

  /** @param {import('./plenum.js').PlenumOptions} options */
  constructor({ server = globalThis.location?.origin, code, session, token, storage, WebSocket, fetch }) {
    this.#server = server.replace(/\/$/, '');
    this.#code = code && (Plenum.code(code) ?? String(code));
    this.#storage = usable(storage ?? globalThis.localStorage);
    this.#WebSocket = WebSocket ?? globalThis.WebSocket;
    this.#fetch = fetch ?? globalThis.fetch.bind(globalThis);
    this.#key = `plenum:${new URL(this.#server).host}:${this.#code}`;
    const kept = this.#code ? read(this.#storage, this.#key) : null;
    this.#token = token ?? kept?.token;
    this.#session = session ?? kept?.session;
    if (this.#session) this.#openOutbox(this.#session);
  }

  /** The eight digits of a join code as people type it, or null. */
  static code(text) {
    const digits = String(text).replace(/[\s\u2013-]/g, '');
    return /^[0-9]{8}$/.test(digits) ? digits : null;
  }

  /** The state as of now. It is replaced on every change, never changed itself. */
  get state() { return this.#state; }

  /** Calls `listener` now and after every change; gives the function that ends it. */
  subscribe(listener) {
    this.#listeners.add(listener);
    listener(this.#state);
    return () => this.#listeners.delete(listener);
  }

  /** Connects, and stays connected until `stop`. */
  start() {
    if (this.#running) return;
    this.#running = true;
    const listen = (target, name, act) => {
      target?.addEventListener?.(name, act);
      this.#undo.push(() => target?.removeEventListener?.(name, act));
    };
    listen(globalThis.document, 'visibilitychange', () => document.visibilityState === 'visible' && this.#wake());
    listen(globalThis, 'pageshow', () => this.#wake());
    listen(globalThis, 'online', () => this.#wake());
    listen(globalThis, 'storage', ({ key }) => this.#outbox?.owns(key) && this.#othersVoted());
    this.#connect();
  }

  /** Disconnects. Votes that wait stay on the device. */
  stop() {
    this.#running = false;
    this.#hangUp();
    this.#timers.forEach(clearTimeout);
    this.#undo.splice(0).forEach((undo) => undo());
    this.#set({ connection: 'closed' });
  }

  /**
   * Casts a vote: it is kept, sent, and sent again until there is an answer; `state.votes[poll]` tells how it goes. A vote that
   * is on its way or counted stands: it is returned as it is.
   */
  vote(poll, answer) {
    if (!this.#outbox) throw new Error('vote: not joined yet');
    this.#outbox.reload(); // another tab may have voted
    const before = this.#outbox.votes[poll];
    if (before && before.state !== 'refused') return before;
    const vote = { id: uuid(), poll, answer, state: 'sending' };
    this.#keep(vote);
    this.#flush();
    return vote;
  }

  #set(changes) {
    this.#state = { ...this.#state, ...changes };
    if (!this.#told) return;
    this.#told = false;
    queueMicrotask(() => {
      this.#told = true;
      this.#listeners.forEach((listener) => listener(this.#state));
    });
  }

  /** One timer per purpose. */
  #after(purpose, ms, act) {
    clearTimeout(this.#timers.get(purpose));
    this.#timers.set(purpose, setTimeout(act, ms));
  }

  #cancel(...purposes) { purposes.forEach((purpose) => clearTimeout(this.#timers.get(purpose))); }

  #openOutbox(session) {
    this.#session = session;
    this.#outbox = new Outbox(this.#storage, session);
    this.#set({ votes: this.#outbox.votes });
  }

  #keep(vote) {
    this.#outbox.put(vote);
    this.#set({ votes: this.#outbox.votes });
  }

  #othersVoted() {
    this.#outbox.reload();
    this.#set({ votes: this.#outbox.votes });
    this.#flush();
  }

  #connect() {
    if (!this.#running || this.#line) return;
    this.#cancel('reconnect');
    const { seq, epoch } = this.#state;
    const hello = !this.#token ? { type: 'hello', code: this.#code }
      : epoch ? { type: 'hello', token: this.#token, after: seq, epoch }
        : { type: 'hello', token: this.#token };
    const mine = (act) => (argument) => line === this.#line && act(argument);
    const on = {
      heard: mine(() => this.#heard()),
      message: mine((message) => this.#take(message)),
      end: mine((code) => this.#lost(code)),
    };
    const options = {
      server: this.#server, session: this.#session, hello, on, WebSocket: this.#WebSocket, fetch: this.#fetch,
    };
    const kind = road(this.#misses, this.#worked);
    this.#misses += 1;
    let line = null;
    try {
      line = kind === 'sse' ? streamLine(options) : socketLine(options);
    } catch { /* a WebSocket that may not even be made: the next try takes the other road */ }
    this.#line = line;
    if (!line) return this.#lost(1006);
    this.#after('welcome', WELCOME_MS, () => this.#lost(1006));
  }

  #hangUp() {
    this.#cancel('welcome', 'beat', 'pong', 'verdict', 'steady', 'again');
    this.#line?.close();
    this.#line = null;
    this.#sent.clear();
  }

  /** The line is gone. Comes back after a while, unless that would change nothing. */
  #lost(code, wait) {
    this.#hangUp();
    if (!this.#running) return;
    const final = FINAL.get(code);
    if (final && this.#code && this.#token && !this.#proven && code !== 4400) {
      // What this device remembered of the code is out of date: it joins like anybody else.
      this.#token = undefined;
      this.#outbox = null;
      this.#storage.removeItem(this.#key);
      return this.#connect();
    }
    if (final) {
      if (code === 4410) this.#storage.removeItem(this.#key);
      return this.#set({ connection: 'closed', problem: final });
    }
    this.#set({ connection: 'waiting', transport: null, problem: code === 4429 ? 'rate_limited' : null });
    this.#after('reconnect', wait ?? backoff(this.#tries), () => this.#connect());
    if (wait === undefined) this.#tries += 1;
  }

  #heard() {
    this.#heardAt = Date.now();
    this.#cancel('pong');
    this.#after('beat', this.#heartbeat, () => this.#probe(PONG_MS));
  }

  #probe(patience) {
    if (!this.#line || this.#state.connection !== 'open') return;
    this.#line.ping();
    this.#after('pong', patience, () => this.#lost(1006));
  }

  /** The page is seen again, or the network is back: no reason to wait any longer. */
  #wake() {
    if (this.#line && Date.now() - this.#heardAt > AWAKE_PONG_MS) this.#probe(AWAKE_PONG_MS);
    if (!this.#line && this.#state.connection === 'waiting') this.#connect();
  }

  #take(message) {
    switch (message.type) {
      case 'welcome': return this.#welcome(message);
      case 'event': return this.#event(message);
      case 'presence': return this.#set({ participants: message.participants });
      case 'ack': return this.#verdict(message.id, { state: 'counted', seq: message.seq, code: undefined });
      case 'error': return this.#error(message);
      case 'bye': return this.#after('reconnect', message.reconnect_after_ms, () => this.#lost(1001, 0));
      default: return undefined; // of a newer server
    }
  }

  #welcome(message) {
    const { session, participant, my_votes: myVotes, heartbeat_ms: heartbeat } = message;
    this.#cancel('welcome');
    this.#misses = 0;
    this.#worked = this.#line.kind;
    this.#proven = true;
    if (message.resumed && message.epoch !== this.#state.epoch) {
      // A stream cannot say which history it knew: what is here is of another one.
      this.#set({ epoch: null, seq: 0 });
      return this.#lost(4413, 0);
    }
    this.#heartbeat = heartbeat || this.#heartbeat;
    this.#after('steady', STEADY_MS, () => { this.#tries = 0; });
    if (participant) this.#token = participant.token;
    if (this.#code && participant) write(this.#storage, this.#key, { session: session.id, token: participant.token });
    if (!this.#outbox) this.#openOutbox(session.id);
    this.#set({ ...welcomed(this.#state, message), transport: this.#line.kind });
    // A vote that was counted and is no longer there: the database lost some of its history. It is sent again.
    for (const vote of Object.values(this.#outbox.votes)) {
      if (myVotes && vote.state === 'counted' && !myVotes[vote.poll]) this.#keep({ ...vote, state: 'sending' });
    }
    return this.#flush();
  }

  #event(message) {
    if (message.prev > this.#state.seq) return this.#lost(4413); // a hole: come back and have it filled
    if (message.seq > this.#state.seq) this.#set(happened(this.#state, message));
    return undefined;
  }

  /** Sends what waits and is not on this line yet. */
  #flush() {
    if (this.#state.connection !== 'open' || !this.#line) return;
    for (const { id, poll, answer } of this.#outbox.waiting) {
      if (this.#sent.has(id)) continue;
      this.#sent.set(id, { id, poll, answer });
      this.#line.vote({ id, poll, answer });
      this.#after('verdict', VERDICT_MS, () => this.#outbox.waiting.length > 0 && this.#lost(1006));
    }
  }

  #verdict(id, changes) {
    // Another tab's vote in the same poll may have taken its place here meanwhile: the one that counts has it back.
    const vote = this.#outbox.byId(id) ?? (changes.state === 'counted' ? this.#sent.get(id) : undefined);
    this.#sent.delete(id);
    if (!vote) return;
    this.#keep({ ...vote, ...changes });
    if (this.#outbox.waiting.length === 0) this.#cancel('verdict');
    if (changes.state === 'counted') this.#set({ myVotes: { ...this.#state.myVotes, [vote.poll]: vote.answer } });
  }

  #error({ id, code, answer, retry_after_ms: wait = 500 }) {
    if (!id) return;
    if (AGAIN.has(code)) {
      this.#sent.delete(id);
      this.#after('again', wait * (1 + Math.random()), () => this.#flush());
      return;
    }
    const vote = this.#outbox.byId(id) ?? this.#sent.get(id);
    this.#verdict(id, { state: 'refused', code });
    if (vote && answer) this.#set({ myVotes: { ...this.#state.myVotes, [vote.poll]: answer } });
  }
}
