/** Milliseconds between two announcements: a screen reader that is told more often says nothing to the end. */
export const BETWEEN = 1000

/**
 * Says texts to screen readers, of those that come too quickly the newest, and an urgent one rather than another. `put` shows a
 * text, and is told whether it is urgent; `clock` has `now` and `later`.
 */
export class Announcer {
  #put
  #clock
  #last = -Infinity
  #waiting = null

  constructor (put, clock = { now: () => performance.now(), later: (work, delay) => setTimeout(work, delay) }) {
    this.#put = put
    this.#clock = clock
  }

  say (text, isUrgent = false) {
    if (this.#waiting !== null) {
      if (isUrgent || !this.#waiting.isUrgent) this.#waiting = { text, isUrgent }
      return
    }
    const delay = this.#last + BETWEEN - this.#clock.now()
    if (delay <= 0) return this.#now({ text, isUrgent })
    this.#waiting = { text, isUrgent }
    this.#clock.later(() => {
      const waiting = this.#waiting
      this.#waiting = null
      this.#now(waiting)
    }, delay)
  }

  #now ({ text, isUrgent }) {
    this.#last = this.#clock.now()
    this.#put(text, isUrgent)
  }
}
