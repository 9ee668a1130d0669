/** Longer URLs are refused by many proxies: subscriptions beyond that are made by frames. */
const SHORT_URL = 4000
/** The server takes 65,534 bytes, and as many for the whole head. */
const LONG_URL = 60_000
const SCHEMES = { 'ws:': 'ws:', 'wss:': 'wss:', 'http:': 'ws:', 'https:': 'wss:' }

/** A URL without the parts that are the client's own options: subscriptions, and the past that is asked for once. */
export function parseAddress (text) {
  let url
  try {
    url = new URL(text, globalThis.location?.href)
  } catch {
    throw new TypeError(`not a URL: ${text}. One begins with ws: or wss: and ends with /ws`)
  }
  const scheme = SCHEMES[url.protocol]
  if (scheme === undefined) throw new TypeError(`a URL begins with ws: or wss:, not ${url.protocol}`)
  url = new URL(url.href.replace(/^[^:]*:/, scheme))
  url.hash = ''
  const query = url.searchParams
  const take = (name) => {
    const values = query.getAll(name)
    query.delete(name)
    return values
  }
  if (query.get('format') === 'raw') throw new TypeError('format=raw has no frames that tell of gaps; leave it out')
  const topics = take('topic').flatMap((value) => value.split(',')).map((topic) => topic.trim()).filter((topic) => topic !== '')
  const processes = take('process').filter((process) => process !== '')
  topics.push(...processes.map((process) => `process:${process}`))
  const items = { topics, match: take('match'), template: take('template') }
  const [since, last, slow] = ['since', 'last', 'slow'].map((name) => take(name).find((value) => value !== ''))
  const [eventId] = take('lastEventId')
  return { url, items, since: since ?? (eventId || undefined), last, slow, slots: slotsOf(take('from-slot'), processes) }
}

/** The first slot of a process in a URL. */
function slotsOf ([slot], processes) {
  if (slot === undefined) return {}
  if (!/^\d{1,15}$/.test(slot) || processes.length !== 1) throw new TypeError('from-slot is the number of a slot, beside one process')
  return { [processes[0]]: Number(slot) }
}

/**
 * The URL of an attempt, and how it asks: `url` has the subscriptions and the past, or `isByFrames` says that both are to be
 * asked for once the connection is there. Null when a stream of events cannot ask for so much.
 */
export function composeAddress (base, selection, { cursor, last, slow, slots }, isEvents) {
  const url = new URL(base)
  if (isEvents) {
    url.protocol = url.protocol === 'wss:' ? 'https:' : 'http:'
    url.pathname = url.pathname.replace(/\/ws\/?$/, '/events')
  }
  const whole = new URL(url)
  const add = (name, values) => { for (const value of values) whole.searchParams.append(name, value) }
  add('topic', selection.topics.keys())
  add('match', selection.match.keys())
  add('template', selection.template.keys())
  for (const each of [url, whole]) if (slow !== undefined) each.searchParams.append('slow', slow)
  let past = cursor !== null ? 'since' : last ? 'last' : null
  if (isEvents && slots !== null) {
    // A cursor with a slot resumes both: the process at its slot, and all else behind the cursor.
    past = cursor !== null ? 'lastEventId' : null
    add('process', [slots.process])
    add('from-slot', [slots.slot])
    if (past !== null) add(past, [`${cursor};${slots.process}:${slots.slot}`])
  } else if (past !== null) add(past, [cursor ?? last])
  const size = whole.href.length
  if (size <= SHORT_URL || (size <= LONG_URL && (isEvents || past === 'last'))) return { url: whole, past, isByFrames: false, slots: isEvents ? slots : null }
  if (isEvents) return null
  return { url, past, isByFrames: selection.fields() !== null, slots: null }
}
