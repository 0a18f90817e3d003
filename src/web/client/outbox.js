// Votes on their way, one per poll, kept on this device until the server has answered: through reloads, sleep and tunnels.
// Each lies under a key of its own, so that two tabs cannot overwrite each other's. Used by plenum.js.

/** What stands in where a browser allows no storage: it lasts as long as the page. */
export function memory() {
  const items = new Map();
  return {
    getItem: (key) => items.get(key) ?? null,
    setItem: (key, value) => void items.set(key, value),
    removeItem: (key) => void items.delete(key),
    key: (at) => [...items.keys()][at] ?? null,
    get length() { return items.size; },
  };
}

/** The browser's storage if it can be written, otherwise a stand-in. */
export function usable(storage) {
  try {
    storage.setItem('plenum:try', '1');
    storage.removeItem('plenum:try');
    return storage;
  } catch {
    return memory();
  }
}

/** Something written by another version or by hand counts as not there. */
export function read(storage, key) {
  try {
    return JSON.parse(storage.getItem(key));
  } catch {
    return null;
  }
}

/** A full disk must not stop a vote: it is then kept in memory alone. */
export function write(storage, key, value) {
  try {
    storage.setItem(key, JSON.stringify(value));
  } catch { /* see above */ }
}

/** A UUID of version 4. `crypto.randomUUID` is missing on pages without HTTPS, which a hall's own network often is. */
export function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

/** The votes of one participant in one session: `{id, poll, answer, state, code?, seq?}` by poll. */
export class Outbox {
  #storage; #prefix; #votes = {};

  constructor(storage, session) {
    this.#storage = storage;
    this.#prefix = `plenum:${session}:vote:`;
    this.reload();
  }

  /** Reads what is stored; also after another tab has voted. */
  reload() {
    for (let at = 0; at < this.#storage.length; at += 1) {
      const key = this.#storage.key(at);
      const vote = key?.startsWith(this.#prefix) && read(this.#storage, key);
      if (vote?.id && vote.answer) this.#votes[vote.poll] = vote;
    }
  }

  /** All of them, by poll. */
  get votes() { return { ...this.#votes }; }

  /** Those without an answer. */
  get waiting() { return Object.values(this.#votes).filter((vote) => vote.state === 'sending'); }

  byId(id) { return Object.values(this.#votes).find((vote) => vote.id === id); }

  put(vote) {
    this.#votes[vote.poll] = vote;
    write(this.#storage, this.#prefix + vote.poll, vote);
  }

  owns(key) { return Boolean(key?.startsWith(this.#prefix)); }
}
