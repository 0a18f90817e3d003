// The big screen: the code in the largest type until there is a question, then the question with the code in a corner. It follows
// the session with the presenter's token, so that it can say how many voted while the counts are hidden; what it may show it
// decides by the poll's own rule. Drawn a few times a second at most, however many people vote.

import { h, render } from './dom.js';
import { number, t } from './i18n.js';
import { SAY_COUNTS_MS, average, bare, bars, choices, connectionBanner, joinLink, mark, say, spaced, turnout } from './parts.js';
import { Plenum } from './plenum.js';
import { fromAddress } from './sessions.js';

/** Between two drawings: a hall should see bars grow, not tremble. */
const DRAW_EVERY_MS = 400;
/** Controls are gone when the mouse has rested for so long. */
const CONTROLS_MS = 3_000;
const app = document.getElementById('app');

let plenum = null;
let channel = null;
/** Chosen by the presenter: the code instead of the question. */
let code = false;
/** Polls whose counts the presenter revealed here. */
const revealed = new Set();
let drawing = 0;
let drawnAt = 0;
let before = null;

function begin() {
  plenum?.stop();
  channel?.close();
  plenum = null;
  const own = fromAddress();
  if (own) {
    plenum = new Plenum(own);
    plenum.subscribe(changed);
    plenum.start();
    channel = new BroadcastChannel(`plenum:${own.session}`);
    channel.onmessage = ({ data }) => data.screen && act(data.screen);
  }
  draw();
}

/** Something other than counts is shown at once; counts wait for their turn. */
function changed(state) {
  const calm = before && state.polls === before.polls && state.session === before.session && state.connection === before.connection;
  const opened = before?.polls && state.polls !== before.polls && state.polls.some((poll) => poll.state === 'open'
    && before.polls.find((old) => old.n === poll.n)?.state !== 'open');
  if (opened) code = false;
  before = state;
  if (!calm) return draw();
  drawing ||= setTimeout(draw, Math.max(0, drawnAt + DRAW_EVERY_MS - performance.now()));
  return undefined;
}

/** The question to show: what was opened last; if none is open, what was closed last. */
function current(polls) {
  const by = (state, field) => polls.filter((poll) => poll.state === state)
    .sort((a, b) => (a[field] < b[field] ? 1 : -1))[0];
  return by('open', 'opened_at') ?? by('closed', 'closed_at') ?? null;
}

function act(what) {
  const poll = plenum && current(plenum.state.polls);
  if (what === 'code') code = !code;
  if (what === 'reveal' && poll && !revealed.delete(poll.n)) revealed.add(poll.n);
  if (what === 'theme') {
    const dark = getComputedStyle(document.documentElement).colorScheme === 'dark'
      || (!document.documentElement.dataset.theme && matchMedia('(prefers-color-scheme: dark)').matches);
    document.documentElement.dataset.theme = dark ? 'light' : 'dark';
  }
  if (what === 'full') {
    if (document.fullscreenElement) document.exitFullscreen();
    else document.documentElement.requestFullscreen?.().catch(() => {});
  }
  draw();
}

const maySee = (poll) => poll.results === 'live' || revealed.has(poll.n) || (poll.results === 'after_close' && poll.state === 'closed');

function draw() {
  clearTimeout(drawing);
  drawing = 0;
  drawnAt = performance.now();
  const state = plenum?.state;
  const session = state?.session;
  document.title = session ? `${session.title} · Plenum` : t('title_screen');
  if (!session) return render(app, nothing(state));
  const poll = current(state.polls);
  const lobby = code || !poll || session.state === 'ended';
  return render(app,
    h('header', null, mark(), h('span', { class: 'name' }, session.title), connectionBanner(state, false)),
    session.state === 'ended' && !poll ? h('main', { class: 'lobby' }, h('h1', null, t('ended')))
      : lobby && session.state !== 'ended' ? invitation(session, state.participants)
        : question(state, poll),
    session.state !== 'ended' && !lobby && corner(session),
    controls(poll));
}

function nothing(state) {
  const text = !state ? 'screen_needs_link' : state.connection === 'closed' ? 'console_invalid' : 'connecting';
  return h('main', { class: 'lobby' }, h('p', { role: 'status' }, t(text)));
}

const qr = (session) => h('img', { class: 'qr', src: `/qr/${session.code}.svg`, alt: '', width: 600, height: 600 });
const host = (session) => bare(joinLink(session)).replace(/\/j\/\d+$/, '');

function invitation(session, participants) {
  return h('main', { class: 'lobby', key: 'lobby' },
    h('div', { class: 'words' },
      h('h1', null, t('screen_join')),
      h('p', { class: 'soft' }, t('screen_scan')),
      h('p', { class: 'host' }, host(session)),
      h('p', { class: 'soft' }, t('screen_enter')),
      h('p', { class: 'digits' }, spaced(session.code)),
      h('p', { class: 'soft count' }, t('here', { n: participants, count: number(participants) }))),
    qr(session));
}

function question(state, poll) {
  const size = choices(poll).length;
  const results = state.results[poll.n] ?? { votes: 0, counts: Array(size).fill(0) };
  const told = turnout(results.votes, state.participants);
  if (poll.state === 'open' && results.votes) say(told, SAY_COUNTS_MS);
  const mean = maySee(poll) && poll.kind === 'rating' ? average(results) : null;
  const density = size > 20 ? 'packed' : size > 10 ? 'dense' : size > 6 ? 'many' : 'few';
  const length = poll.question.length > 140 ? 'long' : poll.question.length > 60 ? 'middle' : 'short';
  return h('main', { class: `question ${density} ${length}`, key: `poll-${poll.n}` },
    h('h1', null, poll.question),
    maySee(poll) ? bars(poll, results)
      : h('ol', { class: poll.options ? 'plain' : 'plain rating' }, choices(poll).map((text, at) => h('li', { key: at }, text))),
    h('p', { class: 'turnout' },
      h('span', { class: poll.state === 'open' ? 'pill live' : 'pill' }, t(`voting_${poll.state}`)),
      h('strong', null, poll.state === 'open' ? told : t('votes_total', { n: results.votes, count: number(results.votes) })),
      mean !== null && h('strong', null, t('average', { value: number(Math.round(mean * 10) / 10) })),
      !maySee(poll) && h('span', { class: 'soft' }, t(poll.results === 'presenter' ? 'screen_kept' : 'screen_hidden'))));
}

const corner = (session) => h('aside', { class: 'corner', 'aria-label': t('join_code') },
  h('div', null, h('p', null, host(session)), h('p', { class: 'digits' }, spaced(session.code))), qr(session));

const controls = (poll) => h('nav', { class: 'controls', 'aria-label': t('shortcuts') },
  h('button', { onclick: () => act('code') }, t('screen_toggle'), h('kbd', { 'aria-hidden': 'true' }, 'J')),
  poll && poll.results !== 'live' && h('button', { 'aria-pressed': String(revealed.has(poll.n)), onclick: () => act('reveal') },
    t('screen_reveal'), h('kbd', { 'aria-hidden': 'true' }, 'R')),
  h('button', { onclick: () => act('theme') }, t('screen_theme'), h('kbd', { 'aria-hidden': 'true' }, 'D')),
  h('button', { onclick: () => act('full') }, t('screen_full'), h('kbd', { 'aria-hidden': 'true' }, 'F')));

let resting;
function awake() {
  document.body.classList.add('awake');
  clearTimeout(resting);
  resting = setTimeout(() => document.body.classList.remove('awake'), CONTROLS_MS);
}

addEventListener('keydown', (event) => {
  const keys = { j: 'code', r: 'reveal', d: 'theme', f: 'full' };
  const what = keys[event.key.toLowerCase()];
  if (what && !event.ctrlKey && !event.metaKey && !event.altKey && !event.repeat) act(what);
});
addEventListener('pointermove', awake);
addEventListener('focusin', awake);
addEventListener('hashchange', begin);
begin();
