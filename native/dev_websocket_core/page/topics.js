import { parts } from './chip.js'
import { $, h, number, perSecond, say, svg } from './dom.js'
import { second, trace } from './figures.js'
import { visible } from './json.js'
import { outline } from './outline.js'
import { fold } from './rates.js'

/** Seconds that are one point of a sparkline: single messages are no mountains. */
const POINT = 5

/** The list of topics: how many, how often, and the last minute as a picture. Topics of one key are folded. */
export class Topics {
  #list
  #isChosen
  #changed
  #rows = new Map()
  #open = new Set()
  #isFresh = false

  /** `changed` is called when the list is to be drawn again. */
  constructor (list, { isChosen, changed }) {
    this.#list = list
    this.#isChosen = isChosen
    this.#changed = changed
    $('find').oninput = () => this.renew()
    list.addEventListener('click', ({ target }) => {
      const key = target.closest('[data-key]')?.dataset.key
      if (key === undefined) return
      if (!this.#open.delete(key)) this.#open.add(key)
      this.renew()
    })
  }

  /** Draws again, also below a pointer. */
  renew () {
    this.#isFresh = true
    this.#changed()
  }

  /** `known` are topics of the server; they fill the places that are left. */
  draw ({ rates, known, chosen }) {
    // Nothing moves under a pointer or a finger that is about to choose.
    const isHeld = !this.#isFresh && this.#rows.size > 0 && this.#list.matches(':hover, :focus-within')
    this.#isFresh = false
    const { rows, total } = outline({ rates, known, chosen, open: this.#open, search: $('find').value, second: second() })
    const drawn = isHeld ? rows.filter((row) => this.#rows.has(nameOf(row))) : rows
    for (const row of drawn) this.#update(row, rates.paceOf(row, second()))
    if (isHeld) return
    const order = rows.map((row) => this.#rows.get(nameOf(row)).row)
    const isSame = order.length === this.#list.children.length && order.every((row, index) => row === this.#list.children[index])
    if (!isSame) this.#list.replaceChildren(...order)
    const shown = new Set(rows.map(nameOf))
    for (const name of this.#rows.keys()) if (!shown.has(name)) this.#rows.delete(name)
    const count = rows.filter(({ kind }) => kind !== 'heading').length
    say($('topic-count'), count < total ? `${number(count)} of ${number(total)}` : number(total))
    $('no-topics').hidden = count > 0
    say($('no-topics'), total > 0 ? 'No such topic' : 'None yet')
  }

  #update (row, { rate, series }) {
    const name = nameOf(row)
    if (!this.#rows.has(name)) this.#rows.set(name, row.kind === 'heading' ? this.#heading() : this.#make(row))
    if (row.kind === 'heading') return
    const { row: item, picture, speed, count, add, note, fold: folds } = this.#rows.get(name)
    const isChosen = this.#isChosen(row.topic)
    item.className = [row.kind, row.total > 0 ? '' : 'quiet', isChosen ? 'chosen' : '', row.isMember ? 'member' : ''].join(' ')
    add.setAttribute('aria-pressed', String(isChosen))
    say(add, isChosen ? '✓' : '+')
    say(speed, rate > 0 ? `${perSecond(rate)}/s` : '')
    say(count, row.total > 0 ? number(row.total) : '')
    if (row.kind === 'family') {
      say(note, `${number(row.count)} topics`)
      folds.setAttribute('aria-expanded', String(row.isOpen === true))
    }
    trace(picture, fold(series, POINT))
  }

  #heading () {
    return { row: h('li', { class: 'heading' }, 'Without a message here') }
  }

  #make ({ kind, topic, key }) {
    const text = visible(topic)
    const isFamily = kind === 'family'
    const picture = svg('svg', { viewBox: '0 0 54 18', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
      svg('path', { class: 'area' }), svg('path', { class: 'line' }))
    const speed = h('span', { class: 'rate' })
    const count = h('span', { class: 'count' })
    const note = h('small')
    const add = h('button', { class: 'icon', 'data-add': topic, 'aria-label': `Subscribe to ${text}` })
    const folds = isFamily ? h('button', { class: 'icon fold', 'data-key': key, 'aria-label': `Topics of ${visible(key)}` }) : null
    const name = h('button', { class: 'name', 'data-topic': topic, title: text, 'aria-label': text }, ...isFamily ? [h('span', { class: 'tail' }, text)] : parts(topic))
    const row = h('li', {}, h('div', {}, ...isFamily ? [folds, name, note] : [name]), picture, speed, count, add)
    return { row, picture, speed, count, add, note, fold: folds }
  }
}

/** Rows are kept by it: a family is not a topic of the same text. */
function nameOf ({ kind, topic, isMember }) {
  return `${kind} ${isMember === true} ${topic}`
}
