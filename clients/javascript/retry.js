/** The server will say the same again: whoever connects may not. */
const FORBIDDEN = new Set([3000, 3003])
/** The server found fault with what the client did, which coming back may or may not change. */
const FAULTS = new Set([1002, 1003, 1007, 1008, 1009])
const RESTARTING = 1012
/** Refusals of the 4xx kind that pass. */
const PASSING = new Set([408, 429])

/** Milliseconds before an attempt: anything up to a bound that doubles, so that not all clients come back at once. */
export function backoff (attempt, { base, cap, random }) {
  return random() * Math.min(cap, base * 2 ** attempt)
}

/** Whether and when to come back after a connection is lost. */
export class Retry {
  #options
  #attempt = 0
  #faults = 0
  #hurried = false

  constructor (options) {
    this.#options = options
  }

  /**
   * Milliseconds until the next attempt, null when there shall be none.
   * `code` is that of the close frame, `status` that of an HTTP refusal, `lived` how long the connection was in use.
   */
  after ({ code, status, lived }) {
    if (lived >= this.#options.stable) {
      this.#attempt = this.#faults = 0
      this.#hurried = false
    }
    if (status < 500 && !PASSING.has(status)) return null
    if (FORBIDDEN.has(code)) return null
    if (FAULTS.has(code) && ++this.#faults > this.#options.faults) return null
    // A server that restarts is back in a moment; one that restarts all the time is treated like any other.
    if (code === RESTARTING && !this.#hurried) {
      this.#hurried = true
      return backoff(0, this.#options)
    }
    return backoff(this.#attempt++, this.#options)
  }
}
