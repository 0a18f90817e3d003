// The presenter's console of one session. What is open and how votes stand comes from plenum.js; drafts, of which there are no
// events, are read again after every change, here or in another window of this browser, and whenever the page is seen again.
// Used by present.js.

import { Desk, draftOf } from './api.js';
import { parts } from './console-parts.js';
import { confirmDelete, confirmEnd, copy, handOver } from './dialogs.js';
import { render } from './dom.js';
import { Editor } from './editor.js';
import { known, t } from './i18n.js';
import { SAY_COUNTS_MS, joinLink, say, turnout } from './parts.js';
import { finish, swap } from './order.js';
import { Plenum } from './plenum.js';
import { forget, keep, kept, link } from './sessions.js';

const SHORTCUTS = 'plenum:shortcuts';
/** Drafts written on another device are seen after so long at the latest. */
const DRAFTS_EVERY_MS = 10_000;
const NOTICE_MS = 6_000;
const COPIED_MS = 2_000;
/** What was written in a draft, to be compared: answers of different calls name the same fields in different order. */
const written = (poll) => JSON.stringify(draftOf(poll));

export class Console {
  #app; #own; #desk; #plenum; #channel; #timer; #undo = [];
  #stored = []; #gone = false; #notice = null; #selected = null; #busy = new Set(); #shown = new Set(); #copied = false;
  #shortcuts = true;

  constructor(app, own) {
    this.#app = app;
    this.#own = own;
    this.#desk = new Desk(own.session, own.token);
    try {
      this.#shortcuts = localStorage.getItem(SHORTCUTS) !== 'off';
    } catch { /* on, then */ }
    this.#channel = new BroadcastChannel(`plenum:${own.session}`);
    this.#channel.onmessage = ({ data }) => data.drafts && this.#read();
    this.#plenum = new Plenum(own);
    this.#plenum.subscribe((state) => this.#changed(state));
    this.#plenum.start();
    this.#listen(document, 'keydown', (event) => this.#key(event));
    this.#listen(document, 'visibilitychange', () => document.visibilityState === 'visible' && this.#read());
    this.#listen(window, 'focus', () => this.#read());
    this.#timer = setInterval(() => document.visibilityState === 'visible' && this.#read(), DRAFTS_EVERY_MS);
    finish(this.#desk).catch(() => {}).then(() => this.#read());
  }

  end() {
    this.#plenum.stop();
    this.#channel.close();
    clearInterval(this.#timer);
    this.#undo.forEach((undo) => undo());
    this.#app = document.createElement('div');
  }

  #listen(target, name, act) {
    target.addEventListener(name, act);
    this.#undo.push(() => target.removeEventListener(name, act));
  }

  /** Drafts as stored, everything else as the events say. */
  #polls() {
    const live = this.#plenum.state.polls.filter((poll) => poll.state !== 'draft');
    const known = new Set(live.map((poll) => poll.n));
    return [...this.#stored.filter((poll) => poll.state === 'draft' && !known.has(poll.n)), ...live].sort((a, b) => a.n - b.n);
  }

  #changed(state) {
    const { session, results, polls, participants } = state;
    const old = kept().find((one) => one.session === this.#own.session);
    if (session && old?.title !== session.title) {
      keep({ ...this.#own, title: session.title, code: session.code, at: session.created_at });
    }
    if (state.connection === 'closed' && state.problem) this.#lose();
    const open = polls.find((poll) => poll.state === 'open');
    if (open && results[open.n]?.votes) say(turnout(results[open.n].votes, participants), SAY_COUNTS_MS);
    this.#draw();
  }

  #lose() {
    this.#gone = true;
    forget(this.#own.session);
    this.#draw();
  }

  async #read() {
    try {
      this.#stored = await this.#desk.polls();
      this.#draw();
    } catch (problem) {
      if (problem.status === 401 || problem.status === 404) this.#lose();
    }
  }

  /** Does something once at a time, and says so if it fails. */
  async #run(name, act) {
    if (this.#busy.has(name)) return;
    this.#busy.add(name);
    this.#draw();
    try {
      await act();
      this.#channel.postMessage({ drafts: true });
      await this.#read();
    } catch (problem) {
      this.#tell(t('failed', { why: t(known(problem.code, '')) || problem.message }));
    } finally {
      this.#busy.delete(name);
      this.#draw();
    }
  }

  #tell(text) {
    this.#notice = text;
    setTimeout(() => {
      if (this.#notice === text) this.#notice = null;
      this.#draw();
    }, NOTICE_MS);
  }

  #view() {
    const state = this.#plenum.state;
    const polls = this.#polls();
    const chosen = polls.find((poll) => poll.n === this.#selected)
      ?? polls.find((poll) => poll.state === 'draft') ?? polls.at(-1);
    return {
      state, polls, own: this.#own, gone: this.#gone, notice: this.#notice, busy: this.#busy, shown: this.#shown,
      copied: this.#copied, shortcuts: this.#shortcuts, selected: chosen ?? null, act: this.#acts(),
      open: polls.filter((poll) => poll.state === 'open').sort((a, b) => (a.opened_at < b.opened_at ? 1 : -1)),
    };
  }

  #draw() {
    const view = this.#view();
    document.title = view.state.session ? `${view.state.session.title} · Plenum` : t('title_present');
    render(this.#app, parts(view));
  }

  #acts() {
    const desk = this.#desk;
    return {
      select: (n) => { this.#selected = n; this.#draw(); },
      write: (poll = null) => new Editor(poll, (draft, before, open) => this.#save(draft, before, open)),
      open: ({ n }) => this.#run(`open-${n}`, async () => {
        this.#selected = null;
        await desk.open(n);
      }),
      close: ({ n }) => this.#run(`close-${n}`, () => desk.close(n)),
      remove: ({ n }) => this.#run(`remove-${n}`, () => desk.remove(n)),
      move: (one, other) => this.#run('move', async () => {
        await swap(desk, one, other);
        this.#selected = other.n;
      }),
      results: ({ n }) => {
        if (!this.#shown.delete(n)) this.#shown.add(n);
        this.#draw();
      },
      screen: (what) => this.#channel.postMessage({ screen: what }),
      export: (format) => this.#run('export', () => this.#export(format)),
      remote: () => handOver(new URL(link('present', this.#own), location.href).href, desk.remoteCode()),
      finish: () => confirmEnd(() => this.#run('end', () => desk.end())),
      erase: () => confirmDelete(this.#plenum.state.session, this.#votes(), () => this.#erase()),
      copy: () => this.#copy(),
      shortcuts: (on) => {
        this.#shortcuts = on;
        try {
          localStorage.setItem(SHORTCUTS, on ? 'on' : 'off');
        } catch { /* for this visit */ }
        this.#draw();
      },
    };
  }

  #votes() { return Object.values(this.#plenum.state.results).reduce((sum, { votes }) => sum + votes, 0); }

  /** Saves what was written; refuses once if the draft is no longer what it was when writing began. */
  async #save(draft, before, open) {
    let poll = before;
    if (before) {
      const now = await this.#desk.poll(before.n);
      if (written(now) !== written(before)) {
        Object.assign(before, now);
        throw Object.assign(new Error(), { code: 'changed' });
      }
      poll = await this.#desk.change(before.n, draft);
    } else {
      poll = await this.#desk.create(draft);
    }
    this.#selected = open ? null : poll.n;
    if (open) await this.#desk.open(poll.n);
    this.#channel.postMessage({ drafts: true });
    await this.#read();
  }

  async #export(format) {
    const url = URL.createObjectURL(await this.#desk.export(format));
    const { code, title } = this.#plenum.state.session;
    const name = title.replace(/[^\p{L}\p{N}]+/gu, '-').replace(/^-|-$/g, '').slice(0, 60) || code;
    const anchor = Object.assign(document.createElement('a'), { href: url, download: `${name}.${format}` });
    anchor.click();
    setTimeout(() => URL.revokeObjectURL(url), NOTICE_MS);
  }

  #erase() {
    this.#run('erase', async () => {
      await this.#desk.erase();
      forget(this.#own.session);
      location.hash = '';
    });
  }

  async #copy() {
    this.#copied = await copy(joinLink(this.#plenum.state.session));
    this.#draw();
    setTimeout(() => { this.#copied = false; this.#draw(); }, COPIED_MS);
  }

  /** Letters act only while nobody is typing, and only where they are wanted (WCAG 2.1.4). */
  #key(event) {
    const typing = event.target.closest?.('input, textarea, select, dialog');
    if (!this.#shortcuts || typing || event.ctrlKey || event.metaKey || event.altKey || event.repeat || this.#gone) return;
    const { act, open, polls, selected } = this.#view();
    const step = (by) => {
      const at = polls.findIndex((poll) => poll.n === selected?.n) + by;
      if (polls[at]) act.select(polls[at].n);
      document.querySelector('[data-selected]')?.scrollIntoView({ block: 'nearest' });
    };
    const draft = selected?.state === 'draft';
    const keys = {
      n: () => act.write(),
      o: () => selected && selected.state !== 'open' && act.open(selected),
      c: () => open[0] && act.close(open[0]),
      e: () => draft && act.write(selected),
      s: () => document.getElementById('big-screen')?.click(),
      j: () => act.screen('code'),
      r: () => act.screen('reveal'),
      ArrowDown: () => step(1),
      ArrowUp: () => step(-1),
    };
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (!keys[key] || (this.#plenum.state.session?.state === 'ended' && 'noce'.includes(key))) return;
    event.preventDefault();
    keys[key]();
  }
}
