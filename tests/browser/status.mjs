// Opens /status in Chromium, light and dark, wide and on a phone: its plots follow the server's activity.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { pictures, publish, startBrowser, startServer, until } from './support.mjs';

let server;
let browser;

before(async () => {
  mkdirSync(pictures, { recursive: true });
  server = await startServer();
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  server?.stop();
});

// The relative luminance and contrast of WCAG 2.
const contrast = () => {
  const luminance = colour => {
    const [r, g, b] = colour.match(/[\d.]+/g).slice(0, 3).map(Number).map(value => {
      const part = value / 255;
      return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const background = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (colour !== 'rgba(0, 0, 0, 0)') return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  return [...document.querySelectorAll('h1, h2, p, td, th, figcaption, button, a, .key span')].map(element => {
    const [a, b] = [luminance(getComputedStyle(element).color), luminance(background(element))];
    return { text: element.textContent.slice(0, 30), ratio: (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) };
  }).filter(found => found.ratio < 4.5);
};

for (const [name, colorScheme, width] of [['light', 'light', 1280], ['dark', 'dark', 1280], ['phone', 'light', 320]]) {
  test(`/status, ${name}`, async () => {
    const context = await browser.newContext({ colorScheme, viewport: { width, height: 800 } });
    const page = await context.newPage();
    const complaints = [];
    page.on('pageerror', error => complaints.push(String(error)));
    page.on('console', message => message.type() === 'error' && complaints.push(message.text()));
    const elsewhere = [];
    page.on('request', request => !request.url().startsWith(server.base) && elsewhere.push(request.url()));
    await page.goto(`${server.base}/status`);
    await page.evaluate(base => { window.source = new EventSource(`${base}/sse?channel=todo`); }, server.base);
    await until('the page to see a delivery', async () => {
      await publish(server.base, 'todo', { title: 'milk' });
      const label = await page.getAttribute('svg[aria-label^="Messages out"]', 'aria-label');
      const row = await page.$$eval('#transports tr', rows => rows.map(row => row.innerText).find(text => text.startsWith('sse')));
      return /delivered [1-9.]/.test(label) && /^sse\s+[1-9]\s/.test(row ?? '') || [label, row];
    });
    await until('the lag to be told', async () => {
      await publish(server.base, 'todo', { title: 'milk' });
      const label = await page.getAttribute('svg[aria-label^="Delivery lag"]', 'aria-label');
      return /99% ≤ [\d.]+ m?s now/.test(label) || label;
    });
    await until('the lines to be drawn', async () => {
      const drawn = await page.$$eval('svg path', all => all.filter(path => /L/.test(path.getAttribute('d') ?? '')).length);
      return drawn >= 6 || drawn;
    });
    assert.match(await page.innerText('#state'), /^ready, for \d+ (seconds|minutes)$/);
    assert.equal(await page.isVisible('#more'), width < 400, 'a table that goes on says so');
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.ok(wide <= 0, `${wide} px too wide`);
    assert.deepEqual(await page.evaluate(contrast), [], 'texts that are hard to read');
    assert.deepEqual(await page.$$eval('svg', all => all.filter(svg => svg.getAttribute('role') !== 'img' || !svg.getAttribute('aria-label')).length), 0);
    await page.screenshot({ path: join(pictures, `status-${name}.png`), fullPage: true });

    await page.click('#pause');
    assert.equal(await page.getAttribute('#pause', 'aria-pressed'), 'true');
    assert.deepEqual(complaints, []);
    assert.deepEqual(elsewhere, [], 'nothing is fetched from elsewhere');
    await context.close();
  });
}
