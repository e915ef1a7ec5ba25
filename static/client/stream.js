/*
 * Monitors the stream that the connection reads. If the stream is silent for longer than usual, this code checks it.
 * Over a WebSocket, this code sends commands: it changes the channels without another connection, publishes if a proxy
 * forbids POST, and sends a ping at every second heartbeat. The core loads this file after a stream has delivered an
 * object.
 */
(self.LongtailFiles = self.LongtailFiles || {}).stream = function (Longtail) {
  // Times in milliseconds. The first check after a message comes after SOONEST to LATEST, times a random factor of 1 to
  // 2. ANSWER_WITHIN is the time limit for the answer to a check. If the answer contains a message, the stream must
  // deliver it within REST_WITHIN.
  var SOONEST = 3000;
  var LATEST = 60000;
  var ANSWER_WITHIN = 10000;
  var REST_WITHIN = 1000;

  // Returns the items of a list that are not in another one.
  function less(list, others) {
    var left = [];
    for (var i = 0; i < list.length; i++) {
      if (others.indexOf(list[i]) === -1) { left.push(list[i]); }
    }
    return left;
  }

  function nothing() {}

  function silent(link) {
    link.end({ code: 'unreachable', message: 'the stream was silent for too long' });
  }

  // Returns a function that the core calls for each message. If no message follows for a long time, a request asks the
  // server whether there is a message that the stream should have delivered. The next request follows after twice the
  // time, and so on until the next message.
  function watch(link) {
    var heard = 0;
    var pace = 0;
    var timer = null;
    // Stops the request that is under way.
    var stop = nothing;

    function ask(wait) {
      var at;
      // The stream is dead, unless it has delivered a message since the request.
      function give() {
        stop();
        if (link.live() && link.cursor === at) { silent(link); } else { ask(wait * 2); }
      }
      // The address of a stream has `probe=1`, so this request does not count as one of a reader, and its user does not
      // become a member by it. The first request has neither a client id nor a session. The answer may contain messages
      // that exclude this client, or it may be a refusal. If the answer is not empty, a second request sends both.
      function request(isSecond) {
        var url = link.url('/poll', 'n=' + Math.random());
        timer = setTimeout(give, ANSWER_WITHIN);
        link.owner.stats.requests++;
        stop = Longtail.http('GET', isSecond ? url : url.replace(/&(client|session)=[^&]*/g, ''), { credentials: link.credentials }, function (status, text) {
          var batch = {};
          clearTimeout(timer);
          try { batch = Longtail.decode(text) || batch; } catch (e) {}
          if (!status) { return give(); }
          if (status === 200 && !batch.gap && !(batch.messages && batch.messages.length)) { return ask(wait * 2); }
          if (!isSecond) { return request(true); }
          // Any answer shows that the path works, even a refusal.
          if (status !== 200) { return ask(wait * 2); }
          // If a message arrives in the meantime, it restarts this timer.
          timer = setTimeout(give, REST_WITHIN);
        });
      }
      timer = setTimeout(function () {
        if (!link.live() || !Longtail.reaches(link.owner.url)) { return; }
        at = link.cursor;
        request();
      }, wait);
    }

    return function () {
      var time = Longtail.now();
      var since = heard ? time - heard : 0;
      pace = pace ? (pace * 3 + since) / 4 : since;
      heard = time;
      clearTimeout(timer);
      stop();
      // The time has bounds, since an old browser only has a clock that can be set.
      ask(Math.max(SOONEST, Math.min(4 * pace, LATEST)) * (1 + Math.random()));
    };
  }

  // Returns the commands that the core can use over a WebSocket. subscribe(token, all) changes to the present channels
  // of the connection; with `all`, it also subscribes again to the channels that the connection already reads, with
  // another token. publish(fields, data, done) publishes a message. send(command, done) sends any command.
  function commands(link, socket) {
    var count = 0;
    var beats = 0;
    // The functions that wait for the answer to a command, by its number.
    var waiting = {};

    function send(command, done) {
      command.ref = ++count;
      waiting[count] = done;
      socket.send(Longtail.encode(command));
    }

    function answer(object) {
      var done = waiting[object.ref];
      delete waiting[object.ref];
      if (done) { done(object.type === 'error' ? object : null, object.id, object); }
    }

    // Some paths still deliver data from the server although they no longer deliver data to it.
    function ping() {
      if (beats++ % 2) { return; }
      if (waiting.ping) { return silent(link); }
      waiting.ping = function () {};
      socket.send('{"type":"ping","ref":"ping"}');
    }

    socket.addEventListener('message', function (event) {
      // A message of the log does not begin like this, so it is not parsed twice.
      if (!/^\{"type":"(ack|error|pong|heartbeat)"/.test(event.data)) { return; }
      var object = Longtail.decode(event.data);
      if (object.type === 'heartbeat') { ping(); } else { answer(object); }
    }, false);
    socket.addEventListener('close', function () {
      for (var number in waiting) { waiting[number]({ code: 'unreachable', message: 'no answer' }); }
    }, false);
    ping();

    // The core has already taken the cursor of the ack. The leader of tabs that share has `acked`.
    function check(error) {
      if (error) { link.end(error); } else if (link.owner.acked && link.live()) { link.owner.acked(); }
    }

    return {
      subscribe: function (token, all) {
        var wanted = link.owner.channels.slice(0);
        var more = all ? wanted : less(wanted, link.channels);
        var fewer = less(link.channels, wanted);
        link.channels = wanted;
        if (more.length) { send({ type: 'subscribe', channels: more, token: token }, check); }
        if (fewer.length) { send({ type: 'unsubscribe', channels: fewer }, check); }
      },
      publish: function (fields, data, done) {
        send({
          type: 'publish',
          channel: fields.channel,
          data: data,
          event: fields.event,
          exclude: fields.exclude,
          'volatile': !!fields['volatile'],
          key: fields.key,
          token: fields.token
        }, done);
      },
      send: send
    };
  }

  Longtail.stream = function (link, handle) {
    var care = link.transport.name === 'ws' ? commands(link, handle) : {};
    // Tabs that share a connection receive the leader's heartbeats. Only the leader can check its stream.
    care.heard = link.transport.name === 'shared' ? nothing : watch(link);
    return care;
  };
};
