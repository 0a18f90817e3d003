// A server with an API key: the console asks for it, and says so when it is wrong.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LAPTOP, accessible } from './support/browser.mjs';
import { hall } from './support/room.mjs';

const KEY = 'a-key-of-this-test-that-is-long-enough';
const here = hall('--api-key', KEY);

test('the key is asked for, refused where wrong, kept for this tab alone', async () => {
  const page = await here.browser.device(LAPTOP, [/401/]);
  await page.goto(`${here.server.base}/present`);
  await page.getByLabel('API key').waitFor();
  await accessible(page, 'with a key');
  await page.fill('#title', 'Town hall');
  await page.fill('#key', 'wrong');
  await page.getByRole('button', { name: 'Create session' }).click();
  await page.getByText('The server does not know this key.').waitFor();
  await accessible(page, 'wrong key');
  await page.fill('#key', KEY);
  await page.getByRole('button', { name: 'Create session' }).click();
  await page.waitForSelector('.digits');
  const stored = await page.evaluate(() => [JSON.stringify(localStorage), location.href]);
  for (const place of stored) assert.ok(!place.includes(KEY));
  await page.goto(`${here.server.base}/present`);
  assert.equal(await page.getByLabel('API key').inputValue(), KEY);
  await page.context().close();
});

test('nothing was to be complained about', () => here.browser.clean());
