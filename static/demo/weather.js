// The switches of the weather. All open pages share the server's weather.
'use strict';

(() => {
  let now = {};

  function set(changes) {
    const wanted = { ...now, ...changes };
    return fetch(Demo.home + '/demo/weather', { method: 'POST', body: JSON.stringify(wanted) }).then(async answer => {
      if (!answer.ok) throw new Error((await answer.json()).error.message);
    }).catch(error => Demo.say(Demo.byId('lesson'), 'The weather could not be changed: ' + error.message));
  }

  // When the weather changes, all `lanes` try again at once. Returns a function that shows the lesson again.
  Demo.weather = lanes => {
    const box = Demo.byId('weather');
    const switches = Demo.byId('switches');
    const lesson = Demo.byId('lesson');
    const parts = new Map();
    let shown;
    let isFirst = true;

    function speak() {
      Demo.say(lesson, Demo.isLost ? 'No answer from the server. The lanes try again, and continue from their cursors when the server answers.'
        : shown ? Demo.WEATHER[shown].lesson
          : 'The sky is clear: all lanes receive messages. Turn a switch on, and see which lanes stop.');
    }

    for (const [name, kind] of Object.entries(Demo.WEATHER)) {
      const part = Demo.make('span', 'switch');
      const button = Demo.make('button', '', kind.label);
      button.type = 'button';
      button.dataset.weather = name;
      button.setAttribute('aria-pressed', 'false');
      button.setAttribute('aria-describedby', 'lesson');
      let amount = null;
      if (kind.amounts) {
        amount = Demo.make('select');
        amount.setAttribute('aria-label', `${kind.label}: ${kind.unit}`);
        for (const [value, text] of kind.amounts) {
          const option = Demo.make('option', '', text);
          option.value = value;
          option.selected = value === kind.usual;
          amount.append(option);
        }
        amount.addEventListener('change', () => { if (now[name]) set({ [name]: Number(amount.value) }); });
      }
      button.addEventListener('click', () => set({ [name]: now[name] ? (amount ? 0 : false) : amount ? Number(amount.value) : true }));
      part.append(button, ...(amount ? [amount] : []));
      switches.append(part);
      parts.set(name, { button, amount });
    }
    const clear = Demo.make('button', 'clear', 'Clear sky');
    clear.type = 'button';
    clear.addEventListener('click', () => set(Object.fromEntries(Object.entries(now).map(([name, value]) => [name, typeof value === 'number' ? 0 : false]))));
    switches.append(clear);
    box.hidden = false;

    Demo.wire.weather(next => {
      const switched = Object.keys(Demo.WEATHER).filter(name => next[name] && next[name] !== now[name]);
      const on = Object.keys(Demo.WEATHER).filter(name => next[name]);
      now = next;
      for (const [name, { button, amount }] of parts) {
        button.setAttribute('aria-pressed', String(!!now[name]));
        if (amount && now[name]) amount.value = String(now[name]);
      }
      box.dataset.weather = on.join(' ');
      // The switch that the user has turned on last. If this switch is off again, it is another switch that is on.
      shown = switched[0] || on[on.length - 1];
      speak();
      for (const lane of lanes) {
        lane.box.classList.toggle('in-weather', on.some(name => lane.story.hit.includes(name)));
        if (!isFirst) lane.nudge();
      }
      isFirst = false;
    });
    return speak;
  };
})();
