// The ToDo application in two real browsers, Chromium and Firefox, which use different transports.
//   node --test todo-browsers.mjs
// Pictures come to target/browser/todo-*.png; with TODO_PICTURES=1 also to docs/images, where the README shows them.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { add, browser, complaints, edit, has, isDone, open, person, row, scenario, start, startFirefox, stop, titles, todo } from './todo-app.mjs';
import { LONG, pictures, root } from './support.mjs';

let ada;                        // in Chromium
let ben;                        // in Firefox

before(async () => {
  await start();
  ada = await person('ada');
  ben = await person('ben', { colorScheme: null }, await startFirefox('light'));
});

after(stop);

for (const [mine, other, front] of [['ws', 'sse', 'plain'], ['long-poll', 'ws', 'backbone'], ['xhr-stream', 'long-poll', 'ember']]) {
  test(`${mine} in Chromium and ${other} in Firefox, front end ${front}`, LONG, async () => {
    await open(ada, 12, { transport: mine, front });
    await open(ben, 12, { transport: other, front });
    assert.match(await ada.evaluate(() => navigator.userAgent), /Chrome\//);
    assert.match(await ben.evaluate(() => navigator.userAgent), /Firefox\//);
    await scenario(ada, ben, 'Buy chalk');
    await scenario(ben, ada, 'Find the adapter');
  });
}

// This check comes before the pictures. For a picture, Playwright adds a style to Firefox's page, and the page's policy
// forbids this.
test('the pages had no errors', () => {
  assert.deepEqual(complaints, []);
});

// Combines pages into one picture, side by side.
async function together(name, shots, background) {
  const page = await browser.newPage({ viewport: { width: 100, height: 100 } });
  await page.setContent(`<style>body { display: inline-flex; align-items: flex-start; gap: 20px; margin: 0; padding: 14px 20px 20px }
    body { background: ${background}; font: 14px "DejaVu Sans", sans-serif; color: #000a } figure { margin: 0 }
    figcaption { padding: 0 0 8px 2px } img { display: block; border-radius: 8px; box-shadow: 0 1px 8px #0005 }</style>` +
    shots.map(([text, shot]) => `<figure><figcaption>${text}</figcaption>
      <img src="data:image/png;base64,${shot.toString('base64')}"></figure>`).join(''));
  const picture = await page.locator('body').screenshot();
  await page.close();
  for (const path of [join(pictures, `todo-${name}.png`), ...process.env.TODO_PICTURES ? [join(root, `docs/images/todo-${name}.png`)] : []]) {
    writeFileSync(path, picture);
  }
}

test('pictures: light, dark and on a phone', LONG, async () => {
  await open(ada, 12, { transport: 'ws' });
  await open(ben, 12, { transport: 'sse' });
  await row(ben, 'Book the room').locator('.tick').click();
  await isDone(ada, 'Book the room', true);
  await add(ben, 'Bring the adapter');
  await has(ada, 'Bring the adapter');
  await edit(ada, 'Rehearse with a timer', async () => {});
  const dark = await person('ben', { colorScheme: null }, await startFirefox('dark'));
  for (const [colorScheme, firefox, background] of [['light', ben, '#d8dbe0'], ['dark', dark, '#7d838c']]) {
    if (firefox !== ben) await open(firefox, 12, { transport: 'sse' });
    await ada.emulateMedia({ colorScheme });
    const shots = [];
    for (const [name, page] of [['Chromium, WebSocket', ada], ['Firefox, server-sent events', firefox]]) {
      await page.setViewportSize({ width: 560, height: 800 });
      shots.push([name, await page.screenshot({ fullPage: true })]);
    }
    assert.deepEqual(await titles(firefox), await titles(ada));
    await together(colorScheme, shots, background);
  }
  await ada.emulateMedia({ colorScheme: 'light' });
  await add(ada, 'Ask Wilhelmina-Donaudampfschifffahrtsgesellschaft whether the hall has a second microphone');
  await ada.locator('.items details[open] summary').click();
  const shots = [];
  for (const [name, page] of [['Chromium, WebSocket', ada], ['Firefox, server-sent events', dark]]) {
    await page.setViewportSize({ width: 360, height: 740 });
    await has(page, 'Ask Wilhelmina-Donaudampfschifffahrtsgesellschaft whether the hall has a second microphone');
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(wide <= 360, `the page is ${wide} pixels wide on a phone of 360`);
    shots.push([name, await page.screenshot({ fullPage: true })]);
  }
  await ada.goto(todo + '/');
  shots.push(['Boards', await ada.screenshot({ fullPage: true })]);
  await together('phone', shots, '#d8dbe0');
});
