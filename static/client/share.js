/*
 * Lets the tabs of one browser share one connection: connect(url, { channels: [...], share: true }).
 *
 * The tabs with the same server, token and options form a group. One of them holds a lock, and is the leader: it has
 * the connection, which reads the channels of all tabs. It passes on the objects that it receives over a
 * BroadcastChannel, and numbers them. When the leader's tab goes away, the browser gives the lock to the next tab,
 * which continues from the group's cursor. A tab that misses a number, or receives nothing for too long, opens a
 * connection of its own from its own cursor: nothing is lost, but that tab no longer shares. A connection that begins
 * at its own cursor is not shared.
 */
(function () {
  var groups = {};
  var HELLO_WITHIN = 3000;
  // Timers of tabs in the background fire once a minute.
  var ANNOUNCE = 10000;
  var DEAD_AFTER = 150000;

  function now() {
    return new Date().getTime();
  }

  // Returns this tab's part in a group. The first call for a group makes it.
  function join(owner, options) {
    var key = 'longtail ' + owner.url + ' ' + Longtail.encode([options.token, options.credentials, options.transports]);
    var group = groups[key];
    if (group) { return group; }
    group = groups[key] = { links: [], seq: 0, cursor: 'latest', heard: now(), leader: null };
    var id = Longtail.newClientId();
    var air = new BroadcastChannel(key);

    function channels() {
      var names = [];
      for (var i = 0; i < group.links.length; i++) { names = names.concat(group.links[i].owner.channels); }
      return names;
    }

    // Tells the leader which channels this tab reads; `fresh` asks for a hello.
    group.announce = function (fresh) {
      air.postMessage({ from: id, channels: channels(), fresh: fresh });
      if (group.leader) { group.leader.member({ from: id, channels: channels(), fresh: fresh }); }
    };

    // Handles a report of the leader, which is in this tab or in another one.
    group.take = function (said) {
      var links = group.links.slice(0);
      var i;
      if (said.to !== undefined && said.to !== id) { return; }
      group.heard = now();
      if (said.hello) {
        group.seq = said.seq;
        group.cursor = said.cursor;
      } else if (said.seq <= group.seq) {
        return;
      } else if (group.seq && said.seq > group.seq + 1) {
        // A message was missed. Each connection gets it from its own cursor.
        return leave();
      } else {
        group.seq = said.seq;
        group.cursor = said.cursor || group.cursor;
      }
      for (i = 0; i < links.length; i++) { links[i].hear(said); }
    };

    // Lets each connection of this tab continue by itself.
    function leave() {
      var links = group.links;
      group.links = [];
      for (var i = 0; i < links.length; i++) { links[i].owner.use(options.transports || null); }
    }

    air.onmessage = function (event) {
      if (event.data.from) {
        if (group.leader) { group.leader.member(event.data); }
      } else {
        group.take(event.data);
      }
    };

    setInterval(function () {
      if (!group.links.length) { return; }
      group.announce(false);
      if (now() - group.heard > DEAD_AFTER) { leave(); }
    }, ANNOUNCE);

    // Only the holder of the lock reads. The promise never resolves, so the tab holds the lock for its whole life.
    navigator.locks.request(key, function () {
      group.leader = lead(owner.url, options, group, function (said) {
        air.postMessage(said);
        group.take(said);
      });
      group.announce(true);
      return new Promise(function () {});
    });
    return group;
  }

  // The leader's connection, in the tab that holds the lock.
  function lead(url, options, group, say) {
    var members = {};
    var waiting = [];
    var lt = null;

    function wanted() {
      var all = [];
      var seen = {};
      for (var id in members) {
        if (now() - members[id].at > DEAD_AFTER) { delete members[id]; }
      }
      for (id in members) {
        for (var i = 0; i < members[id].channels.length; i++) {
          var name = members[id].channels[i];
          if (!seen[':' + name]) { all.push(name); }
          seen[':' + name] = true;
        }
      }
      return all.sort();
    }

    function tell(said) {
      said.seq = group.seq + 1;
      said.cursor = lt.cursor;
      say(said);
    }

    function greet() {
      if (!lt || lt.state !== 'open') { return; }
      while (waiting.length) { say({ to: waiting.shift(), hello: true, seq: group.seq, cursor: lt.cursor, by: lt.transport }); }
    }

    function begin(names) {
      lt = Longtail.connect(url, {
        channels: names,
        cursor: group.cursor,
        token: options.token,
        credentials: options.credentials,
        transports: options.transports,
        interval: options.interval
      });
      lt.on('message', function (message) { tell({ message: message }); });
      lt.on('gap', function (gap) { tell({ gap: gap }); });
      lt.on('close', function (why) {
        tell({ bye: why });
        lt = null;
      });
      lt.on('open', greet);
      lt.on('state', greet);
    }

    setInterval(function () { if (lt && lt.state === 'open') { tell({ beat: true }); } }, ANNOUNCE);

    return {
      member: function (said) {
        var before = lt ? lt.channels.slice(0).sort().join() : '';
        var names;
        members[said.from] = { channels: said.channels, at: now() };
        if (!said.channels.length) { delete members[said.from]; }
        if (said.fresh) { waiting.push(said.from); }
        names = wanted();
        if (!names.length) {
          if (lt) { lt.pause(); }
        } else if (!lt) {
          begin(names);
        } else if (names.join() !== before || lt.state === 'paused') {
          lt.channels = names;
          if (lt.state === 'paused') { lt.resume(); } else { lt.subscribe(names[0]); }
        }
        greet();
      }
    };
  }

  // To the core this is a transport like the others. Only connections with `share` use it.
  Longtail.transports.push({
    name: 'shared',
    like: 'jsonp',
    usable: function () {
      return !!window.BroadcastChannel && !!navigator.locks;
    },
    open: function (link) {
      var group = link.owner.group;
      var handle = { owner: link.owner, group: group };
      var timer = setTimeout(function () {
        // There was no answer: the leader's tab sleeps, or cannot reach the server.
        without(group, handle);
        link.owner.use(link.owner.own);
      }, HELLO_WITHIN);
      var mine = ',' + link.owner.channels.join() + ',';
      handle.stop = function () { clearTimeout(timer); };
      handle.hear = function (said) {
        clearTimeout(timer);
        if (said.hello) {
          link.item({ type: 'hello', cursor: said.cursor });
        } else if (said.message) {
          if (mine.indexOf(',' + said.message.channel + ',') !== -1) {
            link.owner.sort(said.message, function () { link.item(said.message); });
          }
        } else if (said.gap) {
          link.item({ type: 'gap', from: said.gap.from, cursor: said.gap.cursor });
        } else if (said.bye) {
          link.end(said.bye.code === 'closed' ? null : said.bye);
        } else {
          link.item({ type: 'heartbeat', cursor: said.cursor });
        }
      };
      group.links.push(handle);
      group.announce(true);
      return handle;
    },
    close: function (handle) {
      handle.stop();
      without(handle.group, handle);
    }
  });

  function without(group, handle) {
    for (var i = group.links.length - 1; i >= 0; i--) {
      if (group.links[i] === handle) { group.links.splice(i, 1); }
    }
    group.announce(false);
  }

  // Called by the core for a connection that wants to share.
  Longtail.share = function (owner, options) {
    var publish = owner.publish;
    var pending = 0;
    var held = [];
    var mine = {};
    owner.own = options.transports || null;
    owner.group = join(owner, options);

    // The connection belongs to another client id, so the server cannot exclude this client. Messages that arrive are
    // held until the id of the published message is known.
    owner.sort = function (message, pass) {
      if (pending) { return held.push([message, pass]); }
      if (!message.id || !mine[message.id]) { pass(); }
    };
    owner.publish = function (channel, data, settings, done) {
      if (!settings || settings.toSelf !== false) { return publish(channel, data, settings, done); }
      pending++;
      return publish(channel, data, settings, function (error, id) {
        var late;
        if (id) { mine[id] = true; }
        pending--;
        if (!pending) {
          late = held;
          held = [];
          for (var i = 0; i < late.length; i++) { owner.sort(late[i][0], late[i][1]); }
        }
        if (done) { done(error, id); }
      });
    };
    owner.use('shared');
  };
})();
