/*
 * Lets the tabs of one browser share one connection: connect(url, { channels: [...], share: true }).
 *
 * The tabs with the same server, token and options form a group. One of them holds a lock, and is the leader: it has
 * the connection, which reads the channels of all tabs. It passes on the objects that it receives over a
 * BroadcastChannel, as entries with numbers. When the leader's tab goes away, the browser gives the lock to the next
 * tab, which continues to read from its own position. The numbers belong to one leader (`term`), and say only whether
 * an entry is missing.
 *
 * A connection has its place among the entries by its own cursor. Each tab keeps the last entries. If the cursor is
 * that of an entry, and the leader has read all channels of the connection since then, the connection continues after
 * that entry: at the start, after a pause, or with a new leader. Otherwise it continues alone with its own transports,
 * and comes back when its cursor is that of an entry. So nothing is lost.
 *
 * An entry has one of: message, gap, bye (the leader's connection is over), channels (what is read from here on). One
 * without any of these is a heartbeat. `hello` is not an entry: it gives the number and the cursor of the leader.
 */
(self.LongtailFiles = self.LongtailFiles || {}).share = function (Longtail) {
  var groups = {};
  // The connections of this tab that share.
  var all = [];
  var HELLO_WITHIN = 3000;
  // How often a tab announces what it reads.
  var BEAT = 10000;
  // Entries that a tab keeps, and publishes that it remembers.
  var KEPT = 100;
  // How long messages may wait for the answer to a publish.
  var HELD = 3000;

  function now() {
    return new Date().getTime();
  }

  function each(array, fn) {
    array = array.slice(0);
    for (var i = 0; i < array.length; i++) { fn(array[i]); }
  }

  function has(array, value) {
    for (var i = 0; i < array.length; i++) {
      if (array[i] === value) { return true; }
    }
    return false;
  }

  function drop(array, value) {
    for (var i = array.length - 1; i >= 0; i--) {
      if (array[i] === value) { array.splice(i, 1); }
    }
  }

  // Returns this tab's part in a group. The first call for a group makes it.
  function join(owner, options) {
    var key = 'longtail ' + owner.url + ' ' + Longtail.encode([options.token, options.credentials, options.transports]);
    var group = groups[key];
    if (group) { return group; }
    var air = new BroadcastChannel(key);
    var inbox = [];
    var isBusy = false;
    var leader = null;
    // By id, what the other tabs announced last: the next leader reads for them, too.
    var tabs = {};
    // `kept` begins with the place at which this tab began to follow the leader. `covers` gives for each channel the
    // number since which the leader reads it.
    group = groups[key] = { id: Longtail.newClientId(), members: [], term: null, seq: 0, kept: [], covers: {} };

    // Tells the leader which channels this tab reads; `fresh` asks for a hello.
    group.announce = function (fresh, gone) {
      var said = { from: group.id, at: now(), channels: [], active: false, fresh: fresh };
      each(gone ? [] : group.members, function (member) {
        // The connection is over, or the page has chosen other transports for it.
        if (member.owner.state === 'closed' || member.hasLeft) {
          drop(all, member);
          return drop(group.members, member);
        }
        said.channels = said.channels.concat(member.owner.channels);
        if (member.owner.state !== 'paused') { said.active = true; }
      });
      air.postMessage(said);
      if (leader) { leader(said); }
    };

    // Handles a report of the leader, which is in this tab or in another one. A listener of the page may cause further
    // reports, so this function keeps the order.
    function take(said) {
      inbox.push(said);
      if (isBusy) { return; }
      isBusy = true;
      try {
        while (inbox.length) { hear(group, inbox.shift()); }
      } finally {
        isBusy = false;
      }
    }

    air.onmessage = function (event) {
      var said = event.data;
      if (!said.from) { return take(said); }
      tabs[said.from] = said;
      if (!said.channels.length) { delete tabs[said.from]; }
      if (leader) { leader(said); }
    };
    setInterval(function () {
      if (group.members.length) { group.announce(!group.term); }
      each(group.members, comeBack);
    }, BEAT);
    window.addEventListener('pagehide', function () { group.announce(false, true); }, false);

    // Only the holder of the lock reads. The promise does not end, so the tab holds the lock for its whole life.
    navigator.locks.request(key, function () {
      return new Promise(function (resolve) {
        Longtail.need(owner.url, 'lead', function (lead) {
          var last = group.kept[group.kept.length - 1];
          if (!lead) { return resolve(); }
          leader = lead(owner.url, options, last ? last.cursor : 'latest', tabs, function (said) {
            air.postMessage(said);
            take(said);
          });
          group.announce(true);
        });
      });
    }).then(null, function () {});
    return group;
  }

  // The reactions of a tab to the leader's reports.
  function hear(group, said) {
    var kept = group.kept;
    var isForUs = said.to === group.id;
    if (said.to && !isForUs) { return; }
    if (said.bye) {
      // The reason may be a channel of another tab. The server gives each connection its own reason.
      each(group.members, function (member) {
        if (member.link) { goAlone(member); }
      });
    }
    if (said.hello) {
      if (said.term !== group.term || said.seq !== group.seq) {
        // The leader is another one, or an entry was missed.
        group.term = said.term;
        group.seq = said.seq;
        group.covers = {};
        group.kept = [said];
        each(group.members, expect);
      }
      cover(group, said);
    } else if (said.wait) {
      each(group.members, function (member) {
        clearTimeout(member.timer);
        // The leader has lost its connection.
        if (!isForUs && member.follows) { member.link.end(); }
      });
      return;
    } else if (said.term !== group.term) {
      return;
    } else if (said.seq !== group.seq + 1) {
      group.term = null;
      each(group.members, expect);
      return group.announce(true);
    } else {
      group.seq = said.seq;
      kept.push(said);
      if (kept.length > KEPT) { kept.shift(); }
      if (said.channels) { cover(group, said); }
    }
    each(group.members, function (member) {
      if (said.hello && member.owner.state === 'waiting' && !member.alone) { return member.use('shared'); }
      if (!member.link) { return; }
      if (member.follows && !said.hello) {
        if (said.channels && !isCovered(member, said.seq)) { return goAlone(member); }
        member.queue.push(said);
        drain(member);
      } else if (!follow(member) && isForUs) {
        goAlone(member);
      }
    });
  }

  // The leader reads these channels from this number on.
  function cover(group, said) {
    var covers = {};
    each(said.channels, function (name) {
      var since = group.covers[':' + name];
      covers[':' + name] = since === undefined ? said.seq : since;
    });
    group.covers = covers;
  }

  function isCovered(member, seq) {
    var is = true;
    each(member.owner.channels, function (name) {
      // This is also false where there is no number.
      if (!(member.group.covers[':' + name] <= seq)) { is = false; }
    });
    return is;
  }

  // The index of the entry after which this connection continues, or -1.
  function place(member) {
    var kept = member.group.kept;
    var cursor = member.owner.cursor;
    var i = 0;
    if (!member.group.term) { return -1; }
    if (cursor === 'latest') {
      i = kept.length - 1;
    } else {
      while (i < kept.length && kept[i].cursor !== cursor) { i++; }
    }
    return i < kept.length && isCovered(member, kept[i].seq) ? i : -1;
  }

  // Lets the connection follow the leader from its place on, if it has one.
  function follow(member) {
    var at = place(member);
    var link = member.link;
    if (at === -1) { return false; }
    clearTimeout(member.timer);
    member.follows = true;
    // Volatile messages are for those that are connected when they come.
    each(member.group.kept.slice(at + 1), function (said) {
      if (!said.message || said.message.id) { member.queue.push(said); }
    });
    link.item({ type: 'hello', cursor: member.group.kept[at].cursor, heartbeat: 60 });
    drain(member);
    return true;
  }

  // Passes on the entries that have come, until a message has to wait for the answer to a publish.
  function drain(member) {
    while (member.link && member.queue.length) {
      var link = member.link;
      var said = member.queue[0];
      var message = said.message;
      var own = message && has(member.owner.channels, message.channel) ? judge(member, message) : 'foreign';
      if (own === 'perhaps') { return; }
      member.queue.shift();
      if (!own) {
        link.item(message);
      } else if (said.gap) {
        link.item({ type: 'gap', from: said.gap.from, cursor: said.gap.cursor });
      } else {
        link.item({ type: 'heartbeat', cursor: said.cursor });
      }
    }
  }

  // From now on the connection has to find its place within this time.
  function expect(member) {
    clearTimeout(member.timer);
    member.follows = false;
    member.timer = setTimeout(function () {
      // There was no answer (the leader's tab sleeps), or no entry with this cursor.
      if (member.link && !member.follows) { goAlone(member); }
    }, HELLO_WITHIN);
  }

  function goAlone(member) {
    member.alone = now();
    member.use(member.own);
    member.group.announce(!member.group.term);
  }

  // A connection that went alone follows the leader again where it can.
  function comeBack(member) {
    if (member.alone && now() - member.alone > HELLO_WITHIN && member.owner.state === 'open' && place(member) !== -1) {
      member.alone = 0;
      member.use('shared');
    }
  }

  /* ---- a connection ---- */

  // Returns whether this connection has published the message with toSelf: false. The group's connection has another
  // client id, so the server cannot exclude this one. A message that may be one waits until the publish is answered:
  // the answer contains its id. A volatile message has no id, so its text decides.
  function judge(member, message) {
    var text = member.sent.length && Longtail.encode([message.channel, message.event, message.data]);
    for (var i = 0; i < member.sent.length; i++) {
      var sent = member.sent[i];
      if (message.id ? sent.id === message.id : sent.isVolatile && sent.text === text) {
        member.sent.splice(i, 1);
        return 'own';
      }
      if (message.id && !sent.id && !sent.isVolatile && sent.text === text && now() - sent.at < HELD) { return 'perhaps'; }
    }
  }

  function publish(member, channel, data, settings, done, plain) {
    var sent = {
      text: Longtail.encode([channel, settings.event || 'message', data]),
      isVolatile: !!settings['volatile'],
      at: now()
    };
    member.sent.push(sent);
    if (member.sent.length > KEPT) { member.sent.shift(); }
    function forget() {
      drop(member.sent, sent);
      drain(member);
    }
    setTimeout(function () { drain(member); }, HELD);
    setTimeout(forget, 60000);
    return plain(channel, data, settings, function (error, id) {
      sent.id = id;
      if (error) { forget(); } else { drain(member); }
      if (done) { done(error, id); }
    });
  }

  // To the core this is a transport like the others. Only connections with `share` use it.
  Longtail.transports.push({
    name: 'shared',
    like: 'jsonp',
    hidden: true,
    free: true,
    usable: function () {
      return true;
    },
    open: function (link) {
      var member;
      each(all, function (one) {
        if (one.owner === link.owner) { member = one; }
      });
      member.link = link;
      member.queue = [];
      expect(member);
      // This happens later, since the core has not finished opening it.
      setTimeout(function () {
        if (member.link === link) { member.group.announce(!follow(member)); }
      }, 0);
      return member;
    },
    close: function (member) {
      clearTimeout(member.timer);
      member.link = null;
      // This happens later, when the state says why it was closed.
      setTimeout(function () { member.group.announce(false); }, 0);
    }
  });

  // Called by the core for a connection that wants to share.
  Longtail.share = function (owner, options) {
    var plain = owner.publish;
    var use = owner.use;
    var own = options.transports || null;
    var member = { owner: owner, use: use, own: own, link: null, follows: false, alone: 0, queue: [], sent: [] };
    try {
      // This code cannot tell whether two functions give tokens of one user.
      if (!navigator.locks || typeof options.token === 'function') { throw 0; }
      member.group = join(owner, options);
    } catch (e) {
      // The browser cannot share, or forbids it here.
      return use(own);
    }
    all.push(member);
    member.group.members.push(member);
    owner.use = function (transports) {
      member.hasLeft = true;
      member.alone = 0;
      return use(transports);
    };
    owner.publish = function (channel, data, settings, done) {
      if (!settings || settings.toSelf !== false) { return plain(channel, data, settings, done); }
      return publish(member, channel, data, settings, done, plain);
    };
    owner.on('message', function () { comeBack(member); });
    // A connection that begins at its own cursor joins the others later.
    if (options.cursor || options.last) { goAlone(member); } else { use('shared'); }
  };
};
