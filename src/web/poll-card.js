// One question on a phone: the ballot, what became of the vote, and the results where they may be seen. Nothing is shown of the
// others' votes before one's own is cast. Used by join.js.

import { h } from './dom.js';
import { known, number, t } from './i18n.js';
import { average, bars, choices, picked, spinner, tick } from './parts.js';

/** What is ticked and not sent yet, by poll. */
const ticked = new Map();

/** Shows a poll. `act.vote(poll, answer)` casts; `act.changed()` draws again. */
export function pollCard(state, poll, act, heading = 'h2') {
  const vote = state.votes[poll.n];
  const mine = picked(state.myVotes[poll.n] ?? (vote?.state === 'sending' ? vote.answer : null));
  const open = poll.state === 'open' && state.session.state !== 'ended';
  const key = `poll-${poll.n}`;
  if (open && mine.length === 0) return ballot(poll, vote, act, key);
  const results = state.results[poll.n];
  return h('section', { class: open ? 'card' : 'card past', key: `${key}-cast`, 'data-poll': poll.n },
    h(heading, { tabindex: -1 }, poll.question),
    verdict(state, poll, vote, mine),
    results ? shownResults(poll, results, mine) : h('div', null, chosen(poll, mine), h('p', { class: 'hint later' }, later(poll))));
}

function ballot(poll, vote, act, key) {
  const chosenNow = ticked.get(poll.n) ?? new Set();
  const many = poll.kind === 'choice' && poll.max_choices > 1;
  const how = poll.kind === 'rating' ? t('choose_rating', { n: poll.max })
    : many ? t('choose_some', { n: number(poll.max_choices) }) : t('choose_one');
  const tap = (at) => () => {
    const next = many ? new Set(chosenNow) : new Set();
    if (!next.delete(at)) next.add(at);
    ticked.set(poll.n, next);
    act.changed();
  };
  const send = (event) => {
    event.preventDefault();
    if (chosenNow.size === 0) return;
    const places = [...chosenNow].sort((a, b) => a - b);
    ticked.delete(poll.n);
    act.vote(poll, poll.kind === 'rating' ? { rating: places[0] + 1 } : { choices: places });
  };
  return h('form', { class: 'card', key, onsubmit: send, 'data-poll': poll.n },
    vote?.state === 'refused' && refusal(vote),
    h('fieldset', null,
      h('legend', null, poll.question),
      h('p', { class: 'how' }, how),
      h('div', { class: poll.options ? 'options' : 'options scale' }, choices(poll).map((text, at) =>
        h('label', { class: 'option' },
          h('input', {
            type: many ? 'checkbox' : 'radio', name: key, value: String(at), checked: chosenNow.has(at), onchange: tap(at),
            disabled: many && !chosenNow.has(at) && chosenNow.size >= poll.max_choices,
          }),
          h('span', { class: 'face' }, h('span', { class: 'dot' }, tick()), h('span', null, text)))))),
    h('div', { class: 'send' },
      h('button', { class: 'primary', disabled: chosenNow.size === 0 }, t('send'))));
}

function verdict(state, poll, vote, mine) {
  if (vote?.state === 'sending') {
    return h('p', { class: 'verdict' }, spinner(), t(state.connection === 'open' ? 'sending' : 'kept'));
  }
  if (vote?.state === 'refused') return refusal(vote);
  if (mine.length > 0) {
    return h('p', { class: 'verdict counted' }, tick(), h('strong', null, t('counted')),
      h('span', { class: 'more' }, t('counted_more')),
      vote && h('span', { class: 'receipt' }, t('receipt', { id: vote.id.slice(0, 8) })));
  }
  return h('p', { class: 'verdict' }, t('not_voted'));
}

const refusal = (vote) => h('p', { class: 'verdict refused' }, h('strong', null, t('refused')),
  h('span', { class: 'more' }, t(known(`refused_${vote.code}`, 'refused_other'))));

function shownResults(poll, results, mine) {
  const mean = poll.kind === 'rating' && average(results);
  return h('div', null, bars(poll, results, mine),
    h('p', { class: 'hint total' }, t('votes_total', { n: results.votes, count: number(results.votes) }),
      mean && ` · ${t('average', { value: number(Math.round(mean * 10) / 10) })}`));
}

/** The choices once more, with one's own marked, while counts are not to be seen. */
const chosen = (poll, mine) => h('ol', { class: poll.options ? 'chosen' : 'chosen scale' }, choices(poll).map((text, at) =>
  h('li', { class: mine.includes(at) && 'mine' }, text, mine.includes(at) && h('span', { class: 'yours' }, t('yours')))));

const later = (poll) => (poll.results === 'presenter' ? t('results_presenter')
  : poll.state === 'open' && poll.results === 'after_close' ? t('results_after_close') : null);
