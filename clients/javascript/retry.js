/** The server will say the same again. */
const STAY_AWAY = 3003
/** The token is over: a function may have another one. */
const TOKEN_OVER = 3000
/** The server found fault with the client's doing, which coming back may or may not change. */
const FAULTS = new Set([1002, 1003, 1007, 1008, 1009])
const RESTARTING = 1012
/** Refusals of the 4xx kind that pass. */
const PASSING = new Set([408, 425, 429])
/** Refusals that another token, header or URL may change. */
const UNAUTHORIZED = new Set([401, 403])

/** Milliseconds before an attempt: anything up to a bound that doubles, so that not all clients come back at once. */
export function backoff (attempt, { minReconnectDelay, maxReconnectDelay, random }) {
  return random() * Math.min(maxReconnectDelay, minReconnectDelay * 2 ** attempt)
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
   * Milliseconds until the next attempt, null when there shall be none. `code` is that of the close frame, `status` that of
   * an HTTP refusal and `error` its word, `lived` how long the connection was in use. `isRenewed` says that the URL, the
   * headers or the token are asked for again, `isKnown` that this client was connected before, `retryAfter` the
   * milliseconds that the server asks to wait.
   */
  after ({ code, status, error, lived = 0, isRenewed = false, isKnown = false, retryAfter = 0 }) {
    if (lived >= this.#options.stableAfter && lived > 0) {
      this.#attempt = this.#faults = 0
      this.#hurried = false
    }
    if (status !== undefined && status < 500 && !PASSING.has(status)) {
      const passes = UNAUTHORIZED.has(status) ? isRenewed : isKnown && error === undefined
      if (!passes) return null
    }
    if (code === STAY_AWAY || (code === TOKEN_OVER && !isRenewed)) return null
    if (FAULTS.has(code) && ++this.#faults > this.#options.maxFaults) return null
    // A server that restarts is back in a moment; one that restarts all the time is treated like any other.
    if (code === RESTARTING && !this.#hurried) {
      this.#hurried = true
      return backoff(0, this.#options)
    }
    const least = Math.min(retryAfter, this.#options.maxReconnectDelay)
    return Math.max(least, backoff(this.#attempt++, this.#options))
  }
}
