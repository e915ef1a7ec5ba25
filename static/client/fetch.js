/*
 * Requests by `fetch` where there is no XMLHttpRequest: in a service worker and in Node. `Longtail.xhr` returns an
 * object with the members of an XMLHttpRequest that the library uses.
 */
(self.LongtailFiles = self.LongtailFiles || {}).fetch = function (Longtail) {
  Longtail.fetch = true;
  Longtail.xhr = function (streaming) {
    var options = { headers: {}, credentials: 'same-origin', cache: 'no-store' };
    var stop = typeof AbortController === 'undefined' ? null : new AbortController();
    var address;
    var headers;
    var made = {
      withCredentials: false,
      status: 0,
      readyState: 0,
      responseText: '',
      onreadystatechange: null,
      open: function (method, url) {
        options.method = method;
        address = url;
      },
      setRequestHeader: function (name, value) { options.headers[name] = value; },
      getResponseHeader: function (name) { return headers ? headers.get(name) : null; },
      abort: function () { if (stop) { stop.abort(); } },
      send: function (body) {
        if (body) { options.body = body; }
        if (made.withCredentials) { options.credentials = 'include'; }
        if (stop) { options.signal = stop.signal; }
        fetch(address, options).then(function (response) {
          headers = response.headers;
          made.status = response.status;
          if (streaming && response.body) { return read(response.body.getReader(), new TextDecoder()); }
          return response.text().then(over);
        }).then(null, function () {
          made.status = 0;
          over('');
        });
      }
    };
    function move(state) {
      made.readyState = state;
      made.onreadystatechange();
    }
    function over(text) {
      made.responseText += text;
      move(4);
    }
    function read(reader, decoder) {
      return reader.read().then(function (part) {
        if (part.done) { return over(''); }
        made.responseText += decoder.decode(part.value, { stream: true });
        move(3);
        return read(reader, decoder);
      });
    }
    return made;
  };
};
