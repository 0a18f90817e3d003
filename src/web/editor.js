// Writing a question, in a dialog: its kind, its options, who sees results. Used by console.js.

import { draftOf } from './api.js';
import { h, render } from './dom.js';
import { number, t } from './i18n.js';

const OPTIONS_MAX = 50;
const RATING_MAX = 10;
const blank = () => ({ kind: 'choice', question: '', options: ['', ''], max_choices: 1, max: 5, results: 'live' });

export class Editor {
  #dialog; #draft; #poll; #fault = null; #busy = false; #save;

  /**
   * @param {any} poll the draft to change, or null
   * @param {(draft: any, poll: any, open: boolean) => Promise<void>} save
   */
  constructor(poll, save) {
    this.#poll = poll;
    this.#draft = { ...blank(), ...(poll ?? {}) };
    this.#draft.options = [...(this.#draft.options ?? ['', ''])];
    this.#save = save;
    this.#dialog = document.createElement('dialog');
    this.#dialog.className = 'editor';
    this.#dialog.setAttribute('aria-labelledby', 'editor-heading');
    this.#dialog.onclose = () => this.#dialog.remove();
    document.body.append(this.#dialog);
    this.#draw();
    this.#dialog.showModal();
    document.getElementById('question').focus();
  }

  #set(changes) {
    Object.assign(this.#draft, changes);
    this.#fault = null;
    this.#draw();
  }

  async #submit(open) {
    const draft = this.#draft;
    const options = draft.options.map((text) => text.trim()).filter(Boolean);
    if (!draft.question.trim()) return this.#refuse('need_question', 'question');
    if (draft.kind === 'choice' && options.length < 2) return this.#refuse('need_options', `option-${options.length}`);
    const max_choices = Math.min(draft.max_choices, options.length);
    this.#busy = true;
    this.#draw();
    try {
      await this.#save(draftOf({ ...draft, question: draft.question.trim(), options, max_choices }), this.#poll, open);
      this.#dialog.close();
    } catch (problem) {
      this.#busy = false;
      this.#fault = problem.code === 'changed' ? t('changed_elsewhere') : t('failed', { why: problem.message });
      this.#draw();
    }
    return undefined;
  }

  #refuse(why, id) {
    this.#fault = t(why);
    this.#draw();
    document.getElementById(id)?.focus();
  }

  #draw() {
    const draft = this.#draft;
    render(this.#dialog, h('form', { onsubmit: (event) => { event.preventDefault(); this.#submit(event.submitter?.value === 'open'); } },
      h('h2', { id: 'editor-heading' }, t(this.#poll ? 'edit_heading' : 'edit_heading_new')),
      h('div', { class: 'field' },
        h('label', { for: 'question' }, t('question')),
        h('textarea', {
          id: 'question', rows: 2, maxlength: 300, value: draft.question,
          oninput: (event) => this.#set({ question: event.target.value }),
        })),
      this.#radios('kind', [['choice'], ['rating']], (value) => t(`kind_${value}`)),
      draft.kind === 'choice' ? this.#options() : this.#number('max', t('rating_max'), 2, RATING_MAX),
      draft.kind === 'choice' && this.#number('max_choices', t('max_choices'), 1, Math.max(2, draft.options.filter(Boolean).length)),
      this.#radios('results', [['live'], ['after_close'], ['presenter']], (value) => [t(`visible_${value}`),
        h('span', { class: 'hint' }, t(`visible_${value}_more`))], t('visibility')),
      this.#fault && h('p', { class: 'fault', role: 'alert' }, this.#fault),
      h('div', { class: 'actions' },
        h('button', { type: 'button', class: 'quiet', onclick: () => this.#dialog.close() }, t('cancel')),
        h('button', { value: 'save', disabled: this.#busy }, t('save')),
        h('button', { value: 'open', class: 'primary', disabled: this.#busy }, t('save_open')))));
  }

  #radios(name, values, label, legend = t(name)) {
    return h('fieldset', { class: `segments ${name}` }, h('legend', null, legend),
      h('div', null, values.map(([value]) => h('label', { key: value },
        h('input', {
          type: 'radio', name, value, checked: this.#draft[name] === value, onchange: () => this.#set({ [name]: value }),
        }),
        h('span', null, label(value))))));
  }

  #number(name, label, least, most) {
    const values = Array.from({ length: most - least + 1 }, (_, at) => least + at);
    return h('div', { class: 'field row', key: name }, h('label', { for: name }, label),
      h('select', {
        id: name, value: String(Math.min(this.#draft[name], most)),
        onchange: (event) => this.#set({ [name]: Number(event.target.value) }),
      }, values.map((value) => h('option', { value: String(value), key: value }, number(value)))));
  }

  #options() {
    const { options } = this.#draft;
    const change = (at) => (event) => this.#set({ options: options.with ? options.with(at, event.target.value)
      : options.map((text, other) => (other === at ? event.target.value : text)) });
    const add = () => {
      if (options.length >= OPTIONS_MAX) return;
      this.#set({ options: [...options, ''] });
      document.getElementById(`option-${options.length}`).focus();
    };
    const keys = (at) => (event) => {
      if (event.key !== 'Enter' || event.isComposing || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      if (at === options.length - 1) add();
      else document.getElementById(`option-${at + 1}`).focus();
    };
    return h('div', { class: 'choices', key: 'options' },
      options.map((text, at) => h('div', { class: 'choice', key: at },
        h('input', {
          id: `option-${at}`, 'aria-label': t('option', { n: at + 1 }), placeholder: t('option', { n: at + 1 }), maxlength: 200,
          autocomplete: 'off', value: text, oninput: change(at), onkeydown: keys(at), enterkeyhint: 'next',
        }),
        options.length > 2 && h('button', {
          type: 'button', class: 'quiet', 'aria-label': t('option_remove', { n: at + 1 }),
          onclick: () => this.#set({ options: options.filter((_, other) => other !== at) }),
        }, '×'))),
      options.length < OPTIONS_MAX && h('button', { type: 'button', class: 'quiet add', onclick: add }, '+ ', t('option_add')));
  }
}
