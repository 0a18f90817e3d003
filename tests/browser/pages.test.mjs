// The presenter's pages side by side with a phone, faults on the way, and what holds for every page.

import assert from 'node:assert/strict';
import http from 'node:http';
import { test } from 'node:test';
import { PHONE, accessible, text, until } from './support/browser.mjs';
import { Proxy } from './support/proxy.mjs';
import { choose, counted, hall } from './support/room.mjs';

const here = hall();

test('one vote is seen on phone, console and screen', async () => {
  const session = await here.server.session();
  await session.ask('Tea or coffee?');
  const [phone, desk, wall] = await Promise.all([here.phone(session), here.console(session), here.screen(session)]);
  await choose(phone, 'Coffee');
  await counted(phone);
  for (const page of [phone, desk, wall]) {
    await until('the bar moves', async () => /100%/.test(await page.locator('.bar').nth(1).innerText()));
  }
  assert.match(await text(wall, '.turnout'), /1 of 1 voted/);
  for (const [page, name] of [[phone, 'phone'], [desk, 'console'], [wall, 'screen']]) await accessible(page, name);
  for (const page of [phone, desk, wall]) await page.context().close(); // or they would complain about the next test
});

test('the server is killed while voting: the vote arrives once', async () => {
  const session = await here.server.session();
  await session.ask('Tea or coffee?');
  const page = await here.phone(session, { allow: [/./] });
  await page.getByLabel('Tea').check();
  await here.server.kill9();
  await page.getByRole('button', { name: 'Send vote' }).click();
  await page.getByText('Your vote is kept and will be sent').waitFor();
  await here.server.restart();
  await counted(page);
  assert.equal((await session.votes()).length, 1);
});

test('WebSocket blocked: it falls back, and the vote counts', async () => {
  const session = await here.server.session();
  await session.ask('Tea or coffee?');
  const proxy = await Proxy.start(here.server);
  proxy.blockUpgrades = true;
  const page = await here.phone(session, { base: proxy.base, allow: [/WebSocket/] });
  await choose(page, 'Tea');
  await counted(page);
  assert.ok(proxy.refused >= 2 && proxy.paths.some((path) => path.includes('/stream')));
  assert.equal((await session.votes()).length, 1);
  await page.context().close();
  await proxy.stop();
});

test('the answer is lost, the page reloaded without a network: the kept vote arrives once', async () => {
  const session = await here.server.session();
  await session.ask('Tea or coffee?');
  const proxy = await Proxy.start(here.server);
  const page = await here.phone(session, { base: proxy.base, allow: [/./] });
  await page.getByLabel('Tea').check();
  proxy.cutAfterVote = 1;
  proxy.blockApi = true; // for what begins from now on
  await page.getByRole('button', { name: 'Send vote' }).click();
  await page.getByText('Your vote is kept and will be sent').waitFor();
  await until('the answer is lost', () => proxy.lostAcks === 1);
  await page.reload();
  await page.locator('.calm [role=status]').waitFor();
  proxy.blockApi = false;
  await counted(page);
  assert.match(await text(page, '.mine'), /Tea/);
  const votes = await session.votes();
  assert.equal(votes.length, 1);
  assert.ok((await text(page, '.receipt')).endsWith(votes[0].id.slice(0, 8)), 'the same vote, not only the same answer');
  await page.context().close();
  await proxy.stop();
});

test('voted without a network, reloaded without a network: the vote is sent when there is one', async () => {
  const session = await here.server.session();
  await session.ask('Tea or coffee?');
  const proxy = await Proxy.start(here.server);
  const page = await here.phone(session, { base: proxy.base, allow: [/./] });
  await page.getByLabel('Coffee').check();
  proxy.blockApi = true;
  proxy.cut();
  await page.getByText('Connection lost').waitFor();
  await page.getByRole('button', { name: 'Send vote' }).click();
  await page.getByText('Your vote is kept and will be sent').waitFor();
  await page.reload();
  await page.locator('.calm [role=status]').waitFor();
  assert.equal((await session.votes()).length, 0);
  proxy.blockApi = false;
  await counted(page);
  assert.deepEqual((await session.votes()).map(({ answer }) => answer), [{ choices: [1] }]);
  await page.context().close();
  await proxy.stop();
});

// What an embedder writes, on a site of his own.
const theirs = (server, code) => `<!doctype html><html lang="en"><title>Elsewhere</title><pre></pre><script type="module">
  import { Plenum } from '${server}/plenum.js';
  const plenum = new Plenum({ server: '${server}', code: '${code}' });
  plenum.subscribe(({ transport, polls, votes }) => {
    if (polls[0] && !votes[1]) plenum.vote(1, { choices: [0] });
    document.querySelector('pre').textContent = [transport, votes[1]?.state].join(' ');
  });
  plenum.start();
</script>`;

for (const [blockUpgrades, transport] of [[false, 'websocket'], [true, 'sse']]) {
  test(`a page of another site votes by ${transport}`, async () => {
    const session = await here.server.session();
    await session.ask('Tea or coffee?');
    const proxy = await Proxy.start(here.server);
    proxy.blockUpgrades = blockUpgrades;
    const site = http.createServer((request, response) => {
      response.setHeader('content-type', 'text/html');
      response.end(request.url === '/' ? theirs(proxy.base, session.code) : '');
    });
    await new Promise((done) => { site.listen(0, '127.0.0.1', done); });
    const page = await here.browser.device(PHONE, [/WebSocket/]);
    await page.goto(`http://127.0.0.1:${site.address().port}/`);
    await page.getByText(`${transport} counted`).waitFor();
    assert.deepEqual((await session.votes()).map(({ answer }) => answer), [{ choices: [0] }]);
    await page.context().close();
    await proxy.stop();
    await new Promise((done) => { site.close(done); });
  });
}

test('nothing was to be complained about', () => here.browser.clean());
