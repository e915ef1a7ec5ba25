/* One HTTP request, in every browser that can make one, and the meaning of its failure. */

// A longer address becomes a POST, because Internet Explorer does not support longer addresses and proxies refuse them.
var LONGEST_URL = 2000;
// The longest time in milliseconds that an answer can ask the library to wait.
var LONGEST_WAIT = 300000;
// Refusals that the server would repeat: the status and the code of each. Any other answer is temporary, or is not from
// the server.
var FINAL = /^((400)?(bad_\w+|too_many_channels)|(401)?unauthorized|(403)?forbidden\w*|(404)?not_found|(413)?too_large)$/;

// Returns the origin of an address, in lower case as in `location`.
function origin(url) {
  var found = /^([a-z]+:)?(\/\/[^\/?#]+)/i.exec(url) || [];
  return ((found[1] || location.protocol) + (found[2] || '//' + location.host)).toLowerCase();
}

function sameOrigin(url) {
  return !!root.location && origin(url) === origin('');
}

// Returns an address with a query of all fields that are not undefined.
function query(base, path, fields) {
  var parts = [];
  each(fields, function (name, value) { parts.push(name + '=' + encodeURIComponent(value)); });
  return base + path + '?' + parts.join('&');
}

// The files for old browsers and for environments without XMLHttpRequest define `api.xhr`.
function newXhr(streaming) {
  return api.xhr ? api.xhr(streaming) : root.XMLHttpRequest && new XMLHttpRequest();
}

// Returns whether a script can read an answer of the server at this address; with `streaming`, whether it can read the
// answer while it arrives.
function reaches(url, streaming) {
  var xhr = newXhr();
  return !!xhr && ('withCredentials' in xhr || (!streaming && sameOrigin(url)));
}

function streams(url) {
  return reaches(url, true);
}

// Makes one request. It calls `done(status, text, error, xhr)` once. If no answer arrived, the status is 0. If the
// status is 200, `error` is absent. It calls `progress(text)` with the whole text that has arrived so far. It returns a
// function that stops the request; after that, it calls neither `done` nor `progress`.
function http(method, url, options, done, progress) {
  var xhr = newXhr(progress);
  var body = options.body;
  var type = options.type;
  var isLong = url.length > LONGEST_URL && !body;

  function finish(status, text) {
    var tell = done;
    var wait = 0;
    if (!tell) { return; }
    done = null;
    xhr.onreadystatechange = nothing;
    try { wait = Math.min(1000 * xhr.getResponseHeader('Retry-After') || 0, LONGEST_WAIT); } catch (e) {}
    tell(status, text, status === 200 ? null : refusal(status, text, wait), xhr);
  }

  if (isLong) {
    isLong = url.split('?');
    url = isLong[0];
    body = isLong[1];
    method = 'POST';
    type = 'application/x-www-form-urlencoded';
  }
  try {
    xhr.open(method, url, true);
    if (options.credentials && !sameOrigin(url)) { xhr.withCredentials = true; }
    each({ 'Content-Type': type, Accept: options.accept }, function (name, value) { xhr.setRequestHeader(name, value); });
    xhr.onreadystatechange = function () {
      var status = 0;
      var text = '';
      if (xhr.readyState < (progress ? 3 : 4)) { return; }
      try { status = xhr.status; text = xhr.responseText; } catch (e) {}
      if (progress && status === 200) { progress(text); }
      if (xhr.readyState === 4) { finish(status, text); }
    };
    xhr.send(body || null);
  } catch (e) {
    setTimeout(function () { finish(0, ''); }, 0);
  }
  return function () {
    if (!done) { return; }
    done = null;
    xhr.onreadystatechange = nothing;
    try { xhr.abort(); } catch (e) {}
  };
}

function unreachable(message) {
  return { code: 'unreachable', message: message };
}

// Returns the error for an unexpected answer: the error that the answer contains, or `unreachable` if it does not
// contain an error.
function refusal(status, text, wait) {
  var error;
  try { error = decode(text).error; } catch (e) {}
  if (!error || typeof error.code !== 'string') { error = unreachable(status ? 'status ' + status : 'no answer'); }
  error.status = status;
  error.retry = wait;
  return error;
}

// Returns whether the server would refuse the request again. A refusal that names the time of the next attempt is
// temporary.
function isFinal(error) {
  return !error.retry && FINAL.test((error.status || '') + error.code);
}
