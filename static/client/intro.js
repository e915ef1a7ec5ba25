/*
 * Longtail's browser library. The code uses the syntax and functions of ECMAScript 3, so that the oldest browsers can
 * at least parse it. The code checks for each newer feature before it uses it.
 *
 *   var lt = Longtail.connect('', { channels: ['todo'] });
 *   lt.on('message', function (message) { ... });            // every message
 *   lt.on('itemAdded', function (data, message) { ... });     // those with this event name
 *   lt.publish('todo', { title: 'milk' }, { event: 'itemAdded', toSelf: false });
 *
 * PARTS. The server joins the files from intro.js to outro.js into one function. These files are the core, which owns
 * the cursor, chooses the transport, drops repeats, backs off and reconnects. The core does not contain code for a
 * particular transport. Only the other parts can see the declarations of a part; `api` is the object that a page gets
 * as `Longtail`.
 *
 *   helpers.js     small functions, JSON, and `api`
 *   clock.js       durations
 *   http.js        one request, and the meaning of its failure
 *   script.js      script elements
 *   files.js       files of the library that are loaded on first use
 *   responses.js   the two kinds of answers: a stream of lines, and one batch
 *   events.js      listeners
 *   backoff.js     the time before the next attempt, and the transports to avoid
 *   link.js        one transport in use: its requests, and the time for which it may be silent
 *   ladder.js      the choice of the transport, and the change to a better one
 *   messages.js    the reports of links: messages, gaps, heartbeats
 *   publish.js     publishing
 *   connection.js  the states of a connection, and the reaction to the end of a link
 *   connect.js     `Longtail.connect`, and the methods that a page can call
 *
 * A connection is a plain object `conn` that these functions get. The library creates only the functions that pages
 * call for each connection. All other functions exist once.
 *
 * TRANSPORTS. A transport is a separate file, which adds one object to Longtail.transports, the best first:
 *
 *   name          the server's name for the transport, as in /info
 *   batch         true if each answer is one batch; otherwise it is a stream
 *   parks         true if a request can wait at the server until there is a message
 *   free          true if the transport does not use one of the six connections that a browser opens to a host
 *   like          a transport with the same obstacles: this one is tried only if that one is not usable
 *   hidden        true if a diagnosis skips it
 *   usable(base)  whether this browser can use it with that server
 *   open(link)    makes a request and begins to read; returns a handle for `close`
 *   close(handle) stops reading; after this, the transport must not report anything
 *
 * and reports through the link that it gets:
 *
 *   link.url(path, more)    the address to open, with channels, cursor and client; `more` is extra query text
 *   link.item(object)       one object of a stream: a message or a control object
 *   link.text(text)         one object of a stream, as JSON text
 *   link.batch(batch)       a whole batch; then the core opens the transport again for the next one
 *   link.end(error)         the answer ended, or failed
 *   link.park               seconds that a request may wait at the server; 0: the server must answer at once
 *   link.credentials        whether requests to another origin carry cookies
 *   link.cursor             the position after which the link reads
 *   link.channels           the channels that the link reads
 *   link.live()             false after the core has dropped the link
 *   link.owner              the object of the connection that the page has
 *
 * THE LADDER. A connection begins with short requests: the server answers them at once, and every proxy that we know
 * forwards them. The core keeps sending these requests, and at the same time tries the best transport. That transport
 * takes over after it has proven itself: its hello and then another object have arrived in time. Until then, the core
 * keeps the objects that arrive on this transport. When the transport takes over, the core delivers these objects, so
 * no message is lost. If a message arrives on both links, the core recognises it by its id, so the page gets it only
 * once. If a transport fails, or ends soon after it opened, the core avoids it for some time and tries the next
 * transport. This time is longer after each failure. When the core has tried all transports, requests wait at the
 * server (long polling). When the time for which it avoids a transport is over, the core tries this transport again. If
 * a stream that had messages falls silent, the core checks the stream with an extra request.
 *
 * Options of connect: channels, cursor, last, transports (names, the best first), client, token (or a function for it),
 * interval (ms between two polls), credentials (true: cookies also go to another origin; then the server must allow the
 * page's origin by name, not by `*`), session (true: the application knows this client, and can change what it reads),
 * and share (true: the tabs of this browser read through one connection, if the browser supports this).
 */
var Longtail = (function () {
