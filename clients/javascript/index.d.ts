/** Topics and globs, regular expressions over topics, and templates: an object, or `/` and an expression over the path. */
export interface Items {
  topics?: string | readonly string[] | null | undefined
  match?: string | readonly string[] | null | undefined
  template?: string | object | ReadonlyArray<string | object> | null | undefined
}

export interface SubscribeItems extends Items {
  /** Also what was published behind this cursor. */
  since?: string | number | null | undefined
}

type Given<Value> = Value | null | undefined
type Awaitable<Value> = Value | Promise<Value>

export interface Logger {
  debug?(message: string): void
  info?(message: string): void
  warn(message: string): void
  error?(message: string, error?: unknown): void
}

/** A slot of each process, by its id. */
export type Slots = Readonly<Record<string, number>>

/** An undefined or null option is an absent one. Times are in milliseconds. */
export interface Options extends Items {
  /** Process ids. */
  process?: Given<string | readonly string[]>
  /** Where to go on: `client.cursor` or `message.cursor` of an earlier client. */
  cursor?: Given<string | number>
  /** `client.slots` of an earlier client: it goes on behind these slots, whatever has become of the cursor. */
  slots?: Given<Slots>
  /** The slot of each process to begin with. Subscribes to these processes. */
  fromSlot?: Given<Slots>
  /** Without a cursor: how many of the newest matching messages to begin with. */
  last?: Given<number>
  slow?: Given<'gap' | 'latest' | 'close'>
  /** Not in browsers. A function is asked before every attempt. */
  headers?: Given<Record<string, string> | (() => Awaitable<Record<string, string> | null | undefined>)>
  /** A function is asked before every attempt, and before a token is over. */
  token?: Given<string | (() => Awaitable<string | null | undefined>)>
  minReconnectDelay?: Given<number>
  maxReconnectDelay?: Given<number>
  stableAfter?: Given<number>
  maxFaults?: Given<number>
  pingInterval?: Given<number>
  timeout?: Given<number>
  /** Messages and bytes that wait for a loop. */
  maxQueue?: Given<number>
  maxQueueBytes?: Given<number>
  overflow?: Given<'backpressure' | 'gap'>
  transport?: Given<'auto' | 'websocket' | 'events'>
  autoConnect?: Given<boolean>
  signal?: Given<AbortSignal>
  logger?: Given<Logger>
  WebSocket?: Given<new (url: string, ...rest: any[]) => any>
  fetch?: Given<typeof globalThis.fetch>
  random?: Given<() => number>
}

/** A publication. `Data` is the type of its payload. */
export interface Message<Data = unknown> {
  type: 'message'
  /** None of an event that is replayed. */
  seq?: number
  replayed?: true
  timestamp: number
  topic: string | null
  topics: string[]
  data: Data
  process?: string
  slot?: number
  hashpath?: string
  path?: string
  assignment?: string
  source?: string
  from?: string[]
  /** Where to go on behind this message. */
  cursor: string
  /** Characters of the frame. */
  size: number
}

export interface Established {
  type: 'connection_established'
  epoch: string
  seq: number
  timestamp: number
  protocol: number
  subscribed_topics: string[]
  subscribed_match?: string[]
  subscribed_template?: unknown[]
  limits: Record<string, number>
  ignored: string[]
}

/** Publications are missing: `dropped` of them, with numbers greater than `after` and less than `next`. */
export interface PublicationGap {
  type: 'gap'
  reason: 'slow' | 'expired' | 'epoch' | 'overload' | 'fault' | 'unreadable'
  dropped: number
  after: number
  next: number
  /** With the reason `epoch`: the epoch from here on. */
  epoch?: string
}

/** The client's own queue was full: `dropped` messages are missing. */
export interface QueueGap {
  type: 'gap'
  reason: 'queue'
  dropped: number
  /** None when all of them are replayed events. */
  after?: number
  next?: number
}

/** The server cannot use the cursor: what was published since it is not known. */
export interface CursorGap {
  type: 'gap'
  reason: 'cursor'
  cursor: string | null
  dropped?: undefined
}

/**
 * Results of a process are missing: `dropped` slots, from `from_slot` to `to_slot`. A `limit` names no slots. One of the client
 * itself, when it asked for slots in vain, has no `timestamp`, and no `to_slot` while the next slot is not known.
 */
export interface SlotGap {
  type: 'gap'
  reason: 'not_cached' | 'withheld' | 'not_followed' | 'not_replayed' | 'limit'
  process: string
  from_slot?: number
  to_slot?: number
  dropped?: number
  seq?: number
  replayed?: true
  timestamp?: number
}

export type Gap = PublicationGap | QueueGap | CursorGap | SlotGap

export type State = 'idle' | 'connecting' | 'replaying' | 'open' | 'waiting' | 'closed'

export interface StateChange {
  state: State
  code?: number | string
  reason?: string
  status?: number
  /** Milliseconds until the next attempt. */
  delay?: number
}

export interface Reply {
  type: 'subscription_response' | 'unsubscription_response'
  id?: number
  message?: string
  seq: number
  timestamp: number
  subscribed_topics: string[]
  subscribed_match?: string[]
  subscribed_template?: unknown[]
  new_topics?: string[]
  new_match?: string[]
  new_template?: unknown[]
  removed_topics?: string[]
  removed_match?: string[]
  removed_template?: unknown[]
}

export interface Live {
  type: 'live'
  seq: number
  id?: number
  /** Slots of this process from `slot` on come live. */
  process?: string
  slot?: number
}

/** The stream of the nodes is away since a time, in milliseconds since 1970. A `live` frame follows when it is back. */
export interface Stale {
  type: 'stale'
  since: number
}

export interface Direct {
  type: 'direct'
  timestamp: number
  data: unknown
}

/** A refusal or a failure. With `fatal` the client has given up. */
export class ClientError extends Error {
  constructor (code: number | string, message?: string, details?: { status?: number, id?: number, fatal?: boolean, cause?: unknown })
  name: 'ClientError'
  /** A word of the server or of this client, or the number of a close frame. */
  code: number | string
  fatal: boolean
  id?: number
  /** That of an HTTP answer. */
  status?: number
}

export interface Events<Data = unknown> {
  established: Established
  message: Message<Data>
  gap: Gap
  state: StateChange
  error: ClientError
  reply: Reply
  live: Live
  stale: Stale
  direct: Direct
}

export interface Subscription<Data = unknown> extends AsyncIterable<Message<Data>> {
  readonly items: Items
  /** What the server answered. Rejected with a `ClientError` when it refuses. */
  readonly reply: Promise<Reply>
  onMessage (listener: (message: Message<Data>) => void): () => void
  unsubscribe (): void
  [Symbol.asyncIterator] (): AsyncGenerator<Message<Data>, void, void>
}

export class Client<Data = unknown> implements AsyncIterable<Message<Data>> {
  constructor (url: string | URL | (() => Awaitable<string | URL>), options?: Options)
  readonly cursor: string | null
  /** The newest slot of each process that the application has whole: -1 before slot 0. */
  readonly slots: Slots
  readonly state: State
  readonly transport: 'websocket' | 'events'
  connect (): void
  ready (options?: { signal?: AbortSignal }): Promise<void>
  on<Type extends keyof Events<Data>> (type: Type, listener: (event: Events<Data>[Type]) => unknown): () => void
  subscribe<Own = Data> (items: SubscribeItems): Subscription<Own>
  unsubscribe (items: Items): void
  send (data: unknown): number | null
  close (code?: number, reason?: string): Promise<void>
  updates (): AsyncGenerator<Message<Data> | Gap, void, void>
  [Symbol.asyncIterator] (): AsyncGenerator<Message<Data>, void, void>
}

export interface VerifyOptions {
  /** The URL of the node: its HTTP port, not that of the WebSockets. */
  node: string | URL
  /** The address of the node that you trust. */
  address: string
  fetch?: typeof globalThis.fetch
  signal?: AbortSignal
}

/**
 * Fetches the slot of an event from a node, and checks that the node has signed it with the key of this address, for this
 * process and slot, and that the content of the event is that of the signed slot. Rejected with a `ClientError` whose code is
 * `not_reachable`, `not_signed`, `signature`, `address` or `content`.
 */
export function verify (event: Pick<Message, 'process' | 'slot' | 'path' | 'data'>, options: VerifyOptions): Promise<{ address: string, results: string }>
