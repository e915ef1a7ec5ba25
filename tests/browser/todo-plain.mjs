// The ToDo application without the hook and without presence: Longtail only passes on what PHP publishes.
//   node --test todo-plain.mjs
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { complaints, open, person, push, scenario, start, stop, todo } from './todo-app.mjs';

let ada;
let ben;

before(async () => {
  await start({ TODO_PLAIN: '1' });
  ada = await person('ada');
  ben = await person('ben');
});

after(stop);

test('changes are forms, and nobody is shown', async () => {
  assert.equal((await (await fetch(push + '/info')).json()).events, false);
  await open(ada, 12, { transport: 'ws' });
  await open(ben, 12, { transport: 'long-poll' });
  await scenario(ada, ben, 'Buy chalk');
  await scenario(ben, ada, 'Find the adapter');
  assert.ok(await ada.isHidden('#here'));
  assert.equal((await ada.request.post(todo + '/hook.php', { data: {} })).status(), 404);
  assert.deepEqual(complaints, []);
});

// PHP has the secret, but Longtail was started without the flags, as by an older script.
test('a page that expects the hook finds that there is none', async () => {
  await ada.route('**/assets/todo.js', async route => {
    const answer = await route.fetch();
    const expects = `{ const { dataset } = document.getElementById('board');
      dataset.settings = JSON.stringify({ ...JSON.parse(dataset.settings), hook: true }); }`;
    await route.fulfill({ response: answer, body: expects + await answer.text() });
  });
  await open(ada, 12, { transport: 'ws' });
  await open(ben, 12);
  await scenario(ada, ben, 'Buy chalk');
  assert.ok(await ada.isHidden('#here'));
});
