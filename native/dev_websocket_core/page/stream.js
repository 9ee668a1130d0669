/** What is shown at most: so many entries, and so many characters of frames. */
const MAX_ENTRIES = 500
const MAX_SIZE = 8_000_000

/**
 * The newest entries. What arrives waits until it is taken, so that a page can draw when it has time, or not at all for a
 * while. An entry is `{ kind, frame, size, .. }`.
 */
export class Stream {
  #shown = new Bounded()
  #pending = new Bounded()
  #words = []
  /** How many arrived since the last were taken, also those that are forgotten already. */
  waiting = 0

  add (entry) {
    this.#pending.push(entry)
    this.waiting++
  }

  /** Takes what waits. */
  take () {
    for (const entry of this.#pending.entries) this.#shown.push(entry)
    this.#pending = new Bounded()
    this.waiting = 0
  }

  clear () {
    this.take()
    this.#shown = new Bounded()
  }

  /** What is there, the oldest first. */
  get entries () {
    return this.#shown.entries
  }

  /** What of that passes the filter. */
  get matching () {
    return this.#words.length > 0 ? this.entries.filter((entry) => this.#matches(entry)) : this.entries
  }

  /** Filters by words, of which each must be found somewhere in an entry. */
  set filter (text) {
    this.#words = text.toLowerCase().split(/\s+/).filter((word) => word !== '')
  }

  #matches (entry) {
    entry.text ??= searchable(entry)
    return this.#words.every((word) => entry.text.includes(word))
  }
}

/** A list that forgets its oldest entries. */
class Bounded {
  #size = 0
  entries = []

  push (entry) {
    this.entries.push(entry)
    this.#size += entry.size
    let count = 0
    // However large it is, the newest is shown.
    while (this.entries.length - count > MAX_ENTRIES || (this.#size > MAX_SIZE && this.entries.length - count > 1)) {
      this.#size -= this.entries[count].size
      count++
    }
    this.entries.splice(0, count)
  }
}

function searchable ({ frame }) {
  const { type, cursor, size, timestamp, ...rest } = frame
  return JSON.stringify(rest).toLowerCase()
}

/** Entries as JSON lines: the frames as the server sent them. */
export function jsonLines (entries) {
  return entries.map(({ frame: { cursor, size, ...frame } }) => `${JSON.stringify(frame)}\n`).join('')
}
