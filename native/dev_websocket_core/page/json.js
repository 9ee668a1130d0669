/**
 * Data as pieces of text, each of a kind that has a look: `key`, `string`, `number`, `word` (true, false, null), `mark` for
 * everything between them, and `cut` for what was left out. Nothing here is HTML.
 */

/** Characters that are not seen, or that change what is seen around them. */
// eslint-disable-next-line no-control-regex, no-misleading-character-class
const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g
/** Levels that are shown; the server sends no more than 64. */
const MAX_DEPTH = 100

/** Text in which everything can be seen, as JSON writes it in its strings. */
export function visible (text) {
  return text.replace(HIDDEN, (character) => SHORT[character] ?? `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

const SHORT = { '\n': '\\n', '\r': '\\r', '\t': '\\t' }

function quoted (text) {
  return `"${visible(text.replace(/["\\]/g, '\\$&'))}"`
}

/** One line of what a message says, at most some characters long. What its topics say already comes last. */
export function preview (data, topics = [], room = 200) {
  const pieces = []
  const put = (kind, text) => {
    if (room <= 0) return
    pieces.push({ kind, text: text.length > room ? `${text.slice(0, room)}…` : text })
    room -= text.length
  }
  const known = new Set(topics)
  const isKnown = ([key, value]) => (
    known.has(`${key.toLowerCase()}:${value}`) || (/^topics?$/i.test(key) && [value].flat().every((topic) => known.has(topic)))
  )
  const walk = (value, depth) => {
    if (room <= 0) return
    if (typeof value === 'string') return put('string', quoted(value.slice(0, room)))
    if (typeof value !== 'object' || value === null) return put(typeof value === 'number' ? 'number' : 'word', String(value))
    if (depth > MAX_DEPTH) return put('mark', '…')
    const isList = Array.isArray(value)
    let rest = (isList ? value : Object.entries(value)).slice(0, room)
    if (depth === 0 && !isList) rest = [...rest.filter((entry) => !isKnown(entry)), ...rest.filter(isKnown)]
    if (depth > 0 || isList) put('mark', isList ? '[' : '{')
    rest.forEach((entry, index) => {
      if (index > 0) put('mark', depth > 0 || isList ? ', ' : '  ')
      if (isList) return walk(entry, depth + 1)
      put('key', visible(entry[0].slice(0, room)))
      put('mark', ': ')
      walk(entry[1], depth + 1)
    })
    if (depth > 0 || isList) put('mark', isList ? ']' : '}')
  }
  walk(data, 0)
  return pieces
}

/**
 * Data over several lines. Beyond so many values or characters of one text it is cut, and a `cut` piece says how much is
 * missing; with `Infinity` nothing is.
 */
export function pretty (data, { values = 1000, characters = 4000 } = {}) {
  const pieces = []
  const put = (kind, text) => { pieces.push({ kind, text }) }
  const scalar = (value) => {
    if (typeof value !== 'string') return put(typeof value === 'number' ? 'number' : 'word', String(value))
    if (value.length <= characters) return put('string', quoted(value))
    put('string', quoted(value.slice(0, characters)).slice(0, -1))
    put('cut', `… ${value.length - characters} more characters`)
    put('string', '"')
  }
  const walk = (value, indent) => {
    values--
    if (typeof value !== 'object' || value === null) return scalar(value)
    const isList = Array.isArray(value)
    const [open, close] = isList ? '[]' : '{}'
    const entries = isList ? value : Object.entries(value)
    if (entries.length === 0) return put('mark', open + close)
    if (indent.length > 2 * MAX_DEPTH) return put('cut', `${open}…${close}`)
    const deeper = `${indent}  `
    put('mark', open)
    for (const [index, entry] of entries.entries()) {
      if (values <= 0) {
        put('mark', `\n${deeper}`)
        put('cut', `… ${entries.length - index} more`)
        break
      }
      put('mark', index > 0 ? `,\n${deeper}` : `\n${deeper}`)
      if (!isList) {
        put('key', quoted(entry[0]))
        put('mark', ': ')
      }
      walk(isList ? entry : entry[1], deeper)
    }
    put('mark', `\n${indent}${close}`)
  }
  walk(data, '')
  return { pieces, isCut: pieces.some(({ kind }) => kind === 'cut') }
}
