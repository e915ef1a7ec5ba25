// One reader that changes from transport to transport. From one transport to the next, it keeps only its cursor.
'use strict';

(() => {
  const EVERY = 3000;
  const SHOWN = 90;

  Demo.hop = (base, names, cursor) => {
    const { byId } = Demo;
    const lt = Demo.reader(base, names, cursor, { interval: 500 });
    const comparison = new Demo.Comparison();
    const ribbon = byId('hop-ribbon');
    let at = -1;
    let hops = -1;

    const rungs = names.map((name, index) => {
      const button = Demo.make('button', 'rung rung-' + name, (Demo.STORY[name] || {}).short || name);
      button.type = 'button';
      button.setAttribute('aria-label', `Move the reader to ${button.textContent}`);
      button.dataset.transport = name;
      button.addEventListener('click', () => {
        byId('hop-auto').checked = false;
        go(index);
      });
      const item = Demo.make('li');
      item.append(button);
      byId('rungs').append(item);
      return button;
    });

    function go(index) {
      at = index;
      hops += 1;
      lt.use([names[at]]);
      rungs.forEach((rung, i) => {
        if (i === at) rung.setAttribute('aria-current', 'step'); else rung.removeAttribute('aria-current');
      });
      show();
    }

    function show() {
      const doubled = comparison.disordered + lt.stats.repeats;
      for (const [name, value] of [['count', lt.stats.messages], ['hops', Math.max(0, hops)], ['lost', comparison.lost], ['doubled', doubled]]) {
        Demo.say(byId('hop-' + name), String(value));
      }
      Demo.say(byId('hop-count-word'), lt.stats.messages === 1 ? 'message' : 'messages');
      Demo.say(byId('hop-hops-word'), hops === 1 ? 'change' : 'changes');
      byId('hop-lost-box').classList.toggle('bad', comparison.lost > 0);
      byId('hop-doubled-box').classList.toggle('bad', doubled > 0);
    }

    lt.on('message', message => {
      if (!message.id) return;
      comparison.saw(message.id);
      // One stripe for each message, in the colour of the transport that delivered it.
      const stripe = Demo.make('i', 'rung-' + names[at]);
      ribbon.append(stripe);
      if (ribbon.children.length > SHOWN) ribbon.firstChild.remove();
    });
    lt.on('gap', () => comparison.restart());

    const pause = byId('hop-pause');
    pause.addEventListener('click', () => {
      const pausing = lt.state !== 'paused';
      if (pausing) lt.pause(); else lt.resume();
      Demo.say(pause, pausing ? 'Resume' : 'Pause');
    });
    setInterval(() => {
      // The reader does not change transports while there is no server.
      if (byId('hop-auto').checked && lt.state !== 'paused' && !Demo.isLost) go((at + 1) % names.length);
    }, EVERY);
    // When the weather changes, a reader that waits for its next attempt makes the attempt at once.
    Demo.wire.weather(() => {
      if (lt.state === 'waiting' || lt.state === 'connecting') lt.use([names[at]]);
    });
    setInterval(show, 500);
    go(0);
  };
})();
