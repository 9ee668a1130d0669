import { h, number, perSecond, say, svg } from './dom.js'
import { second, trace } from './figures.js'
import { visible } from './json.js'
import { fold } from './rates.js'

const MAX_ROWS = 20
/** Seconds that are one point of a sparkline: single messages are no mountains. */
const POINT = 5

/** The busiest topics: how many, how often, and the last minute as a picture. */
export class Topics {
  #list
  #isChosen
  #rows = new Map()

  constructor (list, { isChosen }) {
    this.#list = list
    this.#isChosen = isChosen
  }

  /** `known` are topics of the server; they fill the places that are left. */
  draw (rates, known) {
    // Nothing moves under a pointer or a finger that is about to choose.
    const isHeld = this.#list.matches(':hover, :focus-within') && this.#rows.size > 0
    const busiest = isHeld
      ? rates.busiest(Infinity, second()).filter(({ topic }) => this.#rows.has(topic))
      : rates.busiest(MAX_ROWS, second())
    if (!isHeld) {
      for (const topic of known) {
        if (busiest.length >= MAX_ROWS) break
        if (!rates.has(topic)) busiest.push({ topic, total: 0, rate: 0, series: [] })
      }
    }
    for (const row of busiest) this.#update(row)
    if (isHeld) return
    const order = busiest.map(({ topic }) => this.#rows.get(topic).row)
    const isSame = order.length === this.#list.children.length && order.every((row, index) => row === this.#list.children[index])
    if (!isSame) this.#list.replaceChildren(...order)
    const topics = new Set(busiest.map(({ topic }) => topic))
    for (const topic of this.#rows.keys()) if (!topics.has(topic)) this.#rows.delete(topic)
  }

  #update ({ topic, total, rate, series }) {
    if (!this.#rows.has(topic)) this.#rows.set(topic, this.#make(topic))
    const { row, picture, speed, count, add } = this.#rows.get(topic)
    const isChosen = this.#isChosen(topic)
    row.className = `${total > 0 ? '' : 'quiet'} ${isChosen ? 'chosen' : ''}`
    add.setAttribute('aria-pressed', String(isChosen))
    say(add, isChosen ? '✓' : '+')
    say(speed, rate > 0 ? `${perSecond(rate)}/s` : '')
    say(count, total > 0 ? number(total) : '')
    trace(picture, fold(series, POINT))
  }

  #make (topic) {
    const text = visible(topic)
    const picture = svg('svg', { viewBox: '0 0 54 18', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
      svg('path', { class: 'area' }), svg('path', { class: 'line' }))
    const speed = h('span', { class: 'rate' })
    const count = h('span', { class: 'count' })
    const add = h('button', { class: 'icon', 'data-add': topic, 'aria-label': `Subscribe to ${text}` })
    const row = h('li', {},
      h('button', { class: 'name', 'data-topic': topic, title: text }, h('bdi', {}, text)),
      picture, speed, count, add)
    return { row, picture, speed, count, add }
  }
}
