import { $, announce, clock, copies, h, number, say } from './dom.js'
import { short } from './chip.js'
import { wordsOf } from './gap.js'
import { pretty, visible } from './json.js'
import { SlotFeed } from './slot_feed.js'
import { SlotList, outputOf, partsOf, summaryOf } from './slot_list.js'

/** Milliseconds between two drawings. */
const SLOTS_PAUSE = 200
/** Messages of one slot, and characters of an output, that are drawn. */
const MOST_PARTS = 20
const MOST_OUTPUT = 20_000
/** Keys of a result that have a place of their own, or repeat what stands above. */
const PLACED = new Set(['type', 'process', 'slot', 'output', 'data', 'error', 'outbox-count', 'event-count', 'events-omitted'])

const FEED_STATES = {
  connecting: () => 'Connecting',
  replaying: ({ next }) => `Replaying, at slot ${number(next)}`,
  open: ({ live }) => `Live from slot ${number(live)}`,
  waiting: () => 'Reconnecting',
  closed: () => 'Stopped'
}

/** The slots of one process, the newest first: what each printed, its messages and its events. */
export class ProcessView {
  #feed
  #slots = null
  #wanted = null
  #state = 'connecting'
  #reason = ''
  #rows = new Map()
  #open = new Set()
  #timer = null

  /** `access` has the token; `changed` is told the slot to begin with, or null when the view is left. */
  constructor (access, { changed }) {
    this.#feed = new SlotFeed(access, {
      received: (frame, size) => this.#received(frame, size),
      lost: () => this.#slots.lost(),
      state: (state, reason = '') => this.#turn(state, reason)
    })
    $('slots').onclick = ({ target }) => { if (target.matches('.line')) this.#toggle(Number(target.value)) }
    $('leave-slots').onclick = () => changed(null)
    $('slots-from').onsubmit = (event) => {
      event.preventDefault()
      const text = $('from-slot').value.trim()
      const isSlot = /^\d{1,15}$/.test(text)
      $('from-slot').setAttribute('aria-invalid', String(!isSlot))
      if (isSlot) changed(Number(text))
      else announce('A slot is a whole number', true)
    }
  }

  /** Shows the slots of `{ choice, process, from }`; null hides the view and ends its connection. */
  show (wanted) {
    $('process').hidden = wanted === null
    $('stream').hidden = wanted !== null
    this.#wanted = wanted
    this.#slots = wanted === null ? null : new SlotList(wanted.from)
    if (wanted === null) return this.#feed.close()
    this.#open.clear()
    $('from-slot').value = wanted.from
    say($('process-id'), short(wanted.process))
    $('process-id').title = wanted.process
    this.restart()
    this.#draw()
  }

  /** Connects anew, with another token. */
  restart () {
    if (this.#wanted === null) return
    const { choice, process } = this.#wanted
    this.#feed.open({ choice, process, next: () => this.#slots.next })
  }

  #received (frame, size) {
    const isError = frame?.type === 'error'
    if (isError) this.#reason = frame.message
    if (this.#slots.take(frame, size) || isError) this.#drawSoon()
    if (frame?.type === 'live') this.#turn('open', this.#reason)
  }

  #turn (state, reason) {
    this.#state = state
    this.#reason = reason
    if (state === 'closed') announce(`Stopped: ${reason}`, true)
    this.#drawSoon()
  }

  // ---- Drawing ----

  #drawSoon () {
    this.#timer ??= setTimeout(() => {
      this.#timer = null
      if (this.#slots !== null) this.#draw()
    }, SLOTS_PAUSE)
  }

  /** Draws what has changed. Another item of the same slot gets another row. */
  #draw () {
    const { items } = this.#slots
    const wanted = new Set(items)
    const focused = document.activeElement?.closest('#slots li')?.firstChild.value
    for (const [item, row] of this.#rows) {
      if (wanted.has(item)) continue
      row.remove()
      this.#rows.delete(item)
    }
    let place = $('slots').firstChild
    for (const item of items.toReversed()) {
      let row = this.#rows.get(item)
      if (row === undefined) {
        row = item.kind === 'gap' ? gapRow(item) : this.#row(item)
        this.#rows.set(item, row)
      }
      if (row === place) place = place.nextSibling
      else $('slots').insertBefore(row, place)
    }
    if (focused !== undefined && document.activeElement === document.body) $('slots').querySelector(`[value="${focused}"]`)?.focus()
    const text = FEED_STATES[this.#state](this.#slots)
    say($('slots-state'), this.#reason === '' ? text : `${text}: ${this.#reason}`)
    $('slots-state').dataset.state = this.#state
    $('no-slots').hidden = items.length > 0
  }

  #toggle (slot) {
    if (!this.#open.delete(slot)) this.#open.add(slot)
    const [item, row] = [...this.#rows].find(([{ kind, slot: of }]) => kind === 'slot' && of === slot)
    const fresh = this.#row(item)
    row.replaceWith(fresh)
    this.#rows.set(item, fresh)
    fresh.firstChild.focus()
  }

  #row (item) {
    const { slot, timestamp, isReplayed } = item
    const isOpen = this.#open.has(slot)
    const { messages, events } = partsOf(item)
    const { isError, text } = summaryOf(item)
    const counts = [counted(messages.length, 'message'), counted(events.length, 'event')].filter((part) => part !== '').join(', ')
    const name = [`Slot ${slot}`, counts, text].filter((part) => part !== '').join(', ')
    return h('li', { class: 'slot' },
      h('button', { class: 'line', value: slot, 'aria-expanded': String(isOpen), 'aria-label': visible(name) }),
      h('b', {}, number(slot)),
      h('time', {}, isReplayed ? 'replayed' : clock(timestamp)),
      h('span', { class: isError ? 'preview bad' : 'preview' }, visible(text)),
      h('span', { class: 'counts' }, counts),
      ...isOpen ? [detailOf(item, messages, events)] : [])
  }
}

function gapRow ({ frame }) {
  const { text, place } = wordsOf(frame)
  return h('li', { class: 'gap' }, h('b', {}, text), h('span', {}, place), h('code', {}, frame.reason))
}

function detailOf ({ slot, result, assignment }, messages, events) {
  const { output, data, error, 'events-omitted': omitted } = result
  const facts = h('dl')
  const fact = (name, value) => facts.append(h('dt', {}, name), h('dd', {}, visible(String(value))))
  for (const [name, value] of Object.entries({ assignment, ...result })) {
    if (!PLACED.has(name) && value !== undefined) fact(name, typeof value === 'object' ? JSON.stringify(value) : value)
  }
  const parts = []
  const put = (title, blocks) => parts.push(h('h3', {}, title), ...blocks)
  if (error !== undefined) put('Error', [jsonBlock(error, `Error of slot ${slot}`)])
  const text = outputOf(result)
  if (text !== null) put('Output', [h('pre', { tabindex: 0, 'aria-label': `Output of slot ${slot}` }, visibleLines(text))])
  else if ((output ?? data) !== undefined) put('Output', [jsonBlock(output ?? data, `Output of slot ${slot}`)])
  if (messages.length > 0) put(counted(messages.length, 'message'), partBlocks(messages, `Message of slot ${slot}`))
  if (events.length > 0 || omitted !== undefined) put(counted(events.length, 'event') || 'Events', partBlocks(events, `Event of slot ${slot}`))
  if (omitted !== undefined) parts.push(h('p', {}, `${number(omitted)} more lines are beyond the limits of the node.`))
  const whole = { result, messages: messages.map(({ data }) => data), events: events.map(({ data }) => data) }
  const copy = copies(h('button', { class: 'link' }, 'Copy slot'), () => JSON.stringify(whole, null, 2))
  return h('div', { class: 'detail' }, facts, ...parts, h('p', {}, copy))
}

function counted (count, what) {
  return count === 0 ? '' : `${number(count)} ${what}${count === 1 ? '' : 's'}`
}

/** A text over its lines, in which everything else can be seen. */
function visibleLines (text) {
  const rest = text.length - MOST_OUTPUT
  const shown = rest > 0 ? `${text.slice(0, MOST_OUTPUT)}\n… ${number(rest)} more characters` : text
  return shown.split(/\r?\n/).map(visible).join('\n')
}

function jsonBlock (data, label) {
  const pieces = pretty(data).pieces.map(({ kind, text }) => kind === 'mark' ? text : h('span', { class: kind }, text))
  return h('pre', { tabindex: 0, role: 'group', 'aria-label': label }, ...pieces)
}

function partBlocks (frames, label) {
  const blocks = (from, to) => frames.slice(from, to).map(({ data }, index) => jsonBlock(data, `${label}, ${from + index + 1}`))
  if (frames.length <= MOST_PARTS) return blocks(0)
  const more = h('button', { class: 'link' }, `Show all ${number(frames.length)}`)
  more.onclick = () => more.replaceWith(...blocks(MOST_PARTS))
  return [...blocks(0, MOST_PARTS), more]
}
