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

  // Returns whether the position `at`, which the connection reports, is after `other`. If their epochs differ, `at` is
  // the later one, except if the connection has just changed to a transport that may be behind the previous transport.
  function isAfter(leader, at, other) {
    var one = at.split(/[-.]/);
    var two = other.split(/[-.]/);
    if (at === 'latest' || other === 'latest') { return at !== 'latest'; }
    if (one[2] !== two[2]) { return !(leader.isBehind && now() - leader.told < LEVEL_AFTER); }
    return (one[0] - two[0] || one[1] - two[1]) > 0;
  }

  // Returns the position of the leader. It never goes back: an entry with an earlier cursor would follow entries of
  // messages that are after that cursor.
  function cursor(leader) {
    var at = leader.lt.cursor;
    if (isAfter(leader, at, leader.last)) { leader.last = at; }
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
    leader.say({ to: to, hello: true, term: leader.term, seq: leader.seq, cursor: cursor(leader), channels: leader.reads });
  }

  // Answers the tabs that asked for a hello. If the server has not answered a command yet, they wait for that answer.
  function answer(leader) {
    while (leader.asking.length && !leader.commands) {
      if (!leader.lt || leader.lt.state !== 'open') { return leader.say({ to: leader.asking[0], wait: true }); }
      hello(leader, leader.asking.shift());
    }
  }

  function begin(leader, names) {
    var options = leader.options;
    var lt;
    leader.reads = names;
    lt = leader.lt = Longtail.connect(leader.url, {
      channels: names,
      cursor: leader.last,
      token: options.token,
      credentials: options.credentials,
      transports: options.transports,
      interval: options.interval
    });
    // stream.js calls this function for each command that the server has carried out.
    lt.acked = function () {
      leader.commands--;
      joined(leader);
      answer(leader);
    };
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
    lt.on('transport', function () { restarted(leader); });
    lt.on('state', function (state) {
      restarted(leader);
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

  // Tells the tabs from which entry on the leader reads the channels of its connection. A command over a WebSocket takes
  // effect at the position that its ack names: earlier messages of the new channels do not come. So this waits for the
  // ack.
  function joined(leader) {
    if (leader.commands) { return; }
    leader.reads = leader.lt.channels.slice(0);
    tell(leader, { channels: leader.reads });
  }

  // The connection reads with another request, which begins at its cursor and names all channels. The acks of earlier
  // commands do not come any more.
  function restarted(leader) {
    leader.isBehind = true;
    if (leader.commands && leader.lt) {
      leader.commands = 0;
      joined(leader);
    }
  }

  function send(leader, command, names) {
    if (!names.length) { return; }
    leader.lt[command](names);
    // The connection stays open only if it has sent a command.
    leader.commands = leader.lt.state === 'open' ? leader.commands + 1 : 0;
  }

  // Changes the channels of the connection to these.
  function change(leader, names) {
    var lt = leader.lt;
    var more = less(names, lt.channels);
    var fewer = less(lt.channels, names);
    if (!more.length && !fewer.length) { return; }
    // A transport without commands reads the new channels from this position on.
    cursor(leader);
    leader.reads = less(leader.reads, fewer);
    send(leader, 'subscribe', more);
    send(leader, 'unsubscribe', fewer);
    joined(leader);
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
      change(leader, names);
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
      // The channels that the leader reads, as the tabs know them.
      reads: [],
      // The number of commands that the server has not answered.
      commands: 0,
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
