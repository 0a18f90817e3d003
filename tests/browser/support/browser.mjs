// Debian's Chromium, and pages that note whatever a person would complain about later: errors, broken policies, requests to third
// parties, cookies, tokens in addresses. Used by every test and by screenshots.mjs.

import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const PLACES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome', '/snap/bin/chromium'];
const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync', '--hide-scrollbars'];
const WAIT_MS = 20_000;

export const PHONE = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true };
export const SMALL = { viewport: { width: 320, height: 568 }, hasTouch: true, isMobile: true };
export const LAPTOP = { viewport: { width: 1280, height: 800 } };
export const WALL = { viewport: { width: 1920, height: 1080 } };

export class Browser {
  static async start() {
    const executablePath = process.env.CHROMIUM ?? PLACES.find(existsSync);
    assert.ok(executablePath, 'no Chromium: scripts/packages.sh install chromium');
    const browser = new Browser();
    browser.profile = mkdtempSync(join(tmpdir(), 'plenum-chromium-'));
    browser.process = await chromium.launch({ executablePath, args: [...FLAGS, `--crash-dumps-dir=${browser.profile}`] });
    browser.complaints = [];
    return browser;
  }

  /** A device: a profile of its own with one page. `allow` are errors that this test brings about on purpose. */
  async device(options = PHONE, allow = []) {
    const context = await this.process.newContext({ locale: 'en-GB', reducedMotion: 'reduce', ...options });
    context.setDefaultTimeout(WAIT_MS);
    await context.addInitScript(() => {
      addEventListener('securitypolicyviolation', (event) => {
        console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`);
      });
    });
    const complain = (text) => allow.some((pattern) => pattern.test(text)) || this.complaints.push(text);
    context.on('console', (message) => message.type() === 'error' && complain(message.text()));
    context.on('weberror', (error) => complain(String(error.error())));
    context.on('request', (request) => {
      const { hostname, protocol, search, pathname } = new URL(request.url());
      if (hostname !== '127.0.0.1' && protocol !== 'blob:') complain(`third party: ${request.url()}`);
      if (/token|\w{60}/.test(search + pathname)) complain(`token in an address: ${request.url()}`);
    });
    return context.newPage();
  }

  /** Fails with whatever there was to complain about. */
  async clean(page) {
    assert.deepEqual(this.complaints, []);
    if (page) assert.deepEqual(await page.context().cookies(), []);
  }

  async stop() {
    await this.process.close();
    rmSync(this.profile, { recursive: true, force: true });
  }
}

/** What axe finds against WCAG 2.2 AA. Run by the debugger, so the page's own policy stays as it is. */
export async function accessible(page, state) {
  await page.evaluate(`typeof axe === 'object' || (() => { ${axe} })()`);
  const found = await page.evaluate(async () => {
    const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
    const { violations } = await window.axe.run(document, { runOnly: tags });
    return violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html }) => html).join(' | ')}`);
  });
  assert.deepEqual(found, [], state);
}

/** Nothing sticks out sideways. */
export async function fits(page, state) {
  const [wide, room] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(wide <= room, `${state}: ${wide} px in ${room}`);
}

/** The text of an element, spaces made plain. */
export const text = async (page, selector) => (await page.innerText(selector)).replace(/\s+/g, ' ').trim();

/** Waits until `ask` says yes; a deadline that fails by name. */
export async function until(what, ask, ms = WAIT_MS) {
  const end = Date.now() + ms;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    if (Date.now() > end) throw new Error(`never came: ${what}`);
    await new Promise((turn) => { setTimeout(turn, 50); });
  }
}
