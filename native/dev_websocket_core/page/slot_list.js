/** What is kept of slots at most: so many, and so many characters of frames. */
const MAX_SLOTS = 200
const MAX_SLOT_SIZE = 8_000_000
/** Characters that only colour a terminal. */
// eslint-disable-next-line no-control-regex
const COLOURS = /\u001b\[[0-9;]*[A-Za-z]/g

/**
 * The newest slots of a process, made of frames in the order of the server. The first frame of a slot is that of its result,
 * so a slot that is read again takes the place of what was there.
 */
export class SlotList {
  #items = []
  #size = 0
  /** The slot to ask for on the next connection: the last one may be there in part. */
  next
  /** The first live slot, or null during a replay. */
  live = null

  constructor (from) {
    this.next = from
  }

  /** Slots and gaps, the oldest first: `{ kind: 'slot', slot, result, parts, .. }` or `{ kind: 'gap', slot, frame }`. */
  get items () {
    return this.#items
  }

  /** Takes a frame, with its length. Says whether that changed what is there. */
  take (frame, size) {
    switch (frame?.type) {
      case 'message': return this.#message(frame, size)
      case 'gap': return this.#gap(frame)
      case 'live':
        this.live = frame.slot ?? this.next
        this.next = Math.max(this.next, this.live)
        return true
    }
    return false
  }

  /** A connection was lost: the next one begins with a replay. */
  lost () {
    this.live = null
  }

  #message (frame, size) {
    const { slot, data, timestamp, replayed, assignment } = frame
    if (!Number.isInteger(slot)) return false
    const isResult = data?.type === 'result' && frame.from === undefined
    const before = this.#items.find((item) => item.kind === 'slot' && item.slot === slot)
    if (isResult) {
      const fresh = { kind: 'slot', slot, timestamp, assignment, isReplayed: replayed === true, result: data, parts: [], size }
      if (before === undefined) this.#insert(fresh)
      else this.#items[this.#items.indexOf(before)] = fresh
      this.#size += size - (before?.size ?? 0)
    } else if (before !== undefined) {
      // A new object, so that whoever draws sees that it is another one.
      const fuller = { ...before, parts: [...before.parts, frame], size: before.size + size }
      this.#items[this.#items.indexOf(before)] = fuller
      this.#size += size
    } else return false
    this.next = Math.max(this.next, slot)
    this.#bound()
    return true
  }

  #gap (frame) {
    if (frame.process === undefined) return false
    const slot = frame.from_slot ?? this.next
    if (frame.to_slot !== undefined) this.next = Math.max(this.next, frame.to_slot + 1)
    this.#items = this.#items.filter((item) => item.kind !== 'gap' || item.slot !== slot || item.frame.reason !== frame.reason)
    this.#insert({ kind: 'gap', slot, frame, size: 0 })
    this.#bound()
    return true
  }

  /** Late slots stand where they belong. */
  #insert (item) {
    let at = this.#items.length
    while (at > 0 && this.#items[at - 1].slot > item.slot) at--
    this.#items.splice(at, 0, item)
  }

  #bound () {
    while (this.#items.length > MAX_SLOTS || (this.#size > MAX_SLOT_SIZE && this.#items.length > 1)) {
      this.#size -= this.#items.shift().size
    }
  }
}

/** The parts of a slot besides its result: messages of the outbox, and behind them events of the output. */
export function partsOf ({ result, parts }) {
  const count = result['outbox-count'] ?? 0
  return { messages: parts.slice(0, count), events: parts.slice(count) }
}

/** The text that a result printed, without colours; null when it is none. */
export function outputOf ({ output, data }) {
  const texts = [output, output?.data, output?.data?.output, output?.body, output?.print, data, data?.output]
  const text = texts.find((part) => typeof part === 'string' && part !== '')
  return text === undefined ? null : text.replace(COLOURS, '')
}

/** One line that says what came of a slot. */
export function summaryOf ({ result }) {
  const { error } = result
  if (error !== undefined) return { isError: true, text: lineOf(typeof error === 'string' ? error : JSON.stringify(error)) }
  const output = outputOf(result)
  return { isError: false, text: output === null ? '' : lineOf(output) }
}

/** The first line with something in it. */
function lineOf (text) {
  return text.split('\n').map((line) => line.trim()).find((line) => line !== '')?.slice(0, 200) ?? ''
}
