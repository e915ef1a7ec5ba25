/*
 * The leader of tabs that share a connection: the tab that holds the lock. The leader has the connection, which reads
 * the channels of all tabs. It sends each object that it receives to the tabs as a numbered entry; see share.js.
 */
(self.LongtailFiles = self.LongtailFiles || {}).lead = function (Longtail) {
  // If the connection is not open after this time, the leader reports this to the tabs.
  var PATIENCE = 3000;
  // The leader sends a heartbeat at the interval BEAT. A tab without an announcement for DEAD_AFTER counts as closed.
  // This time is long, because timers of background tabs fire only once a minute.
  var BEAT = 10000;
  var DEAD_AFTER = 150000;
  // A transport that takes over has caught up with the previous one after this time, or after a new message.
  var LEVEL_AFTER = 60000;

  function now() {
    return new Date().getTime();
  }

  // Returns the items of a list that are not in another one.
  function less(list, other) {
    var left = [];
    for (var i = 0; i < list.length; i++) {
      if ((',' + other.join() + ',').indexOf(',' + list[i] + ',') === -1) { left.push(list[i]); }
    }
    return left;
  }

  // Returns the position of the leader. A transport that takes over may be behind the previous one for a moment. An
  // entry with its cursor would then follow entries of messages that are after that cursor. So during this time, the
  // result is the last position.
  function cursor(leader) {
    var at = leader.lt.cursor;
    if (at !== 'latest' && !(leader.isBehind && now() - leader.told < LEVEL_AFTER)) { leader.last = at; }
    return leader.last;
  }

  function tell(leader, said, at) {
    said.term = leader.term;
    said.seq = ++leader.seq;
    said.cursor = leader.last = at || cursor(leader);
    leader.say(said);
  }

  // Sends a hello to one tab or to all tabs: the position at which they begin to follow the leader.
  function hello(leader, to) {
    leader.say({ to: to, hello: true, term: leader.term, seq: leader.seq, cursor: cursor(leader), channels: leader.lt.channels.slice(0) });
  }

  // Answers the tabs that asked for a hello.
  function answer(leader) {
    while (leader.asking.length) {
      if (!leader.lt || leader.lt.state !== 'open') { return leader.say({ to: leader.asking[0], wait: true }); }
      hello(leader, leader.asking.shift());
    }
  }

  function begin(leader, names) {
    var options = leader.options;
    var lt = leader.lt = Longtail.connect(leader.url, {
      channels: names,
      cursor: leader.last,
      token: options.token,
      credentials: options.credentials,
      transports: options.transports,
      interval: options.interval
    });
    lt.on('message', function (message) {
      leader.told = now();
      leader.isBehind = false;
      tell(leader, { message: message }, message.id || leader.last);
    });
    lt.on('gap', function (gap) { tell(leader, { gap: gap }, gap.cursor || leader.last); });
    lt.on('close', function (why) {
      tell(leader, { bye: why });
      leader.lt = null;
    });
    lt.on('transport', function () { leader.isBehind = true; });
    lt.on('state', function (state) {
      leader.isBehind = true;
      if (leader.lt !== lt) { return; }
      if (state === 'open') { hello(leader); }
      if (state === 'waiting') {
        setTimeout(function () {
          if (leader.lt === lt && lt.state !== 'open' && lt.state !== 'paused') { leader.say({ wait: true }); }
        }, PATIENCE);
      }
      answer(leader);
    });
    // Messages may arrive before the connection is open.
    if (leader.last !== 'latest') { hello(leader); }
  }

  // Changes the channels of the connection. An entry with the new list shows the tabs from which entry on the leader
  // reads them.
  function change(leader, method, names) {
    var lt = leader.lt;
    if (!names.length) { return; }
    while (names.length) { lt[method](names.pop()); }
    tell(leader, { channels: lt.channels.slice(0) });
  }

  // Handles the announcement of a tab.
  function hear(leader, said) {
    var tabs = leader.tabs;
    var lt = leader.lt;
    var names = [];
    var isActive = false;
    tabs[said.from] = said;
    for (var id in tabs) {
      if (!tabs[id].channels.length || now() - tabs[id].at > DEAD_AFTER) {
        delete tabs[id];
      } else {
        names = names.concat(less(tabs[id].channels, names));
        isActive = isActive || tabs[id].active;
      }
    }
    if (said.fresh) { leader.asking = less(leader.asking, [said.from]).concat(said.from); }
    if (!isActive) {
      if (lt) { lt.pause(); }
    } else if (!lt) {
      begin(leader, names);
    } else {
      change(leader, 'subscribe', less(names, lt.channels));
      change(leader, 'unsubscribe', less(lt.channels, names));
      lt.resume();
    }
    answer(leader);
  }

  // Begins to lead from the cursor `last`; `tabs` has the last announcement of each other tab by its id, and `say`
  // tells all tabs. Returns the function that handles the announcements of tabs.
  Longtail.lead = function (url, options, last, tabs, say) {
    var leader = {
      url: url,
      options: options,
      last: last,
      say: say,
      term: Longtail.newClientId(),
      seq: 0,
      lt: null,
      tabs: tabs,
      // The ids of the tabs that wait for a hello.
      asking: [],
      // The time at which the last message was passed on.
      told: 0,
      isBehind: false
    };
    setInterval(function () {
      if (leader.lt && leader.lt.state === 'open') { tell(leader, {}); }
    }, BEAT);
    return function (said) { hear(leader, said); };
  };
};
