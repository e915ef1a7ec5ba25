/*
 * Sends events to the application: lt.emit('addItem', { title: 'milk' }, function (error, answer) { ... }).
 *
 * An event goes over the open WebSocket, or by POST. Each event has a key. After a failure that may pass, the library
 * sends the event again with the same key, so that the application can recognise a repetition.
 */
(self.LongtailFiles = self.LongtailFiles || {}).emit = function (Longtail) {
  // The maximum number of attempts; then, in milliseconds, the pause before the second attempt, and the longest wait
  // for an answer.
  var TRIES = 6;
  var PAUSE = 500;
  var ANSWER_WITHIN = 20000;
  // How often, and how many times at most, to look whether the connection has its first token and its session; in
  // milliseconds.
  var LOOK = 20;
  var LOOKS = 1000;
  // Refusals that only events get, and that the server or the application would repeat. The core knows the others.
  var FINAL = /^(no_hook|application_failed|not_utf8)$/;

  function unreachable(message) {
    return { code: 'unreachable', message: message };
  }

  // Returns whether it makes no sense to send the event again. A session that has ended is followed by a new one.
  function isFinal(error, lt) {
    return FINAL.test(error.code) || (error.code === 'no_session' && !lt.session);
  }

  // `link` has the connection's token and settings, and `care` the commands of the open WebSocket, if there is one.
  // `settings`: channel, key, args (true: the data is a list of arguments); `ack`: this is the answer to an event of the
  // application, with the name that the event has given to it.
  Longtail.emit = function (link, care, event, data, done, settings) {
    var lt = link.owner;
    settings = settings || {};
    var tries = (settings.tries || 0) + 1;
    var fields = settings.ack ? { ack: settings.ack } : { event: event, channel: settings.channel, key: settings.key || Longtail.newClientId() };
    var value = data === undefined ? null : data;
    var timer;
    var isOver;
    var stop;
    var url;

    function again(wait, tries, looks) {
      setTimeout(function () {
        lt.emit(event, data, done, {
          channel: fields.channel,
          args: settings.args,
          key: fields.key,
          ack: settings.ack,
          tries: tries,
          looks: looks
        });
      }, wait);
    }

    // The answer is a list of arguments for the page's function, or one value.
    function over(error, answer) {
      if (isOver) { return; }
      isOver = true;
      clearTimeout(timer);
      if (stop) { stop(); }
      // A refused token is renewed, also if this was the last attempt.
      if (error && !isFinal(error, lt) && link.repeats(error) && tries < TRIES && lt.state !== 'closed') {
        again(Math.max(error.retry || 0, PAUSE * Math.pow(2, tries - 1) * (0.5 + Math.random())), tries);
      } else if (done) {
        done.apply(lt, [error || null].concat(error || answer === null || answer === undefined ? [] : answer));
      }
    }

    // The connection has not begun to read: it may wait for the first token. While `session` is true, the server has not
    // named the session.
    if (lt.state === 'idle' || lt.session === true) {
      if (lt.state === 'closed') { return over(unreachable('the connection is closed')); }
      if (!(settings.looks > LOOKS)) { return again(LOOK, settings.tries, (settings.looks || 0) + 1); }
      if (lt.session) { return over(unreachable('no session')); }
    }
    timer = setTimeout(function () { over(unreachable('no answer')); }, ANSWER_WITHIN);
    // The address contains the client id and the token, but not the channels and the cursor of the connection.
    link.channels = [];
    link.cursor = undefined;
    if (!care && !Longtail.reaches(lt.url) && Longtail.post) {
      // The page cannot read the answer to a form.
      if (settings.args) { fields.args = Longtail.encode(value); }
      return Longtail.post(Longtail.query(link.url('/event'), '&', fields).replace('&?', '&'), value, over);
    }
    fields[settings.args ? 'args' : 'data'] = value;
    if (care && care.send) {
      fields.type = settings.ack ? 'ack' : 'event';
      return care.send(fields, function (error, id, object) { over(error, object && object.data); });
    }
    fields.session = lt.session;
    url = link.url('/event');
    // A request to the page's own origin has the content type of JSON: then the server accepts cookies even if the
    // browser does not send `Origin`. To another origin, this content type would cause a preflight.
    stop = Longtail.http('POST', url, {
      credentials: link.credentials,
      type: Longtail.sameOrigin(url) ? 'application/json' : undefined,
      body: Longtail.encode(fields)
    }, function (status, text, error) {
      var answer = null;
      try { answer = Longtail.decode(text); } catch (e) {}
      // The login page of a network answers with 200, too.
      if (!error && !(answer && typeof answer === 'object' && 'ack' in answer)) { error = unreachable('status ' + status); }
      over(error, answer && answer.ack);
    });
  };
};
