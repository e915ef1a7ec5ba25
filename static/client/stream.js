/*
 * Looks after a stream that is read. It checks a stream that has been silent for longer than it used to be. Over a
 * WebSocket it sends commands: other channels without another connection, publishing where a proxy forbids POST, and a
 * ping now and then. The core loads this file after a stream has brought an object.
 */
(self.LongtailFiles = self.LongtailFiles || {}).stream = function (Longtail) {
  // Milliseconds: the first check after a message, at the earliest and at the latest; how long its answer may take, and
  // then the message that the stream should have brought.
  var SOONEST = 3000;
  var LATEST = 60000;
  var ANSWER_WITHIN = 10000;
  var REST_WITHIN = 1000;

  // The items of a list that are not in another one.
  function less(list, others) {
    var left = [];
    for (var i = 0; i < list.length; i++) {
      if (others.indexOf(list[i]) === -1) { left.push(list[i]); }
    }
    return left;
  }

  function nothing() {}

  function silent(link) {
    link.end({ code: 'unreachable', message: 'silent too long' });
  }

  // Returns the function that gets each message. Long after the last one came it asks by a request whether there is
  // a message that the stream should have brought, then after twice the time, and so on until the next message.
  function watch(link) {
    var heard = 0;
    var pace = 0;
    var timer = null;
    // Stops the request that is under way.
    var stop = nothing;

    function ask(wait) {
      var at;
      // The stream is dead, unless it has brought something since the request.
      function give() {
        stop();
        if (link.live() && link.cursor === at) { silent(link); } else { ask(wait * 2); }
      }
      // A client that polls counts as a reader for a while, so the first request has no client id. Its answer may
      // contain messages that exclude this client, or be a refusal. If it is not empty, the second request has the id.
      function request(isSecond) {
        var url = link.url('/poll', 'n=' + Math.random());
        timer = setTimeout(give, ANSWER_WITHIN);
        link.request();
        stop = Longtail.http('GET', isSecond ? url : url.replace(/&client=[^&]*/, ''), { credentials: link.credentials }, function (status, text) {
          var batch = {};
          clearTimeout(timer);
          try { batch = Longtail.decode(text) || batch; } catch (e) {}
          if (!status) { return give(); }
          if (status === 200 && !batch.gap && !(batch.messages && batch.messages.length)) { return ask(wait * 2); }
          if (!isSecond) { return request(true); }
          // Any answer proves the path, also a refusal.
          if (status !== 200) { return ask(wait * 2); }
          // A message that comes in the meantime restarts this timer.
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
      // The time is bounded, since an old browser has only a clock that can be set.
      ask(Math.max(SOONEST, Math.min(4 * pace, LATEST)) * (1 + Math.random()));
    };
  }

  // What the core can do over a WebSocket: subscribe(token, all) reads the channels of the connection as they are now,
  // with `all` also those that it reads already, with another token; publish(fields, data, done) publishes;
  // send(command, done) sends a command.
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

    // Some paths still bring data from the server after they have stopped passing data to it.
    function ping() {
      if (beats++ % 2) { return; }
      if (waiting.ping) { return silent(link); }
      waiting.ping = function () {};
      socket.send('{"type":"ping","ref":"ping"}');
    }

    socket.addEventListener('message', function (event) {
      // A message of the log does not begin like this, and is not parsed twice.
      if (!/^\{"type":"(ack|error|pong|heartbeat)"/.test(event.data)) { return; }
      var object = Longtail.decode(event.data);
      if (object.type === 'heartbeat') { ping(); } else { answer(object); }
    }, false);
    socket.addEventListener('close', function () {
      for (var number in waiting) { waiting[number]({ code: 'unreachable', message: 'no answer' }); }
    }, false);
    ping();

    function check(error) {
      if (error) { link.end(error); }
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
    // Tabs that share hear the leader's heartbeats, and only the leader knows its stream.
    care.heard = link.transport.name === 'shared' ? nothing : watch(link);
    return care;
  };
};
