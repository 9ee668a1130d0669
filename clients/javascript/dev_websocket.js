/**
 * A client of dev_websocket that reconnects, replays the publications from its absence,
 * and delivers every publication once and in order, or a gap that names the missing ones. For browsers and Node.
 */
import { composeAddress, parseAddress } from './address.js'
import { Connection } from './connection.js'
import { Cursor } from './cursor.js'
import { ClientError } from './errors.js'
import { watchEnvironment, findWebSocket } from './environment.js'
import { EventConnection, Transport } from './events.js'
import { Exchange } from './exchange.js'
import { checkedItems, checkedOptions, checkedToken } from './options.js'
import { FrameQueue } from './queue.js'
import { Retry, backoff } from './retry.js'
import { Selection } from './selection.js'
import { Subscription, iterate } from './subscription.js'

const EVENTS = ['established', 'message', 'gap', 'state', 'error', 'reply', 'live', 'stale', 'direct']

export class Client {
  #url
  #options
  #address = null
  // Subscriptions that a URL named already: one that was ended does not begin anew with the next attempt.
  #named = new Selection()
  #retry
  #transport
  #exchange
  #listeners = new Map(EVENTS.map((type) => [type, new Set()]))
  // The first loop's queue.
  #main
  // Loops besides the first, and subscriptions.
  #loops = new Set()
  #subscriptions = new Set()
  #isPaused = false
  #state = 'idle'
  #failure = null
  #isKnown = false
  #isFatal = false
  #connection = null
  #attempt = 0
  #timer = null
  #waiters = new Set()
  #ends = []
  #number = 0
  #before = null

  /** Connects at once, unless `autoConnect` is false. Nothing happens before the caller's turn ends, so listeners may be added after it. */
  constructor (url, options) {
    if (typeof url !== 'string' && typeof url !== 'function' && !(url instanceof URL)) throw new TypeError('a URL is a text, a URL or a function')
    const { topics, match, template, ...rest } = options ?? {}
    this.#options = checkedOptions(options ?? {})
    checkedItems({ topics, match, template })
    const { process, fromSlot, signal, headers, transport, environment, clock } = this.#options
    if (headers !== undefined && environment.document !== undefined && transport !== 'events') {
      throw new TypeError('a browser sends no headers with a WebSocket: give the option token, or put it into the url')
    }
    this.#url = url
    this.#retry = new Retry(this.#options)
    this.#transport = new Transport(transport)
    this.#main = { queue: new FrameQueue(this.#options), isRead: false, isExpected: false }
    const items = new Selection({ topics, match, template })
    items.add({ topics: [...process, ...Object.keys(fromSlot)].map((id) => `process:${id}`) })
    this.#exchange = new Exchange(this.#host(), this.#options, items.fields() ?? {})
    // Whether the client's own options ask for messages, so that somebody will read them.
    this.#main.isExpected = items.fields() !== null
    if (typeof url !== 'function') this.#adopt(url)
    this.#before = { cursor: this.#exchange.cursor, slots: this.#exchange.slots }
    this.#ends.push(watchEnvironment(environment, clock, () => this.#hurry()))
    if (signal !== undefined) {
      const abort = () => this.#finish(1000, '', signal.reason)
      signal.addEventListener('abort', abort)
      this.#ends.push(() => signal.removeEventListener('abort', abort))
      if (signal.aborted) return void this.#finish(1000, '', signal.reason)
    }
    if (rest.autoConnect !== false) this.#connect()
  }

  /** Where to go on, as `epoch:seq`, for a later client: behind the message in hand. Null while nothing is known. */
  get cursor () {
    const oldest = this.#oldest()
    return oldest === null ? this.#exchange.cursor : oldest.before
  }

  /** The newest slot of each process that the application has whole, as `{ process: slot }`, for a later client's option `slots`. */
  get slots () {
    return this.#oldest()?.slots ?? this.#exchange.slots
  }

  /** The oldest entry that waits for a loop. */
  #oldest () {
    let oldest = null
    for (const { queue } of this.#readers()) {
      if (queue.oldest !== null && !(oldest?.number <= queue.oldest.number)) oldest = queue.oldest
    }
    return oldest
  }

  /** `idle`, `connecting`, `replaying`, `open`, `waiting` (for the next attempt) or `closed`. */
  get state () {
    return this.#state
  }

  /** `websocket`, or `events` where these are blocked. */
  get transport () {
    return this.#transport.isEvents ? 'events' : 'websocket'
  }

  /** Connects, at once also when the client waits for its next attempt. */
  connect () {
    if (this.#state === 'closed') throw this.#failure ?? new ClientError('closed', 'the client was closed')
    if (this.#state === 'idle' || this.#state === 'waiting') this.#connect()
  }

  /** Resolves when the client is connected and has all that it missed. Rejects when it is closed or gives up first. */
  ready ({ signal } = {}) {
    if (this.#state === 'open') return Promise.resolve()
    if (this.#state === 'closed') return Promise.reject(this.#failure ?? new ClientError('closed', 'the client was closed'))
    return new Promise((resolve, reject) => {
      const abort = () => waiter.reject(signal.reason)
      const end = (act) => (value) => {
        this.#waiters.delete(waiter)
        signal?.removeEventListener('abort', abort)
        act(value)
      }
      const waiter = { resolve: end(resolve), reject: end(reject) }
      this.#waiters.add(waiter)
      if (signal?.aborted) return abort()
      signal?.addEventListener('abort', abort)
      this.#regulate()
    })
  }

  /** Calls the listener for each event of a type. Gives a function that ends this. A listener that throws changes nothing for others. */
  on (type, listener) {
    const listeners = this.#listeners.get(type)
    if (listeners === undefined) throw new TypeError(`there is no event ${type}; there are ${EVENTS.join(', ')}`)
    if (typeof listener !== 'function') throw new TypeError('a listener is a function')
    listeners.add(listener)
    return () => listeners.delete(listener)
  }

  /** Messages in order. Ends when the client is closed, and throws when it gave up. */
  [Symbol.asyncIterator] () {
    return this.#loop(false)
  }

  /** Messages and the gaps between them, in order. */
  updates () {
    return this.#loop(true)
  }

  /** Subscribes to `{ topics, match, template }`, also on later connections; with `since` to what was published, too. */
  subscribe (given) {
    const { since, ...items } = checkedItems(given)
    if (new Selection(items).fields() === null) throw new TypeError('a subscription names topics, match or template')
    if (since != null) new Cursor(String(since)) // Throws for an invalid cursor.
    if (this.#state === 'closed') throw new ClientError('closed', 'the client was closed')
    const subscription = new Subscription(items, {
      unsubscribe: (holder) => this.#exchange.unsubscribe(items, holder),
      forget: (holder) => this.#subscriptions.delete(holder),
      taken: () => this.#regulate(),
      error: (code, message) => new ClientError(code, message)
    }, this.#options)
    this.#subscriptions.add(subscription)
    this.#exchange.subscribe(items, since, subscription)
    this.#regulate()
    return subscription
  }

  /** Ends what any subscription or option has of these items. */
  unsubscribe (items) {
    this.#exchange.unsubscribe(checkedItems(items), undefined)
  }

  /** Hands data to the node's listener. Gives the request's id, or null without a WebSocket: it is not kept for later. */
  send (data) {
    return this.#state === 'open' || this.#state === 'replaying' ? this.#exchange.say({ type: 'send', data }) : null
  }

  /** Closes for good: no connection and no timer stays. Resolves when the connection has ended. */
  close (code = 1000, reason = '') {
    return this.#finish(code, reason, null)
  }

  // ---- The connection ----

  #connect () {
    this.#options.clock.clearTimeout(this.#timer)
    const attempt = ++this.#attempt
    const { headers, token, WebSocket = globalThis.WebSocket } = this.#options
    const isEvents = this.#transport.isEvents
    this.#turn('connecting')
    if (attempt !== this.#attempt || this.#state === 'closed') return
    const isPlain = [this.#url, headers, token].every((option) => typeof option !== 'function')
    if (isPlain && (isEvents || WebSocket !== undefined)) return this.#open({ url: this.#url, headers, token }, WebSocket)
    // Each attempt may have another URL, other headers and another token.
    const ask = async (name, option) => {
      try {
        return typeof option === 'function' ? await option() : option
      } catch (cause) {
        throw new ClientError(name, `the function ${name} threw: ${cause?.message ?? cause}`, { cause, fatal: cause?.fatal === true })
      }
    }
    const gather = async () => {
      const [url, given, held] = [await ask('url', this.#url), await ask('headers', headers), await ask('token', token)]
      return [{ url, headers: given ?? undefined, token: checkedToken(held ?? undefined) }, isEvents ? null : WebSocket ?? await findWebSocket()]
    }
    gather().then((found) => { if (attempt === this.#attempt) this.#open(...found) }, (error) => {
      if (attempt !== this.#attempt) return
      this.#isFatal = error.fatal === true || error instanceof TypeError
      this.#lost({ code: error.code ?? 'options', reason: error.message })
    })
  }

  #open ({ url, headers, token }, WebSocket) {
    const { last, slow } = this.#options
    const isEvents = this.#transport.isEvents
    let how, make
    try {
      if (typeof this.#url === 'function') this.#adopt(url)
      if (isEvents) this.#exchange.takeChanges()
      const past = { cursor: this.#exchange.cursor, slots: this.#exchange.missedSlots, last: last ?? this.#address.last, slow: slow ?? this.#address.slow }
      how = composeAddress(this.#address.url, this.#exchange.selection, past, isEvents)
      if (how === null) throw new ClientError('url_too_long', 'the subscriptions do not fit into the URL of a stream of events')
      make = (callbacks) => isEvents
        ? new EventConnection({ url: how.url, headers, token }, this.#options, callbacks)
        : new Connection({ url: how.url, headers, token }, WebSocket, this.#options, callbacks)
      this.#isPaused = false
      let connection = null
      connection = make({
        received: (frame, size) => { if (connection === this.#connection) this.#exchange.received(frame, size) },
        lost: (details) => { if (connection === this.#connection) this.#lost(details) }
      })
      this.#connection = connection
      this.#exchange.connect(connection, how)
    } catch (error) {
      this.#isFatal = true
      this.#lost({ code: error.code ?? 'options', reason: error.message })
    }
  }

  /** Takes subscriptions and the past out of a URL: they are asked for once, and kept here. */
  #adopt (text) {
    this.#address = parseAddress(String(text))
    const fresh = new Selection(this.#address.items).without(this.#named)
    this.#named.add(fresh)
    this.#exchange.selection.add(fresh)
    this.#main.isExpected ||= fresh !== null
    if (this.#attempt <= 1) this.#exchange.begin(this.#address.since, this.#address.slots)
  }

  #lost (details) {
    const { code, reason = '', status, error, lived } = details
    const connection = this.#connection
    this.#connection = null
    const gaps = this.#exchange.lost(error)
    const isFatal = this.#isFatal
    this.#isFatal = false
    const isRenewed = [this.#url, this.#options.headers, this.#options.token].some((option) => typeof option === 'function')
    let delay = null
    if (isFatal) connection?.close()
    else if (this.#transport.switches(details)) delay = backoff(0, this.#options)
    else delay = this.#retry.after({ ...details, ...(gaps && { status: undefined, error: undefined }), lived, isRenewed, isKnown: this.#isKnown })
    const told = { code: error ?? code, reason, ...(status && { status }) }
    if (delay === null) {
      const failure = new ClientError(told.code, reason, { status, fatal: true })
      this.#finish(1000, '', failure, told)
      return this.#emit('error', failure)
    }
    this.#timer = this.#options.clock.setTimeout(() => this.#connect(), delay)
    this.#log('warn', `connection lost (${told.code} ${reason}); next attempt in ${Math.round(delay)} ms`)
    this.#turn('waiting', { ...told, delay })
    for (const gap of gaps ?? []) if (this.#state !== 'closed') this.#deliver(gap, 0, this.#exchange.cursor)
  }

  #hurry () {
    if (this.#state === 'waiting') this.#connect()
    else this.#connection?.probe()
  }

  /** The end, with the error that is the reason, or without one when it was asked for. */
  #finish (code, reason, failure, told) {
    if (this.#state === 'closed') return Promise.resolve()
    this.#attempt++
    this.#options.clock.clearTimeout(this.#timer)
    for (const end of this.#ends.splice(0)) end()
    this.#failure = failure
    const closing = this.#connection?.close(code, reason) ?? Promise.resolve()
    this.#connection = null
    this.#exchange.lost()
    this.#state = 'closed'
    const error = failure ?? new ClientError('closed', 'the client was closed')
    this.#exchange.end(error)
    for (const waiter of [...this.#waiters]) waiter.reject(error)
    for (const { queue } of this.#consumers()) queue.end(failure)
    this.#turn('closed', told)
    return closing
  }

  // ---- Delivery ----

  /** The sides of a client that its subscriptions and its frames need. */
  #host () {
    const client = this
    return {
      get state () { return client.#state },
      turn: (state) => this.#turn(state),
      emit: (type, value) => {
        if (type === 'established') {
          this.#isKnown = true
          this.#transport.established()
        }
        this.#emit(type, value)
        // An answer may have been all that was read for.
        this.#regulate()
      },
      deliver: (frame, size, cursor) => this.#deliver(frame, size, cursor),
      drop: (reason, code, isFatal = !this.#isKnown) => {
        this.#isFatal = isFatal
        this.#connection?.drop(reason, code)
      },
      reopen: () => {
        this.#connection.close()
        this.#connection = null
        this.#exchange.lost()
        this.#connect()
      },
      renew: () => this.#renew()
    }
  }

  /** The token is over soon: another one is asked for and handed over. */
  async #renew () {
    const { token } = this.#options
    const connection = this.#connection
    if (typeof token !== 'function') return
    try {
      const renewed = checkedToken(await token())
      if (connection === this.#connection && renewed !== undefined) this.#exchange.say({ type: 'auth', token: renewed })
    } catch (cause) {
      this.#emit('error', new ClientError('token', `the function token threw: ${cause?.message ?? cause}`, { cause }))
    }
  }

  #deliver (frame, size, cursor) {
    // Beside messages in a loop, everything else is told in its place among them.
    const isUntold = frame.type !== 'message' && this.#main.isRead && this.#listeners.get('message').size === 0
    const entry = { frame, size, before: this.#before.cursor, slots: this.#before.slots, number: ++this.#number, isUntold }
    this.#before = { cursor: cursor ?? this.#before.cursor, slots: this.#exchange.slots }
    if (!isUntold) this.#emit(frame.type, frame)
    for (const subscription of this.#subscriptions) {
      if (subscription.listeners.size > 0 && frame.type === 'message' && subscription.matches(frame)) this.#call(subscription.listeners, frame)
    }
    const mayDrop = this.#options.overflow === 'gap' || this.#connection?.canPause !== true
    const readers = this.#readers()
    for (const consumer of this.#consumers()) {
      if (!readers.includes(consumer)) consumer.queue.clear()
      else if (consumer.matches?.(frame) ?? true) consumer.queue.add({ ...entry }, mayDrop)
    }
    this.#regulate()
  }

  #consumers () {
    return [this.#main, ...this.#loops, ...this.#subscriptions]
  }

  /** The queues that collect: of loops, and while nothing reads at all, of whatever may be read later. */
  #readers () {
    const consumers = this.#consumers()
    const isHeard = this.#listeners.get('message').size > 0 || [...this.#subscriptions].some(({ listeners }) => listeners.size > 0)
    const read = consumers.filter(({ isRead }) => isRead)
    if (read.length === 0 && !isHeard) return consumers
    const main = this.#main
    if (!main.isExpected || main.isRead) return read
    // Its loop may begin later than another one. A full queue says that there will be none.
    main.isExpected = !isHeard && !main.queue.isFull
    return main.isExpected ? [main, ...read] : read
  }

  /** Reads no more while a loop is behind, unless an answer is waited for that stands in the same line. */
  #regulate () {
    if (this.#connection === null || this.#options.overflow === 'gap' || !this.#connection.canPause) return
    const isBehind = this.#readers().some(({ queue }) => this.#isPaused ? queue.isBusy : queue.isFull)
    this.#isPaused = isBehind && this.#waiters.size === 0 && !this.#exchange.isWaiting
    if (this.#isPaused) this.#connection.pause()
    else this.#connection.resume()
  }

  /** A loop over the client's own queue, or over one of its own while another loop has that. */
  #loop (withGaps) {
    const taken = () => this.#regulate()
    const tell = (frame) => this.#emit(frame.type, frame)
    const main = this.#main
    if (!main.isRead) {
      main.isRead = true
      return iterate(main.queue, taken, { withGaps, tell, onEnd: () => { main.isRead = false } })
    }
    const loop = { queue: new FrameQueue(this.#options), isRead: true }
    if (this.#state === 'closed') loop.queue.end(this.#failure)
    this.#loops.add(loop)
    return iterate(loop.queue, taken, { withGaps, onEnd: () => this.#loops.delete(loop) })
  }

  #turn (state, details) {
    this.#state = state
    if (state === 'open') for (const waiter of [...this.#waiters]) waiter.resolve()
    this.#log('debug', `state ${state}`)
    this.#emit('state', { state, ...details })
  }

  #emit (type, value) {
    this.#call(this.#listeners.get(type), value)
  }

  #call (listeners, value) {
    for (const listener of [...listeners]) {
      try {
        const result = listener(value)
        // An async listener that throws would end a Node process.
        result?.then?.(undefined, (error) => this.#report(error))
      } catch (error) {
        this.#report(error)
      }
    }
  }

  #report (error) {
    const { logger } = this.#options
    if (logger?.error) logger.error('a listener threw', error)
    else globalThis.console?.error('dev_websocket: a listener threw', error)
  }

  #log (level, text) {
    this.#options.logger?.[level]?.(`dev_websocket: ${text}`)
  }
}
