// Questions back to the presenter: hand over, end, delete. Used by console.js.

import { h, render } from './dom.js';
import { number, t } from './i18n.js';
import { spaced } from './parts.js';

/** Opens a dialog; `content(close)` gives its nodes and is drawn once more by the function that this gives back. */
function dialog(name, content) {
  const element = document.createElement('dialog');
  element.className = name;
  element.setAttribute('aria-labelledby', 'dialog-heading');
  element.onclose = () => element.remove();
  const draw = () => render(element, content(() => element.close(), draw));
  draw();
  document.body.append(element);
  element.showModal();
  return draw;
}

const heading = (text) => h('h2', { id: 'dialog-heading' }, text);

/** The link that makes another device a remote, as a picture and to copy. */
export function handOver(url, picture) {
  let src = null;
  let copied = false;
  const again = dialog('hand-over', (close, draw) => [
    heading(t('remote_heading')),
    h('p', { class: 'soft' }, t('remote_text')),
    h('div', { class: 'picture' }, src && h('img', { src, alt: t('remote_heading'), width: 240, height: 240 })),
    h('div', { class: 'actions' },
      h('button', { type: 'button', onclick: async () => { copied = await copy(url); draw(); } }, t(copied ? 'copied' : 'copy')),
      h('button', { type: 'button', class: 'primary', onclick: close }, t('done'))),
  ]);
  picture.then((blob) => {
    src = URL.createObjectURL(blob);
    again();
  }, () => {});
}

/** Asks before something that cannot be undone. */
export function confirmEnd(act) {
  dialog('ask', (close) => [
    heading(t('end_heading')),
    h('p', { class: 'soft' }, t('end_text')),
    h('div', { class: 'actions' },
      h('button', { type: 'button', class: 'quiet', onclick: close }, t('cancel')),
      h('button', { type: 'button', class: 'primary', onclick: () => { close(); act(); } }, t('end'))),
  ]);
}

/** Deleting takes the code, typed: a click too many must not erase an event. */
export function confirmDelete(session, votes, act) {
  let typed = '';
  dialog('ask', (close, draw) => h('form', {
    onsubmit: (event) => { event.preventDefault(); close(); act(); },
  },
  heading(t('delete_heading')),
  h('p', { class: 'soft' }, t('delete_text', { count: number(votes), code: spaced(session.code) })),
  h('div', { class: 'field' },
    h('label', { for: 'confirm' }, t('delete_confirm')),
    h('input', {
      id: 'confirm', inputmode: 'numeric', autocomplete: 'off', value: typed,
      oninput: (event) => { typed = event.target.value; draw(); },
    })),
  h('div', { class: 'actions' },
    h('button', { type: 'button', class: 'quiet', onclick: close }, t('cancel')),
    h('button', { class: 'danger', disabled: typed.replace(/\D/g, '') !== session.code }, t('delete')))));
}

/** To the clipboard; pages without HTTPS have none, so the old way is tried too. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = document.createElement('textarea');
    field.value = text;
    (document.querySelector('dialog[open]') ?? document.body).append(field);
    field.select();
    const done = document.execCommand('copy');
    field.remove();
    return done;
  }
}
