// What the console looks like: a function of what console.js knows. Used by console.js.

import { h } from './dom.js';
import { number, t } from './i18n.js';
import { average, bare, bars, connectionBanner, isLocal, joinLink, languages, mark, spaced, turnout } from './parts.js';
import { link } from './sessions.js';

const key = (view, letter) => view.shortcuts && h('kbd', { 'aria-hidden': 'true' }, letter);

export function parts(view) {
  const { state, gone } = view;
  const { session } = state;
  return [
    h('header', { class: 'top' },
      h('a', { href: '/present', class: 'home', 'aria-label': t('new_session') }, mark()),
      h('h1', null, session?.title ?? 'Plenum'),
      session && !gone && pill(session.state === 'live' ? 'live' : `state_${session.state}`, session.state),
      session && !gone && h('span', { class: 'here soft' }, t('here', { n: state.participants, count: number(state.participants) })),
      languages()),
    gone ? h('main', { class: 'start' }, h('div', { class: 'hero', role: 'alert' }, h('h1', null, t('console_invalid')),
      h('a', { class: 'button primary', href: '/present' }, t('new_session'))))
      : !session ? h('main', { class: 'start' }, h('p', { class: 'soft', role: 'status' }, t('connecting')))
        : h('main', { class: 'console' }, stage(view), side(view)),
    view.notice && h('p', { class: 'notice', role: 'alert' }, view.notice),
  ];
}

const pill = (text, kind) => h('span', { class: `pill ${kind}` }, t(text));

function stage(view) {
  const { state, open, polls, act } = view;
  const ended = state.session.state === 'ended';
  return h('div', { class: 'stage' },
    connectionBanner(state, false),
    open.length > 0 && !ended ? open.map((poll) => now(view, poll)) : idle(view, ended),
    h('section', { class: 'questions', 'aria-labelledby': 'questions' },
      h('div', { class: 'title' }, h('h2', { id: 'questions' }, t('questions')),
        !ended && h('button', { class: polls.length ? '' : 'primary', onclick: () => act.write() }, t('new_question'), key(view, 'N'))),
      h('ol', null, polls.map((poll) => row(view, poll, ended)))));
}

function idle({ polls }, ended) {
  const [title, more] = ended ? ['ended', null] : polls.length ? ['nothing_open', 'nothing_open_more'] : ['no_polls', 'no_polls_more'];
  return h('section', { class: 'sheet idle', key: 'idle' }, h('h2', null, t(title)), more && h('p', { class: 'soft' }, t(more)));
}

/** The question that people see now. */
function now(view, poll) {
  const { state, act, busy } = view;
  const results = resultsOf(state, poll);
  return h('section', { class: 'sheet now', key: `now-${poll.n}`, 'aria-label': t('on_now') },
    h('div', { class: 'title' }, pill('on_now', 'live'), h('span', { class: 'turnout' }, turnout(results.votes, state.participants))),
    h('h2', null, poll.question),
    bars(poll, results),
    mean(poll, results),
    h('div', { class: 'actions' },
      h('button', { class: 'primary', disabled: busy.has(`close-${poll.n}`), onclick: () => act.close(poll) }, t('close'), key(view, 'C')),
      poll.results !== 'live' && h('button', { onclick: () => act.screen('reveal') }, t('screen_reveal'), key(view, 'R')),
      h('span', { class: 'soft small' }, t(`see_${poll.results}`))));
}

const size = (poll) => poll.options?.length ?? poll.max;
const resultsOf = (state, poll) => state.results[poll.n] ?? { votes: 0, counts: Array(size(poll)).fill(0) };

function mean(poll, results) {
  const value = poll.kind === 'rating' ? average(results) : null;
  return value !== null && h('p', { class: 'mean' }, t('average', { value: number(Math.round(value * 10) / 10) }));
}

function row(view, poll, ended) {
  const { state, act, busy, selected, polls, shown } = view;
  const chosen = selected?.n === poll.n;
  const drafts = polls.filter((one) => one.state === 'draft');
  const at = drafts.indexOf(poll);
  const results = resultsOf(state, poll);
  const button = (text, onclick, more = {}) => h('button', {
    onclick, 'aria-label': t('on_question', { action: t(text), question: poll.question }), disabled: busy.has(`${text}-${poll.n}`), ...more,
  }, more.icon ?? t(text), chosen && more.key && key(view, more.key));
  const draft = poll.state === 'draft' && !ended;
  return h('li', {
    key: poll.n, class: `poll ${poll.state}`, 'data-selected': chosen, 'aria-current': chosen && 'true', 'data-poll': poll.n,
    onclick: (event) => event.target.closest('button, a') ?? act.select(poll.n),
  },
  h('div', { class: 'what' },
    h('h3', null, poll.question),
    h('p', { class: 'soft small' }, t(`state_${poll.state}`), ' · ',
      poll.kind === 'rating' ? `1–${number(poll.max)}` : poll.options.join(' / '),
      poll.state !== 'draft' && ` · ${t('votes_total', { n: results.votes, count: number(results.votes) })}`)),
  h('div', { class: 'do' },
    draft && button('move_up', () => act.move(poll, drafts[at - 1]), { icon: '↑', class: 'quiet icon', disabled: at <= 0 || busy.has('move') }),
    draft && button('move_down', () => act.move(poll, drafts[at + 1]), { icon: '↓', class: 'quiet icon', disabled: at >= drafts.length - 1 || busy.has('move') }),
    draft && button('remove', () => act.remove(poll), { class: 'quiet' }),
    draft && button('edit', () => act.write(poll), { key: 'E' }),
    poll.state === 'closed' && button('results', () => act.results(poll), { class: 'quiet', 'aria-expanded': String(shown.has(poll.n)) }),
    draft && button('open', () => act.open(poll), { key: 'O', class: 'go' }),
    poll.state === 'closed' && !ended && button('open_again', () => act.open(poll), { key: 'O' }),
    poll.state === 'open' && !ended && button('close', () => act.close(poll))),
  poll.state === 'closed' && shown.has(poll.n) && h('div', { class: 'detail' }, bars(poll, results), mean(poll, results)));
}

function side(view) {
  const { state, act, own, busy } = view;
  const { session } = state;
  const url = joinLink(session);
  const ended = session.state === 'ended';
  return h('aside', { class: 'side', 'aria-label': t('join_code') },
    h('section', { class: 'sheet code' },
      h('h2', { class: 'small soft' }, t('join_code')),
      h('p', { class: 'digits' }, spaced(session.code)),
      h('img', { src: `/qr/${session.code}.svg`, alt: '', width: 200, height: 200 }),
      h('p', { class: 'small' }, h('a', { href: url, target: '_blank', rel: 'noopener' }, bare(url))),
      isLocal(new URL(url).hostname) && h('p', { class: 'hint' }, t('local_only')),
      h('div', { class: 'pair' },
        h('button', { onclick: act.copy }, t(view.copied ? 'copied' : 'copy')),
        h('a', { class: 'button', href: url, target: '_blank', rel: 'noopener' }, t('try_it')))),
    h('section', { class: 'sheet tools' },
      h('a', { class: 'button primary', id: 'big-screen', href: link('screen', own), target: `plenum-screen-${own.session}` },
        t('big_screen'), key(view, 'S')),
      h('button', { onclick: () => act.screen('code') }, t('screen_code'), key(view, 'J')),
      h('button', { onclick: act.remote }, t('remote')),
      h('div', { class: 'pair' },
        h('button', { disabled: busy.has('export'), onclick: () => act.export('csv') }, `${t('export')} ${t('export_csv')}`),
        h('button', { disabled: busy.has('export'), onclick: () => act.export('json') }, `${t('export')} ${t('export_json')}`)),
      !ended && h('button', { onclick: act.finish }, t('end')),
      h('button', { class: 'quiet danger', onclick: act.erase }, t('delete'))),
    h('label', { class: 'switch small soft' },
      h('input', { type: 'checkbox', checked: view.shortcuts, onchange: (event) => act.shortcuts(event.target.checked) }),
      t('shortcuts')));
}
