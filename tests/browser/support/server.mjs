// The real server with a PostgreSQL of its own, as a child process. It ends with the test, however that ends: a shell holds the
// other end of a pipe. Used by the tests and by screenshots.mjs.

import { spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';

const root = resolve(new URL('../../..', import.meta.url).pathname);
const binary = process.env.PLENUM_BIN ?? join(root, process.env.CARGO_TARGET_DIR ?? 'target', 'debug', 'plenum');
const READY_MS = 90_000;
const END_MS = 40_000;

const within = (ms, what, promise) => {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`not within ${ms} ms: ${what}`)), ms); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
};

export class Server {
  /** Starts one with data of its own and waits until it is ready. */
  static async start(...flags) {
    const server = new Server();
    server.data = mkdtempSync(join(tmpdir(), 'plenum-web-'));
    chmodSync(server.data, 0o755); // PostgreSQL runs as another user where this runs as root
    server.flags = flags;
    await server.run('127.0.0.1:0');
    return server;
  }

  async run(listen) {
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('PLENUM_')));
    const flags = ['serve', '--listen', listen, '--ops-listen', '127.0.0.1:0', '--data-dir', this.data, '--log', 'json',
      '--drain-seconds', '1', ...this.flags];
    const child = spawn(binary, flags, { cwd: this.data, env, stdio: ['ignore', 'ignore', 'pipe'] });
    const watch = spawn('sh', ['-c', 'read -r _; kill -TERM "$1" 2>/dev/null', 'sh', String(child.pid)], {
      stdio: ['pipe', 'ignore', 'ignore'], detached: true,
    });
    this.log = [];
    this.exited = new Promise((done) => child.once('exit', () => {
      watch.kill('SIGKILL');
      done();
    }));
    const ready = new Promise((found, lost) => {
      createInterface(child.stderr).on('line', (line) => {
        this.log.push(line);
        if (line.includes('"message":"ready"')) found(JSON.parse(line).listen);
      });
      child.once('exit', () => lost(new Error(`the server ended:\n${this.log.join('\n')}`)));
    });
    this.child = child;
    this.listen = await within(READY_MS, 'the server is ready', ready);
    this.base = `http://${this.listen}`;
  }

  /** SIGKILL, as when a machine loses power. Its PostgreSQL goes on. */
  async kill9() {
    this.child.kill('SIGKILL');
    await within(END_MS, 'the server is gone', this.exited);
  }

  /** On the same address, with the same data. */
  restart() { return this.run(this.listen); }

  /** Ends it and its data. */
  async stop() {
    this.child.kill('SIGTERM');
    await within(END_MS, 'the server has ended', this.exited);
    rmSync(this.data, { recursive: true, force: true });
    const panic = this.log.find((line) => line.includes('panicked at'));
    if (panic) throw new Error(panic);
  }

  async call(method, path, token, body) {
    const response = await fetch(this.base + path, {
      method, headers: token ? { authorization: `Bearer ${token}` } : {}, body: body && JSON.stringify(body),
    });
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
    return response.status === 204 ? null : response.json();
  }

  /** A live session and what a presenter does with it. */
  async session(title = 'Town hall') {
    const { id, code, presenter_token: token } = await this.call('POST', '/v1/sessions', null, { title });
    return new Session(this, id, code, token);
  }
}

class Session {
  constructor(server, id, code, token) {
    Object.assign(this, { server, id, code, token, hash: `#${id}/${token}` });
  }

  #call(method, path, body) { return this.server.call(method, `/v1/sessions/${this.id}${path}`, this.token, body); }

  /** Adds a draft, and gives its number. */
  async draft(question, special = {}) {
    const kind = special.max ? {} : { options: ['Tea', 'Coffee', 'Water'] };
    const body = { kind: special.max ? 'rating' : 'choice', question, ...kind, ...special };
    return (await this.#call('POST', '/polls', body)).n;
  }

  async ask(question, special) {
    const n = await this.draft(question, special);
    await this.open(n);
    return n;
  }

  open(n) { return this.#call('POST', `/polls/${n}/open`); }
  close(n) { return this.#call('POST', `/polls/${n}/close`); }
  end() { return this.#call('PATCH', '', { state: 'ended' }); }
  erase() { return this.#call('DELETE', ''); }
  polls() { return this.#call('GET', '/polls').then(({ polls }) => polls); }
  results(n) { return this.#call('GET', `/polls/${n}/results`); }
  async kinds() { return (await this.#call('GET', '/events?after=0&limit=1000')).events.map(({ kind }) => kind); }
  async votes() { return (await this.#call('GET', '/export?format=json')).votes; }

  /** Somebody without a page votes. */
  async vote(poll, answer) {
    const { participant } = await this.server.call('POST', '/v1/join', null, { code: this.code });
    const id = crypto.randomUUID();
    return this.server.call('POST', `/v1/sessions/${this.id}/votes`, participant.token, { id, poll, answer });
  }
}
