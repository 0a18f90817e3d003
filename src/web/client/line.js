// Two ways to talk to the server, with one face: a WebSocket, or server-sent events down and POST up where no WebSocket gets
// through. A line tells `on.message(message)`, `on.heard()` for any sign of life, and `on.end(code)` once. Used by plenum.js.

const POST_MS = 15_000;

const noise = () => {};

/** A WebSocket. */
export function socketLine({ server, hello, on, WebSocket }) {
  const socket = new WebSocket(`${server.replace(/^http/, 'ws')}/v1/ws`, 'polling.v1');
  socket.onopen = () => socket.send(JSON.stringify(hello));
  socket.onmessage = ({ data }) => {
    on.heard();
    on.message(JSON.parse(data));
  };
  socket.onclose = ({ code }) => on.end(code);
  return {
    kind: 'websocket',
    vote: (vote) => socket.send(JSON.stringify({ type: 'vote', ...vote })),
    ping: () => socket.send('{"type":"ping"}'),
    close() {
      socket.onopen = socket.onmessage = socket.onclose = noise;
      socket.close(1000);
    },
  };
}

/** What a status means, in close codes. */
const closeCode = (status) => ({ 401: 4401, 403: 4401, 404: 4404, 422: 4404, 429: 4429 })[status] ?? 4503;

/** Server-sent events and POST. `fetch` and not EventSource: the token stays out of addresses, and statuses are seen. */
export function streamLine({ server, hello, session, on, fetch }) {
  const abort = new AbortController();
  let token = hello.token;
  let at = session;

  async function call(path, options) {
    const headers = token ? { authorization: `Bearer ${token}` } : {};
    return fetch(`${server}${path}`, { cache: 'no-store', headers, ...options });
  }

  async function run() {
    if (!token) {
      const body = JSON.stringify({ code: hello.code });
      const joined = await call('/v1/join', { method: 'POST', body, signal: abort.signal });
      if (!joined.ok) return closeCode(joined.status);
      const { session: found, participant } = await joined.json();
      at = found.id;
      token = participant.token;
    }
    const from = hello.after === undefined ? '' : `?after=${hello.after}`;
    const response = await call(`/v1/sessions/${at}/stream${from}`, { signal: abort.signal });
    if (!response.ok) return closeCode(response.status);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = '';
    for (;;) {
      const { value, done } = await reader.read();
      if (done || abort.signal.aborted) return 1006;
      on.heard();
      const lines = (rest + value).split('\n');
      rest = lines.pop();
      for (const line of lines) {
        if (line.startsWith('data: ') && !abort.signal.aborted) on.message(JSON.parse(line.slice(6)));
      }
    }
  }

  const end = (code) => abort.signal.aborted || on.end(code);
  run().then(end, () => end(1006));

  async function vote({ id, poll, answer }) {
    const body = JSON.stringify({ id, poll, answer });
    const unreachable = { type: 'error', id, code: 'unreachable', retry_after_ms: 1_000 };
    try {
      const signal = AbortSignal.timeout?.(POST_MS);
      const response = await call(`/v1/sessions/${at}/votes`, { method: 'POST', body, signal });
      const verdict = await response.json();
      const wait = 1_000 * Number(response.headers.get('retry-after') ?? 1);
      const error = { type: 'error', id, code: verdict.code, answer: verdict.answer, retry_after_ms: wait };
      return response.ok ? { ...verdict, type: 'ack' } : verdict.code ? error : unreachable;
    } catch {
      return unreachable;
    }
  }

  return {
    kind: 'sse',
    vote: (one) => void vote(one).then((verdict) => abort.signal.aborted || on.message(verdict)),
    ping: noise, // the server's comment lines are the sign of life
    close: () => abort.abort(),
  };
}
