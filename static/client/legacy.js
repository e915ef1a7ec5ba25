/*
 * Adds features that the oldest browsers lack: JSON, and a way to publish where scripts may not send a request to
 * another origin. The library loads this file by itself where it is needed.
 */
(function () {
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

  // Without a native parser the text is run as a literal, but only after a check that it is JSON: without its strings,
  // numbers and words, only punctuation may be left.
  function decode(text) {
    var rest = text
      .replace(/\\(?:["\\\/bfnrt]|u[0-9a-fA-F]{4})/g, '@')
      .replace(/"[^"\\\x00-\x1f]*"|true|false|null|-?\d+(?:\.\d*)?(?:[eE][+\-]?\d+)?/g, ']')
      .replace(/(?:^|:|,)(?:\s*\[)+/g, '');
    if (!/^[\],:{}\s]*$/.test(rest)) { throw new Error('not JSON'); }
    return new Function('return (' + text.replace(/\u2028/g, '\\u2028').replace(/\u2029/g, '\\u2029') + ')')();
  }

  // A form can send a request where a script may not. The page cannot read the answer.
  function post(address, data, done) {
    var name = 'longtail' + (++frames);
    var holder = document.createElement('div');
    var form;
    holder.style.display = 'none';
    // An old Internet Explorer ignores the name of a frame that a script made.
    holder.innerHTML = '<form method="post" accept-charset="utf-8" target="' + name + '"><textarea name="data"></textarea></form>' +
      '<iframe name="' + name + '" src="about:blank" title="Longtail"></iframe>';
    document.body.appendChild(holder);
    form = holder.firstChild;
    form.action = address;
    form.firstChild.value = Longtail.encode(data);
    form.submit();
    var frame = holder.lastChild;
    function over() {
      // Some browsers report the empty page first, and would not send the form if it were removed then.
      try { if (frame.contentWindow.location.href === 'about:blank') { return; } } catch (e) {}
      setTimeout(function () {
        document.body.removeChild(holder);
        if (done) { done(null); }
      }, 0);
    }
    if (frame.attachEvent) { frame.attachEvent('onload', over); } else { frame.onload = over; }
  }

  // The object has the usual name, since answers that run as scripts may use it.
  if (typeof JSON === 'undefined') { window.JSON = { stringify: encode, parse: decode }; }
  Longtail.encode = Longtail.encode || encode;
  Longtail.decode = Longtail.decode || decode;
  Longtail.post = post;
  Longtail.legacy = true;
})();
