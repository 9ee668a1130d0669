export interface Items {
  topics?: string | string[]
  match?: string | string[]
  template?: string | object | Array<string | object>
}

export interface Options extends Items {
  process?: string | string[]
  cursor?: string | number | null
  last?: number
  slow?: 'gap' | 'latest' | 'close'
  WebSocket?: unknown
  base?: number
  cap?: number
  stable?: number
  faults?: number
  heartbeat?: number
  timeout?: number
  random?: () => number
}

export interface Message {
  type: 'message'
  seq: number
  timestamp: number
  topic: string | null
  topics: string[]
  data: unknown
  process?: string
  slot?: number
  hashpath?: string
  path?: string
  assignment?: string
  source?: string
  from?: string[]
  cursor: string
  size: number
}

export interface Established {
  type: 'connection_established'
  epoch: string
  seq: number
  timestamp: number
  protocol: number
  subscribed_topics: string[]
  limits: Record<string, number>
  ignored: string[]
}

/** Publications are missing: `dropped` of them, with numbers greater than `after` and less than `next`. */
export interface PublicationGap {
  type: 'gap'
  reason: 'slow' | 'expired' | 'epoch' | 'overload' | 'cursor'
  dropped?: number
  after?: number
  next?: number
  cursor?: string | null
}

/** Results of a process are missing: `dropped` slots, from `from_slot` to `to_slot`. A `limit` names no slots. */
export interface SlotGap {
  type: 'gap'
  reason: 'not_cached' | 'withheld' | 'not_followed' | 'limit'
  process: string
  from_slot?: number
  to_slot?: number
  dropped: number
  seq: number
  timestamp: number
}

export type Gap = PublicationGap | SlotGap

export type State = 'connecting' | 'replaying' | 'open' | 'waiting' | 'closed'

export interface StateChange {
  state: State
  code?: number | string
  reason?: string
  status?: number
  delay?: number
}

export interface Reply {
  type: 'subscription_response' | 'unsubscription_response'
  id: number
  seq: number
  subscribed_topics: string[]
  new_topics?: string[]
  removed_topics?: string[]
}

export interface Problem extends Error {
  code: number | string
  fatal: boolean
  id?: number
  status?: number
}

export interface Events {
  established: Established
  message: Message
  gap: Gap
  state: StateChange
  error: Problem
  reply: Reply
  live: { type: 'live', seq: number, id?: number }
  direct: { type: 'direct', data: unknown }
}

export class Client implements AsyncIterable<Message> {
  constructor (url: string, options?: Options)
  readonly cursor: string | null
  readonly state: State
  on<Type extends keyof Events> (type: Type, listener: (event: Events[Type]) => void): () => void
  subscribe (items: Items & { since?: string | number }): void
  unsubscribe (items: Items): void
  send (data: unknown): number | null
  close (code?: number, reason?: string): void
  [Symbol.asyncIterator] (): AsyncGenerator<Message, void, void>
}
