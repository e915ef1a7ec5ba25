/* Small functions that the other parts share, JSON, and `api`: the object that pages get as `Longtail`. */

// The transports, the best first: each one adds itself.
var transports = [];
// `calls` holds functions that scripts of the server call by name: see script.js.
var api = { transports: transports, calls: {} };

function nothing() {}

function now() {
  return new Date().getTime();
}

// A new array of one value or of several.
function list(value) {
  return value === undefined || value === null ? [] : [].concat(value);
}

function each(object, fn) {
  for (var name in object) {
    if (object.hasOwnProperty(name) && object[name] !== undefined) { fn(name, object[name]); }
  }
}

function without(array, item) {
  var left = [];
  for (var i = 0; i < array.length; i++) {
    if (array[i] !== item) { left.push(array[i]); }
  }
  return left;
}

// If the browser has no JSON, legacy.js adds it.
if (typeof JSON !== 'undefined') {
  api.encode = JSON.stringify;
  api.decode = JSON.parse;
}

function encode(value) { return api.encode(value); }

function decode(text) { return api.decode(text); }

// A UUID of version 4.
function newClientId() {
  var random = window.crypto && crypto.getRandomValues && window.Uint8Array && crypto.getRandomValues(new Uint8Array(32));
  var at = 0;
  return 'xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx'.replace(/[xy]/g, function (c) {
    var digit = (random ? random[at++] : Math.random() * 256) & 15;
    return (c === 'x' ? digit : (digit & 3) | 8).toString(16);
  });
}
