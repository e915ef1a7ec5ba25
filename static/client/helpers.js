/* Small functions that the other parts share, JSON, and `api`: the object that pages get as `Longtail`. */

// The global object: of a page, of a worker, or of Node.
var root = typeof window !== 'undefined' ? window : typeof self !== 'undefined' ? self : globalThis;
// The transports, the best first: each one adds itself.
var transports = [];
var api = { transports: transports };

function nothing() {}

// The two ways to end a transport.
function call(fn) { fn(); }

function shut(source) { source.close(); }

// A new array of one value or of several.
function list(value) {
  return value === undefined || value === null ? [] : [].concat(value);
}

// Pages choose the names, and one of them may be 'constructor'. A name is never joined to another text for a look-up,
// since V8 keeps each joined text that it looked up once for ever.
function has(object, name) {
  return nothing.hasOwnProperty.call(object, name);
}

function each(object, fn) {
  for (var name in object) {
    if (has(object, name) && object[name] !== undefined) { fn(name, object[name]); }
  }
}

// The items of the first array that are not in the second.
function except(array, others) {
  var left = [];
  for (var i = 0; i < array.length; i++) {
    for (var j = 0; j < others.length && others[j] !== array[i];) { j++; }
    if (j === others.length) { left.push(array[i]); }
  }
  return left;
}

// If the browser has no JSON, legacy.js adds it.
if (typeof JSON !== 'undefined') {
  api.encode = JSON.stringify;
  api.decode = JSON.parse;
}

// A value that JSON cannot represent (undefined, a function) becomes null.
function encode(value) { return api.encode(value) || 'null'; }

function decode(text) { return api.decode(text); }

// A UUID of version 4.
function newClientId() {
  if (root.crypto && crypto.randomUUID) { return crypto.randomUUID(); }
  return 'xxxxxxxx-xxxx-4xxx-8xxx-xxxxxxxxxxxx'.replace(/x/g, function () {
    return (Math.random() * 16 | 0).toString(16);
  });
}
