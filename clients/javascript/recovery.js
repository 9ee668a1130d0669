import { refused } from './requests.js'
import { backoff } from './retry.js'

/** Refusals of slots that pass. */
const PASSING_SLOTS = new Set(['too_many_slot_replays', 'too_many_processes', 'replay_failed', 'no_cache', 'unknown_process', 'busy'])
/** Refusals of a URL that are about slots. */
const OF_SLOTS = new Set([...PASSING_SLOTS, 'bad_from_slot', 'bad_process'])

/**
 * Asks for the slots that are missing, of one process at a time, as the server replays them. `give` gets the frames that the
 * application is given in the end: those that were held, and the gap for slots that do not come.
 */
export class Recovery {
  #slots
  #host
  #options
  #give
  #connection = null
  #requests = null
  // The process that is asked for: `{ process, id, refusal }`.
  #current = null
  #timers = new Set()

  constructor (slots, host, options, give) {
    this.#slots = slots
    this.#host = host
    this.#options = options
    this.#give = give
  }

  /** Whether the present replay cannot go on: its last frames follow. */
  get isRefused () {
    return this.#current !== null && this.#current.refusal !== null
  }

  /** Another connection. A stream of events asks for the slots of one process in its URL. */
  connect (connection, asked) {
    this.#connection = connection
    this.#requests = null
    if (asked !== null) this.#begin(asked.process, undefined)
  }

  /** The connection takes requests. */
  welcome (requests) {
    this.#requests = requests
  }

  next () {
    const next = this.#host.state === 'open' && this.#current === null ? this.#slots.next() : null
    if (next === null) return
    if (!this.#connection.canSend) return this.#host.reopen()
    const { process, slot } = next
    this.#begin(process, this.#requests.post('subscribe', { process, 'from-slot': slot }, (frame) => {
      if (frame.type === 'error') this.#end(frame)
    }))
  }

  /** Takes an error that ends the present replay. Says whether it is one. */
  refuses (frame) {
    if (this.#current === null || frame.id !== this.#current.id || !PASSING_SLOTS.has(frame.code)) return false
    this.#current.refusal = frame
    return true
  }

  /** Slots of a process come live: its replay is over. */
  live (frame) {
    if (frame.process === this.#current?.process) this.#end(frame)
  }

  /** The connection is gone. Says whether the reason was that slots were asked for. */
  lost (error) {
    const current = this.#current
    this.#connection = this.#requests = this.#current = null
    for (const timer of this.#timers) this.#options.clock.clearTimeout(timer)
    this.#timers.clear()
    this.#slots.lost()
    if (current === null || !OF_SLOTS.has(error)) return false
    this.#refuse(current.process, { code: error, message: 'the server refused the slots that were asked for' })
    return true
  }

  #begin (process, id) {
    this.#slots.asked(process)
    this.#current = { process, id, refusal: null }
  }

  #end (frame) {
    const { process, refusal } = this.#current
    this.#current = null
    if (refusal !== null || frame.type === 'error') this.#refuse(process, refusal ?? frame, frame.slot)
    else this.#slots.found(process, frame.slot).forEach(this.#give)
    this.next()
  }

  /** Asks again later, or tells that slots up to the one that comes live are missing. */
  #refuse (process, refusal, live) {
    this.#host.emit('error', refused(refusal))
    const attempt = PASSING_SLOTS.has(refusal.code) ? this.#slots.fail(process) : null
    if (attempt === null) return this.#slots.giveUp(process, live).forEach(this.#give)
    const timer = this.#options.clock.setTimeout(() => {
      this.#timers.delete(timer)
      this.#slots.retry(process)
      this.next()
    }, backoff(attempt, this.#options))
    this.#timers.add(timer)
  }
}
