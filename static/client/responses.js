/* The two kinds of answers that a transport over XHR reads: a stream of lines, and one batch. */

// Reads a stream that has one object on each line. Lines that do not begin with a brace are padding or the
// frame around an object, and are skipped.
function readLines(link, path, accept) {
  var from = 0;
  return http('GET', link.url(path), { accept: accept, credentials: link.credentials }, function (status, text, error) {
    link.end(error);
  }, function (text) {
    var end;
    // The text only grows. A line counts as soon as it is complete.
    while (link.live() && (end = text.indexOf('\n', from) + 1)) {
      var line = text.substring(from, end);
      from = end;
      if (/^\s*\{/.test(line)) { link.text(line); }
    }
  });
}

// Makes one request whose answer is one batch.
function readBatch(link, path, more) {
  return http('GET', link.url(path, more), { credentials: link.credentials }, function (status, text, error) {
    var batch;
    try { batch = decode(text); } catch (e) {}
    if (!error && batch && batch.messages) { link.batch(batch); } else { link.end(error || refusal(status, text)); }
  });
}
