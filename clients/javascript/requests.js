import { ClientError } from './errors.js'
import { split } from './selection.js'

/** Frames of a second that the server takes (`max_inbound_rate`), and the share of them that is used. */
const RATE = 50
const SHARE = 0.8
const WINDOW = 1100
const FRAME_BYTES = 65_536

/**
 * The requests of one connection: changes that are made together go out in one frame, no faster than the server takes them.
 * A change is `{ type, fields, fulfil, fail }`.
 */
export class Requests {
  #send
  #clock
  #limits
  #id
  // Requests without an answer, by their id.
  #asked = new Map()
  #outbox = []
  #sent = []
  #timer = null

  constructor (send, clock, limits, firstId) {
    this.#send = send
    this.#clock = clock
    this.#limits = limits ?? {}
    this.#id = firstId
  }

  /** The number of the next request: no two of a client have the same. */
  get nextId () {
    return this.#id + 1
  }

  get isEmpty () {
    return this.#asked.size === 0 && this.#outbox.length === 0
  }

  get frameBytes () {
    return this.#limits.max_inbound_bytes ?? FRAME_BYTES
  }

  /** Asks for changes that were made together, in as few frames as hold them. */
  ask (changes) {
    for (const batch of batches(changes)) {
      if (batch.length === 1) this.#askParts(batch[0])
      else this.#askTogether(batch)
    }
  }

  /** A request of its own. Gives its id. */
  post (type, fields, answered) {
    const id = ++this.#id
    this.#asked.set(id, { answered })
    this.#put({ type, id, ...fields })
    return id
  }

  /** A frame without an answer, which does not count against the rate. */
  say (frame) {
    const id = ++this.#id
    this.#send({ ...frame, id })
    return id
  }

  /** Takes an answer. Says whether it was to one of these requests. */
  answer (frame) {
    const asked = this.#asked.get(frame.id)
    if (asked === undefined) return false
    this.#asked.delete(frame.id)
    asked.answered(frame)
    return true
  }

  /** The connection is gone. Changes without an answer are given back, to be asked for again. */
  end () {
    this.#clock.clearTimeout(this.#timer)
    this.#asked.clear()
    this.#outbox = []
  }

  /** Several changes in one frame. It is refused whole, so then each is asked for alone. */
  #askTogether (batch) {
    const fields = {}
    for (const change of batch) {
      for (const [kind, items] of Object.entries(change.fields)) fields[kind] = unique([...fields[kind] ?? [], ...items])
    }
    const parts = split(fields, this.frameBytes)
    if (parts?.length !== 1) return batch.forEach((change) => this.#askParts(change))
    this.post(batch[0].type, fields, (frame) => {
      if (frame.type !== 'error') for (const change of batch) change.fulfil(frame)
      else if (batch.length === 1) batch[0].fail(frame)
      else for (const change of batch) this.#askParts(change)
    })
  }

  #askParts (change) {
    const parts = split(change.fields, this.frameBytes)
    if (parts === null) {
      return change.fail({ code: 'too_large', message: `an item does not fit into ${this.frameBytes} bytes, which the server takes` })
    }
    let left = parts.length
    let refusal = null
    for (const fields of parts) {
      this.post(change.type, fields, (frame) => {
        if (frame.type === 'error') refusal ??= frame
        if (--left > 0) return
        if (refusal !== null) change.fail(refusal)
        else change.fulfil(frame)
      })
    }
  }

  #put (frame) {
    this.#outbox.push(frame)
    if (this.#outbox.length === 1) this.#flush()
  }

  #flush () {
    const rate = this.#limits.max_inbound_rate ?? RATE
    const most = rate > 0 ? Math.max(1, Math.floor(rate * SHARE)) : Infinity
    const now = this.#clock.now()
    this.#sent = this.#sent.filter((at) => now - at < WINDOW)
    while (this.#outbox.length > 0 && this.#sent.length < most) {
      this.#sent.push(now)
      this.#send(this.#outbox.shift())
    }
    if (this.#outbox.length > 0) this.#timer = this.#clock.setTimeout(() => this.#flush(), WINDOW - (now - this.#sent[0]))
  }
}

/** Changes in their order, those of one type that follow each other together. */
function batches (changes) {
  const batches = []
  for (const change of changes) {
    if (batches.at(-1)?.[0].type === change.type) batches.at(-1).push(change)
    else batches.push([change])
  }
  return batches
}

function unique (items) {
  return [...new Map(items.map((item) => [JSON.stringify(item), item])).values()]
}

/** An error frame as an error. */
export function refused ({ code, message, id }) {
  return new ClientError(code, message, { id })
}
