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
  // An event waits until the connection has its session. This is the time between two looks.
  var LOOK = 100;
  // The codes of temporary failures. After any other code, the library does not send the event again, because the
  // result would be the same.
  var PASSING = /^(unreachable|rate_limited|too_many_connections|not_ready|log_unavailable|outcome_unknown)$/;

  function unreachable(message) {
    return { code: 'unreachable', message: message };
  }

  // Sends the fields by POST. A request to the page's own origin has the content type of JSON: then the server accepts
  // cookies even if the browser does not send `Origin`. To another origin, this content type would cause a preflight.
  function post(url, credentials, fields, over) {
    var xhr = Longtail.xhr ? Longtail.xhr() : new XMLHttpRequest();
    xhr.open('POST', url, true);
    if (Longtail.sameOrigin(url)) {
      xhr.setRequestHeader('Content-Type', 'application/json');
    } else if (credentials) {
      xhr.withCredentials = true;
    }
    xhr.onreadystatechange = function () {
      var status = 0;
      var answer = null;
      if (xhr.readyState !== 4) { return; }
      try {
        status = xhr.status;
        answer = Longtail.decode(xhr.responseText);
      } catch (e) {}
      if (answer && status === 200) { return over(null, answer.ack); }
      over(answer && answer.error && answer.error.code ? answer.error : unreachable(status ? 'status ' + status : 'no answer'));
    };
    xhr.send(Longtail.encode(fields));
  }

  // Returns whether the failure may pass. A session that has ended is followed by a new one.
  function passes(error, lt) {
    return PASSING.test(error.code) || (error.code === 'no_session' && lt.session);
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

    // The answer is a list of arguments for the page's function, or one value.
    function over(error, answer) {
      if (isOver) { return; }
      isOver = true;
      clearTimeout(timer);
      if (error && passes(error, lt) && tries < TRIES && lt.state !== 'closed') {
        setTimeout(function () {
          lt.emit(event, data, done, { channel: fields.channel, args: settings.args, key: fields.key, ack: settings.ack, tries: tries });
        }, PAUSE * Math.pow(2, tries - 1) * (0.5 + Math.random()));
      } else if (done) {
        done.apply(lt, [error || null].concat(error || answer === null || answer === undefined ? [] : answer));
      }
    }

    // While the state is `idle`, it is not known yet whether the connection has a session.
    if (lt.state === 'idle' || lt.session === true) {
      if (lt.state === 'closed') { return over(unreachable('the connection is closed')); }
      return setTimeout(function () { lt.emit(event, data, done, settings); }, LOOK);
    }
    timer = setTimeout(function () { over(unreachable('no answer')); }, ANSWER_WITHIN);
    // The address contains the client id and the token, but not the channels and the cursor of the connection.
    link.channels = [];
    link.cursor = undefined;
    if (!care && !Longtail.reaches(lt.url) && Longtail.post) {
      // The page cannot read the answer to a form.
      fields.session = lt.session;
      if (settings.args) { fields.args = Longtail.encode(value); }
      return Longtail.post(Longtail.query(link.url('/event'), '&', fields).replace('&?', '&'), value, over);
    }
    fields[settings.args ? 'args' : 'data'] = value;
    if (care && care.send) {
      fields.type = settings.ack ? 'ack' : 'event';
      return care.send(fields, function (error, id, object) { over(error, object && object.data); });
    }
    fields.session = lt.session;
    try {
      post(link.url('/event'), link.credentials, fields, over);
    } catch (e) {
      over(unreachable('' + e));
    }
  };
};
