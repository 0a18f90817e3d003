// The AsyncAPI document: right by AsyncAPI's own schema, every reference leads somewhere, every example fits the schema of its
// message, and OpenAPI and docs/PROTOCOL.md know the same messages. Here for the packages; needs neither browser nor server.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import Draft07 from 'ajv';
import formats from 'ajv-formats';
import { asyncapi, misfits, openapi, read, text } from './support/contract.mjs';

const protocol = read('docs/PROTOCOL.md');
const { messages } = asyncapi.components;

/** It brings the schema of draft 07 along, which must not be there twice. */
const official = formats(new Draft07({ meta: false, validateSchema: false, strict: false }))
  .compile(createRequire(import.meta.url)('@asyncapi/specs/schemas/3.0.0.json'));

/** Every object with a key `$ref`: what it says. */
function refs(value) {
  if (typeof value !== 'object' || value === null) return [];
  return [...(typeof value.$ref === 'string' ? [value.$ref] : []), ...Object.values(value).flatMap(refs)];
}

function lookUp(document, ref) {
  const [file, pointer] = ref.split('#');
  const steps = pointer.split('/').slice(1).map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'));
  return steps.reduce((value, step) => value?.[step], { '': document, './openapi.json': openapi }[file]);
}

/** What is wrong with a document by itself. */
function faults(document) {
  const found = official(document) ? [] : official.errors.map(({ instancePath, message }) => `${instancePath} ${message}`);
  found.push(...refs(document).filter((ref) => lookUp(document, ref) === undefined).map((ref) => `nothing at ${ref}`));
  if (found.length) return found;
  for (const message of Object.values(document.components.messages)) {
    found.push(...message.examples.flatMap(({ payload }) => misfits(message, payload)));
  }
  for (const [name, { channel, messages: own, reply }] of Object.entries(document.operations)) {
    const strange = refs([own, reply?.messages]).filter((ref) => !ref.startsWith(`${channel.$ref}/messages/`));
    found.push(...strange.map((ref) => `${name}: ${ref} is of another channel`));
  }
  return found;
}

test('the document is valid, its references lead somewhere, its examples fit', () => {
  assert.deepEqual(faults(asyncapi), []);
  for (const [name, message] of Object.entries(messages)) {
    assert.equal(message.name, name);
    assert.ok(message.summary && message.contentType && message.examples.length, name);
  }
});

test('a misspelt document would be seen', () => {
  for (const [right, wrong] of [
    ['"contentType"', '"contentTyp"'], ['"action": "receive"', '"action": "recieve"'], ['"name": "token"', '"nam": "token"'],
    ['schemas/WelcomeMessage', 'schemas/WelcomMessage'], ['"#/components/messages/ack"', '"#/components/messages/akc"'],
    ['"type": "hello"', '"type": "helo"'], ['"repeat": true', '"repeated": true'], ['"kind": "poll.opened"', '"kind": "poll.open"'],
    ['"#/channels/stream/messages/bye"', '"#/channels/socket/messages/bye"'],
  ]) {
    assert.ok(text.includes(right), right);
    assert.notDeepEqual(faults(JSON.parse(text.replace(right, wrong))), [], wrong);
  }
});

test('channels are routes of OpenAPI, and each of their messages goes the way that OpenAPI says', () => {
  const schemas = (list) => [...new Set(list.map((ref) => lookUp(asyncapi, lookUp(asyncapi, ref).$ref).payload.schema.$ref.split('#')[1]))].sort();
  const listed = (name) => refs(openapi.components.schemas[name]).map((ref) => ref.slice(1)).sort();
  const operations = Object.values(asyncapi.operations);
  const received = operations.filter(({ action }) => action === 'receive');
  const sent = [...operations.filter(({ action }) => action === 'send'), ...received.map(({ reply }) => reply)];
  assert.deepEqual(schemas(refs(received.map((operation) => operation.messages))), listed('ClientMessage'));
  assert.deepEqual(schemas(refs(sent.map((operation) => operation.messages))), listed('StreamMessage'));
  for (const [name, channel] of Object.entries(asyncapi.channels)) {
    assert.ok(openapi.paths[channel.address]?.get, channel.address);
    const used = new Set(refs(operations).filter((ref) => ref.startsWith(`#/channels/${name}/messages/`)).map((ref) => ref.split('/').at(-1)));
    assert.deepEqual([...used].sort(), Object.keys(channel.messages).sort(), name);
  }
});

test('docs/PROTOCOL.md has the same messages and close codes, and its conversation is among the examples', () => {
  const part = protocol.split('\n## ').find((section) => section.startsWith('4. '));
  const types = new Set([...part.matchAll(/\{"type":"(\w+)"/g)].map(([, type]) => type));
  assert.deepEqual([...types].sort(), Object.keys(messages).sort());

  const { description } = asyncapi.channels.socket;
  const codes = part.split('\nClose codes:')[1].match(/\b[14]\d{3}\b/g);
  assert.ok(codes.length > 20, codes);
  for (const code of codes) assert.match(description, new RegExp(`\\b${code}\\b`));
  for (const [, code] of description.matchAll(/^- (\d{4}):/gm)) assert.match(protocol, new RegExp(`\\b${code}\\b`));

  // A line that is indented by three goes on with the one before; an ellipsis stands for anything.
  const conversation = protocol.split('```text')[1].split('```')[0].replace(/\n {3}(?=\S)/g, '');
  const said = [...conversation.matchAll(/^[→←] (.*)$/gm)].map(([, line]) => line);
  assert.ok(said.length > 8, said);
  const examples = Object.values(messages).flatMap((message) => message.examples.map(({ payload }) => JSON.stringify(payload)));
  for (const line of said) {
    const pattern = new RegExp(`^${line.split('…').map((piece) => piece.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')).join('.*')}$`);
    assert.ok(examples.some((example) => pattern.test(example)), line);
  }
});
