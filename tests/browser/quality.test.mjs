// What holds for every page: readable for everybody in light and dark, small to load; and the check page, on good and bad networks.

import assert from 'node:assert/strict';
import http from 'node:http';
import { test } from 'node:test';
import { LAPTOP, PHONE, WALL, accessible, text } from './support/browser.mjs';
import { Proxy } from './support/proxy.mjs';
import { choose, counted, hall } from './support/room.mjs';

const here = hall();
/** What the first visit of a participant may load, and the client alone, both compressed. */
const FIRST_LOAD_BYTES = 30_000;
const CLIENT_BYTES = 8_000;

for (const colorScheme of ['light', 'dark']) {
  test(`axe finds nothing on any page, ${colorScheme}`, async () => {
    const session = await here.server.session();
    const pages = [
      ['code', '/', PHONE, '#code'],
      ['waiting', `/j/${session.code}`, PHONE, '.calm h2'],
      ['start', '/present', LAPTOP, '#title'],
      ['console', `/present${session.hash}`, LAPTOP, '.digits'],
      ['lobby', `/screen${session.hash}`, WALL, '.digits'],
      ['check', '/check', PHONE, '.primary'],
    ];
    const open = {};
    for (const [name, path, options, ready] of pages) {
      open[name] = await here.browser.device({ ...options, colorScheme });
      await open[name].goto(here.server.base + path);
      await open[name].waitForSelector(ready);
      await accessible(open[name], `${name}, ${colorScheme}`);
    }
    await session.ask('Tea or coffee?', { results: 'after_close' });
    await open.waiting.getByLabel('Tea').check();
    await accessible(open.waiting, `ballot, ${colorScheme}`);
    await choose(open.waiting, 'Tea');
    await counted(open.waiting);
    await accessible(open.waiting, `counted, ${colorScheme}`);
    await open.lobby.getByText('Results appear when voting closes').waitFor();
    await accessible(open.lobby, `hidden results, ${colorScheme}`);
    for (const page of Object.values(open)) await page.context().close();
  });
}

test('the first load and the client are small', async () => {
  const session = await here.server.session();
  const page = await here.phone(session);
  await page.waitForSelector('.calm h2');
  const loaded = await page.evaluate(() => [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
    .filter(({ name }) => !name.includes('/v1/')).map(({ name, encodedBodySize }) => [new URL(name).pathname, encodedBodySize]));
  assert.ok(loaded.some(([path]) => path.endsWith('/plenum.js')) && loaded.every(([, bytes]) => bytes > 0), JSON.stringify(loaded));
  const bytes = loaded.reduce((sum, [, size]) => sum + size, 0);
  assert.ok(bytes < FIRST_LOAD_BYTES, `${bytes} bytes: ${JSON.stringify(loaded)}`);
  const client = await new Promise((done, failed) => {
    http.get(`${here.server.base}/plenum.js`, { headers: { 'accept-encoding': 'gzip' } }, async (response) => {
      let size = 0;
      for await (const part of response) size += part.length;
      done([response.headers['content-encoding'], size]);
    }).on('error', failed);
  });
  assert.equal(client[0], 'gzip');
  assert.ok(client[1] < CLIENT_BYTES, `${client[1]} bytes`);
  await page.context().close();
});

/** Starts the check and waits until everything but the minute of the WebSocket is known. */
async function checking(proxy, allow) {
  const page = await here.browser.device(PHONE, allow);
  await page.goto(`${proxy.base}/check`);
  await page.getByRole('button', { name: 'Start the check' }).click();
  await page.getByText('The server answers.').waitFor();
  await page.getByText('none held back').waitFor();
  await page.getByText('The clock of this device is right').waitFor();
  return page;
}

test('the check: a live connection is held open, and one that is cut is told', async () => {
  const proxy = await Proxy.start(here.server);
  const page = await checking(proxy);
  await page.getByText(/Holding it open: [2-9] of 60 s/).waitFor();
  await accessible(page, 'check runs');
  proxy.cut();
  await page.getByText('It opened, but was cut after').waitFor();
  assert.match(await text(page, '.overall'), /People can vote here, with what is said below in mind/);
  await page.getByRole('button', { name: 'Check again' }).waitFor();
  await accessible(page, 'check is done');
  await page.context().close();
  await proxy.stop();
});

test('the check: a blocked WebSocket is told, and no reason to stay at home', async () => {
  const proxy = await Proxy.start(here.server);
  proxy.blockUpgrades = true;
  const page = await checking(proxy, [/WebSocket/]);
  await page.getByText('WebSocket is blocked here.').waitFor();
  assert.match(await text(page, '.overall'), /People can vote here, with/);
  await page.context().close();
  await proxy.stop();
});

test('nothing was to be complained about', () => here.browser.clean());
