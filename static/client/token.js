/*
 * Tokens that are renewed: connect(url, { channels: [...], token: function (done) { ... done(token); } }).
 *
 * The library calls the page's function for the first token, before each token expires, and when the server does not
 * accept a token. The function calls `done(token)`, or returns the token or a promise of it.
 */
(self.LongtailFiles = self.LongtailFiles || {}).token = function (Longtail) {
  // Milliseconds: the time that the function may take, and the minimum time between two calls.
  var WITHIN = 30000;
  var SELDOM = 1000;
  // The longest time that a timer supports.
  var LONGEST = 2147483647;
  var LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';

  // Returns the claims of a token. Each letter of a token represents six bits. This function does not decode names
  // correctly if they are not ASCII, but this file does not use such names.
  function claims(token) {
    var text = String(token).split('.')[1] || '';
    var bits = 0;
    var value = 0;
    var json = '';
    for (var i = 0; i < text.length; i++) {
      value = (value << 6 | LETTERS.indexOf(text.charAt(i))) & 65535;
      bits += 6;
      if (bits > 7) {
        bits -= 8;
        json += String.fromCharCode(value >> bits & 255);
      }
    }
    try { return Longtail.decode(json) || {}; } catch (e) { return {}; }
  }

  // Returns the milliseconds for which a new token is valid, or NaN if the token does not contain an end. If the
  // computer's clock is wrong, the result is the time from `iat` to `exp`.
  function life(token) {
    var claim = claims(token);
    var left = claim.exp * 1000 - new Date().getTime();
    var whole = (claim.exp - claim.iat) * 1000;
    return left <= 0 || left > whole ? whole : left;
  }

  // Returns a function `renew(stop)`. It asks the page for a token at once; with `stop` = true, it stops asking.
  // `tell(error, token)` gets each answer.
  Longtail.token = function (ask, tell) {
    var timer = null;
    var turn = 0;
    var failures = 0;

    function later(fn, wait) {
      clearTimeout(timer);
      timer = setTimeout(fn, Math.min(Math.max(wait, SELDOM), LONGEST));
    }

    // `tell` is called later, even if the page's function answers at once.
    function give(error, token) {
      setTimeout(function () { tell(error, token); }, 0);
    }

    function renew(stop) {
      var mine = ++turn;
      var given;
      clearTimeout(timer);
      if (stop) { return; }
      function done(token) {
        if (mine !== turn) { return; }
        if (typeof token !== 'string' || !token) { return failed(); }
        turn++;
        failures = 0;
        clearTimeout(timer);
        var left = life(token);
        if (left > 0) { later(again, left - Math.min(left / 5, WITHIN)); }
        give(null, token);
      }
      function failed() {
        if (mine !== turn) { return; }
        turn++;
        failures++;
        later(again, Math.min(60000, SELDOM * Math.pow(2, failures)) * (0.5 + Math.random() / 2));
        give({ code: 'unauthorized', message: 'the token function did not return a token' });
      }
      later(failed, WITHIN);
      try {
        given = ask(done);
        if (given && given.then) { given.then(done, failed); } else if (typeof given === 'string') { done(given); }
      } catch (e) {
        failed();
      }
    }

    function again() { renew(); }

    return renew;
  };
};
