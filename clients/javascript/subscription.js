import { FrameQueue } from './queue.js'
import { matcherOf } from './match.js'
import { Selection } from './selection.js'

/** One subscription of a client: a promise of the server's reply, its own messages, and `unsubscribe`. */
export class Subscription {
  #host
  #queue
  #settle
  #isOver = false
  /** What the server answered. Rejected when it refuses. */
  reply
  items

  /** `host` does what a subscription asks of its client. */
  constructor (items, host, options) {
    this.#host = host
    this.#queue = new FrameQueue(options)
    this.items = items
    this.matches = matcherOf(new Selection(items))
    this.isRead = false
    this.listeners = new Set()
    this.reply = new Promise((resolve, reject) => { this.#settle = { resolve, reject } })
    // A refusal that nobody waits for is told by the event `error`, and ends no process.
    this.reply.catch(() => {})
  }

  get queue () {
    return this.#queue
  }

  fulfil (reply) {
    this.#settle.resolve(reply)
  }

  /** The server refused: the messages end, too. */
  fail (error) {
    this.#isOver = true
    this.#settle.reject(error)
    this.#queue.end(error)
    this.#host.forget(this)
  }

  /** Calls the listener for each of its messages. Gives a function that ends this. */
  onMessage (listener) {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  /** Ends it. What another subscription wants too still comes for that one. */
  unsubscribe () {
    if (this.#isOver) return
    this.#isOver = true
    this.#host.unsubscribe(this)
    this.#settle.reject(this.#host.error('unsubscribed', 'the subscription was ended'))
    this.#queue.end()
    this.#host.forget(this)
  }

  /** Its messages from the time it was made. Ends with it, and throws when the client gave up. */
  [Symbol.asyncIterator] () {
    this.isRead = true
    return iterate(this.#queue, () => this.#host.taken(), { onEnd: () => { this.isRead = false } })
  }
}

/** The messages of a queue, with its gaps when they are wanted. */
export function iterate (queue, taken, { withGaps = false, tell = () => {}, onEnd = () => {} } = {}) {
  const generator = async function * () {
    try {
      while (true) {
        const entry = await queue.next()
        taken()
        if (entry === null) return
        if (entry.isUntold) tell(entry.frame)
        if ((withGaps && entry.frame.type === 'gap') || entry.frame.type === 'message') yield entry.frame
      }
    } finally {
      onEnd()
    }
  }
  return generator()
}
