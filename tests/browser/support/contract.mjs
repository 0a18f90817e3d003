// The documents that describe the protocol to machines, and the question whether a message fits them. Used by the tests of the
// AsyncAPI document and of what a real server says.

import { readFileSync } from 'node:fs';
import Draft07 from 'ajv';
import Draft2020 from 'ajv/dist/2020.js';
import formats from 'ajv-formats';

export const read = (name) => readFileSync(new URL(`../../../${name}`, import.meta.url), 'utf8');
export const text = read('src/http/asyncapi.json');
export const asyncapi = JSON.parse(text);
export const openapi = JSON.parse(read('src/http/openapi.json'));

/** References lead from one document to the other as they would where both are served. */
const served = (ref) => new URL(ref, 'http://localhost/v1/asyncapi.json').href;

/**
 * OpenAPI 3.1 writes its schemas in draft 2020-12, which AsyncAPI 3.0 has no name for: it is told that they are of draft 07. So they
 * have to mean the same in both.
 */
const dialects = [Draft2020, Draft07].map((Dialect) => formats(new Dialect({ strictTypes: false }))
  .addVocabulary(['discriminator', ...Object.keys(openapi)]).addSchema(openapi, served('openapi.json')));

/** Where a payload does not fit what the document says of the message. */
export function misfits({ name, payload: { schema } }, payload) {
  return dialects.flatMap((dialect) => {
    const fits = dialect.getSchema(served(schema.$ref));
    return fits(payload) ? [] : [`${name}: ${dialect.errorsText(fits.errors)} in ${JSON.stringify(payload)}`];
  });
}
