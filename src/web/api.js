// REST calls of the presenter's pages. Used by present.js and its parts.

/** What a call came back with instead of an answer. */
export class Problem extends Error {
  constructor(status, { code, detail, field }) {
    super(detail ?? code ?? String(status));
    this.status = status;
    this.code = code;
    this.field = field;
  }
}

/** A call that has no answer by then has failed. */
const ANSWER_MS = 15_000;

/**
 * @param {string} method
 * @param {string} path
 * @param {{token?: string | null, body?: unknown}} [options]
 * @returns {Promise<Response>}
 */
export async function request(method, path, { token, body } = {}) {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const json = body === undefined ? undefined : JSON.stringify(body);
  const response = await fetch(path, {
    method, headers, body: json, cache: 'no-store', signal: AbortSignal.timeout?.(ANSWER_MS),
  }).catch(() => {
    throw new Problem(0, { code: 'unreachable' });
  });
  if (response.ok) return response;
  throw new Problem(response.status, await response.json().catch(() => ({})));
}

/** The same, with the answer read. */
export async function call(method, path, options) {
  const response = await request(method, path, options);
  return response.status === 204 ? null : response.json();
}

/** The calls on one session, by its presenter. */
export class Desk {
  constructor(session, token) {
    this.session = session;
    this.token = token;
    this.at = `/v1/sessions/${session}`;
  }

  #call(method, path, body) { return call(method, this.at + path, { token: this.token, body }); }

  polls() { return this.#call('GET', '/polls').then(({ polls }) => polls); }
  poll(n) { return this.#call('GET', `/polls/${n}`); }
  create(draft) { return this.#call('POST', '/polls', draft); }
  change(n, draft) { return this.#call('PATCH', `/polls/${n}`, draft); }
  remove(n) { return this.#call('DELETE', `/polls/${n}`); }
  open(n) { return this.#call('POST', `/polls/${n}/open`); }
  close(n) { return this.#call('POST', `/polls/${n}/close`); }
  end() { return this.#call('PATCH', '', { state: 'ended' }); }
  erase() { return this.#call('DELETE', ''); }

  async export(format) {
    const response = await request('GET', `${this.at}/export?format=${format}`, { token: this.token });
    return response.blob();
  }

  /** The picture of the link that hands the remote over. */
  async remoteCode() {
    const response = await request('GET', '/qr/remote.svg', { token: this.token });
    return response.blob();
  }
}

/** What of a poll makes its draft again. */
export function draftOf({ kind, question, options, max_choices: most, max, results }) {
  return kind === 'rating' ? { kind, question, max, results } : { kind, question, options, max_choices: most, results };
}
