/* Publishing. */

var keyCount = 0;

// settings: event, toSelf (false: not to this client), volatile, key; done(error, id). The payload is the body, so that
// a browser sends the request to another origin without a preflight. After a temporary failure the request is sent
// again; because of the key, the log takes the message only once.
function publish(conn, channel, data, settings, done) {
  var tries = 0;
  var base = conn._base;
  var options = conn._options;
  settings = settings || {};
  var address = query(base, '/publish', {
    channel: channel,
    event: settings.event,
    exclude: settings.toSelf === false ? conn._lt.client : undefined,
    'volatile': settings['volatile'] ? 1 : undefined,
    key: settings['volatile'] ? undefined : settings.key || conn._lt.client + '-' + (++keyCount),
    token: options.token
  });

  function send() {
    http('POST', address, {
      credentials: options.credentials,
      body: encode(data),
      headers: { 'Content-Type': 'text/plain; charset=utf-8' }
    }, function (status, answer, wait) {
      var error = null;
      var id;
      if (status === 200 && answer) {
        try { id = decode(answer).messages[0].id; } catch (e) { status = 0; }
      }
      if (status !== 200) { error = refusal(status, answer, wait); }
      if (error && ++tries < 5 && (wait || isTransient(error))) {
        return setTimeout(send, Math.max(wait || 0, retryDelay(tries)));
      }
      if (done) { done(error, id); }
    });
  }

  // The page may publish before legacy.js is loaded.
  loadLegacy(base, function () {
    if (api.encode && reaches(base, false)) {
      send();
    } else if (api.post) {
      api.post(address, data, done);
    } else if (done) {
      done(refusal(0));
    }
  });
}
