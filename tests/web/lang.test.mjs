// Every language says the same things, and every text that a page asks for is there.

import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { test } from 'node:test';

const web = new URL('../../src/web/', import.meta.url);
const files = readdirSync(new URL('lang/', web)).filter((name) => name.endsWith('.js'));
const words = {};
for (const file of files) words[file.replace('.js', '')] = (await import(new URL(`lang/${file}`, web))).default;
const pages = readdirSync(web).filter((name) => /\.(js|html)$/.test(name)).map((name) => readFileSync(new URL(name, web), 'utf8')).join('\n');
/** Problems that the client names are texts too. */
const problems = readFileSync(new URL('client/wait.js', web), 'utf8');

const holes = (text) => (typeof text === 'string' ? (text.match(/\{\w+\}/g) ?? []).sort() : typeof text);

test('all languages have the same texts with the same holes', () => {
  for (const [name, texts] of Object.entries(words)) {
    assert.deepEqual(Object.keys(texts).sort(), Object.keys(words.en).sort(), name);
    for (const [key, text] of Object.entries(texts)) assert.deepEqual(holes(text), holes(words.en[key]), `${name}: ${key}`);
  }
});

test('each file is offered to readers, and nothing else is', () => {
  const listed = pages.match(/export const LANGUAGES = \{(.*)\};/)[1].match(/(\w+):/g).map((name) => name.slice(0, -1));
  assert.deepEqual(listed.sort(), Object.keys(words).sort());
});

test('every text that a page names is there, and every text is named', () => {
  const named = new Set([...pages.matchAll(/(?<![\w.])t\(\s*'(\w+)'/g), ...pages.matchAll(/\{\{(\w+)\}\}/g)].map(([, key]) => key));
  assert.ok(named.size > 50);
  for (const key of named) assert.ok(key in words.en, key);
  // Others are put together from a beginning and a kind, or stand in a table.
  for (const key of Object.keys(words.en)) {
    const mentioned = new RegExp(`\\b${key}\\b`).test(pages + problems);
    const made = [...pages.matchAll(/`([a-z_]+_)\$\{/g)].some(([, start]) => key.startsWith(start));
    const check = pages.includes(`'${key.replace(/^check_/, '')}'`);
    assert.ok(mentioned || made || check, `nobody says ${key}`);
  }
});
