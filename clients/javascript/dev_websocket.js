/**
 * A client of dev_websocket that stays connected: it comes back after each loss, asks for what was published meanwhile,
 * and delivers every publication once and in order. For browsers and Node; README.md says how it is used.
 */
import { Connection } from './connection.js'
import { Cursor } from './cursor.js'
import { Retry } from './retry.js'
import { Selection } from './selection.js'

const DEFAULTS = {
  base: 500,
  cap: 30_000,
  stable: 10_000,
  faults: 5,
  heartbeat: 30_000,
  timeout: 10_000,
  random: Math.random,
  clock: {
    now: () => performance.now(),
    setTimeout: (callback, delay) => setTimeout(callback, delay),
    clearTimeout: (timer) => clearTimeout(timer)
  }
}

export class Client {
  #url
  #options
  #retry
  #cursor
  #listeners = new Map()
  #state = 'connecting'
  #failure = null
  #connection = null
  #timer = null
  // Present subscriptions, and those that the URL of this connection asked for.
  #wanted
  #asked
  // Subscriptions with a `since` of their own whose replay is not over. Only the first has been sent.
  #replays = []
  // What requests without an answer subscribe to, by their id.
  #requests = new Map()
  #id = 0

  /** Connects at once. Nothing happens before the caller's turn ends, so listeners may be added after it. */
  constructor (url, options = {}) {
    this.#url = url
    this.#options = { ...DEFAULTS, ...options }
    this.#retry = new Retry(this.#options)
    this.#cursor = new Cursor(options.cursor)
    this.#wanted = new Selection(options)
    this.#connect()
  }

  /** Where to go on, as `epoch:seq`, for a later client. Null while nothing is known. */
  get cursor () {
    return this.#cursor.text
  }

  /** `connecting`, `replaying`, `open`, `waiting` (for the next attempt) or `closed`. */
  get state () {
    return this.#state
  }

  /** Calls the listener for each event of a type. Gives a function that ends this. */
  on (type, listener) {
    if (!this.#listeners.has(type)) this.#listeners.set(type, new Set())
    this.#listeners.get(type).add(listener)
    return () => this.#listeners.get(type).delete(listener)
  }

  /** Messages from now on. Ends when the client is closed, and throws when it gave up. */
  async * [Symbol.asyncIterator] () {
    const queue = []
    let wake = () => {}
    const ends = [
      this.on('message', (message) => { queue.push(message); wake() }),
      this.on('state', () => wake())
    ]
    try {
      while (true) {
        while (queue.length > 0) yield queue.shift()
        if (this.#failure) throw this.#failure
        if (this.#state === 'closed') return
        await new Promise((resolve) => { wake = resolve })
      }
    } finally {
      for (const end of ends) end()
    }
  }

  /** Subscribes to `{ topics, match, template }`, also on later connections; with `since` to what was published, too. */
  subscribe ({ since, ...items }) {
    if (since != null) {
      this.#replays.push({ items: new Selection(items), since: String(since), id: null, upTo: null })
      return this.#replayNext()
    }
    const fresh = new Selection(items).without(this.#wanted)
    this.#wanted.add(fresh)
    if (this.#state === 'open') this.#request('subscribe', fresh)
  }

  unsubscribe (items) {
    this.#wanted.remove(items)
    for (const replay of this.#replays) replay.items.remove(items)
    if (this.#state === 'open') this.#request('unsubscribe', new Selection(items).fields())
  }

  /** Hands data to the node's listener. Gives the request's id, or null without a connection: it is not kept for later. */
  send (data) {
    if (this.#state !== 'open' && this.#state !== 'replaying') return null
    this.#connection.send({ type: 'send', id: ++this.#id, data })
    return this.#id
  }

  /** Closes for good: no connection and no timer stays. */
  close (code = 1000, reason = '') {
    if (this.#state === 'closed') return
    this.#connection.close(code, reason)
    this.#options.clock.clearTimeout(this.#timer)
    this.#turn('closed')
  }

  // ---- The connection ----

  #connect () {
    const url = this.#address()
    this.#connection = new Connection(url, this.#options, {
      received: (frame, size) => this.#received(frame, size, url.searchParams),
      lost: (details) => this.#lost(details)
    })
    this.#turn('connecting')
  }

  #address () {
    const url = new URL(this.#url)
    const add = (name, values) => { for (const value of values) url.searchParams.append(name, value) }
    const { process, slow, last } = this.#options
    this.#asked = new Selection(this.#wanted.fields())
    add('topic', this.#asked.topics.keys())
    add('match', this.#asked.match.keys())
    add('template', this.#asked.template.keys())
    add('process', [process ?? []].flat())
    add('slow', [slow ?? []].flat())
    if (this.cursor !== null) add('since', [this.cursor])
    else add('last', [last ?? []].flat())
    return url
  }

  #lost ({ code, reason = '', status, error, lived }) {
    this.#requests.clear()
    for (const replay of this.#replays) replay.id = replay.upTo = null

    const gap = error === 'bad_since' ? this.#cursor.forget() : null
    const delay = this.#retry.after({ code, status: gap ? undefined : status, lived })
    const details = { code: error ?? code, reason, ...(status && { status }) }
    if (delay === null) {
      this.#failure = problem(details.code, reason, { status, fatal: true })
      this.#turn('closed', details)
      return this.#emit('error', this.#failure)
    }
    this.#timer = this.#options.clock.setTimeout(() => this.#connect(), delay)
    this.#turn('waiting', { ...details, delay })
    if (gap) this.#emit('gap', gap)
  }

  // ---- Frames ----

  #received (frame, size, asked) {
    switch (frame.type) {
      case 'connection_established': return this.#welcome(frame, asked)
      case 'message': return this.#message(frame, size)
      case 'live': return this.#live(frame)
      case 'error': return this.#error(frame)
      case 'pong': return this.#passed(frame.seq)
      case 'subscription_response':
      case 'unsubscription_response': return this.#reply(frame)
      case 'gap': return this.#gap(frame)
      case 'direct': return this.#emit(frame.type, frame)
    }
  }

  #welcome (frame, asked) {
    this.#cursor.enter(frame.epoch)
    this.#emit('established', frame)
    if (this.#state === 'closed') return
    const replays = (name) => asked.has(name) && !frame.ignored?.includes(name)
    if (replays('since') || replays('last')) return this.#turn('replaying')
    // A server that knows no `since` has sent nothing of what was missed.
    const gap = asked.has('since') ? this.#cursor.forget() : null
    this.#open(frame.seq)
    if (gap) this.#emit('gap', gap)
  }

  /** All that was missed is here. What was subscribed to, or not any more, while it came is told to the server. */
  #open (seq) {
    this.#cursor.advance(seq)
    this.#request('subscribe', this.#wanted.without(this.#asked))
    this.#request('unsubscribe', this.#asked.without(this.#wanted))
    this.#turn('open')
    this.#replayNext()
  }

  #message (frame, size) {
    if (!this.#isNew(frame.seq)) return
    frame.cursor = this.cursor
    frame.size = size
    this.#emit('message', frame)
  }

  /** A gap in the slots of a process is a publication with a number of its own, any other has none. */
  #gap (frame) {
    if (!Number.isInteger(frame.seq) || this.#isNew(frame.seq)) this.#emit('gap', frame)
  }

  /** Moves the cursor to a publication, or that of the replay that it belongs to. Says whether it was not there yet. */
  #isNew (seq) {
    const [replay] = this.#replays
    if (!replay || replay.upTo === null || seq > replay.upTo) return this.#cursor.advance(seq)
    replay.since = this.#cursor.at(seq)
    return true
  }

  #live (frame) {
    if (this.#state === 'replaying') {
      this.#open(frame.seq)
    } else if (this.#isReplay(frame)) {
      this.#wanted.add(this.#replays.shift().items.fields())
      this.#cursor.advance(frame.seq)
      this.#replayNext()
    }
    this.#emit('live', frame)
  }

  #reply (frame) {
    this.#passed(frame.seq)
    if (this.#isReplay(frame)) this.#replays[0].upTo = frame.seq
    this.#requests.delete(frame.id)
    this.#emit('reply', frame)
  }

  #error (frame) {
    const refused = this.#requests.get(frame.id)
    this.#requests.delete(frame.id)
    if (this.#isReplay(frame)) {
      const { since } = this.#replays.shift()
      this.#replayNext()
      if (frame.code === 'bad_since') {
        this.subscribe(refused)
        return this.#emit('gap', { type: 'gap', reason: 'cursor', cursor: since })
      }
    } else {
      // A request is refused whole. Kept, it would be refused in the URL of the next connection too.
      this.#wanted.remove(refused)
    }
    this.#emit('error', problem(frame.code, frame.message, { id: frame.id, fatal: false }))
  }

  /** Whatever has a lower number than an answer comes before it, unless past publications come at the same time. */
  #passed (seq) {
    const replaying = this.#state !== 'open' || (this.#replays.length > 0 && this.#replays[0].upTo !== null)
    if (!replaying) this.#cursor.advance(seq)
  }

  // ---- Requests and events ----

  #request (type, items, more) {
    if (items === null) return null
    const id = ++this.#id
    if (type === 'subscribe') this.#requests.set(id, items)
    this.#connection.send({ type, id, ...items, ...more })
    return id
  }

  /** One replay at a time, so that it is known which one a message belongs to. */
  #replayNext () {
    while (this.#state === 'open' && this.#replays.length > 0 && this.#replays[0].id === null) {
      const [replay] = this.#replays
      replay.id = this.#request('subscribe', replay.items.fields(), { since: replay.since })
      if (replay.id === null) this.#replays.shift()
    }
  }

  /** Whether an answer belongs to the replay that was asked for. */
  #isReplay ({ id }) {
    return id !== undefined && this.#replays.length > 0 && this.#replays[0].id === id
  }

  #turn (state, details) {
    this.#state = state
    this.#emit('state', { state, ...details })
  }

  #emit (type, value) {
    for (const listener of [...this.#listeners.get(type) ?? []]) listener(value)
  }
}

function problem (code, message, more) {
  return Object.assign(new Error(message || `closed with ${code}`), { code, ...more })
}
