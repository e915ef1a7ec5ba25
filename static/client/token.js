/*
 * Tokens that are renewed: connect(url, { channels: [...], token: function (done) { ... done(token); } }).
 *
 * The page's function is asked for the first token, again before each one expires, and when the server does not accept
 * one. It calls `done(token)`, or returns the token, or a promise of it.
 */
(self.LongtailFiles = self.LongtailFiles || {}).token = function (Longtail) {
  // Milliseconds: the time that the function may take, and the minimum time between two calls.
  var WITHIN = 30000;
  var SELDOM = 1000;
  // The longest time of a timer.
  var LONGEST = 2147483647;
  var LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';

  // The claims of a token. Its letters stand for six bits each; names that are not ASCII do not matter here.
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

  // The milliseconds for which a new token is valid; NaN if the token does not contain them. If the computer's clock is
  // wrong, the time from its issue counts.
  function life(token) {
    var claim = claims(token);
    var left = claim.exp * 1000 - new Date().getTime();
    var whole = (claim.exp - claim.iat) * 1000;
    return left <= 0 || left > whole ? whole : left;
  }

  // Returns a function that asks for a token now; with `true` it asks no more. `tell(error, token)` gets each answer.
  Longtail.token = function (ask, tell) {
    var timer = null;
    var turn = 0;
    var failures = 0;

    function later(fn, wait) {
      clearTimeout(timer);
      timer = setTimeout(fn, Math.min(Math.max(wait, SELDOM), LONGEST));
    }

    // The token is passed on later, also if the function answers at once.
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
        give({ code: 'unauthorized', message: 'the function for tokens gave none' });
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
