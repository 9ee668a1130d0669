/** Seconds that rates and sparklines look back. */
export const SPAN = 60
/** Seconds whose mean is the present rate. */
const RECENT = 5
/** Topics that are counted; the one that was silent longest makes place. */
const MAX_TOPICS = 1000

/** How many there were in each of the last seconds. Seconds are whole numbers that grow. */
export class Window {
  #counts = new Array(SPAN).fill(0)
  #first
  #now
  /** Of all time, and of the window. */
  total = 0
  recent = 0

  constructor (second) {
    this.#first = this.#now = second
  }

  /** What is not live counts as one more of all time. */
  count (second, isLive = true) {
    this.goOn(second)
    this.total++
    if (!isLive) return
    this.#counts[second % SPAN]++
    this.recent++
  }

  /** The counts of the whole seconds before this one, the oldest first. */
  series (second) {
    this.goOn(second)
    const series = []
    for (let back = SPAN - 1; back > 0; back--) series.push(this.#counts[(second - back + SPAN) % SPAN])
    return series
  }

  /** How many a second, as the mean of the last few whole ones. */
  rate (second) {
    const seconds = Math.min(RECENT, second - this.#first)
    return seconds > 0 ? sum(this.series(second).slice(-seconds)) / seconds : 0
  }

  /** Forgets what is too old by now. */
  goOn (second) {
    for (let gone = Math.max(this.#now + 1, second - SPAN + 1); gone <= second; gone++) {
      this.recent -= this.#counts[gone % SPAN]
      this.#counts[gone % SPAN] = 0
    }
    this.#now = Math.max(this.#now, second)
  }
}

/** The windows of all messages and of each topic. */
export class Rates {
  #topics = new Map()

  constructor (second) {
    this.all = new Window(second)
  }

  count (topics, second, isLive) {
    this.all.count(second, isLive)
    for (const topic of topics) {
      const window = this.#topics.get(topic) ?? new Window(second)
      window.count(second, isLive)
      // Behind the others: those at the head have been silent longest.
      this.#topics.delete(topic)
      this.#topics.set(topic, window)
      if (this.#topics.size > MAX_TOPICS) this.#topics.delete(this.#topics.keys().next().value)
    }
  }

  has (topic) {
    return this.#topics.has(topic)
  }

  /** The topics with most messages in the window, then those with most before, as `{ topic, total, rate, series }`. */
  busiest (limit, second) {
    const topics = [...this.#topics]
    for (const [, window] of topics) window.goOn(second)
    topics.sort(([a, { recent, total }], [b, other]) => other.recent - recent || other.total - total || (a < b ? -1 : 1))
    return topics.slice(0, limit).map(([topic, window]) => {
      return { topic, total: window.total, rate: window.rate(second), series: window.series(second) }
    })
  }
}

/** The middle one of some numbers, null of none. */
export function median (numbers) {
  if (numbers.length === 0) return null
  return [...numbers].sort((a, b) => a - b)[numbers.length >> 1]
}

/** A series with the sums of so many neighbours, as far as the oldest have some. */
export function fold (series, size) {
  const folded = []
  for (let end = series.length; end >= size; end -= size) folded.unshift(sum(series.slice(end - size, end)))
  return folded
}

/** The path of an area whose upper edge is the series, as SVG writes it, in a box of this size. */
export function area (series, width, height) {
  const top = Math.max(...series, 1)
  const x = (index) => round(index * width / (series.length - 1))
  const y = (count) => round(height - count / top * (height - 1))
  const line = series.map((count, index) => `${x(index)},${y(count)}`).join('L')
  return { line: `M${line}`, area: `M0,${height}L${line}L${width},${height}Z` }
}

function round (number) {
  return Math.round(number * 10) / 10
}

function sum (numbers) {
  return numbers.reduce((sum, number) => sum + number, 0)
}
