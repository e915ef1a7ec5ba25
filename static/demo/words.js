// The comparison page, part by part. Each file adds functions and data to Demo for the later files; main.js starts the
// page. Data from outside is put into the page as text, never as markup.
'use strict';

const Demo = {
  CHANNEL: 'demo',
  client: Longtail.newClientId(),
  // The path of the server, without its last slash; '' is the root. A proxy may serve the server below another path.
  home: location.pathname.replace(/\/[^/]*$/, '').replace(/^\/+/, '/'),
  // True if the page's own reader has not had an answer for some seconds; main.js sets it.
  isLost: false
};

(() => {
  Demo.byId = id => document.getElementById(id);

  Demo.make = (tag, className, text) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };

  Demo.svg = (tag, attributes, text) => {
    const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
    for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, value);
    if (text !== undefined) element.textContent = text;
    return element;
  };

  // Writes a text only if it has changed. So the user's selection does not disappear, and a screen reader does not
  // repeat the text.
  Demo.say = (element, text) => {
    if (element.textContent !== text) element.textContent = text;
  };

  Demo.count = (count, word) => `${count} ${word}${count === 1 ? '' : 's'}`;

  Demo.asText = data => {
    try {
      return JSON.stringify(data);
    } catch {
      return 'nested too deeply to be shown';
    }
  };

  Demo.size = bytes => {
    if (bytes < 1000) return Math.round(bytes) + ' B';
    if (bytes < 1e6) return (bytes / 1e3).toFixed(bytes < 1e4 ? 1 : 0) + ' kB';
    return (bytes / 1e6).toFixed(1) + ' MB';
  };

  Demo.time = ms => {
    if (ms === undefined) return '–';
    if (ms < 1000) return Math.round(ms) + ' ms';
    return (ms / 1000).toFixed(1) + ' s';
  };

  // Returns a quantile of these values; `part` = 0.5 is the median.
  Demo.quantile = (values, part) => {
    if (!values.length) return undefined;
    const sorted = [...values].sort((a, b) => a - b);
    return sorted[Math.min(sorted.length - 1, Math.ceil(part * sorted.length) - 1)];
  };

  Demo.isStill = () => matchMedia('(prefers-reduced-motion: reduce)').matches;
})();
