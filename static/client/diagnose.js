/*
 * Tries every transport of the server, and reports in words how the path to it behaves.
 *
 *   lt.diagnose(function (report) { alert(report.text); });
 *   Longtail.diagnose(url, { channel: 'todo', long: true, progress: fn }, done);
 *
 * With `long`, it also looks for time-outs; this takes 70 seconds. The report has `text`, and `findings`: one for each
 * transport, { transport, works, text }, and then the findings about the path itself, without a transport.
 */
(function () {
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
  // How long a working stream is watched, in milliseconds: a proxy that kills streams does so in the first second.
  var AFTERWARDS = 1500;
  var LONG = 70;
  // A text that the server sends in small pieces: bytes of a piece, their number, and the milliseconds between two.
  var PIECE = 512;
  var COUNT = 40;
  var EVERY = 50;

  function now() {
    return new Date().getTime();
  }

  function time(ms) {
    return ms < 1950 ? Math.round(ms) + ' ms' : (Math.round(ms / 100) / 10) + ' s';
  }

  function size(bytes) {
    return bytes < 2048 ? bytes + ' bytes' : Math.round(bytes / 1024) + ' KiB';
  }

  function nameOf(transport) {
    return NAMES[transport.name] || transport.name;
  }

  // A run is one diagnosis under way: base, options, findings, when it began, and the server's version.
  function found(run, transport, works, text) {
    run.findings.push({ transport: transport, works: works, text: text });
    if (run.options.progress) { run.options.progress(text, works, transport); }
  }

  /* ---- one transport ---- */

  // Opens a transport as the library does, notes when the first bytes arrived, and calls `next` after its finding.
  function attempt(run, transport, next) {
    var trial = { transport: transport, name: nameOf(transport), opened: now(), hello: 0, beat: 0, timer: null, handle: null, over: false };
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

  // Judges the trial when this time is over.
  function wait(trial, ms) {
    clearTimeout(trial.timer);
    trial.timer = setTimeout(function () {
      if (trial.beat) {
        trial.say(true, 'works: open in ' + time(trial.hello) + ', and what follows comes at once.');
      } else if (trial.hello) {
        trial.say(false, 'opens, but what follows is held back.');
      } else {
        trial.say(false, 'is held back: nothing arrived within ' + time(PATIENCE) + '.');
      }
    }, ms);
  }

  // The members of a link that a transport needs; see intro.js.
  function link(run, trial) {
    var transport = trial.transport;
    var made = {
      cursor: 'latest',
      park: transport.parks ? 2 : 0,
      credentials: !!run.options.credentials,
      live: function () { return !trial.over; },
      request: function () {},
      url: function (path, more) {
        return Longtail.query(run.base, path, {
          channel: run.options.channel || 'diagnose',
          client: Longtail.newClientId(),
          token: run.options.token,
          cursor: 'latest',
          probe: transport.batch ? undefined : 1
        }) + (more ? '&' + more : '');
      },
      item: function (object) {
        if (trial.over) { return; }
        if (object.error) { return trial.say(false, 'is refused: ' + object.error.code + ', ' + object.error.message + '.'); }
        if (object.type === 'hello') {
          trial.hello = now() - trial.opened;
        } else if (object.type === 'bye') {
          trial.say(false, 'is closed by the server: ' + object.reason + '.');
        } else if (!trial.beat) {
          trial.beat = now() - trial.opened;
          wait(trial, AFTERWARDS);
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

  function transports(run, next) {
    var all = Longtail.transports;
    var at = 0;
    function one() {
      var transport = all[at++];
      if (!transport) { return next(); }
      if (transport.usable(run.base)) { return attempt(run, transport, one); }
      found(run, transport.name, false, nameOf(transport) + ' is not available in this browser.');
      one();
    }
    one();
  }

  /* ---- the path ---- */

  // Asks the server which parts of the request arrived.
  function echo(run, next) {
    if (!Longtail.reaches(run.base, false)) { return next(); }
    Longtail.http('GET', run.base + '/diagnose/echo?' + now(), {}, function (status, text) {
      var seen = null;
      try { seen = Longtail.decode(text); } catch (e) {}
      if (!seen) {
        found(run, null, false, 'A plain request fails: ' + (status ? 'status ' + status + '.' : 'no answer.'));
        return next();
      }
      run.server = 'longtail ' + seen.version;
      if (seen.http === '1.0') { found(run, null, false, 'A proxy on the way speaks HTTP/1.0 to the server.'); }
      if (seen.via) { found(run, null, true, 'Requests come through a proxy that calls itself "' + seen.via + '".'); }
      if (seen.forwarded) { found(run, null, true, 'Requests come through a proxy that tells the server the client\'s address.'); }
      if (!seen.via && !seen.forwarded && seen.http !== '1.0') { found(run, null, true, 'No proxy names itself.'); }
      next();
    });
  }

  // Reads a text that the server sends in small pieces, and notes the pieces in which it arrives.
  function drip(run, next) {
    var began = now();
    var lumps = { count: 0, first: 0, least: 0, length: 0 };
    if (!Longtail.reaches(run.base, true)) { return next(); }
    Longtail.http('GET', run.base + '/diagnose/drip?every=' + EVERY + '&bytes=' + PIECE + '&count=' + COUNT + '&' + now(), {},
      function (status, text, wait, xhr) {
        var coding = null;
        // The header is not read from another origin: the browser forbids that, and logs an error in the console.
        try { coding = Longtail.sameOrigin(run.base) && xhr.getResponseHeader('Content-Encoding'); } catch (e) {}
        if (coding) { found(run, null, false, 'Responses are compressed on the way (' + coding + ').'); }
        judgeLumps(run, status, text.length, lumps, now() - began);
        next();
      },
      function (text) {
        if (text.length <= lumps.length) { return; }
        lumps.count++;
        // The first lump tells most: later ones may be the rest of a buffer.
        if (!lumps.least) {
          lumps.least = text.length;
          lumps.first = now() - began;
        }
        lumps.length = text.length;
      });
  }

  function judgeLumps(run, status, length, lumps, took) {
    if (status !== 200) {
      found(run, null, false, 'An answer that takes two seconds does not arrive: ' + (status ? 'status ' + status + '.' : 'it is cut.'));
    } else if (length < PIECE * COUNT) {
      found(run, null, false, 'An answer of ' + size(PIECE * COUNT) + ' is cut after ' + size(length) + '.');
    } else if (lumps.count < 2 || (lumps.first > COUNT * EVERY && took - lumps.first < 300)) {
      // A busy browser may receive one lump in several pieces.
      found(run, null, false, 'Responses are held back until they end, or for ' + size(PIECE * COUNT) + ' at least.');
    } else if (lumps.least > 2 * PIECE && lumps.count < COUNT / 3) {
      found(run, null, false, 'Responses are held back until about ' + size(lumps.least) + ' have come.');
    } else {
      found(run, null, true, 'Responses are not held back.');
    }
  }

  // Makes one request whose answer keeps arriving, and one that waits without any bytes. Each takes longer than many
  // proxies allow.
  function patience(run, next) {
    var left = 2;
    var opened = now();
    if (!run.options['long'] || !Longtail.reaches(run.base, true)) { return next(); }
    function judge(isStream) {
      return function (status, text) {
        var took = now() - opened;
        var what = isStream ? 'A stream' : 'A request that waits in silence';
        if (isStream ? /end\s*$/.test(text) : status === 200) {
          found(run, null, true, what + ' may last ' + time(took) + ' at least.');
        } else {
          found(run, null, false, what + ' is cut after ' + time(took) + (status > 200 ? ' (status ' + status + ').' : '.'));
        }
        if (--left === 0) { next(); }
      };
    }
    Longtail.http('GET', run.base + '/diagnose/drip?every=1000&bytes=64&count=' + LONG + '&' + now(), {}, judge(true), function () {});
    Longtail.http('GET', run.base + '/diagnose/drip?every=' + LONG * 1000 + '&bytes=64&count=1&' + now(), {}, judge(false));
  }

  function report(run) {
    var findings = run.findings;
    var lines = ['Longtail: what the path to the server does', 'page: ' + location.href.replace(/[?#].*/, ''),
      'server: ' + Longtail.origin(run.base) + run.base.replace(/^([a-z]+:)?\/\/[^\/?#]+/i, '') + (run.server ? ', ' + run.server : ''),
      'browser: ' + navigator.userAgent, 'at: ' + new Date().toUTCString() + ', took ' + time(now() - run.began), ''];
    for (var i = 0; i < findings.length; i++) { lines.push((findings[i].works ? '  ok  ' : '  !!  ') + findings[i].text); }
    return { text: lines.join('\n'), findings: findings };
  }

  Longtail.diagnose = function (base, options, done) {
    var run = { base: String(base || '').replace(/\/+$/, ''), options: options || {}, findings: [], began: now(), server: '' };
    echo(run, function () {
      drip(run, function () {
        transports(run, function () {
          patience(run, function () { done(report(run)); });
        });
      });
    });
  };
})();
