// Shows bytes as readable text, and keeps the log of bytes of a lane.
'use strict';

(() => {
  // The maximum number of pieces that a lane keeps, and of characters that it shows of one piece.
  const KEPT = 30;
  const LONGEST = 3000;

  const decoder = new TextDecoder('utf-8', { fatal: true });

  Demo.decode = data => Uint8Array.from(atob(data), c => c.charCodeAt(0));

  // Shows printable UTF-8 unchanged, and any other byte as its number. For a long run of spaces or line ends, shows the
  // length of the run.
  Demo.readable = bytes => {
    let text = '';
    for (let at = 0; at < bytes.length;) {
      const byte = bytes[at];
      const length = byte < 0x80 ? 1 : byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc2 ? 2 : 0;
      let shown = '\\x' + byte.toString(16).padStart(2, '0');
      let taken = 1;
      if (byte === 10 || byte === 13 || (byte >= 32 && byte < 127)) {
        shown = String.fromCharCode(byte);
      } else if (length > 1 && at + length <= bytes.length) {
        try {
          shown = decoder.decode(bytes.subarray(at, at + length));
          taken = length;
        } catch { /* not UTF-8: shown as a number */ }
      }
      text += shown;
      at += taken;
    }
    // A text frame of a WebSocket begins with the byte 81.
    return text.replace(/(.)(?=\\x81)/g, '$1\n').replace(/\r\n/g, '\n').replace(/\r/g, '\\r').replace(/ {24,}/g, run => `[${run.length} spaces]`)
      .replace(/\n{24,}/g, run => `[${run.length} line ends]`);
  };

  Demo.ByteLog = class {
    constructor(details, list) {
      this.details = details;
      this.list = list;
      this.kept = [];
      details.addEventListener('toggle', () => this.show());
    }
    // `direction`: 'up', 'down' or 'note'.
    add(direction, title, text) {
      const entry = { direction, title, text: text && text.length > LONGEST ? text.slice(0, LONGEST) + '…' : text };
      this.kept.push(entry);
      if (this.kept.length > KEPT) this.kept.shift();
      if (!this.details.open) return;
      // The list does not scroll while the user reads earlier entries.
      const follows = this.list.scrollTop + this.list.clientHeight > this.list.scrollHeight - 40;
      this.list.append(this.item(entry));
      while (this.list.children.length > KEPT) this.list.firstChild.remove();
      if (follows) this.list.scrollTop = this.list.scrollHeight;
    }
    show() {
      this.list.replaceChildren(...(this.details.open ? this.kept.map(entry => this.item(entry)) : []));
      this.list.scrollTop = this.list.scrollHeight;
    }
    item({ direction, title, text }) {
      const item = Demo.make('li', direction);
      item.append(Demo.make('span', 'byte-title', title));
      if (text) item.append(Demo.make('pre', '', text));
      return item;
    }
  };
})();
