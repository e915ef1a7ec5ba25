// Publishing: single messages by hand, and automatic messages at a rate. The page remembers when it sent each message,
// to measure the lag from that time.
'use strict';

Demo.sent = new Map();

(() => {
  const KEPT = 2000;
  const REFUSALS = ['unauthorized', 'forbidden', 'forbidden_origin'];
  const GUARDED = 'Refused: this server is guarded, and longtail demo is not.';

  Demo.publish = lanes => {
    const { byId } = Demo;
    let ticks = 0;
    let timer = null;
    let answered = true;
    // True while the page shows an error of automatic publishing. It shows the error until publishing works again.
    let hasFailed = false;

    function outcome(text, isBad) {
      hasFailed = false;
      Demo.say(byId('outcome'), text);
      byId('outcome').classList.toggle('bad', !!isBad);
    }

    async function send(query, body) {
      const time = Date.now();
      const answer = await fetch(`${Demo.home}/publish?${query}`, { method: 'POST', headers: { 'Content-Type': 'text/plain; charset=utf-8' }, body });
      // If the answer is from a proxy and not from the server, it is not JSON.
      const reply = await answer.json().catch(() => { throw new TypeError(); });
      if (!answer.ok) throw Object.assign(new Error(`${reply.error.code}: ${reply.error.message}`), reply.error);
      const { id } = reply.messages[0];
      if (id) {
        Demo.sent.set(id, time);
        if (Demo.sent.size > KEPT) Demo.sent.delete(Demo.sent.keys().next().value);
        for (const lane of lanes) lane.wasSent(id, time);
      }
      return id;
    }

    function failed(error) {
      const isGuarded = error.code === 'unauthorized' || error.code === 'forbidden';
      outcome(error instanceof TypeError ? 'The server did not answer.' : isGuarded ? GUARDED : error.message, true);
    }

    byId('publish').addEventListener('submit', event => {
      event.preventDefault();
      const fields = event.target.elements;
      let data = fields.data.value;
      try {
        data = JSON.parse(data);
      } catch { /* plain text */ }
      // JSON is sent as it was typed, so that numbers and the order of keys stay the same. Other text is sent as text.
      const isText = typeof data === 'string';
      const query = new URLSearchParams({ channel: Demo.CHANNEL });
      if (fields.event.value) query.set('event', fields.event.value);
      if (fields.volatile.checked) query.set('volatile', '1');
      if (fields.exclude.checked) query.set('exclude', Demo.client);
      if (isText) query.set('as', 'text');
      send(query, isText ? data : fields.data.value)
        .then(id => outcome(id ? 'Published as ' + id : 'Published, volatile: it has no id'))
        .catch(failed);
    });

    function rate() {
      const wanted = Number(byId('rate').value);
      Demo.say(byId('rate-text'), wanted ? `${wanted} a second` : 'none');
      byId('rate').setAttribute('aria-valuetext', byId('rate-text').textContent);
      clearInterval(timer);
      if (wanted) timer = setInterval(tick, 1000 / wanted);
    }

    function tick() {
      // While a request is unanswered, the page does not send another request, because requests would pile up.
      if (!answered) return;
      answered = false;
      ticks += 1;
      const query = new URLSearchParams({ channel: Demo.CHANNEL, event: 'tick' });
      send(query, JSON.stringify({ n: ticks, at: new Date().toISOString() }))
        .then(() => { if (hasFailed) outcome(''); }, error => {
          failed(error);
          hasFailed = true;
          // Otherwise, the server would also refuse the next message, once every second.
          if (REFUSALS.includes(error.code)) {
            byId('rate').value = 0;
            rate();
          }
        })
        .finally(() => { answered = true; });
    }

    byId('rate').addEventListener('input', rate);
    rate();
  };
})();
