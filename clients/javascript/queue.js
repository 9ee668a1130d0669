/**
 * Frames that wait for a loop, bounded in number and bytes. Where the socket cannot be paused, the oldest messages make room
 * and a gap stands in their place. `isFull` says when no more should be read.
 */
export class FrameQueue {
  #entries = []
  #first = 0
  #size = 0
  #messages = 0
  #options
  #wake = []
  #ended = null
  constructor (options) {
    this.#options = options
  }

  get length () {
    return this.#entries.length - this.#first
  }

  get isFull () {
    return this.#messages >= this.#options.maxQueue || this.#size >= this.#options.maxQueueBytes
  }

  /** Whether more than half of the room is taken. */
  get isBusy () {
    return this.#messages * 2 > this.#options.maxQueue || this.#size * 2 > this.#options.maxQueueBytes
  }

  /** The oldest entry: up to the cursor before it, the loop has had everything. */
  get oldest () {
    return this.length === 0 ? null : this.#entries[this.#first]
  }

  /** Adds an entry `{ frame, size, before, slots, number }`. With `mayDrop`, older ones make room for it. */
  add (entry, mayDrop) {
    while (mayDrop && this.isFull && this.#messages > 0) this.#drop()
    this.#entries.push(entry)
    this.#size += entry.size
    if (entry.frame.type === 'message') this.#messages++
    this.#wakeAll()
  }

  /** The next entry when there is one. */
  take () {
    if (this.length === 0) return null
    return this.#shift()
  }

  /** The next entry, null behind the last one of a client that was closed; throws the error that ended it. */
  async next () {
    while (this.length === 0) {
      if (this.#ended !== null) {
        if (this.#ended.error) throw this.#ended.error
        return null
      }
      await new Promise((resolve) => this.#wake.push(resolve))
    }
    return this.take()
  }

  end (error = null) {
    this.#ended ??= { error }
    this.#wakeAll()
  }

  clear () {
    this.#entries = []
    this.#first = this.#size = this.#messages = 0
  }

  #wakeAll () {
    for (const resolve of this.#wake.splice(0)) resolve()
  }

  #shift () {
    const entry = this.#entries[this.#first]
    this.#entries[this.#first++] = undefined
    if (this.#first > 1024 && this.#first * 2 > this.#entries.length) {
      this.#entries.splice(0, this.#first)
      this.#first = 0
    }
    this.#size -= entry.size
    if (entry.frame.type === 'message') this.#messages--
    return entry
  }

  /** Drops the oldest message. A gap in front of it takes it in; gaps of the server keep their places. */
  #drop () {
    const at = this.#entries.findIndex((entry, index) => index >= this.#first && entry.frame.type === 'message')
    const { frame, size, before, slots, number } = this.#entries[at]
    const previous = at > this.#first ? this.#entries[at - 1] : null
    this.#size -= size
    this.#messages--
    if (previous?.frame.reason === 'queue') {
      previous.frame.dropped++
      if (frame.seq !== undefined) Object.assign(previous.frame, { after: previous.frame.after ?? frame.seq - 1, next: frame.seq + 1 })
      this.#entries.splice(at, 1)
    } else {
      // A replayed event has no number.
      const place = frame.seq === undefined ? {} : { after: frame.seq - 1, next: frame.seq + 1 }
      const gap = { type: 'gap', reason: 'queue', dropped: 1, ...place }
      this.#entries[at] = { frame: gap, size: 0, before, slots, number, isUntold: true }
    }
  }
}
