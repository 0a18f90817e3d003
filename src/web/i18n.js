// The reader's language. The server writes it into the page (from Accept-Language) and preloads its texts; a choice made here
// is kept on this device and wins. A new language is one file in lang/ and one line below: tests/web/lang.test.mjs compares them.

/** Code and own name of each language that there is a file for. */
export const LANGUAGES = { en: 'English', de: 'Deutsch' };

const KEY = 'plenum:language';

function chosen() {
  const asked = new URLSearchParams(location.search).get('lang');
  let kept = null;
  try {
    kept = localStorage.getItem(KEY);
  } catch { /* storage is turned off */ }
  return [asked, kept, document.documentElement.lang].find((name) => name in LANGUAGES) ?? 'en';
}

export const language = chosen();
const words = (await import(`./lang/${language}.js`)).default;
document.documentElement.lang = language;

/** The text of `key`, with `{name}` replaced. A text that depends on a number is a function in the language's file. */
export function t(key, values = {}) {
  const text = words[key] ?? key;
  if (typeof text === 'function') return text(values);
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? '');
}

/** What there is a text for, or `otherwise`. */
export const known = (key, otherwise) => (key in words ? key : otherwise);

const numbers = new Intl.NumberFormat(language);
const percents = new Intl.NumberFormat(language, { style: 'percent', maximumFractionDigits: 0 });

export const number = (value) => numbers.format(value);
export const percent = (share) => percents.format(share);

export const time = (iso) => new Intl.DateTimeFormat(language, { timeStyle: 'short' }).format(new Date(iso));
export const day = (iso) =>
  new Intl.DateTimeFormat(language, { dateStyle: 'medium', timeStyle: 'short' }).format(new Date(iso));

/** Keeps the choice and shows the page in it. */
export function choose(name) {
  try {
    localStorage.setItem(KEY, name);
  } catch { /* then for this visit, by address */ }
  const url = new URL(location.href);
  url.searchParams.delete('lang');
  history.replaceState(null, '', url);
  location.reload();
}
