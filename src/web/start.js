// The presenter's page before there is a session: create one, or go back to one of this device's. Used by present.js.

import { call } from './api.js';
import { h, render } from './dom.js';
import { day, known, t } from './i18n.js';
import { languages, mark, spaced } from './parts.js';
import { forget, keep, kept, link } from './sessions.js';

const KEY = 'plenum:api-key';

export class Start {
  #app; #title = ''; #fault = null; #busy = false; #keyed = false; #key = '';

  constructor(app) {
    this.#app = app;
    try {
      this.#key = sessionStorage.getItem(KEY) ?? '';
    } catch { /* it is typed again after a reload */ }
    this.#draw();
    // Whoever may not list sessions may not create one either: that is how we learn whether there is a key.
    call('GET', '/v1/sessions?limit=1').catch((problem) => {
      this.#keyed = problem.status === 401;
      this.#draw();
    });
  }

  end() { this.#app = document.createElement('div'); }

  async #create(event) {
    event.preventDefault();
    const title = this.#title.trim();
    if (!title || this.#busy) return document.getElementById('title').focus();
    this.#busy = true;
    this.#draw();
    try {
      const session = await call('POST', '/v1/sessions', { token: this.#key, body: { title } });
      try {
        if (this.#key) sessionStorage.setItem(KEY, this.#key);
      } catch { /* as above */ }
      const { id, code, created_at: at, presenter_token: token } = session;
      keep({ session: id, token, title, code, at });
      location.hash = `${id}/${token}`;
    } catch (problem) {
      this.#busy = false;
      this.#keyed ||= problem.status === 401;
      const why = t(known(problem.code, '')) || problem.message;
      this.#fault = problem.status === 401 ? this.#key && t('api_key_wrong') : t('failed', { why });
      this.#draw();
      if (problem.status === 401) document.getElementById('key').focus();
    }
    return undefined;
  }

  #draw() {
    document.title = t('title_present');
    const sessions = kept();
    render(this.#app,
      h('header', { class: 'top' }, h('a', { href: '/', class: 'home', 'aria-label': 'Plenum' }, mark(), h('b', null, 'Plenum')),
        languages()),
      h('main', { class: 'start' },
        h('div', { class: 'hero' }, h('h1', null, t('create_heading')), h('p', { class: 'soft' }, t('create_lead'))),
        h('form', { class: 'sheet', onsubmit: (event) => this.#create(event) },
          h('div', { class: 'field' },
            h('label', { for: 'title' }, t('session_name')),
            h('input', {
              id: 'title', maxlength: 300, required: true, autocomplete: 'off', autofocus: true, placeholder: t('session_name_example'),
              value: this.#title, oninput: (event) => { this.#title = event.target.value; },
            })),
          this.#keyed && h('div', { class: 'field' },
            h('label', { for: 'key' }, t('api_key')),
            h('input', {
              id: 'key', type: 'password', autocomplete: 'current-password', required: true, value: this.#key,
              'aria-describedby': 'key-hint', oninput: (event) => { this.#key = event.target.value; },
            }),
            h('p', { class: 'hint', id: 'key-hint' }, t('api_key_hint'))),
          this.#fault && h('p', { class: 'fault', role: 'alert' }, this.#fault),
          h('button', { class: 'primary', disabled: this.#busy }, t('create'))),
        sessions.length > 0 && h('section', { class: 'kept' },
          h('h2', null, t('your_sessions')),
          h('ul', null, sessions.map((one) => h('li', { key: one.session },
            h('a', { href: link('present', one) }, h('b', null, one.title),
              h('span', { class: 'soft small' }, `${spaced(one.code)} · ${day(one.at)}`)),
            h('button', {
              class: 'quiet', 'aria-label': t('forget_named', { title: one.title }),
              onclick: () => { forget(one.session); this.#draw(); },
            }, t('forget'))))))));
  }
}
