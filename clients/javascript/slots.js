/** Slots are asked for so often, with growing pauses, before a gap says that they are missing. */
const MAX_ATTEMPTS = 10
/** Gaps of publications behind which slots may be missing. */
const LOSSES = new Set(['epoch', 'expired', 'cursor'])

/**
 * The newest slot of each process that the application has whole, and the processes whose slots are asked for again. Until
 * these have come, new events of such a process are held: the server reads them again, in their order.
 */
export class Slots {
  // Replaced with each change, so that whoever has it has the slots of that moment.
  #whole
  // The slot of each process that came in part: how many events are to come, and how many of each path came.
  #open = new Map()
  #missed = new Map()
  #selection
  #bounds

  /** `whole` is that of an earlier client, `first` the slots to begin with. `selection` gives the present subscriptions. */
  constructor (whole, first, selection, bounds) {
    this.#selection = selection
    this.#bounds = bounds
    this.#whole = Object.freeze({ ...whole })
    for (const process of Object.keys(whole)) this.#miss(process)
    for (const [process, slot] of Object.entries(first)) this.begin(process, slot)
  }

  /** `{ process: slot }`: up to this slot the application has everything. */
  get whole () {
    return this.#whole
  }

  /** Begins with a slot, unless a later one is known. */
  begin (process, slot) {
    if (this.#whole[process] !== undefined) return
    this.#set(process, slot - 1)
    this.#miss(process)
  }

  /** Notes a gap behind which slots may be missing. */
  lose (gap) {
    if (gap.reason === 'not_followed') {
      const next = this.#whole[gap.process] + 1
      if (gap.from_slot <= next && next <= gap.to_slot && this.#isWanted(gap.process)) this.#miss(gap.process)
    } else if (LOSSES.has(gap.reason) && gap.process === undefined) {
      for (const process of Object.keys(this.#whole)) if (this.#isWanted(process)) this.#miss(process)
    }
  }

  /** Holds a frame of a process whose slots are asked for. Says whether it did. */
  hold (frame, size) {
    const missed = this.#missed.get(frame.process)
    if (missed === undefined || frame.slot === undefined && frame.from_slot === undefined || !this.#isWanted(frame.process)) return false
    missed.held.push(frame)
    missed.size += size
    while (missed.held.length > this.#bounds.maxQueue || missed.size > this.#bounds.maxQueueBytes) {
      const oldest = missed.held.shift()
      missed.size -= oldest.size ?? 0
      missed.dropped = Math.max(missed.dropped, oldest.slot ?? oldest.to_slot)
    }
    return true
  }

  /** Whether the application has an event of a replay already: a slot of which it has a part is replayed from its beginning. */
  isGiven ({ process, slot, path = '' }) {
    if (slot <= (this.#whole[process] ?? -1)) return true
    const open = this.#open.get(process)
    if (open?.slot !== slot) return false
    const again = (open.again.get(path) ?? 0) + 1
    open.again.set(path, again)
    return again <= (open.given.get(path) ?? 0)
  }

  /** Notes an event that the application is given, or a gap in the place of slots. */
  give ({ type, process, slot, to_slot: to, path = '', data }) {
    if (!this.#isWanted(process)) return
    if (type === 'gap') {
      if (to > (this.#whole[process] ?? -1)) this.#set(process, to)
      return
    }
    const whole = this.#whole[process]
    // A late slot, which a gap has reported.
    if (whole !== undefined && slot <= whole) return
    if (whole !== slot - 1) this.#set(process, slot - 1)
    const open = this.#open.get(process) ?? { slot, left: null, given: new Map(), again: new Map() }
    this.#open.set(process, open)
    open.given.set(path, (open.given.get(path) ?? 0) + 1)
    const isResult = data?.type === 'result' && !path.includes('/results/')
    if (isResult && Number.isInteger(data['outbox-count'])) open.left = data['outbox-count'] + (data['event-count'] ?? 0)
    else if (open.left !== null && !isResult) open.left--
    // With templates, nobody knows which events of the slot are to come.
    if (open.left === 0 && this.#selection().template.size === 0) this.#set(process, slot)
  }

  // ---- Slots that are asked for again ----

  /** The next process to ask for, and its slot; null when there is none. */
  next () {
    for (const [process, { isWaiting }] of this.#missed) {
      if (!isWaiting && this.#isWanted(process)) return { process, slot: this.#whole[process] + 1 }
    }
    return null
  }

  /** The replay of a process begins. */
  asked (process) {
    this.#open.get(process)?.again.clear()
    this.#missed.get(process).late = []
  }

  /** The replay has reported these slots as missing. They may come late. */
  report (process, from, to) {
    this.#missed.get(process)?.late.push([from, to])
  }

  /** The replay is over, and slots from this one on come live. Gives the frames that it did not bring. */
  found (process, slot) {
    const { held, late } = this.#missed.get(process)
    this.#missed.delete(process)
    if (slot - 1 > this.#whole[process]) this.#set(process, slot - 1)
    return held.filter((frame) => frame.type === 'message' && late.some(([from, to]) => from <= frame.slot && frame.slot <= to))
  }

  /** The number of times that slots of a process were asked for in vain, null when that is enough. The next time comes after `retry`. */
  fail (process) {
    const missed = this.#missed.get(process)
    // It is asked for after all others.
    this.#missed.delete(process)
    this.#missed.set(process, missed)
    if (missed.attempt === MAX_ATTEMPTS) return null
    missed.isWaiting = true
    return missed.attempt++
  }

  retry (process) {
    const missed = this.#missed.get(process)
    if (missed !== undefined) missed.isWaiting = false
  }

  /** Nobody waits for another connection. */
  lost () {
    for (const missed of this.#missed.values()) missed.isWaiting = false
  }

  /** Asks no more. Gives what the application gets in place of the slots up to `live`: a gap, and the frames that were held. */
  giveUp (process, live = null) {
    this.asked(process)
    const { held, dropped } = this.#missed.get(process)
    this.#missed.delete(process)
    const from = this.#whole[process] + 1
    const frames = held.filter((frame) => (frame.slot ?? frame.to_slot) > dropped && (frame.type === 'gap' || !this.isGiven(frame)))
    const next = frames[0]?.slot ?? frames[0]?.from_slot ?? (dropped >= 0 ? dropped + 1 : live)
    if (next !== null && next <= from) return frames
    const range = next === null ? {} : { to_slot: next - 1, dropped: next - from }
    return [{ type: 'gap', reason: 'not_replayed', process, from_slot: from, ...range }, ...frames]
  }

  #isWanted (process) {
    return this.#selection().topics.has(`process:${process}`)
  }

  #miss (process) {
    if (!this.#missed.has(process)) this.#missed.set(process, { held: [], size: 0, late: [], dropped: -1, attempt: 0, isWaiting: false })
  }

  #set (process, slot) {
    this.#whole = Object.freeze({ ...this.#whole, [process]: slot })
    this.#open.delete(process)
  }
}
