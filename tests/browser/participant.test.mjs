// The participant's page: joining, voting, results, waiting, ended.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { accessible, fits, text, until, SMALL } from './support/browser.mjs';
import { choose, counted, hall, scanned } from './support/room.mjs';

const here = hall();

/** What the page sends waits until `release`. */
const hold = (page) => page.evaluate(() => {
  const { send } = WebSocket.prototype;
  const held = [];
  WebSocket.prototype.send = function later(data) { held.push(() => send.call(this, data)); };
  window.release = () => {
    WebSocket.prototype.send = send;
    held.forEach((go) => go());
  };
});
const release = (page) => page.evaluate(() => window.release());

test('joins by code, typed with a numeric keyboard, and votes', async () => {
  const session = await here.server.session('Town hall');
  const n = await session.ask('Tea or coffee?');
  const page = await here.browser.device();
  await page.goto(here.server.base);
  assert.equal(await page.getAttribute('#code', 'inputmode'), 'numeric');
  await page.fill('#code', session.code);
  await page.keyboard.press('Enter');
  await choose(page, 'Coffee');
  await counted(page);
  assert.equal(new URL(page.url()).pathname, `/j/${session.code}`);
  const [vote] = await session.votes();
  assert.deepEqual([vote.poll, vote.answer], [n, { choices: [1] }]);
  // The receipt on the phone is the beginning of the vote's id in the export.
  assert.ok((await text(page, '.receipt')).endsWith(vote.id.slice(0, 8)));
  await here.browser.clean(page);
});

test('the QR code on the screen holds the join link, and the link leads to the question in one step', async () => {
  const session = await here.server.session();
  await session.ask('Tea or coffee?');
  const screen = await here.screen(session);
  const link = await scanned(screen, '.qr');
  assert.equal(link, `${here.server.base}/j/${session.code}`);
  const phone = await here.browser.device();
  await phone.goto(link);
  await phone.getByRole('button', { name: 'Send vote' }).waitFor();
  await here.browser.clean(phone);
});

test('a wrong code says so, and the right one goes on from there', async () => {
  const session = await here.server.session();
  const page = await here.browser.device();
  await page.goto(`${here.server.base}/j/123`);
  assert.match(await text(page, '.fault'), /eight digits/);
  await page.fill('#code', '0000 0001');
  await page.keyboard.press('Enter');
  await page.getByText('There is no session with this code').waitFor();
  await accessible(page, 'unknown code');
  await page.fill('#code', `${session.code.slice(0, 4)}-${session.code.slice(4)}`);
  await page.getByRole('button', { name: 'Join' }).click();
  await page.getByText('You are in.').waitFor();
});

test('several questions in a row without a reload; waiting in between says what is going on', async () => {
  const session = await here.server.session();
  const page = await here.phone(session);
  await page.getByText('You are in.').waitFor();
  await page.evaluate(() => { window.sameDocument = true; });
  for (const question of ['First?', 'Second?', 'Third?']) {
    const n = await session.ask(question);
    await page.getByText(question).first().waitFor();
    await choose(page, 'Water');
    await counted(page);
    await session.close(n);
    await page.getByText('Waiting for the next question.').waitFor();
  }
  assert.equal(await page.evaluate(() => window.sameDocument), true);
  assert.equal((await session.votes()).length, 3);
  await page.getByText('Earlier questions').click();
  assert.equal(await page.locator('.earlier .card').count(), 2);
});

test('several choices up to the most allowed; ratings', async () => {
  const session = await here.server.session();
  const many = await session.ask('Which?', { max_choices: 2 });
  const page = await here.phone(session);
  await page.getByLabel('Tea').check();
  await page.getByLabel('Water').check();
  assert.ok(await page.locator('input').nth(1).isDisabled());
  await page.getByRole('button', { name: 'Send vote' }).click();
  await counted(page);
  await session.close(many);
  const rating = await session.ask('How was it?', { max: 5 });
  await choose(page, '4');
  await page.getByText('Average 4').waitFor();
  const votes = await session.votes();
  assert.deepEqual(votes.map(({ poll, answer }) => [poll, answer]), [[many, { choices: [0, 2] }], [rating, { rating: 4 }]]);
});

test('who sees results, and when: at once, after closing, never', async () => {
  const session = await here.server.session();
  const page = await here.phone(session);
  for (const [results, open, closed] of [['live', true, true], ['after_close', false, true], ['presenter', false, false]]) {
    const n = await session.ask(`${results}?`, { results });
    await session.vote(n, { choices: [0] });
    await page.getByRole('button', { name: 'Send vote' }).waitFor();
    assert.equal(await page.locator('form.card .bars').count(), 0, 'nothing of the others before the own vote');
    await choose(page, 'Tea');
    await counted(page);
    const card = page.locator(`[data-poll="${n}"]`);
    await until(`${results}, open`, async () => (await card.locator('.bar').count() > 0) === open);
    await session.close(n);
    await page.getByText('Waiting for the next question.').waitFor();
    await until(`${results}, closed`, async () => (await card.locator('.bar').count() > 0) === closed);
    if (closed) assert.match(await card.locator('.bar').first().innerText(), /100%/);
  }
  // Opened again, what was shown after the close is hidden again.
  await session.open(2);
  await until('hidden again', async () => await page.locator('.card:not(.past)[data-poll="2"] .bar').count() === 0
    && await page.locator('.card[data-poll="2"]').count() === 1);
});

test('a vote that comes too late says so and why', async () => {
  const session = await here.server.session();
  const n = await session.ask('Quick?');
  const page = await here.phone(session);
  await page.getByLabel('Tea').check();
  // The close reaches this page only after the vote was sent: it is the server that refuses.
  await hold(page);
  await page.getByRole('button', { name: 'Send vote' }).click();
  await page.locator('.verdict', { hasText: 'Sending' }).waitFor();
  await session.close(n);
  await page.getByText('Waiting for the next question.').waitFor();
  await release(page);
  await page.getByText('The question was closed before your vote arrived.').waitFor();
  await accessible(page, 'refused');
  assert.equal((await session.votes()).length, 0);
});

test('one person in two tabs who sends two answers in the same moment: one counts, and both tabs show it', async () => {
  const session = await here.server.session();
  const one = await here.phone(session);
  await one.getByText('You are in.').waitFor();
  const other = await one.context().newPage();
  await other.goto(one.url());
  for (const round of [1, 2, 3]) {
    const n = await session.ask(`Round ${round}?`);
    await one.getByLabel('Tea', { exact: true }).check();
    await other.getByLabel('Coffee', { exact: true }).check();
    // Sent only after both have pressed: a tab that hears of the other's vote takes its own button away.
    await Promise.all([one, other].map(hold));
    const buttons = await Promise.all([one, other].map((page) => page.getByRole('button', { name: 'Send vote' }).elementHandle()));
    await Promise.all(buttons.map((button) => button.evaluate((it) => it.click())));
    await Promise.all([one, other].map(release));
    const [vote, ...more] = await until('it is stored', async () => {
      const votes = (await session.votes()).filter(({ poll }) => poll === n);
      return votes.length > 0 && votes;
    });
    assert.equal(more.length, 0);
    const name = ['Tea', 'Coffee'][vote.answer.choices[0]];
    for (const page of [one, other]) {
      const mine = page.locator(`.card[data-poll="${n}"] .bar`, { hasText: 'Your vote' });
      await mine.waitFor();
      assert.ok((await mine.innerText()).includes(name), await mine.innerText());
    }
    await session.close(n);
    assert.equal((await session.votes()).filter(({ poll }) => poll === n).length, 1);
  }
  await one.context().close();
});

test('ended and deleted sessions say so', async () => {
  const session = await here.server.session();
  const n = await session.ask('Last one?');
  const page = await here.phone(session);
  await choose(page, 'Tea');
  await counted(page);
  await session.close(n);
  await session.end();
  await page.getByText('This session has ended.').waitFor();
  assert.equal(await page.locator('.bars').count(), 1);
  await accessible(page, 'ended');
  const late = await here.phone(session);
  await late.getByText('This session has ended.').waitFor();
  await session.erase();
  await page.getByText('This session no longer exists.').waitFor();
  await accessible(page, 'deleted');
});

test('by keyboard alone, from the code to the result', async () => {
  const session = await here.server.session();
  await session.ask('Tea or coffee?');
  const page = await here.browser.device();
  await page.goto(here.server.base);
  await page.waitForSelector('#code');
  await page.focus('#code');
  await page.keyboard.type(session.code);
  await page.keyboard.press('Enter');
  await page.getByRole('button', { name: 'Send vote' }).waitFor();
  await page.keyboard.press('Tab');
  await page.keyboard.press('Space');
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Send vote');
  await page.keyboard.press('Enter');
  await counted(page);
  assert.equal(await page.evaluate(() => document.activeElement.tagName), 'H2');
  assert.deepEqual((await session.votes())[0].answer, { choices: [1] });
});

test('fits a phone of 320 px in every state, with long words and many steps', async () => {
  const session = await here.server.session('A rather long title of a session that goes on and on');
  const long = 'Donaudampfschifffahrtsgesellschaftskapitänsmütze';
  const page = await here.phone(session, { options: SMALL });
  await page.getByText('You are in.').waitFor();
  await fits(page, 'waiting');
  const n = await session.ask(`${long} ${long}?`, { options: [long, `${long}${long}`, 'Short'] });
  await page.getByText('Short').waitFor();
  await fits(page, 'ballot');
  const send = await page.getByRole('button', { name: 'Send vote' }).boundingBox();
  assert.ok(send.y + send.height <= 568, 'the button is within reach of a thumb');
  await choose(page, 'Short');
  await counted(page);
  await fits(page, 'results');
  await session.close(n);
  await session.ask('From one to ten?', { max: 10, results: 'after_close' });
  await page.getByText('From one to ten?').waitFor();
  await fits(page, 'rating');
  for (const box of await Promise.all((await page.locator('.option').all()).map((option) => option.boundingBox()))) {
    assert.ok(box.width >= 44 && box.height >= 44, JSON.stringify(box));
  }
  await choose(page, '7');
  await counted(page);
  await fits(page, 'rated');
  await page.goto(here.server.base);
  await page.waitForSelector('#code');
  await fits(page, 'code');
});

test('nothing that this page did is to be complained about', () => here.browser.clean());
