// Pictures of every page and its main states, into docs/images/, for the README and to be looked at: `make screenshots`. Not a
// test, so `npm test` leaves it out. A folder may be given: node screenshots.mjs /some/folder

import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Browser, LAPTOP, PHONE, SMALL, WALL } from './support/browser.mjs';
import { choose, counted } from './support/room.mjs';
import { Server } from './support/server.mjs';

const folder = resolve(process.argv[2] ?? new URL('../../docs/images', import.meta.url).pathname);
/** Few enough that all pictures stay under 1.5 MB, enough that soft edges of letters stay soft. */
const COLOURS = '32';
const BYTES_MAX = 1_500_000;
/** What a hall of 41 answered, by place. */
const HALL = [0, 0, 0, 2, 2, 2, 2, 2, 1, 3, 2, 0, 2, 1, 0, 2, 2, 0, 2, 1, 0, 2, 3, 2, 0, 0, 2, 1, 2, 0, 2, 2, 0, 1, 2, 0, 2, 2, 0, 3, 2];
const DARK = { colorScheme: 'dark' };

const server = await Server.start();
const browser = await Browser.start();
mkdirSync(folder, { recursive: true });
const made = [];

/** The picture is taken once nothing moves any more. */
async function shot(page, name) {
  await page.evaluate(() => Promise.all([
    document.fonts.ready, ...document.getAnimations().filter((one) => one.effect.getTiming().iterations === 1).map((one) => one.finished.catch(() => {})),
    ...[...document.images].map((image) => image.decode().catch(() => {})),
  ]));
  await page.screenshot({ path: join(folder, `${name}.png`) });
  made.push(name);
}

async function page(path, options, ready) {
  const one = await browser.device(options);
  await one.goto(server.base + path);
  await one.waitForSelector(ready);
  return one;
}

/** The whole run of a session, seen by one phone, one console and one wall. */
async function session(theme, phoneOf, suffix) {
  const dark = theme === 'dark' ? DARK : {};
  const town = await server.session('Town hall, spring 2027');
  const where = await town.draft('Where should the next team days be?', {
    options: ['By the sea', 'In the mountains', 'Right here, with good food', 'Online'],
  });
  const clear = await town.draft('How clear was the strategy today?', { max: 5, results: 'after_close' });
  await town.draft('Which topics should we go deeper into?', {
    options: ['Pricing', 'Hiring', 'Product quality', 'Remote work', 'Climate goals'], max_choices: 3, results: 'presenter',
  });
  const phone = await page('/', { ...phoneOf, ...dark }, '#code');
  await shot(phone, `phone-code-${suffix}`);
  await phone.goto(`${server.base}/j/${town.code}`);
  await phone.getByText('You are in.').waitFor();
  await shot(phone, `phone-waiting-${suffix}`);
  const wide = phoneOf === PHONE;
  const desk = wide && await page(`/present${town.hash}`, { ...LAPTOP, ...dark }, '.poll');
  const wall = wide && await page(`/screen${town.hash}`, { ...WALL, ...dark }, '.digits');
  if (wall) await shot(wall, `screen-lobby-${suffix}`);
  await town.open(where);
  await phone.getByLabel('Right here').check();
  await shot(phone, `phone-ballot-${suffix}`);
  await Promise.all(HALL.map((place) => town.vote(where, { choices: [place] })));
  await choose(phone, 'Right here, with good food');
  await counted(phone);
  const all = String(HALL.length + 1);
  await phone.getByText(`${all} votes`).waitFor();
  await shot(phone, `phone-counted-${suffix}`);
  if (wide) {
    for (const one of [desk, wall]) await one.locator('.turnout', { hasText: `${all} of ${all}` }).waitFor();
    await shot(desk, `console-live-${suffix}`);
    await shot(wall, `screen-results-${suffix}`);
    await desk.keyboard.press('n');
    await desk.locator('dialog.editor').waitFor();
    await shot(desk, `console-editor-${suffix}`);
    await desk.keyboard.press('Escape');
  }
  await town.close(where);
  await town.open(clear);
  await phone.getByLabel('4', { exact: true }).check();
  await shot(phone, `phone-rating-${suffix}`);
  if (wide) {
    await wall.getByText('How clear').waitFor();
    await shot(wall, `screen-hidden-${suffix}`);
  }
  await Promise.all(HALL.map((place, at) => town.vote(clear, { rating: ((place + 2 + (at % 2)) % 5) + 1 })));
  await choose(phone, '4');
  await counted(phone);
  await town.close(clear);
  await town.end();
  await phone.getByText('This session has ended.').waitFor();
  await shot(phone, `phone-ended-${suffix}`);
  for (const one of [phone, desk, wall]) if (one) await one.context().close();
}

async function others(theme) {
  const dark = theme === 'dark' ? DARK : {};
  const start = await page('/present', { ...LAPTOP, ...dark }, '#title');
  await shot(start, `console-start-${theme}`);
  const check = await page('/check', { ...PHONE, ...dark }, '.primary');
  await shot(check, `check-${theme}`);
  const town = await server.session('Town hall, spring 2027');
  await town.ask('Where should the next team days be?');
  const small = await page(`/present${town.hash}`, { ...PHONE, ...dark }, '.digits');
  await shot(small, `console-phone-${theme}`);
  for (const one of [start, check, small]) await one.context().close();
}

try {
  for (const theme of ['light', 'dark']) {
    await session(theme, PHONE, theme);
    await others(theme);
  }
  await session('dark', SMALL, '320-dark');
} finally {
  await browser.stop();
  await server.stop();
}
const files = made.map((name) => join(folder, `${name}.png`));
execFileSync('pngquant', ['--force', '--ext', '.png', '--strip', '--nofs', COLOURS, '--', ...files]);
const bytes = readdirSync(folder).filter((name) => name.endsWith('.png'))
  .reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
console.log(`${files.length} pictures in ${folder}, ${Math.round(bytes / 1000)} kB`);
if (bytes > BYTES_MAX) throw new Error(`more than ${BYTES_MAX} bytes of pictures`);
