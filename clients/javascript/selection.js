const KINDS = ['topics', 'match', 'template']

/**
 * Topics, regexes and templates, each found by its text: a template is an object or a path with a regex. Each item has its
 * holders; an item that one holder lets go of stays while another has it.
 */
export class Selection {
  constructor (items = {}, holder = null) {
    for (const kind of KINDS) this[kind] = new Map()
    this.add(items, holder)
  }

  add (items, holder = null) {
    each(items, (kind, text, item) => {
      const held = this[kind].get(text) ?? { item, holders: new Set() }
      held.holders.add(holder)
      this[kind].set(text, held)
    })
  }

  /** Removes items for all holders, or for one. Gives those that nobody holds any more, null when there are none. */
  remove (items, holder) {
    const gone = {}
    each(items, (kind, text, item) => {
      const held = this[kind].get(text)
      if (holder !== undefined) {
        if (!held?.holders.delete(holder) || held.holders.size > 0) return
      }
      this[kind].delete(text);
      (gone[kind] ??= []).push(item)
    })
    return Object.keys(gone).length > 0 ? gone : null
  }

  /** All of it as fields of a request; null when that is nothing. */
  fields () {
    return this.without(NOTHING)
  }

  /** The items that the other has not, as fields of a request; null when that is nothing. */
  without (other) {
    const fields = {}
    for (const kind of KINDS) {
      const rest = [...this[kind]].filter(([text]) => !other[kind].has(text))
      if (rest.length > 0) fields[kind] = rest.map(([, { item }]) => item)
    }
    return Object.keys(fields).length > 0 ? fields : null
  }
}

const NOTHING = new Selection()

/**
 * Splits fields so that each part fits into a frame of so many bytes. With topics and templates both must hold, so the first
 * part has some of each: no part alone brings more than the whole. Null when an item alone does not fit.
 */
export function split (fields, limit) {
  const items = []
  for (const kind of KINDS) for (const item of fields[kind] ?? []) items.push([kind, item, bytes(item)])
  const first = [items.find(([kind]) => kind !== 'template'), items.find(([kind]) => kind === 'template')].filter(Boolean)
  const parts = []
  let room = 0
  for (const [kind, item, size] of [...first, ...items.filter((entry) => !first.includes(entry))]) {
    if (size + ENVELOPE > limit) return null
    if (parts.length === 0 || size > room) {
      parts.push({})
      room = limit - ENVELOPE
    }
    const part = parts.at(-1);
    (part[kind] ??= []).push(item)
    room -= size
  }
  return first.length === 2 && parts[0]?.template === undefined ? null : parts
}

/** Bytes of a request besides its items. */
const ENVELOPE = 512
const encoder = new TextEncoder()

function bytes (item) {
  return encoder.encode(JSON.stringify(item)).length + 1
}

function each (items, visit) {
  for (const kind of KINDS) {
    for (const item of [items?.[kind] ?? []].flat()) {
      const value = kind === 'template' ? asObject(item) : item
      visit(kind, typeof value === 'string' ? value : JSON.stringify(value), value)
    }
  }
}

/** A template that is the text of an object is that object: a frame takes no other. */
function asObject (template) {
  if (typeof template !== 'string' || !template.startsWith('{')) return template
  try {
    return JSON.parse(template)
  } catch {
    return template
  }
}
