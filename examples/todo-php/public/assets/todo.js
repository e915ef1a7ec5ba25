/*
 * The part that all four front ends share: the connection, the forms, and the rule that applies a change once, in
 * whatever order and however often it arrives. It does not draw the list; the front end does:
 *
 *   var show = todo.begin({ put: function (item) {...}, take: function (item) {...} });
 *   todo.lt.on('itemAdded', show.put);
 *
 * `begin` returns the same two functions with that rule in front of them. They are also called with the items that
 * the page came with, with the changes of this page itself, and with what it has to read again.
 */
window.todo = (function () {
  'use strict';
  var box = document.getElementById('board');
  var settings = JSON.parse(box.dataset.settings);
  var input = document.getElementById('new');
  var known = {};                       // by id: the newest version of each item, with the item or null if removed
  var complete = settings.revision;     // every version up to here has been seen
  var ahead = {};                       // versions beyond, while one before them is missing
  var reading = false;
  var again = false;                    // asked to read while reading: what was missed may be newer than that answer
  var front = null;

  /* ---- the connection ---- */

  var lt;
  if (window.Longtail) {
    var options = { channels: [settings.channel], credentials: true };
    if (settings.cursor) { options.cursor = settings.cursor; }
    if (settings.transport) { options.transports = [settings.transport]; }
    lt = Longtail.connect(settings.push, options);
  } else {
    // Longtail is away: the forms still work, but the page gets no messages.
    lt = { client: '', on: function () { return lt; } };
  }

  function state(name, text) {
    var line = document.getElementById('state');
    line.dataset.state = name;
    line.textContent = text;
  }

  // Without a cursor from PHP, a change between its read of the database and our subscription would be missed.
  var caughtUp = !!settings.cursor;
  lt.on('open', function () {
    state('open', 'Live over ' + lt.transport);
    if (!caughtUp) {
      caughtUp = true;
      reload();
    }
  });
  // The library begins with what works everywhere, and changes to something better while it is open.
  lt.on('transport', function (name) {
    if (document.getElementById('state').dataset.state === 'open') { state('open', 'Live over ' + name); }
  });
  lt.on('gap', reload);
  lt.on('error', function () { state('waiting', 'Live updates are interrupted'); });
  lt.on('close', function () { state('off', 'Live updates have ended. Reload the page to go on.'); });

  /* ---- who is here ---- */

  // A user is one member, however many pages it has open. Without presence, the line is hidden.
  if (settings.hook && lt.members) {
    lt.members(settings.channel, function (members) {
      var line = document.getElementById('here');
      var list = line.querySelector('ul');
      line.hidden = !members;
      list.textContent = '';
      (members || []).sort(function (a, b) { return a.info.name < b.info.name ? -1 : 1; }).forEach(function (member) {
        var name = document.createElement('li');
        name.textContent = member.info.name + (member.id === settings.user ? ' (you)' : '');
        list.appendChild(name);
      });
    });
  }

  /* ---- once, in any order ---- */

  // Versions are counted by the board, without holes: each change has the next one. Of two messages about an item
  // the one with the higher version is right, and a hole means that something was missed (Redis was away when PHP
  // wanted to publish). It may be a matter of order, so a hole gets a second to close.
  function saw(version) {
    if (version > complete) { ahead[version] = true; }
    while (ahead[complete + 1]) { delete ahead[++complete]; }
    if (isHole()) { setTimeout(function () { if (isHole()) { reload(); } }, 1000); }
  }

  function isHole() {
    return Object.keys(ahead).length > 0;
  }

  function isOlder(item) {
    return known[item.id] !== undefined && known[item.id].version >= item.version;
  }

  // True once for each version of an item, and never for a version that is older than the one shown.
  function isNew(item, removed) {
    saw(item.version);
    if (isOlder(item)) { return false; }
    known[item.id] = { version: item.version, item: removed ? null : item };
    count();
    return true;
  }

  function shown() {
    return Object.keys(known).map(function (id) { return known[id].item; }).filter(Boolean);
  }

  function count() {
    var items = shown();
    var done = items.filter(function (item) { return item.done; }).length;
    document.getElementById('count').textContent = done + ' of ' + items.length + ' done';
    document.getElementById('empty').hidden = items.length > 0;
  }

  // Reads the whole board again. Changes that arrived as events meanwhile are newer than the answer, and stay.
  function reload() {
    again = reading;
    if (reading) { return; }
    reading = true;
    // Versions seen up to now are in the answer, or are not versions of this board.
    ahead = {};
    ask('items.php?board=' + settings.board).then(function (answer) {
      reading = false;
      var there = {};
      answer.items.forEach(function (item) {
        there[item.id] = true;
        front.put(item);
      });
      shown().forEach(function (item) {
        if (!there[item.id] && item.version <= answer.revision) {
          front.take({ id: item.id, title: item.title, version: answer.revision });
        }
      });
      complete = Math.max(complete, answer.revision);
      Object.keys(ahead).forEach(function (version) { if (version <= complete) { delete ahead[version]; } });
      saw(complete);
      if (again) { reload(); }
    }, function () {
      reading = false;
      setTimeout(reload, 3000 + Math.random() * 3000);
    });
  }

  /* ---- saying what other users did ---- */

  var verbs = {
    itemAdded: function (item) { return 'added “' + item.title + '”'; },
    itemRemoved: function (item) { return 'removed “' + item.title + '”'; },
    itemChanged: function (item) {
      var before = known[item.id] && known[item.id].item;
      if (before && before.title !== item.title) { return 'renamed “' + before.title + '” to “' + item.title + '”'; }
      return item.done ? 'finished “' + item.title + '”' : 'took up “' + item.title + '” again';
    }
  };

  // This listener runs before the front end's, so that the old title is still known.
  Object.keys(verbs).forEach(function (event) {
    lt.on(event, function (item) {
      if (isOlder(item)) { return; }
      document.getElementById('news').textContent = item.by + ' ' + verbs[event](item);
      // If the row that has the focus goes, a keyboard would start again at the top of the page.
      var inside = box.contains(document.activeElement);
      setTimeout(function () {
        if (inside && document.activeElement === document.body) { input.focus(); }
      }, 100);
    });
  });

  /* ---- the forms ---- */

  function ask(url, request) {
    request = request || {};
    request.headers = Object.assign({ Accept: 'application/json' }, request.headers);
    return fetch(url, request).then(function (answer) {
      return answer.json().then(function (body) {
        if (answer.status === 401) { location.href = 'sign-in.php'; }
        if (!answer.ok) { throw new Error(body.error); }
        return body;
      });
    });
  }

  // Asks for a change, and returns a promise of the answer. An event takes the connection that is open anyway. If
  // events do not reach the application, a form does. Both have the same key, so the change is made once.
  function change(fields) {
    fields.key = window.Longtail ? Longtail.newClientId() : '';
    return byEvent(fields).catch(function (why) {
      if (why) { throw why; }
      return byForm(fields);
    });
  }

  // Fails with an error if the application refuses the change, and with nothing if it gives no answer.
  function byEvent(fields) {
    return new Promise(function (resolve, reject) {
      if (!settings.hook || lt.state !== 'open') { return reject(); }
      setTimeout(reject, 5000);
      lt.emit(fields.action, fields, function (error, answer) {
        if (answer) { return resolve(answer); }
        if (!error || error.code !== 'forbidden') {
          if (error && error.code === 'no_hook') { settings.hook = false; }
          return reject();
        }
        if (error.data && error.data.status === 401) { location.href = 'sign-in.php'; }
        reject(new Error(error.message));
      }, { channel: settings.channel });
    });
  }

  function byForm(fields) {
    var form = new FormData();
    Object.keys(fields).forEach(function (name) { form.set(name, fields[name]); });
    form.set('csrf', settings.csrf);
    return ask('change.php', { method: 'POST', body: form, headers: { 'X-Longtail-Client': lt.client } });
  }

  function notice(text) {
    var line = document.getElementById('notice');
    line.textContent = text;
    line.hidden = !text;
  }

  // One listener for all forms, also those that a framework draws. Without script they go to change.php as they are.
  document.addEventListener('submit', function (event) {
    var form = event.target;
    var action = form.dataset.action;
    if (!action) { return; }
    event.preventDefault();
    if (form.dataset.busy) { return; }
    form.dataset.busy = '1';
    var row = form.closest('.item');
    var fields = { board: settings.board, action: action };
    var title = form.querySelector('[name=title]');
    if (title) { fields.title = title.value; }
    if (row) { fields.id = Number(row.dataset.id); }
    if (action === 'done') { fields.done = row.dataset.done === '1' ? '0' : '1'; }
    // PHP passes our id on as `exclude`: the page draws its own change from the answer, and not a second time from the
    // message.
    change(fields).then(function (answer) {
      if (answer.event === 'itemRemoved') { front.take(answer.data); } else { front.put(answer.data); }
      notice(answer.told ? '' : 'Saved. Live updates are away, so others will see it when they reload.');
      if (action === 'add') { form.reset(); }
      if (action === 'rename') {
        var details = form.closest('details');
        form.reset();
        details.open = false;
        details.querySelector('summary').focus();
      }
      if (action === 'remove') { input.focus(); }
    }).catch(function (error) {
      notice(error instanceof TypeError ? 'The server cannot be reached. Try again in a moment.' : error.message);
    }).then(function () {
      delete form.dataset.busy;
    });
  });

  /* ---- rows, for front ends that have no templates of their own ---- */

  function fill(row, item) {
    row.dataset.id = item.id;
    row.dataset.done = item.done ? '1' : '0';
    row.querySelector('.title').textContent = item.title;
    row.querySelector('.tick').setAttribute('aria-pressed', String(item.done));
    row.querySelector('.tick').setAttribute('aria-label', 'Done: ' + item.title);
    row.querySelector('summary').setAttribute('aria-label', 'Edit: ' + item.title);
    // The default value: text that a user is typing there stays.
    row.querySelector('[name=title]').defaultValue = item.title;
    return row;
  }

  return {
    lt: lt,
    box: box,
    fill: fill,
    newRow: function (item) {
      return fill(document.getElementById('row').content.querySelector('.item').cloneNode(true), item);
    },
    begin: function (adapter) {
      front = {
        put: function (item) { if (isNew(item)) { adapter.put(item); } },
        take: function (item) { if (isNew(item, true)) { adapter.take(item); } }
      };
      settings.items.forEach(front.put);
      return front;
    }
  };
})();
