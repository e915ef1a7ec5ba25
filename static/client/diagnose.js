/*
 * Runs every transport against the server and says in words what the way there does to it.
 *
 *   lt.diagnose(function (report) { alert(report.text); });
 *   Longtail.diagnose(url, { channel: 'todo', long: true, progress: fn }, done);
 *
 * `long` also looks for time-outs, which takes 70 seconds. The report has `text`, and `findings`: one for each
 * transport, { transport, works, text }, and then what was found of the path itself, without a transport.
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
  // How long a stream that works is looked at: what kills them does so in the first second.
  var AFTERWARDS = 1500;
  var LONG = 70;

  function now() {
    return new Date().getTime();
  }

  function time(ms) {
    return ms < 1950 ? Math.round(ms) + ' ms' : (Math.round(ms / 100) / 10) + ' s';
  }

  function size(bytes) {
    return bytes < 2048 ? bytes + ' bytes' : Math.round(bytes / 1024) + ' KiB';
  }

  Longtail.diagnose = function (base, options, done) {
    var findings = [];
    var began = now();
    var server = '';
    options = options || {};
    base = String(base || '').replace(/\/+$/, '');

    function found(transport, works, text) {
      findings.push({ transport: transport, works: works, text: text });
      if (options.progress) { options.progress(text, works, transport); }
    }

    /* ---- one transport ---- */

    // Opens it as the library does, and notes when something was heard.
    function attempt(transport, next) {
      var name = NAMES[transport.name] || transport.name;
      var opened = now();
      var hello = 0;
      var beat = 0;
      var timer = null;
      var handle = null;
      var over = false;
      var link = {
        cursor: 'latest',
        park: transport.parks ? 2 : 0,
        credentials: !!options.credentials,
        live: function () { return !over; },
        request: function () {},
        url: function (path, more) {
          return Longtail.query(base, path, {
            channel: options.channel || 'diagnose',
            client: Longtail.newClientId(),
            token: options.token,
            cursor: 'latest',
            probe: transport.batch ? undefined : 1
          }) + (more ? '&' + more : '');
        },
        item: function (object) {
          if (over) { return; }
          if (object.error) { return say(false, name + ' is refused: ' + object.error.code + ', ' + object.error.message + '.'); }
          if (object.type === 'hello') {
            hello = now() - opened;
          } else if (object.type === 'bye') {
            say(false, name + ' is sent away by the server: ' + object.reason + '.');
          } else if (!beat) {
            beat = now() - opened;
            wait(AFTERWARDS);
          }
        },
        batch: function (object) {
          var took = now() - opened;
          if (over) { return; }
          if (object.error) { return link.item(object); }
          if (link.park && took < 1500) {
            return say(false, name + ' is answered after ' + time(took) + ', though it was to wait for 2 s.');
          }
          say(true, name + ' works: ' + (link.park ? 'a request may wait.' : 'answered in ' + time(took) + '.'));
        },
        end: function (error) {
          var took = now() - opened;
          if (over) { return; }
          if (error && error.code !== 'unreachable') { return link.item({ error: error }); }
          if (hello) { return say(false, name + ' opens and is cut after ' + time(took) + '.'); }
          say(false, name + ' cannot be used: ' + (link.park && took > 500 ? 'cut' : 'it ended') + ' after ' + time(took) +
            ' with nothing heard' + (error && error.message ? ' (' + error.message + ').' : '.'));
        }
      };

      function say(works, text) {
        if (over) { return; }
        over = true;
        clearTimeout(timer);
        if (handle !== null) { transport.close(handle); }
        found(transport.name, works, text);
        setTimeout(next, 0);
      }

      function wait(ms) {
        clearTimeout(timer);
        timer = setTimeout(function () {
          if (beat) {
            say(true, name + ' works: open in ' + time(hello) + ', and what follows comes at once.');
          } else if (hello) {
            say(false, name + ' opens, but what follows is held back.');
          } else {
            say(false, name + ' is held back: nothing arrived within ' + time(PATIENCE) + '.');
          }
        }, ms);
      }

      wait(PATIENCE);
      try {
        handle = transport.open(link);
      } catch (e) {
        return say(false, name + ' cannot be opened: ' + (e && e.message || e) + '.');
      }
      if (over) { transport.close(handle); }
    }

    function transports(next) {
      var all = Longtail.transports;
      var at = 0;
      function one() {
        var transport = all[at++];
        if (!transport) { return next(); }
        if (transport.usable(base)) { return attempt(transport, one); }
        found(transport.name, false, (NAMES[transport.name] || transport.name) + ' is not there in this browser.');
        one();
      }
      one();
    }

    /* ---- the path ---- */

    // What of the request arrived at the server.
    function echo(next) {
      if (!Longtail.reaches(base, false)) { return next(); }
      Longtail.http('GET', base + '/diagnose/echo?' + now(), {}, function (status, text) {
        var seen = null;
        try { seen = Longtail.decode(text); } catch (e) {}
        if (!seen) {
          found(null, false, 'A plain request fails: ' + (status ? 'status ' + status + '.' : 'no answer.'));
          return next();
        }
        server = 'longtail ' + seen.version;
        if (seen.http === '1.0') { found(null, false, 'Something on the way speaks HTTP/1.0 to the server.'); }
        if (seen.via) { found(null, true, 'Requests come by a proxy that calls itself "' + seen.via + '".'); }
        if (seen.forwarded) { found(null, true, 'Requests come by a proxy that says for whom it asks.'); }
        if (!seen.via && !seen.forwarded && seen.http !== '1.0') { found(null, true, 'No proxy shows itself.'); }
        next();
      });
    }

    // Some text in small pieces: in which lumps does it arrive?
    function drip(next) {
      var PIECE = 512;
      var COUNT = 40;
      var EVERY = 50;
      var began = now();
      var first = 0;
      var lumps = 0;
      var least = 0;
      var length = 0;
      if (!Longtail.reaches(base, true)) { return next(); }
      Longtail.http('GET', base + '/diagnose/drip?every=' + EVERY + '&bytes=' + PIECE + '&count=' + COUNT + '&' + now(), {},
        function (status, text, wait, xhr) {
          var coding = null;
          // Of another origin it may not be asked for, and the browser complains in the console.
          try { coding = Longtail.sameOrigin(base) && xhr.getResponseHeader('Content-Encoding'); } catch (e) {}
          if (coding) { found(null, false, 'Responses are compressed on the way (' + coding + ').'); }
          if (status !== 200) {
            found(null, false, 'An answer that takes two seconds does not arrive: ' + (status ? 'status ' + status + '.' : 'it is cut.'));
          } else if (text.length < PIECE * COUNT) {
            found(null, false, 'An answer of ' + size(PIECE * COUNT) + ' is cut after ' + size(text.length) + '.');
          } else if (lumps < 2 || (first > COUNT * EVERY && now() - began - first < 300)) {
            // A browser that is busy takes what came in one piece in several.
            found(null, false, 'Responses are held back until they end, or for ' + size(PIECE * COUNT) + ' at least.');
          } else if (least > 2 * PIECE && lumps < COUNT / 3) {
            found(null, false, 'Responses are held back until about ' + size(least) + ' have come.');
          } else {
            found(null, true, 'Responses are not held back.');
          }
          next();
        },
        function (text) {
          if (text.length <= length) { return; }
          lumps++;
          // The first lump tells most: what follows may be the rest of a buffer.
          if (!least) {
            least = text.length;
            first = now() - began;
          }
          length = text.length;
        });
    }

    // An answer that goes on, and a request that waits in silence, each for longer than proxies like.
    function patience(next) {
      var left = 2;
      var opened = now();
      if (!options['long'] || !Longtail.reaches(base, true)) { return next(); }
      function one(busy) {
        return function (status, text) {
          var took = now() - opened;
          var what = busy ? 'A stream' : 'A request that waits in silence';
          var whole = busy ? /end\s*$/.test(text) : status === 200;
          if (whole) {
            found(null, true, what + ' may last ' + time(took) + ' at least.');
          } else {
            found(null, false, what + ' is cut after ' + time(took) + (status > 200 ? ' (status ' + status + ').' : '.'));
          }
          if (--left === 0) { next(); }
        };
      }
      Longtail.http('GET', base + '/diagnose/drip?every=1000&bytes=64&count=' + LONG + '&' + now(), {}, one(true), function () {});
      Longtail.http('GET', base + '/diagnose/drip?every=' + LONG * 1000 + '&bytes=64&count=1&' + now(), {}, one(false));
    }

    function finish() {
      var lines = ['Longtail, what the way to the server does', 'page: ' + location.href.replace(/[?#].*/, ''),
        'server: ' + Longtail.origin(base) + base.replace(/^([a-z]+:)?\/\/[^\/?#]+/i, '') + (server ? ', ' + server : ''), 'browser: ' + navigator.userAgent,
        'at: ' + new Date().toUTCString() + ', took ' + time(now() - began), ''];
      for (var i = 0; i < findings.length; i++) { lines.push((findings[i].works ? '  ok  ' : '  !!  ') + findings[i].text); }
      done({ text: lines.join('\n'), findings: findings });
    }

    echo(function () { drip(function () { transports(function () { patience(finish); }); }); });
  };
})();
