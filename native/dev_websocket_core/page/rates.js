/** Seconds that rates and sparklines look back. */
export const SPAN = 60
/** Seconds whose mean is the present rate. */
const RECENT = 5
/** Topics that are counted. */
const MAX_TOPICS = 1000
/** Keys of topics that are counted, each for all its topics. */
const MAX_KEYS = 200

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

/** The key of a topic `key:value`, else null. */
export function keyOf (topic) {
  const colon = topic.indexOf(':')
  return colon > 0 && colon < topic.length - 1 ? topic.slice(0, colon) : null
}

/** The windows of all messages, of each topic, and of all topics of one key. */
export class Rates {
  #topics = new Map()
  #keys = new Map()

  constructor (second) {
    this.all = new Window(second)
  }

  count (topics, second, isLive) {
    this.all.count(second, isLive)
    for (const topic of topics) {
      countIn(this.#topics, topic, MAX_TOPICS, second, isLive)
      const key = keyOf(topic)
      if (key !== null) countIn(this.#keys, key, MAX_KEYS, second, isLive)
    }
  }

  /** Every topic that was counted, as `{ topic, total, recent }`. */
  list (second) {
    return [...this.#topics].map(([topic, window]) => {
      window.goOn(second)
      return { topic, total: window.total, recent: window.recent }
    })
  }

  /** What was counted of all topics of a key, also of those that are forgotten. */
  family (key, second) {
    const window = this.#keys.get(key)
    window?.goOn(second)
    return { total: window?.total ?? 0, recent: window?.recent ?? 0 }
  }

  /** The rate and the series of a topic, or with `key` of all topics of that key. */
  paceOf ({ topic, key }, second) {
    const window = key === undefined ? this.#topics.get(topic) : this.#keys.get(key)
    return window === undefined ? { rate: 0, series: [] } : { rate: window.rate(second), series: window.series(second) }
  }

  /** The topics with most messages in the window, then those with most before. */
  busiest (second) {
    const topics = this.list(second)
    topics.sort((a, b) => b.recent - a.recent || b.total - a.total || (a.topic < b.topic ? -1 : 1))
    return topics.map(({ topic }) => topic)
  }
}

/** Counts in one of the windows; the one that was silent longest makes place for more than `most`. */
function countIn (windows, name, most, second, isLive) {
  const window = windows.get(name) ?? new Window(second)
  window.count(second, isLive)
  // Behind the others: those at the head have been silent longest.
  windows.delete(name)
  windows.set(name, window)
  if (windows.size > most) windows.delete(windows.keys().next().value)
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
