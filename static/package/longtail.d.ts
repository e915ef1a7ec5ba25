/** A message of the log. */
export interface Message<Data = unknown> {
  /** The cursor right after this message: an opaque text. Absent for a volatile message. */
  id?: string;
  /** Empty for an event that the application has sent to this session. */
  channel: string;
  /** `message` if the publisher did not name an event. */
  event: string;
  data: Data;
  /** Whether the data is a list of arguments. */
  args?: boolean;
  /** Answers an event of the application that waits for an answer. */
  ack?: (...answer: unknown[]) => void;
}

export type TransportName =
  | 'ws' | 'sse' | 'xhr-stream' | 'multipart' | 'forever-frame' | 'long-poll' | 'jsonp' | 'poll';

export interface Options {
  /** The channels to read: one name or several. */
  channels: string | string[];
  /** The position where reading begins: `latest` (the default), `earliest`, or a cursor of any message or connection.
   * */
  cursor?: string;
  /** With `latest`: the number of retained messages to begin with, 0 to 1,000. */
  last?: number;
  /** The transports that the library may use, the best first. Default: all transports that work in this browser. */
  transports?: TransportName | TransportName[];
  /** The client id, a UUID. Default: a new one. */
  client?: string;
  /** A token, or a function that gets one. The library calls it again before a token expires, and when the server
   * refuses a token. */
  token?: string | ((done: (token: string) => void) => void | string | Promise<string>);
  /** Milliseconds between two polls. Default: 2,000. */
  interval?: number;
  /** Whether requests to another origin carry cookies. */
  credentials?: boolean;
  /** Whether the connection has a session with the application. It cannot be shared. */
  session?: boolean;
  /** Whether the tabs of this browser read through one connection, if the browser supports this. */
  share?: boolean;
}

export interface PublishSettings {
  event?: string;
  /** `false`: this client does not get the message. */
  toSelf?: boolean;
  /** The message is only for readers that are connected now, and the log does not keep it. */
  volatile?: boolean;
  /** Two publishes with the same key within five minutes are the same message. Default: a new key. */
  key?: string;
}

export interface EmitSettings {
  channel?: string;
  /** A repetition of an event has the same key. Default: a new key. */
  key?: string;
  /** Whether the data is a list of arguments. */
  args?: boolean;
}

/** An error. `code` is a code of the server, or `unreachable`, `no_transport`, `no_channels`, `no_slot`,
 * `session_ended` or `closed`. */
export interface Problem {
  code: string | number;
  message?: string;
  reason?: string;
  /** The status of the answer; 0 without an answer. */
  status?: number;
  /** The data that the application adds when it refuses an event. */
  data?: unknown;
  retry?: number;
}

/** The connection may have missed messages. Reading continues after them. */
export interface Gap {
  from: string;
  cursor?: string;
}

export type State = 'idle' | 'connecting' | 'open' | 'waiting' | 'paused' | 'closed';

/** The events of the library itself. Any other name is the name of a message's event. */
export interface Events {
  message: (message: Message<any>) => void;
  open: (info: { transport: TransportName; cursor: string }) => void;
  transport: (name: TransportName) => void;
  state: (state: State) => void;
  gap: (gap: Gap) => void;
  error: (problem: Problem) => void;
  close: (why: Problem) => void;
  member_added: (change: MemberChange) => void;
  member_removed: (change: MemberChange) => void;
}

export interface Finding {
  transport: TransportName;
  works: boolean;
  text: string;
}

export interface Diagnosis {
  /** The whole report in words, for a support ticket. */
  text: string;
  findings: Finding[];
}

/** A user who reads a channel with presence. */
export interface Member {
  id: string;
  info: any;
}

/** A member that has come or gone. */
export interface MemberChange {
  type: 'member_added' | 'member_removed';
  /** The cursor right after the change. */
  id: string;
  channel: string;
  data: Member;
}

export interface Connection {
  readonly url: string;
  readonly channels: string[];
  /** The listeners have received all messages of the channels up to this position. */
  readonly cursor: string;
  readonly client: string;
  /** The id of the session, which is a secret; `true` until the server has named it. */
  readonly session?: string | true;
  readonly transport: TransportName | null;
  readonly state: State;
  readonly stats: { requests: number; messages: number; repeats: number; gaps: number };
  on<Name extends keyof Events>(name: Name, listener: Events[Name]): Connection;
  on<Data = any>(event: string, listener: (data: Data, message: Message<Data>) => void): Connection;
  off(name: string, listener?: (...args: any[]) => void): Connection;
  subscribe(channel: string | string[]): Connection;
  unsubscribe(channel: string | string[]): Connection;
  /** Continues with other transports from the present cursor; `null` allows all transports. */
  use(transports: TransportName | TransportName[] | null): Connection;
  publish(channel: string, data: unknown, settings?: PublishSettings,
    done?: (problem: Problem | null, id?: string) => void): Connection;
  publish(channel: string, data: unknown, done: (problem: Problem | null, id?: string) => void): Connection;
  /** Sends an event to the application. `done` gets a problem, or the arguments of the answer. */
  emit(event: string, data?: unknown, done?: (problem: Problem | null, ...answer: any[]) => void,
    settings?: EmitSettings): Connection;
  /**
   * Tells who reads a channel: the list at first and after each change. Without `change` the whole list is new. If it
   * cannot be read, the function gets `null` and the problem.
   */
  members(channel: string, listener: (members: Member[] | null, change?: MemberChange | Problem) => void): Connection;
  /** Tries every transport, and reports in words how the network path affects it. */
  diagnose(done: (diagnosis: Diagnosis) => void): Connection;
  pause(): Connection;
  resume(): Connection;
  close(): Connection;
}

/** Connects to the server at `url`: `''` is the page's own origin. */
export function connect(url: string, options: Options): Connection;

/** Returns a new client id, like that of a new connection. */
export function newClientId(): string;

export const version: string;

declare const Longtail: {
  readonly version: typeof version;
  connect: typeof connect;
  newClientId: typeof newClientId;
};

export default Longtail;

export as namespace Longtail;
