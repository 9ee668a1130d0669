/** Up to which publication everything that concerns a client was delivered. Numbers start anew with each epoch. */
export class Cursor {
  #epoch = null
  #seq = null
  #current = null

  constructor (text = null) {
    if (text === null) return
    const [, epoch = null, seq] = /^(?:([^:]+):)?(\d+)$/.exec(text) ?? []
    if (seq === undefined) throw new TypeError(`a cursor is epoch:seq, not ${text}`)
    this.#epoch = epoch
    this.#seq = Number(seq)
  }

  /** `epoch:seq`, or null while nothing is known. */
  get text () {
    if (this.#seq === null) return null
    return this.#epoch === null ? String(this.#seq) : `${this.#epoch}:${this.#seq}`
  }

  /** What is said from now on is of this epoch. The cursor is of its own until something of the new one arrives. */
  enter (epoch) {
    this.#current = epoch
  }

  /** A publication of the present epoch, as a cursor. */
  at (seq) {
    return `${this.#current}:${seq}`
  }

  /** Moves forward. Says whether it did: if not, the publication was seen before. */
  advance (seq) {
    if (this.#epoch === this.#current && this.#seq !== null && seq <= this.#seq) return false
    this.#epoch = this.#current
    this.#seq = seq
    return true
  }

  /** Drops what the server cannot use. Gives the gap that this is. */
  forget () {
    const cursor = this.text
    this.#epoch = this.#seq = null
    return { type: 'gap', reason: 'cursor', cursor }
  }
}
