// The participant's page: a code, then the question of the moment, by itself, until the session ends. State comes from
// plenum.js alone; this file says what it looks like.

import { h, render } from './dom.js';
import { number, t, time } from './i18n.js';
import { connectionBanner, languages, mark, say, spinner } from './parts.js';
import { Plenum } from './plenum.js';
import { pollCard } from './poll-card.js';

const RECENT = 'plenum:recent';
const RECENT_MAX = 3;
const app = document.getElementById('app');

let plenum = null;
let typed = '';
let fault = null;
/** The state that was drawn last. */
let before = null;

const codeInAddress = () => {
  const part = location.pathname.match(/^\/j\/(.+)$/)?.[1] ?? new URLSearchParams(location.search).get('code');
  return part ? decodeURIComponent(part) : null;
};

function begin() {
  plenum?.stop();
  plenum = null;
  fault = null;
  const given = codeInAddress();
  const code = given && Plenum.code(given);
  if (!code) {
    if (given) [typed, fault] = [given, 'join_short'];
    return draw();
  }
  const mine = new Plenum({ code });
  plenum = mine;
  before = null;
  mine.subscribe((state) => mine === plenum && changed(state));
  return mine.start();
}

function go(path) {
  history.pushState(null, '', path);
  begin();
}

function changed(state) {
  if (state.problem === 'not_found') {
    typed = codeInAddress();
    plenum.stop();
    plenum = null;
    history.replaceState(null, '', '/');
    fault = 'join_unknown';
    return draw();
  }
  const arrived = state.session && !before?.session;
  if (arrived) remember(state.session);
  if (before) announce(before, state);
  before = state;
  draw();
  // The code field is gone: who goes on by keyboard begins at the top of what is there now.
  if (arrived && document.activeElement === document.body) app.querySelector('main').focus();
  return undefined;
}

/** What a person who does not see the page has to hear. */
function announce(old, state) {
  for (const poll of state.polls) {
    const was = old.polls.find((one) => one.n === poll.n)?.state;
    if (poll.state === 'open' && was !== 'open' && old.session) say(t('question_new', { question: poll.question }));
    if (poll.state === 'closed' && was === 'open') say(`${poll.question}: ${t('closed')}`);
    const [vote, voted] = [state.votes[poll.n], old.votes[poll.n]];
    if (vote && vote.state !== voted?.state) say(t(vote.state));
  }
}

function recent() {
  try {
    return JSON.parse(localStorage.getItem(RECENT)) ?? [];
  } catch {
    return [];
  }
}

function remember({ code, title }) {
  const others = recent().filter((one) => one.code !== code);
  try {
    localStorage.setItem(RECENT, JSON.stringify([{ code, title }, ...others].slice(0, RECENT_MAX)));
  } catch { /* no storage: nothing to come back to */ }
}

function draw() {
  const state = plenum?.state;
  document.title = state?.session?.title ?? t('title_join');
  render(app,
    h('header', null, mark(), h('h1', null, state?.session?.title ?? 'Plenum')),
    h('main', { tabindex: -1 }, !state ? entry() : state.session ? room(state) : arriving(state)),
    h('footer', null,
      state?.session && state.session.state !== 'ended'
        ? h('span', null, t('here', { n: state.participants, count: number(state.participants) }))
        : h('a', { href: '/present' }, t('present_link')),
      languages()));
}

function entry() {
  const submit = (event) => {
    event.preventDefault();
    const code = Plenum.code(typed);
    if (code) return go(`/j/${code}`);
    fault = 'join_short';
    draw();
    return document.getElementById('code').focus();
  };
  const input = (event) => {
    const digits = event.target.value.replace(/[^0-9]/g, '').slice(0, 8);
    typed = digits.length > 4 ? `${digits.slice(0, 4)} ${digits.slice(4)}` : digits;
    fault = null;
    draw();
  };
  const back = recent();
  return h('div', { class: 'enter', key: 'entry' },
    h('h2', null, t('join_heading')),
    h('form', { onsubmit: submit, novalidate: true },
      h('div', { class: 'field' },
        h('label', { for: 'code' }, t('join_label')),
        h('input', {
          id: 'code', inputmode: 'numeric', autocomplete: 'off', autocapitalize: 'off', enterkeyhint: 'go', spellcheck: 'false',
          placeholder: '0000 0000', value: typed, oninput: input, autofocus: true,
          'aria-describedby': 'code-hint', 'aria-invalid': fault && 'true',
        }),
        h('p', { id: 'code-hint', class: fault ? 'fault' : 'hint', role: fault && 'alert' }, t(fault ?? 'join_hint'))),
      h('button', { class: 'primary' }, t('join_button'))),
    back.map(({ code, title }) =>
      h('a', { class: 'button back', href: `/j/${code}`, key: code }, t('join_back', { title }))));
}

const calm = (title, more, still) => h('section', { class: still ? 'calm still' : 'calm', key: 'calm' }, mark(),
  h('h2', null, title), more && h('p', { class: 'soft' }, more));

function arriving(state) {
  if (state.connection === 'closed') return gone(state);
  const limited = state.problem === 'rate_limited';
  return h('section', { class: 'calm', key: 'arriving' }, mark(),
    h('p', { class: 'soft', role: 'status' }, spinner(), ' ',
      t(limited ? 'join_limited' : state.connection === 'waiting' ? 'lost' : 'connecting')));
}

const gone = (state) => h('section', { class: 'calm still', key: 'gone', role: 'alert' }, mark(),
  h('h2', null, t(state.problem ?? 'deleted')),
  state.problem === 'protocol' ? h('button', { onclick: () => location.reload() }, t('reload'))
    : h('a', { class: 'button', href: '/' }, t('join_other')));

const act = {
  changed: draw,
  vote(poll, answer) {
    plenum.vote(poll.n, answer);
    draw();
    // The button that had the focus is gone; the question says where one is.
    app.querySelector(`[data-poll="${poll.n}"] h2`)?.focus();
  },
};

function room(state) {
  if (state.connection === 'closed' && state.problem) return gone(state);
  const ended = state.session.state === 'ended';
  const latest = (field) => (a, b) => (a[field] < b[field] ? 1 : -1);
  const open = ended ? [] : state.polls.filter((poll) => poll.state === 'open').sort(latest('opened_at'));
  const rest = state.polls.filter((poll) => !open.includes(poll))
    .sort(latest('closed_at'));
  const [last, ...earlier] = rest;
  const keeps = Object.values(state.votes).some((vote) => vote.state === 'sending');
  return [
    connectionBanner(state, keeps),
    ended && calm(t('ended'), t('ended_more'), true),
    open.map((poll) => pollCard(state, poll, act)),
    !ended && open.length === 0 && waiting(state, rest.length === 0),
    (ended || open.length === 0) && last && pollCard(state, last, act),
    (open.length > 0 ? rest : earlier).length > 0 && h('details', { class: 'earlier', key: 'earlier', open: ended },
      h('summary', null, t('earlier')),
      (open.length > 0 ? rest : earlier).map((poll) => pollCard(state, poll, act, 'h3'))),
  ];
}

function waiting({ session }, first) {
  if (session.starts_at && Date.parse(session.starts_at) > Date.now() && first) {
    return calm(t('scheduled', { time: time(session.starts_at) }), t('waiting_first_more'));
  }
  return first ? calm(t('waiting_first'), t('waiting_first_more')) : calm(t('waiting_next'), t('waiting_next_more'));
}

addEventListener('popstate', begin);
addEventListener('online', draw);
addEventListener('offline', draw);
begin();
