// An application in front of the server: it has its own pages, and forwards all other requests.
import http from 'node:http';

// `pages`: by path, the text of a page, or its headers and text. `without`: names of headers that it removes in both
// directions. `edit` changes each piece of an answer.
export async function startFront(base, pages, { without = [], edit = text => text } = {}) {
  const upstream = new URL(base);
  const less = headers => Object.fromEntries(Object.entries(headers).filter(([name]) => !without.includes(name)));
  const made = http.createServer((request, answer) => {
    const found = pages[request.url.replace(/\?.*/, '')];
    if (found !== undefined) {
      const [headers, text] = typeof found === 'string' ? [{}, found] : found;
      answer.writeHead(200, { 'Content-Type': request.url.endsWith('.mjs') ? 'text/javascript' : 'text/html', ...headers });
      return answer.end(text);
    }
    // The server is on another port, so the origin of the page is foreign to the server.
    const { origin, ...headers } = less(request.headers);
    const asked = http.request({ host: upstream.hostname, port: upstream.port, path: request.url, method: request.method, headers }, got => {
      answer.writeHead(got.statusCode, less(got.headers));
      answer.flushHeaders();
      got.on('data', chunk => answer.write(edit(chunk.toString('latin1')), 'latin1'));
      got.on('end', () => answer.end()).on('error', () => answer.destroy());
    });
    asked.on('error', () => answer.destroy());
    answer.on('close', () => asked.destroy());
    request.pipe(asked);
  });
  await new Promise(resolve => made.listen(0, '127.0.0.1', resolve));
  return {
    base: `http://127.0.0.1:${made.address().port}`,
    stop: () => {
      made.close();
      made.closeAllConnections();
    }
  };
}
