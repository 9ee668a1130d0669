/**
 * What a person chose to see. The address of the page says it in the parameters of the WebSocket, so that a link shows the
 * same to somebody else.
 */

/** How many of the newest messages a view begins with, unless its address says otherwise. */
export const FIRST = 100
/** The ways to choose messages, as the address names them. */
export const WAYS = ['topic', 'process', 'match', 'template']

/** The choice of an address: lists of texts by kind, `last`, `since`, `slow`, `fromSlot`, and what is not ours to understand. */
export function choiceOf (search) {
  const choice = { topic: [], process: [], match: [], template: [], last: null, since: null, slow: null, fromSlot: null, others: [] }
  for (const [name, value] of new URLSearchParams(search)) {
    if (name === 'topic') for (const topic of value.split(',')) add(choice, name, topic)
    else if (WAYS.includes(name)) add(choice, name, value)
    else if (name === 'last') choice.last = /^\d+$/.test(value) ? Number(value) : null
    else if (name === 'since') choice.since = value
    else if (name === 'from-slot') choice.fromSlot = /^\d{1,15}$/.test(value) ? Number(value) : null
    else if (name === 'slow') choice.slow = ['gap', 'latest', 'close'].includes(value) ? value : null
    // The page reads frames, so the raw format is not for it.
    else if (name !== 'format') choice.others.push([name, value])
  }
  simplify(choice)
  return choice
}

/** Adds one text to a choice. Says whether that changed it. */
export function add (choice, kind, text) {
  if (kind === 'topic') [kind, text] = chosenAs(text.trim())
  const item = kind === 'match' ? text : text.trim()
  if (item === '' || choice[kind].includes(item)) return false
  choice[kind] = [...choice[kind], item]
  return true
}

/** Besides everything there is nothing to choose, and slots are those of one process. */
export function simplify (choice) {
  if (choice.topic.includes('*')) choice.topic = choice.process = choice.match = []
  if (choice.process.length !== 1 || !isProcessId(choice.process[0])) choice.fromSlot = null
}

/** Whether a text is the id of a process, of which alone a server replays slots. */
export function isProcessId (text) {
  return /^[\w-]{43}$/.test(text)
}

export function remove (choice, kind, text) {
  choice[kind] = choice[kind].filter((item) => item !== text)
}

/** Chooses one topic and nothing else. */
export function only (choice, topic) {
  for (const kind of WAYS) choice[kind] = []
  add(choice, 'topic', topic)
  simplify(choice)
}

export function isEverything (choice) {
  return WAYS.every((kind) => choice[kind].length === 0)
}

/** How a topic is chosen: that of a process as the process. */
export function chosenAs (topic) {
  return /^process:[^*]+$/.test(topic) ? ['process', topic.slice(8)] : ['topic', topic]
}

/** The query of the page's address, with its question mark; empty for everything from the start. */
export function queryOf (choice) {
  const parts = []
  const put = (name, value) => parts.push(`${encode(name)}=${encode(value)}`)
  if (choice.topic.length > 0) put('topic', choice.topic.join(','))
  for (const kind of WAYS.slice(1)) for (const text of choice[kind]) put(kind, text)
  // The server takes no other past beside it.
  if (choice.fromSlot !== null) put('from-slot', String(choice.fromSlot))
  else if (choice.since !== null) put('since', choice.since)
  else if (choice.last !== null && choice.last !== FIRST) put('last', String(choice.last))
  if (choice.slow !== null) put('slow', choice.slow)
  for (const [name, value] of choice.others) put(name, value)
  return parts.length > 0 ? `?${parts.join('&')}` : ''
}

/** As much as must be, so that people can read it. */
function encode (text) {
  return encodeURIComponent(text).replace(/%(?:3A|2C|2F|40|3B|24)/g, decodeURIComponent)
}

/** Where the server of a page is: beside it, also behind a proxy that serves it below a path. */
export function base ({ origin, pathname }) {
  return origin + (pathname.endsWith('/') ? pathname : `${pathname}/`)
}

/** The WebSocket beside the page, with the parameters that the page does not know. */
export function socketOf (location, { others }) {
  const url = new URL('ws', base(location))
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:'
  for (const [name, value] of others) url.searchParams.append(name, value)
  return url.href
}

/** The address at which any other client gets the same. */
export function addressOf (location, choice) {
  const all = isEverything(choice) ? { ...choice, topic: ['*'] } : choice
  return socketOf(location, { others: [] }) + queryOf(all)
}

/** What the client is to subscribe to. */
export function itemsOf (choice) {
  return {
    topics: isEverything(choice) ? ['*'] : choice.topic,
    match: choice.match,
    template: choice.template
  }
}

/** Each part of a choice that a server may refuse, with a query of it alone. */
export function refusable (choice) {
  const { others } = choice
  return WAYS.flatMap((kind) => choice[kind].map((text) => ({ kind, text, query: queryOf({ ...choiceOf(''), [kind]: [text], others }) })))
}
