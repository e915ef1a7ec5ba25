/* The members of `Longtail`, for pages, for transports in other files, and for files that are loaded on demand. */

api.version = '0.1.0';
api.connect = connect;
api.newClientId = newClientId;
// The functions that transports use.
api.origin = origin;
api.sameOrigin = sameOrigin;
api.reaches = reaches;
api.http = http;
api.query = query;
api.load = load;
api.need = need;
api.now = now;

return api;
})();
