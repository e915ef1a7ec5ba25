/*
 * The part of the diagnosis that examines the network path itself, below the transports. It finds out which parts of a
 * request reach the server, in which pieces a response arrives, and how long a request and a response may last. The
 * file diagnose.js loads this file.
 */
(self.LongtailFiles = self.LongtailFiles || {}).path = function (Longtail) {
  var LONG = 70;
  // A text that the server sends in small pieces: the bytes of a piece, the number of pieces, and the milliseconds
  // between two pieces.
  var PIECE = 512;
  var SMALL = 64;
  var COUNT = 40;
  var EVERY = 50;
  // Milliseconds. A piece that arrives within this time counts as late, but not as held back.
  var LATE = 700;

  function now() {
    return new Date().getTime();
  }

  function size(bytes) {
    return bytes < 2048 ? bytes + ' bytes' : Math.round(bytes / 1024) + ' KiB';
  }

  // Asks the server which parts of the request arrived.
  function echo(run, next) {
    if (!Longtail.reaches(run.base, false)) { return next(); }
    Longtail.http('GET', run.base + '/diagnose/echo?' + now(), {}, function (status, text) {
      var seen = null;
      try { seen = Longtail.decode(text); } catch (e) {}
      if (!seen) {
        run.found(false, 'A plain request fails: ' + (status ? 'status ' + status + '.' : 'no answer.'));
        return next();
      }
      run.server = 'longtail ' + seen.version;
      if (seen.http === '1.0') { run.found(false, 'A proxy on the way speaks HTTP/1.0 to the server.'); }
      if (seen.via) { run.found(true, 'Requests come through a proxy that calls itself "' + seen.via + '".'); }
      if (seen.forwarded) { run.found(true, 'Requests come through a proxy that tells the server the client\'s address.'); }
      if (!seen.via && !seen.forwarded && seen.http !== '1.0') { run.found(true, 'No proxy names itself.'); }
      next();
    });
  }

  // Reads a text that the server sends in small pieces, and records the lumps in which the text arrives.
  function drip(run, bytes, count, done) {
    var began = now();
    var lumps = { count: 0, first: 0, least: 0, length: 0 };
    Longtail.http('GET', run.base + '/diagnose/drip?every=' + EVERY + '&bytes=' + bytes + '&count=' + count + '&' + now(), {},
      function (status, text, wait, xhr) {
        lumps.status = status;
        lumps.length = text.length;
        lumps.took = now() - began;
        done(lumps, xhr);
      },
      function (text) {
        if (text.length <= lumps.length) { return; }
        lumps.count++;
        // The first lump shows the size of a buffer on the path. Later lumps may be the rest of that buffer.
        if (!lumps.least) {
          lumps.least = text.length;
          lumps.first = now() - began;
        }
        lumps.length = text.length;
      });
  }

  // Finds out whether a proxy holds answers back, and whether it holds them until they end, until more bytes arrive, or
  // for a moment.
  function buffering(run, next) {
    if (!Longtail.reaches(run.base, true)) { return next(); }
    drip(run, PIECE, COUNT, function (lumps, xhr) {
      var coding = null;
      // If the server has another origin, this code does not read the header, because the browser forbids this and logs
      // an error in the console.
      try { coding = Longtail.sameOrigin(run.base) && xhr.getResponseHeader('Content-Encoding'); } catch (e) {}
      if (coding) { run.found(false, 'Responses are compressed on the way (' + coding + ').'); }
      if (lumps.status !== 200 || lumps.count < 2 || lumps.least <= 2 * PIECE || lumps.first > LATE) {
        judgeLumps(run, lumps);
        return next();
      }
      // A buffer waits until it is full. If small pieces arrive as early as large pieces, the cause is a delay and not
      // a buffer. A delay ends by itself.
      drip(run, SMALL, COUNT / 2, function (small) {
        if (small.count > 1 && small.first <= LATE && small.least < lumps.least / 2) {
          run.found(true, 'Responses are not held back, but arrive up to ' + run.time(Math.max(lumps.first, small.first)) +
            ' late: a proxy collects small pieces for a moment.');
        } else {
          judgeLumps(run, lumps);
        }
        next();
      });
    });
  }

  function judgeLumps(run, lumps) {
    if (lumps.status !== 200) {
      run.found(false, 'A response that takes two seconds does not arrive: ' + (lumps.status ? 'status ' + lumps.status + '.' : 'the connection is cut.'));
    } else if (lumps.length < PIECE * COUNT) {
      run.found(false, 'A response of ' + size(PIECE * COUNT) + ' is cut after ' + size(lumps.length) + '.');
    } else if (lumps.count < 2 || (lumps.first > COUNT * EVERY && lumps.took - lumps.first < 300)) {
      // A busy browser may receive one lump in several pieces.
      run.found(false, 'Responses are held back until they end, or until at least ' + size(PIECE * COUNT) + ' have arrived.');
    } else if (lumps.least > 2 * PIECE && lumps.count < COUNT / 3) {
      run.found(false, 'Responses are held back until about ' + size(lumps.least) + ' have arrived.');
    } else {
      run.found(true, 'Responses are not held back.');
    }
  }

  // Sends one request whose answer arrives in pieces all the time, and one request that does not get any bytes until
  // the end. Each of them takes longer than many proxies allow.
  function patience(run, next) {
    var left = 2;
    var opened = now();
    if (!run.options['long'] || !Longtail.reaches(run.base, true)) { return next(); }
    function judge(isStream) {
      return function (status, text) {
        var took = now() - opened;
        var what = isStream ? 'A stream' : 'A request without any data';
        if (isStream ? /end\s*$/.test(text) : status === 200) {
          run.found(true, what + ' may last at least ' + run.time(took) + '.');
        } else {
          run.found(false, what + ' is cut after ' + run.time(took) + (status > 200 ? ' (status ' + status + ').' : '.'));
        }
        if (--left === 0) { next(); }
      };
    }
    Longtail.http('GET', run.base + '/diagnose/drip?every=1000&bytes=64&count=' + LONG + '&' + now(), {}, judge(true), function () {});
    Longtail.http('GET', run.base + '/diagnose/drip?every=' + LONG * 1000 + '&bytes=64&count=1&' + now(), {}, judge(false));
  }

  Longtail.path = {
    look: function (run, next) {
      echo(run, function () { buffering(run, next); });
    },
    patience: patience
  };
};
