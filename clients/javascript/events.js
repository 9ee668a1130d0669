import { parsed, answerDetails } from './connection.js'

const UNREADABLE = 1006

/** A stream of server-sent events in the place of a WebSocket: the same frames, one way. It has the face of `Connection`. */
export class EventConnection {
  #abort = new AbortController()
  #options
  #callbacks
  #timer = null
  #first = null
  #opened = false
  #isOver = false
  #resumed = null
  canPause = true
  canSend = false

  constructor ({ url, headers, token }, options, callbacks) {
    this.#options = options
    this.#callbacks = callbacks
    const asked = { ...headers, accept: 'text/event-stream', ...(token !== undefined && { authorization: `Bearer ${token}` }) }
    this.#expect('no answer', options.timeout)
    this.#run(url, asked).catch((error) => this.#end({ code: UNREADABLE, reason: error.message }))
  }

  /** A stream takes no frames: the client opens another one for other subscriptions. */
  send () {}

  pause () {
    if (this.#resumed !== null || this.#isOver) return
    this.#options.clock.clearTimeout(this.#timer)
    let resume
    const promise = new Promise((resolve) => { resume = resolve })
    this.#resumed = { promise, resume }
  }

  resume () {
    this.#resumed?.resume()
    this.#resumed = null
  }

  probe () {}

  close () {
    this.#stop()
    return Promise.resolve()
  }

  drop (reason, code = UNREADABLE) {
    this.#end({ code, reason })
  }

  async #run (url, headers) {
    const { fetch = globalThis.fetch } = this.#options
    const answer = await fetch(url.href, { headers, signal: this.#abort.signal, cache: 'no-store' })
    if (!answer.ok || !answer.headers.get('content-type')?.startsWith('text/event-stream')) {
      const body = await answer.text()
      return this.#end({ code: UNREADABLE, ...answerDetails(answer.status, answer.headers.get('retry-after'), body, url) })
    }
    this.#opened = true
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader()
    let rest = ''
    while (!this.#isOver) {
      if (this.#resumed !== null) await this.#resumed.promise
      // The server sends a comment every `ping_interval`, 25 seconds unless told otherwise.
      this.#expect('no sign of life', this.#options.pingInterval ? this.#options.pingInterval * 2 + this.#options.timeout : null)
      const { done, value } = await reader.read()
      if (done) return this.#end({ code: UNREADABLE, reason: 'the stream ended' })
      const blocks = (rest + value).split('\n\n')
      rest = blocks.pop()
      for (const block of blocks) {
        if (this.#isOver) return
        this.#take(block.split('\n').filter((line) => line.startsWith('data:')).map((line) => line.slice(5)).join('\n'))
      }
    }
  }

  #take (data) {
    if (data === '') return
    const frame = parsed(data)
    this.#first ??= this.#options.clock.now()
    if (frame?.type === 'close') this.#end({ code: frame.code, reason: frame.reason })
    else this.#callbacks.received(frame, data.length)
  }

  #expect (reason, delay) {
    this.#options.clock.clearTimeout(this.#timer)
    if (delay !== null) this.#timer = this.#options.clock.setTimeout(() => this.drop(reason), delay)
  }

  #stop () {
    const wasOver = this.#isOver
    this.#isOver = true
    this.#options.clock.clearTimeout(this.#timer)
    this.resume()
    this.#abort.abort()
    return wasOver
  }

  #end (details) {
    if (this.#stop()) return
    const lived = this.#first === null ? 0 : this.#options.clock.now() - this.#first
    this.#callbacks.lost({ ...details, opened: this.#opened, lived })
  }
}

/** Answers to an upgrade that tell of a proxy that does not pass it on. */
const BLOCKING = new Set([200, 400, 403, 404, 405, 406, 426, 501])
/** Attempts without an answer that a script can see, before a stream is tried: for a new client, and for a known one. */
const PATIENCE = { new: 2, known: 4 }

/** Which transport an attempt uses: with `auto` a stream of events where WebSockets are blocked. */
export class Transport {
  #isAuto
  #failures = 0
  #wasWebSocket = false
  isEvents

  constructor (transport) {
    this.#isAuto = transport === 'auto'
    this.isEvents = transport === 'events'
  }

  established () {
    this.#failures = 0
    if (!this.isEvents) this.#wasWebSocket = true
  }

  /** Whether the next attempt uses the other transport, and this failure is not the last word. */
  switches ({ opened, status, error, lived }) {
    if (!this.#isAuto) return false
    if (this.isEvents) {
      // A stream that worked is opened again, unless WebSockets worked once.
      if (!lived || this.#wasWebSocket) this.isEvents = false
      return false
    }
    if (opened || error !== undefined || (status !== undefined && !BLOCKING.has(status))) return false
    this.#failures++
    const patience = this.#wasWebSocket ? PATIENCE.known : status !== undefined ? 1 : PATIENCE.new
    if (this.#failures < patience) return false
    this.#failures = 0
    this.isEvents = true
    return status !== undefined
  }
}
