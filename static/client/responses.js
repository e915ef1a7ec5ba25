/* The two kinds of answers that a transport over XHR reads: a stream of lines, and one batch. */

// Returns a function for a text that only grows. The function calls `each` with every line as soon as the line is
// complete.
function lines(each) {
  var from = 0;
  return function (text) {
    var end;
    while ((end = text.indexOf('\n', from)) !== -1) {
      var line = text.substring(from, end);
      from = end + 1;
      if (each(line.replace(/^\s+|\s+$/g, '')) === false) { return; }
    }
  };
}

// Reads a stream that has one object on each line. Lines that do not begin with a brace are padding or the
// frame around an object, and are skipped.
function readLines(link, path, headers) {
  link.request();
  return http('GET', link.url(path), { headers: headers, credentials: link.credentials }, function (status, text, wait) {
    link.end(status === 200 ? null : refusal(status, text, wait));
  }, lines(function (line) {
    if (line.charAt(0) === '{') { link.item(decode(line)); }
    return link.live();
  }));
}

// Makes one request whose answer is one batch. On the page's own origin the cursor also goes as an entity tag,
// so that the server answers "nothing new" with a 304 without a body.
function readBatch(link, path, more) {
  var headers = {};
  var cursor = link.cursor;
  if (cursor !== 'latest' && cursor !== 'earliest' && sameOrigin(link.url(path))) {
    headers['If-None-Match'] = '"' + cursor + '"';
  }
  link.request();
  return http('GET', link.url(path, more), { headers: headers, credentials: link.credentials }, function (status, text, wait) {
    var batch = null;
    if (status === 304) { return link.batch({ messages: [] }); }
    if (status !== 200) { return link.end(refusal(status, text, wait)); }
    try { batch = decode(text); } catch (e) {}
    if (!batch) { return link.end(refusal(0)); }
    link.batch(batch);
  });
}
