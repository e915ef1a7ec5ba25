// Compiled, not run: checks that the types of the library describe its behaviour.
import Longtail, { connect, type Connection, type Message } from '../../static/package/longtail';

interface Item { title: string; done: boolean }

const lt: Connection = connect('https://push.example.com', {
  channels: ['todo', 'board:12'],
  transports: ['ws', 'long-poll'],
  last: 10,
  credentials: true
});

lt.on('message', message => {
  const id: string | undefined = message.id;
  console.log(id, message.channel, message.data);
});
lt.on<Item>('itemAdded', (data, message: Message<Item>) => console.log(data.title, message.data.done));
lt.on('gap', gap => console.log(gap.from.length));
lt.on('transport', name => { if (name === 'ws') lt.use(null); });
lt.on('close', why => console.log(why.code, why.reason));
lt.subscribe('a').unsubscribe('a').pause().resume();
lt.publish('todo', { title: 'milk' }, { event: 'itemAdded', toSelf: false, volatile: true }, (problem, id) => {
  if (problem) console.log(problem.code); else console.log(id?.length);
});
lt.diagnose(report => console.log(report.text, report.findings[0].works));
Longtail.connect('', { channels: 'todo' }).close();

// @ts-expect-error a transport that does not exist
connect('', { channels: 'a', transports: ['carrier-pigeon'] });
// @ts-expect-error channels are required
connect('', {});
// @ts-expect-error the cursor belongs to the library
lt.cursor = 'x';
// @ts-expect-error a state that does not exist
lt.on('state', state => state === 'asleep');

lt.emit('addItem', { title: 'milk' }, (problem, item: { id: number }) => {
  if (problem) { const why: string | number = problem.code; void [why, problem.data]; } else { void item.id; }
});
const known = connect('', { channels: 'lobby', session: true });
known.on('question', (data: string, message) => message.ack?.('yes', data.length));
known.on('close', why => console.log(why.code === 'session_ended', why.reason, typeof known.session === 'string'));

lt.emit('move', [1, 2], undefined, { args: true, channel: 'board:12' }).emit('ping me');
