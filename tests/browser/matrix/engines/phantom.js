// Opens one page in PhantomJS and leaves it open.
var page = require('webpage').create();
page.onConsoleMessage = function (text) { console.log(text); };
page.onError = function (text) { console.log('error: ' + text); };
page.open(require('system').args[1], function (status) { console.log('opened: ' + status); });
