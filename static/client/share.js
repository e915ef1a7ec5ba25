/*
 * Lets the tabs of one browser share one connection: connect(url, { channels: [...], share: true }).
 *
 * The tabs with the same server, token and options form a group. One of them holds a lock and is the leader. The leader
 * has the connection, which reads the channels of all tabs. It sends each object that it receives to the other tabs, as
 * a numbered entry over a BroadcastChannel. When the leader's tab goes away, the browser gives the lock to the next
 * tab, which continues to read from its own position. Each leader has an id (`term`) and its own numbers. The numbers
 * only show whether an entry is missing.
 *
 * Each tab keeps the last entries that it received. A connection finds its position among these entries by its own
 * cursor. If an entry has this cursor, and the leader has read all channels of the connection since that entry, the
 * connection continues after the entry. This applies at the start, after a pause, and with a new leader. Otherwise, the
 * connection reads with its own transports, and shares again when an entry has its cursor. So no message is lost.
 *
 * An entry has one of these fields: message, gap, bye (the leader's connection has ended), channels (the channels that
 * the leader reads from this entry on). An entry without any of these fields is a heartbeat. A `hello` is not an entry.
 * It contains the leader's cursor and the number of its last entry.
 */
(self.LongtailFiles = self.LongtailFiles || {}).share = function (Longtail) {
  var groups = {};
  // The connections of this tab that share.
  var all = [];
  var HELLO_WITHIN = 3000;
  // The interval at which a tab announces the channels that it reads.
  var BEAT = 10000;
  // The number of entries that a tab keeps, and of publishes that it remembers.
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
    // The last announcement of each other tab, by its id. If this tab becomes the leader, it also reads the channels of
    // these tabs.
    var tabs = {};
    // `kept` begins with the position at which this tab began to follow the leader. For each channel, `covers` has the
    // number of the entry since which the leader reads the channel.
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

    // Handles a report of the leader. The leader is this tab or another one. A listener of the page may cause further
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

    // Only the holder of the lock reads. The promise stays pending, so the tab holds the lock until the tab is closed.
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
      // The cause of the refusal may be a channel of another tab. So each connection asks the server itself and gets
      // its own reason.
      each(group.members, function (member) {
        if (member.link) { goAlone(member); }
      });
    }
    if (said.hello) {
      if (said.term !== group.term || said.seq !== group.seq) {
        // There is a new leader, or this tab has missed an entry.
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

  // Records that the leader reads these channels from this number on.
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
      // The comparison is also false if there is no number.
      if (!(member.group.covers[':' + name] <= seq)) { is = false; }
    });
    return is;
  }

  // The index of the entry after which this connection continues, or -1.
  function place(member) {
    var kept = member.group.kept;
    var cursor = member.owner.cursor;
    var i = kept.length - 1;
    if (!member.group.term) { return -1; }
    if (cursor !== 'latest') {
      // Several entries may have one cursor. After the last of them the leader reads the most channels. An entry with a
      // gap has the cursor after the gap, and this connection may be before the gap.
      while (i >= 0 && (kept[i].cursor !== cursor || kept[i].gap)) { i--; }
    }
    return i >= 0 && isCovered(member, kept[i].seq) ? i : -1;
  }

  // Lets the connection follow the leader from its position among the entries, if it has one.
  function follow(member) {
    var at = place(member);
    var link = member.link;
    if (at === -1) { return false; }
    clearTimeout(member.timer);
    member.follows = true;
    // A volatile message is only for readers that are connected when it arrives.
    each(member.group.kept.slice(at + 1), function (said) {
      if (!said.message || said.message.id) { member.queue.push(said); }
    });
    link.item({ type: 'hello', cursor: member.group.kept[at].cursor, heartbeat: 60 });
    drain(member);
    return true;
  }

  // Passes the queued entries to the connection, until a message has to wait for the answer to a publish.
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

  // Sets the time within which the connection has to find its position among the entries.
  function expect(member) {
    clearTimeout(member.timer);
    member.follows = false;
    member.timer = setTimeout(function () {
      // The leader did not answer (for example, because its tab sleeps), or no entry has this cursor.
      if (member.link && !member.follows) { goAlone(member); }
    }, HELLO_WITHIN);
  }

  function goAlone(member) {
    member.alone = now();
    member.use(member.own);
    member.group.announce(!member.group.term);
  }

  // A connection that reads with its own transports follows the leader again if it can.
  function comeBack(member) {
    if (member.alone && now() - member.alone > HELLO_WITHIN && member.owner.state === 'open' && place(member) !== -1) {
      member.alone = 0;
      member.use('shared');
    }
  }

  /* ---- a connection ---- */

  // Returns whether this connection has published the message with toSelf: false. The group's connection has another
  // client id, so the server cannot exclude this one. A message that may come from such a publish waits until the
  // server answers the publish: the answer contains the id of the message. A volatile message has no id, so its text is
  // compared.
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

  // For the core, sharing is a transport like the others. Only connections with `share` use it.
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
      // The call is deferred, since the core has not finished opening this transport.
      setTimeout(function () {
        if (member.link === link) { member.group.announce(!follow(member)); }
      }, 0);
      return member;
    },
    close: function (member) {
      clearTimeout(member.timer);
      member.link = null;
      // The call is deferred, because the state shows only later why the core closed the transport.
      setTimeout(function () { member.group.announce(false); }, 0);
    }
  });

  // The core calls this function for a connection that wants to share.
  Longtail.share = function (owner, options) {
    var plain = owner.publish;
    var use = owner.use;
    var own = options.transports || null;
    var member = { owner: owner, use: use, own: own, link: null, follows: false, alone: 0, queue: [], sent: [] };
    try {
      // This code cannot find out whether two functions return tokens of the same user.
      if (!navigator.locks || typeof options.token === 'function') { throw 0; }
      member.group = join(owner, options);
    } catch (e) {
      // The browser does not support sharing, or does not allow it on this page.
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
