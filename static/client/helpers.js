/* Small functions that the other parts share, JSON, and `api`: the object that pages get as `Longtail`. */

// The global object: of a page, of a worker, or of Node.
var root = typeof self !== 'undefined' ? self : globalThis;
// The transports, the best first. Each transport adds itself.
var transports = [];
var api = { transports: transports };

function nothing() {}

// The two ways to end a transport: some handles are functions, and others have a method `close`.
function call(fn) { fn(); }

function shut(source) { source.close(); }

// Returns a new array of one value or of several.
function list(value) {
  return value === undefined || value === null ? [] : [].concat(value);
}

// Returns whether the object itself has a property of this name. Pages choose the names, and a name may be
// 'constructor'. The library never adds a prefix to a name before a look-up, because V8 keeps every such new text in
// memory for ever.
function has(object, name) {
  return nothing.hasOwnProperty.call(object, name);
}

function each(object, fn) {
  for (var name in object) {
    if (has(object, name) && object[name] !== undefined) { fn(name, object[name]); }
  }
}

// Returns the items of the first array that are not in the second.
function except(array, others) {
  var left = [];
  for (var i = 0; i < array.length; i++) {
    for (var j = 0; j < others.length && others[j] !== array[i];) { j++; }
    if (j === others.length) { left.push(array[i]); }
  }
  return left;
}

// If the browser does not have JSON, legacy.js adds it.
if (typeof JSON !== 'undefined') {
  api.encode = JSON.stringify;
  api.decode = JSON.parse;
}

// A value that JSON cannot represent (undefined, a function) becomes null.
function encode(value) { return api.encode(value) || 'null'; }

function decode(text) { return api.decode(text); }

// Returns a new UUID of version 4.
function newClientId() {
  if (root.crypto && crypto.randomUUID) { return crypto.randomUUID(); }
  return 'xxxxxxxx-xxxx-4xxx-8xxx-xxxxxxxxxxxx'.replace(/x/g, function () {
    return (Math.random() * 16 | 0).toString(16);
  });
}
