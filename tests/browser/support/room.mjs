// What most tests begin with: one server and one browser per file, and what people do on the pages.

import { after, before } from 'node:test';
import jsqr from 'jsqr';
import { Browser, LAPTOP, PHONE, WALL } from './browser.mjs';
import { Server } from './server.mjs';

/** A server and a browser for all tests of a file. */
export function hall(...flags) {
  const here = {};
  before(async () => { [here.server, here.browser] = await Promise.all([Server.start(...flags), Browser.start()]); });
  after(async () => {
    await here.browser?.stop();
    await here.server?.stop();
  });
  /** Somebody's phone, joined by link. */
  here.phone = async (session, { options = PHONE, base = here.server.base, allow } = {}) => {
    const page = await here.browser.device(options, allow);
    await page.goto(`${base}/j/${session.code}`);
    return page;
  };
  /** The presenter's laptop. */
  here.console = async (session, options = LAPTOP) => {
    const page = await here.browser.device(options);
    await page.goto(`${here.server.base}/present${session.hash}`);
    await page.waitForSelector('.digits');
    return page;
  };
  /** The wall. */
  here.screen = async (session, options = WALL) => {
    const page = await here.browser.device(options);
    await page.goto(`${here.server.base}/screen${session.hash}`);
    await page.waitForSelector('.digits');
    return page;
  };
  return here;
}

/** Chooses by text and sends. */
export async function choose(page, ...texts) {
  for (const text of texts) await page.getByLabel(text, { exact: true }).check();
  await page.getByRole('button', { name: 'Send vote' }).click();
}

export const counted = (page) => page.waitForSelector('.verdict.counted');

/** What a camera reads from the QR code in `selector`. */
export async function scanned(page, selector) {
  const size = 300;
  const data = await page.locator(selector).evaluate(async (image, side) => {
    await image.decode();
    const canvas = Object.assign(document.createElement('canvas'), { width: side, height: side });
    const context = canvas.getContext('2d');
    context.drawImage(image, 0, 0, side, side);
    return [...context.getImageData(0, 0, side, side).data];
  }, size);
  return jsqr(Uint8ClampedArray.from(data), size, size)?.data;
}

/** Goes on with the Tab key until the element that `selector` names has the focus; as far as a person would go. */
export async function tabTo(page, selector) {
  for (let nth = 0; nth < 30; nth += 1) {
    await page.keyboard.press('Tab');
    if (await page.evaluate((wanted) => document.activeElement.matches(wanted), selector)) return;
  }
  throw new Error(`not reached by Tab: ${selector}`);
}
