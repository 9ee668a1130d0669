/** A timer takes no more milliseconds: beyond them it fires at once. */
const LONGEST = 2 ** 31 - 1

/** Each numeric option: default, least and greatest value. */
const NUMERIC = {
  minReconnectDelay: [500, 1, LONGEST],
  maxReconnectDelay: [30_000, 1, LONGEST],
  stableAfter: [10_000, 0, LONGEST],
  maxFaults: [5, 0, Infinity],
  pingInterval: [30_000, 0, LONGEST],
  timeout: [10_000, 1, LONGEST],
  maxQueue: [1000, 1, Infinity],
  maxQueueBytes: [4_194_304, 1, Infinity]
}
const WORDS = {
  slow: ['gap', 'latest', 'close'],
  overflow: ['backpressure', 'gap'],
  transport: ['auto', 'websocket', 'events']
}
const FUNCTIONS = ['random', 'WebSocket', 'fetch']
const KNOWN = ['topics', 'match', 'template', 'process', 'cursor', 'slots', 'fromSlot', 'last', 'headers', 'token', 'logger', 'signal', 'autoConnect',
  'clock', 'environment', ...Object.keys(NUMERIC), ...Object.keys(WORDS), ...FUNCTIONS]
const SELECTING = ['topics', 'match', 'template', 'since']

const SYSTEM_CLOCK = {
  now: () => performance.now(),
  wall: () => Date.now(),
  setTimeout: (callback, delay) => setTimeout(callback, delay),
  clearTimeout: (timer) => clearTimeout(timer)
}

/** Options with their defaults. An undefined or null option is an absent one; an unknown or unfit one throws. */
export function checkedOptions (given = {}) {
  if (given === null || typeof given !== 'object') throw new TypeError('options are an object')
  const options = { overflow: 'backpressure', transport: 'auto', autoConnect: true, random: Math.random, clock: SYSTEM_CLOCK, environment: globalThis }
  for (const [name, value] of Object.entries(given)) {
    if (!KNOWN.includes(name)) throw new TypeError(`there is no option ${name}${hint(name, KNOWN)}`)
    if (value !== undefined && value !== null) options[name] = value
  }
  for (const [name, [standard, least, greatest]] of Object.entries(NUMERIC)) {
    options[name] = checkedNumber(name, options[name] ?? standard, least, greatest)
  }
  for (const [name, words] of Object.entries(WORDS)) {
    if (options[name] !== undefined && !words.includes(options[name])) throw new TypeError(`${name} is one of ${words.join(', ')}, not ${shown(options[name])}`)
  }
  for (const name of FUNCTIONS) {
    if (options[name] !== undefined && typeof options[name] !== 'function') throw new TypeError(`${name} is a function`)
  }
  if (given.minReconnectDelay == null) options.minReconnectDelay = Math.min(options.minReconnectDelay, options.maxReconnectDelay)
  if (given.maxReconnectDelay == null) options.maxReconnectDelay = Math.max(options.minReconnectDelay, options.maxReconnectDelay)
  if (options.minReconnectDelay > options.maxReconnectDelay) throw new RangeError('minReconnectDelay is greater than maxReconnectDelay')
  if (options.last !== undefined) {
    checkedNumber('last', options.last, 0, Number.MAX_SAFE_INTEGER)
    if (!Number.isInteger(options.last)) throw new RangeError('last is a whole number')
  }
  checkedToken(options.token)
  if (options.headers !== undefined && typeof options.headers !== 'function' && typeof options.headers !== 'object') throw new TypeError('headers are an object, or a function that gives one')
  if (options.signal !== undefined && typeof options.signal.addEventListener !== 'function') throw new TypeError('signal is an AbortSignal')
  if (options.logger !== undefined && typeof options.logger.warn !== 'function') throw new TypeError('a logger has the functions debug, info, warn and error, as console does')
  options.process = checkedTexts('process', options.process)
  options.slots = checkedSlots('slots', options.slots, -1)
  options.fromSlot = checkedSlots('fromSlot', options.fromSlot, 0)
  return options
}

/** The `topics`, `match` and `template` of a request, checked; `since` too. */
export function checkedItems (given) {
  if (given === null || typeof given !== 'object') throw new TypeError('a subscription is an object with topics, match or template')
  for (const name of Object.keys(given)) {
    if (!SELECTING.includes(name)) throw new TypeError(`a subscription has no ${name}${hint(name, SELECTING)}`)
  }
  const { since, template, ...rest } = given
  for (const name of ['topics', 'match']) checkedTexts(name, rest[name])
  for (const item of [template ?? []].flat()) {
    if (typeof item !== 'string' && (item === null || typeof item !== 'object')) throw new TypeError(`a template is an object or a text, not ${shown(item)}`)
  }
  return given
}

export function checkedToken (token) {
  if (token !== undefined && typeof token !== 'function' && (typeof token !== 'string' || !/^[\w.~+/=-]+$/.test(token))) {
    throw new TypeError('a token is a text of letters, digits and ._~+/=-, or a function that gives one')
  }
  return token
}

function checkedSlots (name, value = {}, least) {
  if (typeof value !== 'object' || Array.isArray(value)) throw new TypeError(`${name} is an object with the slot of each process, not ${shown(value)}`)
  for (const [process, slot] of Object.entries(value)) {
    if (!/^[\w-]{43}$/.test(process)) throw new TypeError(`${name} names processes by ids of 43 characters, not ${shown(process)}`)
    checkedNumber(`a slot of ${name}`, slot, least, Number.MAX_SAFE_INTEGER)
    if (!Number.isInteger(slot)) throw new RangeError(`a slot of ${name} is a whole number`)
  }
  return value
}

function checkedTexts (name, value) {
  const texts = [value ?? []].flat()
  for (const text of texts) {
    if (typeof text !== 'string') throw new TypeError(`${name} is a text or a list of texts, not ${shown(text)}`)
  }
  return texts
}

function checkedNumber (name, value, least, greatest) {
  if (typeof value !== 'number' || Number.isNaN(value)) throw new TypeError(`${name} is a number, not ${shown(value)}`)
  if (value < least || value > greatest) throw new RangeError(`${name} is at least ${least} and at most ${greatest}, not ${value}`)
  return value
}

function shown (value) {
  return typeof value === 'string' ? `"${value}"` : Array.isArray(value) ? 'a list' : String(value)
}

/** The known name that was meant, when one begins likewise. */
function hint (name, names) {
  const meant = names.find((known) => known.toLowerCase().startsWith(name.toLowerCase().slice(0, 4)))
  return meant === undefined ? '' : `; ${meant} is one`
}
