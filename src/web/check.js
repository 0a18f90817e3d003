// The check page: what a venue can run days before, in plain words. It speaks to this server alone, joins no session and stores
// nothing. A blocked WebSocket is no disaster, since phones fall back; a server that does not answer is.

import { h, render } from './dom.js';
import { number, t } from './i18n.js';
import { languages, mark, say, spinner, tick } from './parts.js';

const REQUESTS = 9;
const SLOW_MS = 400;
const CLOCK_S = 5;
const HOLD_S = 60;
const PING_S = 5;
const OPEN_MS = 10_000;
const SSE_MS = 15_000;
/** Signs of life come every half second; together they would have been held back. */
const SPREAD_MS = 1_000;
const app = document.getElementById('app');
const STEPS = ['http', 'latency', 'clock', 'ws', 'sse'];

/** What is known of each step: `{grade: 'busy'|'good'|'fair'|'bad', text}`. */
let found = {};
let running = false;

const tell = (step, grade, key, values) => {
  found = { ...found, [step]: { grade, text: key ? t(`check_${key}`, values) : '' } };
  draw();
};

async function start() {
  running = true;
  found = {};
  for (const step of STEPS) tell(step, 'busy');
  if (await requests()) await Promise.all([events(), socket()]);
  else for (const step of STEPS.slice(1)) delete found[step];
  running = false;
  draw();
  say(t(`check_verdict_${overall()}`));
}

/** Several requests in a row: whether there is an answer, how fast, and what time it is there. */
async function requests() {
  const taken = [];
  let offset = Infinity;
  for (let nth = 0; nth < REQUESTS; nth += 1) {
    const [began, at] = [performance.now(), Date.now()];
    const response = await fetch('/check', { method: 'HEAD', cache: 'no-store' }).catch(() => null);
    if (!response?.ok) {
      tell('http', 'bad', 'http_bad');
      return false;
    }
    const ms = performance.now() - began;
    taken.push(ms);
    // The header has whole seconds, so half of one is added, and the nearest of several tries counts.
    const behind = Date.parse(response.headers.get('date')) + 500 - (at + ms / 2);
    if (Math.abs(behind) < Math.abs(offset)) offset = behind;
  }
  tell('http', 'good', 'http_ok');
  const median = Math.round(taken.sort((a, b) => a - b)[Math.floor(REQUESTS / 2)]);
  tell('latency', median < SLOW_MS ? 'good' : 'fair', median < SLOW_MS ? 'latency_ok' : 'latency_slow', { ms: number(Math.max(1, median)) });
  const seconds = Math.abs(offset) / 1_000;
  const right = seconds < CLOCK_S;
  tell('clock', right ? 'good' : 'fair', right ? 'clock_ok' : 'clock_bad', { s: number(Math.ceil(seconds)) });
  return true;
}

/** Server-sent events: all of them, and not all at once. */
async function events() {
  const began = performance.now();
  const arrived = [];
  try {
    const response = await fetch('/check/stream', { cache: 'no-store', signal: AbortSignal.timeout?.(SSE_MS) });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      for (let nth = part.value.split('data:').length - 1; nth > 0; nth -= 1) arrived.push(performance.now() - began);
    }
  } catch { /* judged below by what came */ }
  const spread = arrived.length > 1 ? arrived.at(-1) - arrived[0] : 0;
  const good = arrived.length > 3 && spread > SPREAD_MS;
  tell('sse', good ? 'good' : 'fair', good ? 'sse_ok' : 'sse_bad', {
    n: number(arrived.length), s: number(Math.ceil(spread / 1_000)),
  });
}

/** A WebSocket that answers for a minute. Gives up where one does not open, or says after how long it was cut. */
async function socket() {
  const at = (path) => `${location.origin.replace(/^http/, 'ws')}${path}`;
  if (!(await opens(at('/v1/ws')))) return tell('ws', 'fair', 'ws_bad');
  const live = new WebSocket(at('/check/ws'));
  const began = performance.now();
  const seconds = () => Math.floor((performance.now() - began) / 1_000);
  let heard = 0;
  let asked = 0;
  live.onmessage = () => { heard = seconds(); };
  return new Promise((resolve) => {
    const done = (grade, key) => {
      clearInterval(timer);
      live.onclose = null;
      live.close();
      resolve(tell('ws', grade, key, { s: number(seconds()) }));
    };
    live.onclose = () => done('fair', 'ws_cut');
    const timer = setInterval(() => {
      if (seconds() >= HOLD_S) return done('good', 'ws_ok');
      if (seconds() - heard > 3 * PING_S) return done('fair', 'ws_cut');
      if (live.readyState === WebSocket.OPEN && seconds() >= asked) {
        asked = seconds() + PING_S;
        live.send('{"type":"ping"}');
      }
      return tell('ws', 'busy', 'ws_wait', { s: number(seconds()) });
    }, 500);
  });
}

function opens(url) {
  return new Promise((resolve) => {
    const probe = new WebSocket(url, 'polling.v1');
    const done = (open) => {
      clearTimeout(timer);
      probe.onopen = probe.onclose = null;
      probe.close();
      resolve(open);
    };
    const timer = setTimeout(() => done(false), OPEN_MS);
    probe.onopen = () => done(true);
    probe.onclose = () => done(false);
  });
}

function overall() {
  const grade = (step) => found[step]?.grade;
  if (grade('http') === 'bad' || (grade('ws') !== 'good' && grade('sse') !== 'good' && grade('http'))) return 'bad';
  return STEPS.every((step) => grade(step) === 'good') ? 'good' : 'fair';
}

const SIGNS = { good: tick, fair: () => '!', bad: () => '×', busy: spinner };

function draw() {
  document.title = t('title_check');
  const ready = !running && found.http;
  const verdict = ready && overall();
  render(app,
    h('header', null, h('a', { class: 'home', href: '/' }, mark(), h('b', null, 'Plenum')), languages()),
    h('main', null,
      h('h1', null, t('check_heading')),
      h('p', { class: 'lead' }, t('check_lead')),
      verdict && h('p', { class: `overall ${verdict}` }, t(`check_verdict_${verdict}`)),
      found.http && h('ol', { class: 'items' }, STEPS.filter((step) => found[step]).map((step) =>
        h('li', { key: step, class: found[step].grade },
          h('span', { class: 'sign', 'aria-hidden': 'true' }, SIGNS[found[step].grade]()),
          h('h2', null, t(`check_${step}`)), h('p', null, found[step].text)))),
      running ? h('p', { class: 'lead' }, t('check_running'))
        : h('button', { class: 'primary', onclick: start }, t(found.http ? 'check_again' : 'check_start'))));
}

draw();
