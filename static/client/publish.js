/* Publishing. */

// settings: event, toSelf (false: not to this client), volatile, key; done(error, id). The payload is the body, so that
// a browser sends the request to another origin without a preflight. After a temporary failure, the library sends the
// request again. Because of the key, the log stores the message only once.
function publish(conn, channel, data, settings, done) {
  var tries = 0;
  var base = conn._base;
  if (typeof settings === 'function') { done = settings; }
  settings = settings || {};
  var fields = {
    channel: channel,
    event: settings.event,
    'volatile': settings['volatile'] ? 1 : undefined,
    exclude: settings.toSelf === false ? conn._lt.client : undefined,
    // A key is never used again, so the server does not confuse this message with another one.
    key: settings['volatile'] ? undefined : settings.key || newClientId()
  };

  function over(error, id) {
    if (error && ++tries < 5 && (!isFinal(error) || renews(conn, error))) {
      return setTimeout(send, Math.max(error.retry || 0, retryDelay(tries)));
    }
    if (done) { done(error, id); } else if (error) { emit(conn, 'error', error); }
  }

  // From the second attempt on, the library uses an open WebSocket, because a proxy may forbid POST but allow a
  // WebSocket.
  function send() {
    // The page's function has not given the first token yet. Without it, the message would be refused.
    if (conn._options.token && !conn._token) { return over(refusal(0)); }
    fields.token = conn._token;
    var care = tries && conn._main && conn._main._care;
    if (care && care.publish) { return care.publish(fields, data, over); }
    http('POST', query(base, '/publish', fields), {
      credentials: conn._options.credentials,
      body: encode(data)
    }, function (status, answer, error) {
      var id;
      try { id = decode(answer).messages[0].id; } catch (e) { error = error || refusal(status, answer); }
      over(error, id);
    });
  }

  // The page may publish before legacy.js is loaded.
  loadLegacy(base, function () {
    if (api.encode && reaches(base)) {
      send();
    } else if (api.post) {
      api.post(query(base, '/publish', fields), data, done);
    } else {
      over(refusal(0));
    }
  });
}
