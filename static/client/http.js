/* One HTTP request, in every browser that can make one, and the meaning of its failure. */

// Codes of temporary refusals. Any other refusal would come again, so the connection stays closed.
var TRANSIENT = ' not_ready log_unavailable outcome_unknown too_many_connections rate_limited unreachable ';

// The origin of an address, in lower case as in `location`.
function origin(url) {
  var found = /^([a-z]+:)?(\/\/[^\/?#]+)/i.exec(url) || [];
  return ((found[1] || location.protocol) + (found[2] || '//' + location.host)).toLowerCase();
}

function sameOrigin(url) {
  return origin(url) === origin('');
}

// An address with a query of the fields that are not undefined.
function query(base, path, fields) {
  var parts = [];
  each(fields, function (name, value) { parts.push(name + '=' + encodeURIComponent(value)); });
  return base + path + '?' + parts.join('&');
}

function newXhr() {
  if (window.XMLHttpRequest) { return new XMLHttpRequest(); }
  try { return new ActiveXObject('Microsoft.XMLHTTP'); } catch (e) { return null; }
}

// Whether a script can read an answer of that server; with `streaming`, whether it can read the answer while it
// arrives.
function reaches(url, streaming) {
  var xhr = newXhr();
  var modern = !!xhr && 'withCredentials' in xhr;
  if (modern || window.XDomainRequest) { return true; }
  return !!xhr && !streaming && sameOrigin(url);
}

// Makes one request. It calls `done(status, text, wait, xhr)` once, with status 0 if no answer came, and
// `progress(text)` with all the text that has arrived so far. Returns a function that stops the request: after that,
// neither is called.
function http(method, url, options, done, progress) {
  var finished = false;
  var xhr = newXhr();
  var foreign = !sameOrigin(url);
  var old = window.XDomainRequest && (!xhr || !('withCredentials' in xhr)) && (foreign || progress);
  var wait = 0;

  function finish(status, text) {
    if (finished) { return; }
    finished = true;
    if (old) {
      xhr.onload = xhr.onerror = xhr.ontimeout = xhr.onprogress = nothing;
    } else {
      xhr.onreadystatechange = nothing;
    }
    if (status !== -1) { done(status, text, wait, xhr); }
  }

  if (old) {
    xhr = new XDomainRequest();
    xhr.onload = function () { finish(200, xhr.responseText); };
    xhr.onerror = xhr.ontimeout = function () { finish(0, ''); };
    xhr.onprogress = function () { if (progress && !finished) { progress(xhr.responseText); } };
  }
  try {
    xhr.open(method, url, true);
    if (!old) {
      if (foreign && options.credentials && 'withCredentials' in xhr) { xhr.withCredentials = true; }
      each(options.headers, function (name, value) { xhr.setRequestHeader(name, value); });
      xhr.onreadystatechange = function () {
        var status = 0;
        var text = '';
        if (finished || xhr.readyState < 3) { return; }
        if (xhr.readyState === 3 && !progress) { return; }
        try { status = xhr.status; text = xhr.responseText; } catch (e) {}
        // A refusal that gives the time of the next try is temporary.
        if (status > 400) {
          try { wait = 1000 * xhr.getResponseHeader('Retry-After') || 0; } catch (e) {}
        }
        if (progress && status === 200) { progress(text); }
        if (!finished && xhr.readyState === 4) { finish(status, text); }
      };
    }
    xhr.send(options.body === undefined ? null : options.body);
  } catch (e) {
    setTimeout(function () { finish(0, ''); }, 0);
  }
  return function () {
    if (finished) { return; }
    finish(-1);
    try { xhr.abort(); } catch (e) {}
  };
}

// The error of an answer that is not 200: the server's error, or the error that no answer came.
function refusal(status, text, wait) {
  try {
    var error = decode(text).error;
    if (error.code) {
      error.retry = wait;
      return error;
    }
  } catch (e) {}
  return { code: 'unreachable', message: status ? 'status ' + status : 'no answer' };
}

function isTransient(error) {
  return TRANSIENT.indexOf(' ' + error.code + ' ') !== -1;
}
