// What several pages show: the mark, result bars, the code, banners, announcements. Used by the pages.

import { h } from './dom.js';
import { LANGUAGES, choose, language, number, percent, t } from './i18n.js';

/** Rows of a hemicycle. */
export const mark = () => h('svg', { class: 'mark', viewBox: '0 0 32 20', 'aria-hidden': 'true' },
  h('path', { d: 'M2 18a14 14 0 0 1 28 0' }), h('path', { d: 'M7.5 18a8.5 8.5 0 0 1 17 0' }),
  h('circle', { cx: '16', cy: '16.5', r: '2.5' }));

export const tick = () => h('svg', { class: 'tick', viewBox: '0 0 24 24', 'aria-hidden': 'true' },
  h('path', { d: 'M5 12.5l4.5 4.5L19 7.5' }));

export const spinner = () => h('span', { class: 'spinner', 'aria-hidden': 'true' });

/** `1234 5678`: what people read aloud. */
export const spaced = (code) => `${code.slice(0, 4)}\u2009${code.slice(4)}`;

/** The address of a session as people type it. */
export const bare = (url) => url.replace(/^https?:\/\//, '');

const LOCAL = /^(localhost|127\.|0\.0\.0\.0|\[::1?\]|::1?$)/;

/** Whether an address can be reached from this computer alone. */
export const isLocal = (host) => LOCAL.test(host);

/** Where people join. The server's own address does for this computer alone; then the one that the page came from is used. */
export function joinLink(session) {
  const told = new URL(session.join_url);
  return isLocal(told.hostname) ? `${location.origin}/j/${session.code}` : session.join_url;
}

/** What can be chosen in a poll, as texts. */
export const choices = (poll) =>
  poll.options ?? Array.from({ length: poll.max }, (_, at) => number(at + 1));

/** Places of an answer among `choices`. */
export const picked = (answer) => (!answer ? [] : answer.choices ?? [answer.rating - 1]);

/** The mean of a rating, or null. */
export function average({ counts, votes }) {
  if (!votes) return null;
  return counts.reduce((sum, count, at) => sum + count * (at + 1), 0) / votes;
}

/**
 * One bar per choice, in the order of the poll, always: what moves is the length alone. As text it is "Tea: 12 votes, 43 %".
 * Shares are of those who voted.
 */
export function bars(poll, results, mine = []) {
  const shares = choices(poll).map((_, at) => (results.votes ? results.counts[at] / results.votes : 0));
  return h('ol', { class: poll.options ? 'bars' : 'bars rating' }, choices(poll).map((text, at) =>
    h('li', { class: mine.includes(at) ? 'bar mine' : 'bar', style: { '--share': `${shares[at] * 100}%` } },
      h('span', { class: 'name' }, text, mine.includes(at) && h('span', { class: 'yours' }, tick(), t('yours'))),
      h('span', { class: 'share' }, percent(shares[at]), ' ',
        h('span', { class: 'count' }, h('span', { class: 'unseen' }, ', '), number(results.counts[at]),
          h('span', { class: 'unseen' }, ' ', t('votes_word', { n: results.counts[at] }))))),
  ));
}

/** Whoever voted and left still voted: "of n" is never less than the votes. */
export function turnout(votes, participants) {
  return t('turnout', { votes: number(votes), here: number(Math.max(votes, participants)) });
}

/** Other languages, each in its own words. */
export const languages = () => h('nav', { class: 'languages', 'aria-label': t('language') },
  Object.entries(LANGUAGES).map(([code, name]) => h('button', {
    type: 'button', lang: code, class: 'quiet', 'aria-current': code === language && 'true', onclick: () => choose(code),
  }, name)));

/** A banner while the connection is away; styled to come only when that lasts. */
export function connectionBanner(state, keeps) {
  if (state.connection === 'open' || state.connection === 'closed' || !state.session) return null;
  const text = keeps ? 'lost_vote_kept' : navigator.onLine === false ? 'offline' : 'lost';
  return h('p', { class: keeps ? 'banner now' : 'banner', role: 'status' }, spinner(), t(text));
}

/** Between two announcements: a screen reader must be able to finish a sentence. */
const SAY_EVERY_MS = 4_000;
/** Between two announcements of how many voted. */
export const SAY_COUNTS_MS = 15_000;
let saidAt = -SAY_COUNTS_MS;
let saying;

/** Tells screen readers. What changes quickly is told with its newest value, now and then. */
export function say(text, every = SAY_EVERY_MS) {
  clearTimeout(saying);
  saying = setTimeout(() => {
    saidAt = performance.now();
    const region = document.getElementById('say');
    if (region.textContent !== text) region.textContent = text;
  }, Math.max(0, saidAt + every - performance.now()));
}
