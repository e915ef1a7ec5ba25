/*
 * Tries every transport of the server, and reports in words how the network path to the server behaves.
 *
 *   lt.diagnose(function (report) { alert(report.text); });
 *   Longtail.need(url, 'diagnose', function (diagnose) {
 *     diagnose(url, { channel: 'todo', long: true, progress: fn }, done);
 *   });
 *
 * With `long`, it also looks for timeouts, which takes 70 seconds longer. The report is an object with `text`, the
 * whole report, and `findings`, an array. A finding is { transport, works, text }. There is one finding for each
 * transport. The findings about the path itself have `transport` = null.
 */
(self.LongtailFiles = self.LongtailFiles || {}).diagnose = function (Longtail) {
  var NAMES = {
    'ws': 'WebSocket',
    'sse': 'EventSource',
    'xhr-stream': 'XHR streaming',
    'multipart': 'XHR multipart',
    'forever-frame': 'The forever frame',
    'long-poll': 'Long polling',
    'jsonp': 'JSONP',
    'poll': 'Polling'
  };
  var PATIENCE = 6000;
  // The milliseconds for which the diagnosis watches a working stream. A proxy that kills streams does so within the
  // first second.
  var AFTERWARDS = 1500;
  // A browser does not report that the document of a frame was cut off. So the diagnosis asks the server to end the
  // frame after this number of seconds. If the `bye` of the server arrives, the frame was not cut off.
  var FRAME = 3;

  function now() {
    return new Date().getTime();
  }

  function time(ms) {
    return ms < 1950 ? Math.round(ms) + ' ms' : (Math.round(ms / 100) / 10) + ' s';
  }

  function nameOf(transport) {
    return NAMES[transport.name] || transport.name;
  }

  // Adds a finding to a run. A run is one diagnosis: base, options, findings, the time of its start, the server's
  // version, and the functions that path.js shares with this file.
  function found(run, transport, works, text) {
    run.findings.push({ transport: transport, works: works, text: text });
    if (run.options.progress) { run.options.progress(text, works, transport); }
  }

  /* ---- one transport ---- */

  // Opens a transport as the library does, records when the first objects arrive, and calls `next` after the finding.
  function attempt(run, transport, next) {
    var trial = { transport: transport, name: nameOf(transport), opened: now(), hello: 0, beat: 0, timer: null, handle: null, over: false };
    trial.ends = transport.name === 'forever-frame';
    trial.say = function (works, text) {
      if (trial.over) { return; }
      trial.over = true;
      clearTimeout(trial.timer);
      if (trial.handle !== null) { transport.close(trial.handle); }
      found(run, transport.name, works, trial.name + ' ' + text);
      setTimeout(next, 0);
    };
    wait(trial, PATIENCE);
    try {
      trial.handle = transport.open(link(run, trial));
    } catch (e) {
      return trial.say(false, 'cannot be opened: ' + (e && e.message || e) + '.');
    }
    if (trial.over) { transport.close(trial.handle); }
  }

  // Reports the result of the trial after this time.
  function wait(trial, ms) {
    clearTimeout(trial.timer);
    trial.timer = setTimeout(function () {
      if (trial.beat && trial.ends) {
        trial.say(false, 'opens and is cut: no data arrives after ' + time(trial.beat) + '.');
      } else if (trial.beat) {
        works(trial);
      } else if (trial.hello) {
        trial.say(false, 'opens, but later data is held back.');
      } else {
        trial.say(false, 'is held back: nothing arrived within ' + time(PATIENCE) + '.');
      }
    }, ms);
  }

  function works(trial) {
    trial.say(true, 'works: open in ' + time(trial.hello) + ', and later data arrives at once.');
  }

  // The members of a link that a transport needs; see intro.js.
  function link(run, trial) {
    var transport = trial.transport;
    var made = {
      cursor: 'latest',
      park: transport.parks ? 2 : 0,
      credentials: !!run.options.credentials,
      live: function () { return !trial.over; },
      url: function (path, more) {
        return Longtail.query(run.base, path, {
          channel: run.options.channel || 'diagnose',
          client: Longtail.newClientId(),
          token: run.options.token,
          cursor: 'latest',
          probe: transport.batch ? undefined : 1,
          max_seconds: trial.ends ? FRAME : undefined
        }) + (more ? '&' + more : '');
      },
      text: function (text, type) {
        var object;
        try { object = Longtail.decode(text); } catch (e) {}
        if (!object) { return made.end({ code: 'unreadable', message: 'the answer does not come from a Longtail server' }); }
        if (type) { object.type = type; }
        made.item(object);
      },
      item: function (object) {
        if (trial.over) { return; }
        if (object.error) { return trial.say(false, 'is refused: ' + object.error.code + ', ' + object.error.message + '.'); }
        if (object.type === 'hello') {
          trial.hello = now() - trial.opened;
        } else if (object.code === 4000 && trial.ends) {
          works(trial);
        } else if (object.type === 'bye') {
          trial.say(false, 'is closed by the server: ' + object.reason + '.');
        } else if (!trial.beat) {
          trial.beat = now() - trial.opened;
          wait(trial, AFTERWARDS + (trial.ends ? FRAME * 1000 : 0));
        }
      },
      batch: function (object) {
        var took = now() - trial.opened;
        if (trial.over) { return; }
        if (object.error) { return made.item(object); }
        if (made.park && took < 1500) {
          return trial.say(false, 'is answered after ' + time(took) + ', although the request should wait for 2 s.');
        }
        trial.say(true, 'works: ' + (made.park ? 'a request may wait.' : 'answered in ' + time(took) + '.'));
      },
      end: function (error) {
        var took = now() - trial.opened;
        if (trial.over) { return; }
        if (error && error.code !== 'unreachable') { return made.item({ error: error }); }
        if (trial.hello) { return trial.say(false, 'opens and is cut after ' + time(took) + '.'); }
        trial.say(false, 'cannot be used: ' + (made.park && took > 500 ? 'it was cut' : 'it ended') + ' after ' + time(took) +
          ', and nothing arrived' + (error && error.message ? ' (' + error.message + ').' : '.'));
      }
    };
    return made;
  }

  // Tries the transports one after the other.
  function transports(run, at, next) {
    var transport = Longtail.transports[at];
    function after() { transports(run, at + 1, next); }
    if (!transport) { return next(); }
    if (transport.hidden) { return after(); }
    if (transport.usable(run.base)) {
      // The code of some transports is loaded when it is first needed.
      if (transport.open) { return attempt(run, transport, after); }
      return Longtail.need(run.base, 'scripts', function () { attempt(run, transport, after); });
    }
    found(run, transport.name, false, nameOf(transport) + ' is not available in this browser.');
    after();
  }

  function report(run) {
    var findings = run.findings;
    var lines = ['Longtail: how the network path to the server behaves', 'page: ' + location.href.replace(/[?#].*/, ''),
      'server: ' + Longtail.origin(run.base) + run.base.replace(/^([a-z]+:)?\/\/[^\/?#]+/i, '') + (run.server ? ', ' + run.server : ''),
      'browser: ' + navigator.userAgent, 'at: ' + new Date().toUTCString() + ', took ' + time(now() - run.began), ''];
    for (var i = 0; i < findings.length; i++) { lines.push((findings[i].works ? '  ok  ' : '  !!  ') + findings[i].text); }
    return { text: lines.join('\n'), findings: findings };
  }

  // For lt.diagnose, the first argument is a link, which has the connection's address, token and settings.
  Longtail.diagnose = function (base, options, done) {
    if (base && base.owner) {
      var token = /[?&]token=([^&]*)/.exec(base.url(''));
      options = { channel: base.channels[0], token: token ? decodeURIComponent(token[1]) : undefined, credentials: base.credentials };
      base = base.owner.url;
    }
    var run = { base: String(base || '').replace(/\/+$/, ''), options: options || {}, findings: [], began: now(), server: '' };
    run.time = time;
    run.found = function (works, text) { found(run, null, works, text); };
    // The file path.js examines the path below the transports.
    Longtail.need(run.base, 'path', function (path) {
      if (!path) {
        found(run, null, false, 'The server did not answer.');
        return done(report(run));
      }
      path.look(run, function () {
        transports(run, 0, function () {
          path.patience(run, function () { done(report(run)); });
        });
      });
    });
  };
};
