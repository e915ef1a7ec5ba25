// The comparison page, part by part. Each file adds to Demo what the later ones use; main.js begins.
// Whatever came from outside is put into the page as text, never as markup.
'use strict';

const Demo = {
  CHANNEL: 'demo',
  client: Longtail.newClientId(),
  // Where the server is, as a path without its last slash: a proxy may have it below one of its own. '' is the root.
  home: location.pathname.replace(/\/[^/]*$/, '').replace(/^\/+/, '/'),
  // The page's own reader has not been answered for seconds; main.js looks.
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

  // Writes only what has changed: what is the same stays selected, and is not read out again.
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

  // The value below which a part of them lies.
  Demo.quantile = (values, part) => {
    if (!values.length) return undefined;
    const sorted = [...values].sort((a, b) => a - b);
    return sorted[Math.min(sorted.length - 1, Math.ceil(part * sorted.length) - 1)];
  };

  Demo.isStill = () => matchMedia('(prefers-reduced-motion: reduce)').matches;
})();
