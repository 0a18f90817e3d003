// The presenter's console: by keyboard, in two tabs, handed over, exported, ended, deleted.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { LAPTOP, accessible, fits, text, until, PHONE, SMALL } from './support/browser.mjs';
import { choose, counted, hall, scanned, tabTo } from './support/room.mjs';

const here = hall();
const row = (page, n) => page.locator(`li[data-poll="${n}"]`);

test('by keyboard alone, from nothing to a closed question', async () => {
  const page = await here.browser.device(LAPTOP);
  await page.goto(`${here.server.base}/present`);
  await page.waitForSelector('#title');
  await tabTo(page, '#title');
  await page.keyboard.type('Town hall');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.digits');
  const code = (await text(page, '.digits')).replace(/\D/g, '');
  await page.keyboard.press('n');
  await page.waitForSelector('dialog.editor');
  await page.keyboard.type('Tea or coffee?');
  await tabTo(page, '#option-0');
  await page.keyboard.type('Tea');
  await page.keyboard.press('Enter');
  await page.keyboard.type('Coffee');
  await accessible(page, 'editor');
  await tabTo(page, 'button[value=open]');
  await page.keyboard.press('Enter');
  await page.locator('.now h2', { hasText: 'Tea or coffee?' }).waitFor();
  await here.server.call('POST', '/v1/join', null, { code });
  await page.keyboard.press('c');
  await page.getByText('No question is open.').waitFor();
  await page.keyboard.press('o');
  await page.locator('.now').waitFor();
  await page.keyboard.press('n');
  await page.waitForSelector('dialog.editor');
  await page.keyboard.press('Escape');
  await until('the dialog is gone', async () => await page.locator('dialog').count() === 0);
  // Letters do nothing for whoever turned them off.
  await tabTo(page, '.switch input');
  await page.keyboard.press('Space');
  await page.locator('.switch').press('Tab');
  await page.keyboard.press('c');
  await page.keyboard.press('n');
  assert.deepEqual([await page.locator('.now').count(), await page.locator('dialog').count(), await page.locator('kbd').count()], [1, 0, 0]);
  await accessible(page, 'console, on now');
  await page.context().close();
});

test('two tabs: each sees what the other does, and neither overwrites the other unasked', async () => {
  const session = await here.server.session();
  const n = await session.draft('First?');
  const one = await here.console(session);
  const other = await one.context().newPage();
  await other.goto(`${here.server.base}/present${session.hash}`);
  await row(other, n).waitFor();
  await row(other, n).getByRole('button', { name: 'Edit: First?' }).click();
  await row(one, n).getByRole('button', { name: 'Edit: First?' }).click();
  await one.fill('#question', 'From one tab?');
  await one.getByRole('button', { name: 'Save draft' }).click();
  await row(other, n).getByText('From one tab?').waitFor();
  await other.fill('#question', 'From the other?');
  await other.getByRole('button', { name: 'Save draft' }).click();
  await other.getByText('Another window has changed this question').waitFor();
  assert.equal((await session.polls())[0].question, 'From one tab?');
  await other.getByRole('button', { name: 'Save draft' }).click();
  await row(one, n).getByText('From the other?').waitFor();
  await row(one, n).getByRole('button', { name: 'Open: From the other?' }).click();
  await other.locator('.now h2', { hasText: 'From the other?' }).waitFor();
  await other.locator('.now').getByRole('button', { name: 'Close' }).click();
  await one.getByText('No question is open.').waitFor();
  await one.reload();
  await row(one, n).getByRole('button', { name: 'Open again: From the other?' }).waitFor();
  await one.context().close();
});

test('two tabs that press the same button in the same moment do it once', async () => {
  const session = await here.server.session();
  const n = await session.draft('Once?');
  const one = await here.console(session);
  const other = await one.context().newPage();
  await other.goto(`${here.server.base}/present${session.hash}`);
  // Both have the button before either presses, and press it though it may go away in between.
  const both = async (find) => {
    const buttons = await Promise.all([one, other].map((page) => find(page).elementHandle()));
    await Promise.all(buttons.map((button) => button.evaluate((element) => element.click())));
  };
  for (const page of [one, other]) await row(page, n).getByRole('button', { name: 'Open: Once?' }).waitFor();
  await both((page) => row(page, n).getByRole('button', { name: 'Open: Once?' }));
  for (const page of [one, other]) await page.locator('.now h2', { hasText: 'Once?' }).waitFor();
  await both((page) => page.locator('.now').getByRole('button', { name: 'Close' }));
  for (const page of [one, other]) await page.getByText('No question is open.').waitFor();
  assert.deepEqual((await session.kinds()).filter((kind) => kind.startsWith('poll.')), ['poll.opened', 'poll.closed']);
  await one.context().close();
});

test('drafts are put in another order, and the other device sees it', async () => {
  const session = await here.server.session();
  await session.draft('First?');
  await session.draft('Second?', { max: 5 });
  const page = await here.console(session);
  await page.getByRole('button', { name: 'Move down: First?' }).click();
  await until('they changed places', async () => (await page.locator('.poll h3').allInnerTexts()).join() === 'Second?,First?');
  assert.deepEqual((await session.polls()).map(({ question }) => question), ['Second?', 'First?']);
  await page.context().close();
});

test('a second device takes the remote by its picture', async () => {
  const session = await here.server.session();
  await session.ask('Tea or coffee?');
  const desk = await here.console(session);
  await desk.getByRole('button', { name: 'Hand over the remote' }).click();
  await desk.locator('dialog img').waitFor();
  await accessible(desk, 'hand over');
  const link = await scanned(desk, 'dialog img');
  assert.equal(link, `${here.server.base}/present${session.hash}`);
  const remote = await here.browser.device(SMALL);
  await remote.goto(link);
  await remote.locator('.now').getByRole('button', { name: 'Close' }).click();
  await remote.getByText('No question is open.').waitFor();
  await fits(remote, 'remote on a small phone');
  await desk.keyboard.press('Escape');
  await desk.getByText('No question is open.').waitFor();
  for (const page of [desk, remote]) await page.context().close();
});

test('exports hold every vote', async () => {
  const session = await here.server.session('Räte & Pläne');
  const n = await session.ask('Tea or coffee?');
  for (const at of [0, 1, 1]) await session.vote(n, { choices: [at] });
  const page = await here.console(session);
  const ids = (await session.votes()).map(({ id }) => id).sort();
  for (const kind of ['CSV', 'JSON']) {
    const [file] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: `Export ${kind}` }).click()]);
    assert.equal(file.suggestedFilename(), `Räte-Pläne.${kind.toLowerCase()}`);
    const content = await readFile(await file.path(), 'utf8');
    for (const id of ids) assert.ok(content.includes(id), `${kind} holds ${id}`);
    if (kind === 'JSON') assert.deepEqual(JSON.parse(content).votes.map(({ id }) => id).sort(), ids);
  }
  await page.context().close();
});

test('ended and deleted, each after a question back; every page says so', async () => {
  const session = await here.server.session('Last one');
  await session.ask('Tea or coffee?');
  const gone = [/401|404/]; // what a page gets that asks for a session which is no more
  const phone = await here.phone(session, { allow: gone });
  await choose(phone, 'Tea');
  await counted(phone);
  const desk = await here.browser.device(LAPTOP, gone);
  await desk.goto(`${here.server.base}/present${session.hash}`);
  await desk.getByRole('button', { name: 'End session' }).click();
  await accessible(desk, 'end?');
  await desk.getByRole('button', { name: 'Cancel' }).click();
  assert.equal(await desk.locator('.now').count(), 1);
  await desk.getByRole('button', { name: 'End session' }).click();
  await desk.locator('dialog').getByRole('button', { name: 'End session' }).click();
  await phone.getByText('This session has ended.').waitFor();
  await desk.getByText('This session has ended.').waitFor();
  assert.equal(await desk.getByRole('button', { name: 'New question' }).count(), 0);
  await desk.getByRole('button', { name: 'Delete session' }).click();
  const erase = desk.locator('dialog').getByRole('button', { name: 'Delete session' });
  assert.ok(await erase.isDisabled());
  await desk.fill('#confirm', '1234');
  assert.ok(await erase.isDisabled());
  await accessible(desk, 'delete?');
  await desk.fill('#confirm', `${session.code.slice(0, 4)} ${session.code.slice(4)}`);
  await erase.click();
  await desk.getByText('Ask the room').waitFor();
  assert.equal(await desk.locator('.kept').count(), 0);
  await phone.getByText('This session no longer exists.').waitFor();
  await desk.goto(`${here.server.base}/present${session.hash}`);
  await desk.getByText('This link does not open a session any more.').waitFor();
  await accessible(desk, 'link of a deleted session');
  for (const page of [desk, phone]) await page.context().close();
});

test('in German, from the browser or by choice, and it stays', async () => {
  const session = await here.server.session();
  await session.ask('Wie war es?', { max: 5 });
  await session.vote(1, { rating: 3 });
  const phone = await here.phone(session, { options: { ...PHONE, locale: 'de-DE' } });
  await phone.getByLabel('4').check();
  await phone.getByRole('button', { name: 'Stimme abgeben' }).click();
  await counted(phone);
  assert.match(await text(phone, '.verdict'), /Gezählt/);
  await phone.getByText('3,5').waitFor();
  assert.equal(await phone.getAttribute('html', 'lang'), 'de');
  await accessible(phone, 'German');
  const desk = await here.console(session);
  await desk.getByRole('button', { name: 'Deutsch' }).click();
  await desk.getByRole('button', { name: 'Neue Frage' }).waitFor();
  await desk.reload();
  await desk.getByRole('button', { name: 'Neue Frage' }).waitFor();
  for (const page of [phone, desk]) await page.context().close();
});

test('nothing was to be complained about', () => here.browser.clean());
