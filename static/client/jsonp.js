/* JSONP: a script from the server calls a function of this page with the batch. It works across origins in every browser. */
transports.push({
  name: 'jsonp',
  batch: true,
  parks: true,
  usable: function () {
    return typeof document !== 'undefined';
  },
  open: function (link) {
    var called = false;
    var mode = link.park ? 'timeout=' + link.park : 'mode=poll';
    var call = callable(function (batch) {
      called = true;
      call.drop();
      link.batch(batch);
    });
    function over() {
      call.drop();
      if (!called) { link.end({ code: 'unreachable', message: 'no answer' }); }
    }
    link.request();
    var forget = load(link.url('/jsonp', mode + '&callback=' + call.name), over, over);
    return function () {
      call.drop();
      called = true;
      forget();
    };
  },
  close: function (stop) {
    stop();
  }
});
