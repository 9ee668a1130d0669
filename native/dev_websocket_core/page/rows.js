import { chip, short } from './chip.js'
import { clock, copies, duration, h } from './dom.js'
import { wordsOf } from './gap.js'
import { preview, pretty, visible } from './json.js'

/** Pixels of a character of a topic in a closed row, and of everything around a topic. */
const CHARACTER = 6.95
const AROUND = 21
/** Pixels of the number of topics that have no room. */
const ROOM_OF_MORE = 34
/** Topics that a closed row shows at most, and characters of one before it gives way to others. */
const MOST = 6
const LONG = 18

/** The list of rows: draws entries, opens and closes them, and moves between them. */
export class Rows {
  #list
  #isChosen
  #changed
  #rows = new Map()
  #open = new Set()
  /** Pixels that a closed row has for topics. */
  #room = 400
  /** The one that Tab and arrows reach: the newest, until another is given the focus. */
  #active = null
  #isNewest = true

  /** `changed` is called when a row was opened or closed. */
  constructor (list, { isChosen, changed }) {
    this.#list = list
    this.#isChosen = isChosen
    this.#changed = changed
    list.addEventListener('click', ({ target }) => {
      if (target.matches('.line')) this.toggle(target.parentNode)
    })
    list.addEventListener('focusin', ({ target }) => { if (target !== list) this.#activate(target.closest('li'), false) })
    list.addEventListener('keydown', (event) => this.#key(event))
    new ResizeObserver(() => this.#fit()).observe(list)
  }

  get areOpen () {
    return this.#open.size > 0
  }

  /** Makes the list that of these entries, of which the last is on top. What stays is not touched. */
  show (entries) {
    const wanted = new Set(entries)
    for (const [entry, row] of this.#rows) {
      if (wanted.has(entry)) continue
      this.close(row)
      if (row === this.#active) this.#activate(null, true)
      row.remove()
      this.#rows.delete(entry)
    }
    let place = this.#list.firstChild
    for (let index = entries.length - 1; index >= 0; index--) {
      const entry = entries[index]
      let row = this.#rows.get(entry)
      if (row === undefined) {
        row = entry.kind === 'gap' ? this.#gap(entry.frame) : this.#message(entry)
        this.#rows.set(entry, row)
      }
      if (row === place) place = place.nextSibling
      else this.#list.insertBefore(row, place)
    }
    if (this.#isNewest) this.#activate(this.#list.firstChild, true)
  }

  /** Draws the topics of all rows again, because more names are known or more fit. */
  rename () {
    for (const [entry, row] of this.#rows) row.querySelector(':scope > .chips')?.replaceChildren(...this.#chips(entry))
  }

  toggle (row) {
    if (this.close(row)) return
    const [entry] = [...this.#rows].find(([, known]) => known === row)
    if (entry.kind === 'gap') return
    this.#open.add(row)
    row.firstChild.setAttribute('aria-expanded', 'true')
    row.append(this.#detail(entry))
    row.scrollIntoView({ block: 'nearest' })
    this.#changed()
  }

  /** Says whether it was open. */
  close (row) {
    if (!this.#open.delete(row)) return false
    row.firstChild.setAttribute('aria-expanded', 'false')
    row.lastChild.remove()
    this.#changed()
    return true
  }

  closeAll () {
    for (const row of this.#open) this.close(row)
  }

  /** Moves the focus to a neighbour of the row that had it last, or to that row. */
  focus (neighbour) {
    this.#focus(neighbour === undefined ? this.#active : this.#active?.[neighbour])
  }

  focusNewest () {
    this.#focus(this.#list.firstChild)
  }

  #focus (row) {
    row?.firstChild.focus()
    row?.scrollIntoView({ block: 'nearest' })
  }

  #activate (row, isNewest) {
    if (this.#active !== null) this.#active.firstChild.tabIndex = -1
    this.#active = row
    this.#isNewest = isNewest
    if (row !== null) row.firstChild.tabIndex = 0
  }

  #key (event) {
    const { key, target } = event
    if (key === 'Escape') {
      if (this.close(this.#active)) event.preventDefault()
      return this.#active.firstChild.focus()
    }
    const step = { ArrowRight: 1, ArrowLeft: -1 }[key]
    if (step === undefined || target.closest('pre')) return
    const stops = [this.#active.firstChild, ...this.#active.querySelectorAll('.chip')]
    stops[stops.indexOf(target) + step]?.focus()
    event.preventDefault()
  }

  // ---- Drawing ----

  #gap (frame) {
    const { text, place } = wordsOf(frame)
    return h('li', { class: 'gap' },
      h('button', { class: 'line', tabindex: -1, 'aria-label': text }),
      h('b', {}, text), h('span', {}, place), h('code', {}, frame.reason))
  }

  #message (entry) {
    const { frame: { type, seq, timestamp, topics = [], process, slot, data }, isLive } = entry
    const kind = type === 'direct' ? 'Direct message' : seq === undefined ? `Replayed message of slot ${slot}` : `Message ${seq}`
    const name = `${kind}, ${topics.slice(0, MOST).join(', ') || 'no topic'}`
    return h('li', { class: isLive ? 'message live' : 'message' },
      h('button', { class: 'line', tabindex: -1, 'aria-expanded': 'false', 'aria-label': visible(name) }),
      h('time', {}, clock(timestamp)),
      h('span', { class: 'seq' }, seq ?? '–'),
      h('span', { class: 'chips' }, ...this.#chips(entry)),
      h('span', { class: 'preview' }, ...preview(data, topics).map(({ kind, text }) => kind === 'key' ? h('i', {}, text) : text)),
      h('span', { class: 'origin' }, ...this.#origin(process, slot)))
  }

  /** As many topics as there is room for, and how many more there are. */
  #chips ({ frame: { type, topics = [], process } }) {
    const shown = topics.filter((topic) => topic !== `process:${process}`)
    const widths = shown.slice(0, MOST).map((topic) => Math.min(topic.length, LONG) * CHARACTER + AROUND)
    let [count, width] = [0, 0]
    while (count < widths.length && (count === 0 || width + widths[count] + (count + 1 < shown.length ? ROOM_OF_MORE : 0) <= this.#room)) width += widths[count++]
    const chips = shown.slice(0, count).map((topic) => {
      const made = chip(topic, this.#isChosen(topic))
      made.classList.toggle('short', topic.length <= LONG && count > 1)
      return made
    })
    const more = shown.length - count
    if (more > 0) chips.push(h('span', { class: 'more', title: shown.slice(count).map(visible).join('\n') }, `+${more}`))
    if (type === 'direct') chips.push(h('span', { class: 'more' }, 'only for this connection'))
    return chips
  }

  /** Shows more or fewer topics when the rows have become wider or narrower. */
  #fit () {
    const room = this.#list.querySelector('.message > .chips')?.clientWidth ?? this.#room
    if (room === this.#room) return
    this.#room = room
    this.rename()
  }

  #origin (process, slot) {
    if (process === undefined) return []
    const topic = `process:${process}`
    return [chip(topic, this.#isChosen(topic), short(process)), ...slot === undefined ? [] : [` ${slot}`]]
  }

  #detail ({ frame, isLive, latency }) {
    const { type, seq, topic, topics = [], timestamp, data, size, ...rest } = frame
    const facts = h('dl')
    const fact = (name, ...values) => facts.append(h('dt', {}, name), h('dd', {}, ...values))
    fact('time', new Date(timestamp).toISOString(), isLive ? `, received ${duration(latency)} later by this device's clock` : ', replayed')
    fact('topics', ...topics.map((topic) => chip(topic, this.#isChosen(topic))))
    for (const [name, value] of Object.entries(rest)) fact(name, visible([value].flat().join(', ')))
    const json = h('pre', { tabindex: 0, 'aria-label': 'Data as JSON' })
    const draw = (limits) => {
      const { pieces, isCut } = pretty(data, limits)
      json.replaceChildren(...pieces.map(({ kind, text }) => kind === 'mark' ? text : h('span', { class: kind }, text)))
      return isCut
    }
    const all = h('button', { class: 'link', onclick: () => { draw({ values: Infinity, characters: Infinity }); all.remove() } }, 'Show all of it')
    const copy = copies(h('button', { class: 'link' }, 'Copy data'), () => JSON.stringify(data, null, 2))
    return h('div', { class: 'detail' }, facts, json, h('p', {}, copy, ...draw() ? [all] : []))
  }
}
