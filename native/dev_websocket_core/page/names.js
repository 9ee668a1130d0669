/** Characters that part a name into pieces that people read as one. */
const SEPARATOR = /[/:,;|\s]/
/** Characters of a piece that stand before the first difference at most. */
const MOST_BEFORE = 12
/** A common beginning that is shorter takes no room worth saving. */
const LEAST = 6

/** Names of topics, which tells where each begins to differ from all others: there it must not be cut. */
export class Names {
  #sorted = []

  constructor (names = []) {
    this.#sorted = [...new Set(names)].sort()
  }

  equals (other) {
    return this.#sorted.length === other.#sorted.length && this.#sorted.every((name, index) => name === other.#sorted[index])
  }

  /** How many characters of a name others have as well, down to the beginning of a piece; 0 where nothing is gained. */
  splitOf (name) {
    const place = this.#placeOf(name)
    const before = this.#sorted[place - 1] ?? ''
    const after = this.#sorted[this.#sorted[place] === name ? place + 1 : place] ?? ''
    const shared = Math.max(common(name, before), common(name, after))
    let start = Math.min(shared, name.length - 1)
    while (start > 0 && shared - start < MOST_BEFORE && !SEPARATOR.test(name[start - 1])) start--
    // A character of two halves stays whole.
    if (/[\udc00-\udfff]/.test(name[start])) start--
    return start >= LEAST ? start : 0
  }

  /** Where the name stands or would stand. */
  #placeOf (name) {
    let [low, high] = [0, this.#sorted.length]
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.#sorted[middle] < name) low = middle + 1
      else high = middle
    }
    return low
  }
}

function common (one, other) {
  let length = 0
  while (length < one.length && one[length] === other[length]) length++
  return length
}
