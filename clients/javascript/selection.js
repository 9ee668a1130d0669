const KINDS = ['topics', 'match', 'template']

/** Topics, regexes and templates, each found by its text: a template is an object or a path with a regex. */
export class Selection {
  constructor (items = {}) {
    for (const kind of KINDS) this[kind] = new Map()
    this.add(items)
  }

  add (items) {
    each(items, (kind, text, item) => this[kind].set(text, item))
  }

  remove (items) {
    each(items, (kind, text) => this[kind].delete(text))
  }

  /** All of it as fields of a request; null when that is nothing. */
  fields () {
    return this.without(NOTHING)
  }

  /** What is here and not in the other, as fields of a request; null when that is nothing. */
  without (other) {
    const fields = {}
    for (const kind of KINDS) {
      const rest = [...this[kind]].filter(([text]) => !other[kind].has(text))
      if (rest.length > 0) fields[kind] = rest.map(([, item]) => item)
    }
    return Object.keys(fields).length > 0 ? fields : null
  }
}

const NOTHING = new Selection()

function each (items, visit) {
  for (const kind of KINDS) {
    for (const item of [items?.[kind] ?? []].flat()) visit(kind, typeof item === 'string' ? item : JSON.stringify(item), item)
  }
}
