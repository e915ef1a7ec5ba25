/** A message of the log. */
export interface Message<Data = unknown> {
  /** The cursor right after this message; absent for a volatile one. Opaque. */
  id?: string;
  channel: string;
  /** `message` where the publisher named none. */
  event: string;
  data: Data;
}

export type TransportName =
  | 'ws' | 'sse' | 'xhr-stream' | 'multipart' | 'forever-frame' | 'long-poll' | 'jsonp' | 'poll';

export interface Options {
  /** What to read: a name or several. */
  channels: string | string[];
  /** Where to begin: `latest` (the default), `earliest`, or a cursor of any message or connection. */
  cursor?: string;
  /** Beside `latest`: begin with so many retained messages, 0 to 1,000. */
  last?: number;
  /** Which transports may be used, the best first. All that work here, if left out. */
  transports?: TransportName | TransportName[];
  /** The client id, a UUID; made if left out. */
  client?: string;
  /** A token, or a function that gets one: it is asked again before a token expires, and when the server refuses it. */
  token?: string | ((done: (token: string) => void) => void | string | Promise<string>);
  /** Milliseconds between two polls; 2,000 if left out. */
  interval?: number;
  /** Whether cookies go along to another origin. */
  credentials?: boolean;
  /** Whether the tabs of this browser read through one connection, where the browser can. */
  share?: boolean;
}

export interface PublishSettings {
  event?: string;
  /** `false`: this client does not get it. */
  toSelf?: boolean;
  /** Only for those connected now; it is not kept. */
  volatile?: boolean;
  /** The same key within five minutes is the same message. Made if left out. */
  key?: string;
}

export interface EmitSettings {
  channel?: string;
  /** A repetition has the same key. Made if left out. */
  key?: string;
  /** Whether the data is a list of arguments. */
  args?: boolean;
}

/** Something went wrong. `code` is one of the server's, or `unreachable`, `no_transport`, `no_channels`, `closed`. */
export interface Problem {
  code: string | number;
  message?: string;
  reason?: string;
  /** The status of the answer, 0 if none came. */
  status?: number;
  /** What the application adds when it refuses an event. */
  data?: unknown;
  retry?: number;
}

/** Something may have been missed: reading goes on behind it. */
export interface Gap {
  from: string;
  cursor?: string;
}

export type State = 'idle' | 'connecting' | 'open' | 'waiting' | 'paused' | 'closed';

/** Events of the library itself. Any other name is that of a message's event. */
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
  /** The whole report in words, to be pasted into a support ticket. */
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
  /** Everything of the channels up to here was handed over. */
  readonly cursor: string;
  readonly client: string;
  readonly transport: TransportName | null;
  readonly state: State;
  readonly stats: { requests: number; messages: number; repeats: number; gaps: number };
  on<Name extends keyof Events>(name: Name, listener: Events[Name]): Connection;
  on<Data = any>(event: string, listener: (data: Data, message: Message<Data>) => void): Connection;
  off(name: string, listener?: (...args: any[]) => void): Connection;
  subscribe(channel: string | string[]): Connection;
  unsubscribe(channel: string | string[]): Connection;
  /** Goes on with other transports from the present cursor; `null`: with all. */
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
  /** Tries every transport and says in words what the path does to it. */
  diagnose(done: (diagnosis: Diagnosis) => void): Connection;
  pause(): Connection;
  resume(): Connection;
  close(): Connection;
}

/** Connects to the server at `url`: `''` is the page's own origin. */
export function connect(url: string, options: Options): Connection;

/** A client id as `connect` makes one. */
export function newClientId(): string;

export const version: string;

declare const Longtail: {
  readonly version: typeof version;
  connect: typeof connect;
  newClientId: typeof newClientId;
};

export default Longtail;

export as namespace Longtail;
