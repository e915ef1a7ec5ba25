/*
 * Adds features that old browsers lack: JSON, requests to other origins and streams over XDomainRequest, publishing by
 * a form if scripts may not send a request to another origin, and a document in which the forever frame does not make a
 * sound. The library loads this file by itself if the browser needs it.
 */
(self.LongtailFiles = self.LongtailFiles || {}).legacy = function (Longtail) {
  var frames = 0;

  function isArray(value) {
    return Object.prototype.toString.call(value) === '[object Array]';
  }

  function quote(text) {
    return '"' + text.replace(/["\\\x00-\x1f\x7f-\x9f\u2028\u2029]/g, function (c) {
      return '\\u' + ('0000' + c.charCodeAt(0).toString(16)).slice(-4);
    }) + '"';
  }

  function encode(value) {
    var parts = [];
    if (value === null || value === undefined) { return 'null'; }
    if (typeof value === 'string') { return quote(value); }
    if (typeof value === 'number') { return isFinite(value) ? String(value) : 'null'; }
    if (typeof value !== 'object') { return String(value); }
    if (isArray(value)) {
      for (var i = 0; i < value.length; i++) { parts.push(encode(value[i])); }
      return '[' + parts.join(',') + ']';
    }
    for (var key in value) {
      if (Object.prototype.hasOwnProperty.call(value, key) && value[key] !== undefined) {
        parts.push(quote(key) + ':' + encode(value[key]));
      }
    }
    return '{' + parts.join(',') + '}';
  }

  // Without a native parser, the text runs as a literal. Before that, a check makes sure that the text is JSON: without
  // its strings, numbers and words, it may contain only punctuation.
  function decode(text) {
    var rest = text
      .replace(/\\(?:["\\\/bfnrt]|u[0-9a-fA-F]{4})/g, '@')
      .replace(/"[^"\\\x00-\x1f]*"|true|false|null|-?\d+(?:\.\d*)?(?:[eE][+\-]?\d+)?/g, ']')
      .replace(/(?:^|:|,)(?:\s*\[)+/g, '');
    if (!/^[\],:{}\s]*$/.test(rest)) { throw new Error('not JSON'); }
    return new Function('return (' + text.replace(/\u2028/g, '\\u2028').replace(/\u2029/g, '\\u2029') + ')')();
  }

  function newXhr() {
    if (window.XMLHttpRequest) { return new XMLHttpRequest(); }
    try { return new ActiveXObject('Microsoft.XMLHTTP'); } catch (e) { return null; }
  }

  // Returns an object that looks like an XMLHttpRequest. Internet Explorer 8 and 9 need an XDomainRequest to reach
  // other origins and to read an answer while it arrives. An XDomainRequest does not support headers, the status or
  // cookies. So the object uses an XMLHttpRequest if that is enough.
  function xhr(streaming) {
    var plain = newXhr();
    var made;
    var real;
    if (!window.XDomainRequest || (plain && 'withCredentials' in plain)) { return plain; }
    function move(state, status) {
      return function () {
        made.readyState = state;
        made.status = status;
        made.responseText = status ? real.responseText : '';
        made.onreadystatechange();
      };
    }
    made = {
      withCredentials: false,
      onreadystatechange: null,
      open: function (method, url) {
        real = streaming || !Longtail.sameOrigin(url) ? new XDomainRequest() : plain;
        real.open(method, url, true);
      },
      setRequestHeader: function (name, value) {
        if (real === plain) { real.setRequestHeader(name, value); }
      },
      getResponseHeader: function (name) {
        return real === plain ? real.getResponseHeader(name) : null;
      },
      send: function (body) {
        // If one of these handlers is missing, Internet Explorer 9 sometimes aborts the request.
        real.onload = move(4, 200);
        real.onprogress = move(3, 200);
        real.onerror = real.ontimeout = move(4, 0);
        real.onreadystatechange = function () {
          if (real === plain && real.readyState === 4) { move(4, real.status)(); }
        };
        real.send(body);
      },
      abort: function () { real.abort(); }
    };
    return made;
  }

  // Publishes by a form, which can send a request where a script may not. The page cannot read the answer.
  function post(address, data, done) {
    var name = 'longtail' + (++frames);
    var holder = document.createElement('div');
    var form;
    holder.style.display = 'none';
    // Old versions of Internet Explorer ignore the name of a frame that a script has made.
    holder.innerHTML = '<form method="post" accept-charset="utf-8" target="' + name + '"><textarea name="data"></textarea></form>' +
      '<iframe name="' + name + '" src="about:blank" title="Longtail"></iframe>';
    document.body.appendChild(holder);
    form = holder.firstChild;
    form.action = address;
    form.firstChild.value = Longtail.encode(data);
    form.submit();
    var frame = holder.lastChild;
    function over() {
      // Some browsers first report that the empty page has loaded. If the form were removed at that moment, they would
      // not send it.
      try { if (frame.contentWindow.location.href === 'about:blank') { return; } } catch (e) {}
      setTimeout(function () {
        document.body.removeChild(holder);
        if (done) { done(null); }
      }, 0);
    }
    if (frame.attachEvent) { frame.attachEvent('onload', over); } else { frame.onload = over; }
  }

  // Makes a document that does not belong to a window. For a frame in such a document, Internet Explorer does not make
  // a click sound at each request, and does not show the page as loading. The caller must keep a reference to the
  // document. Otherwise, the browser may collect it while the stream is running.
  function htmlfile(called) {
    var page;
    try {
      page = new ActiveXObject('htmlfile');
      page.open();
      // The document gets the `document.domain` of this page. If the page has set it, and the document had a different
      // one, the page and the document could not call each other.
      page.write('<html><head><script>document.domain="' + document.domain + '";</' + 'script></head><body></body></html>');
      page.close();
      page.parentWindow.LongtailCall = called;
      return page;
    } catch (e) {}
  }

  // The object has the usual name `JSON`, because answers that run as scripts may use it.
  if (typeof JSON === 'undefined') { window.JSON = { stringify: encode, parse: decode }; }
  Longtail.encode = Longtail.encode || encode;
  Longtail.decode = Longtail.decode || decode;
  Longtail.post = post;
  Longtail.htmlfile = htmlfile;
  Longtail.xhr = xhr;
  Longtail.legacy = true;
};
