// The lanes of the comparison page, as its tests see them.
import { until } from './support.mjs';

// Collects the errors and warnings of a page.
export function listen(page, complaints) {
  page.on('pageerror', error => complaints.push('error: ' + error.message));
  page.on('console', line => {
    if (line.type() === 'error') complaints.push('console: ' + line.text());
  });
}

export const lanes = page => page.$$eval('#lanes .lane', boxes => boxes.map(box => ({
  id: box.id.slice(5),
  state: box.dataset.state,
  last: box.dataset.last,
  data: box.dataset.data,
  count: Number(box.dataset.count),
  lost: Number(box.dataset.lost),
  doubled: Number(box.dataset.doubled),
  gaps: Number(box.dataset.gaps),
  requests: Number(box.dataset.requests),
  cuts: Number(box.dataset.cuts || 0),
  lag: Number(box.dataset.lag),
  protocol: box.querySelector('.protocol').textContent,
  state_text: box.querySelector('.state').textContent
})));

// Sets how many messages a second the page publishes.
export const setRate = (page, rate) => page.$eval('#rate', (input, rate) => {
  input.value = rate;
  input.dispatchEvent(new Event('input'));
}, rate);

// Waits until all lanes are open and have the same newest message, with none lost or doubled.
export const agree = page => until('every lane has the same newest message, lost none and doubled none', async () => {
  const all = await lanes(page);
  return all.every(lane => lane.state === 'open' && lane.last && lane.last === all[0].last && !lane.lost && !lane.doubled) || all;
});
