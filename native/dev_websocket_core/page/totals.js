/** Reads totals of a server out of its metrics, in the text format of Prometheus. */

/** The sum of each metric over all its labels; `name{label="value"}` alone under its own name as well. */
export function sums (text) {
  const sums = new Map()
  for (const line of text.split('\n')) {
    const [, name, labels = '', value] = /^([a-zA-Z_:][\w:]*)(\{.*\})? (\S+)/.exec(line) ?? []
    if (name === undefined) continue
    const number = Number(value)
    if (!Number.isFinite(number)) continue
    sums.set(name, (sums.get(name) ?? 0) + number)
    if (labels !== '') sums.set(name + labels, number)
  }
  return sums
}

/** What people want to know of a server, as far as its metrics say it. */
export function totalsOf (text) {
  const found = sums(text)
  const sum = (name) => found.get(`dev_websocket_${name}`)
  return {
    clients: sum('connections'),
    published: sum('publications_total'),
    delivered: sum('deliveries_total'),
    // What nobody wanted is no loss.
    dropped: plus(sum('deliveries_dropped_total'), ...['too_large', 'overload'].map((reason) => sum(`messages_dropped_total{reason="${reason}"}`))),
    memory: plus(sum('send_buffer_bytes'), sum('history_bytes'), sum('publish_queued_bytes')),
    started: sum('start_time_seconds'),
    version: /^dev_websocket_build_info\{.*?\bversion="([^"]+)"/m.exec(text)?.[1]
  }
}

/** How many a second there were of two readings, `{ at, value }` in milliseconds; null where it cannot be told. */
export function paceBetween (before, now) {
  const [seconds, count] = [(now.at - before?.at) / 1000, now.value - before?.value]
  return seconds > 0 && count >= 0 ? count / seconds : null
}

/** A time span in its two largest units. */
export function span (seconds) {
  const units = [['d', 86_400], ['h', 3600], ['min', 60], ['s', 1]]
  const index = Math.max(0, units.findIndex(([, size], index) => seconds >= size || index === units.length - 1))
  const [[unit, size], next] = [units[index], units[index + 1]]
  const rest = next === undefined ? 0 : Math.floor(seconds % size / next[1])
  return `${Math.floor(seconds / size)} ${unit}${rest > 0 ? ` ${rest} ${next[0]}` : ''}`
}

function plus (...numbers) {
  const known = numbers.filter((number) => number !== undefined)
  return known.length > 0 ? known.reduce((sum, number) => sum + number, 0) : undefined
}
