import { $, announce, h } from './dom.js'
import { isProcessId } from './choice.js'
import { visible } from './json.js'

const MAX_PROPOSALS = 8
const EXAMPLES = {
  topic: 'Add a topic, or several with action:*',
  process: 'Add a process by its id',
  match: 'Add a regular expression over topics: ^room:[0-9]+$',
  template: 'Add a template: {"action":"Mint"}'
}

/** What can be proposed for a text, made of the topics that are known. The busiest come first in `topics`. */
export function proposals (kind, text, topics) {
  const wanted = text.toLowerCase()
  const values = new Map()
  const propose = (value, note = '') => {
    if (value.toLowerCase().includes(wanted) && value !== text) values.set(value, note)
  }
  const families = new Map()
  for (const topic of topics) {
    const [, key, value] = /^([^:]+):(.+)$/s.exec(topic) ?? []
    if (kind === 'process' && key === 'process') propose(value)
    if (kind === 'template' && key !== undefined && !['process', 'from'].includes(key)) propose(JSON.stringify({ [key]: value }))
    if (kind !== 'topic') continue
    propose(topic)
    if (key !== undefined) families.set(key, (families.get(key) ?? 0) + 1)
  }
  for (const [key, count] of families) if (count > 1) propose(`${key}:*`, `${count} topics`)
  const rank = ([value, note]) => (wanted === '' || value.toLowerCase().startsWith(wanted) ? 0 : 2) + (note === '' ? 1 : 0)
  return [...values].sort((a, b) => rank(a) - rank(b)).slice(0, MAX_PROPOSALS)
}

/** The chips of what is chosen, and the field that adds to it. */
export class Chooser {
  #topics
  #change
  #options = []
  #active = -1

  /** `topics` gives the known ones, the busiest first; `change(kind, text, isAdded)` and `slots(process)` are told what a person did. */
  constructor ({ topics, change, slots }) {
    this.#topics = topics
    this.#change = change
    const item = $('item')
    $('kind').onchange = () => { this.#describe(); item.focus() }
    item.oninput = item.onclick = () => this.#propose()
    item.onblur = () => this.#shut()
    item.onkeydown = (event) => this.#key(event)
    $('suggestions').onpointerdown = (event) => {
      event.preventDefault()
      const index = [...$('suggestions').children].indexOf(event.target.closest('li'))
      if (index >= 0) this.#take(this.#options[index][0])
    }
    $('add').onsubmit = (event) => {
      event.preventDefault()
      this.#take(this.#options[this.#active]?.[0] ?? item.value)
    }
    $('chosen').onclick = ({ target }) => {
      const button = target.closest('button')
      if (button === null) return
      if (button.dataset.kind === undefined) slots(button.value)
      else change(button.dataset.kind, button.value, false)
    }
    this.#describe()
  }

  /** Any of the topics, processes and expressions is enough, and any of the templates; of both there must be one. */
  draw (choice) {
    const any = ['topic', 'process', 'match'].flatMap((kind) => choice[kind].map((text) => [kind, text]))
    const templates = choice.template.map((text) => ['template', text])
    const items = []
    for (const group of [any, templates]) {
      group.forEach(([kind, text], index) => {
        if (items.length > 0) items.push(h('li', { class: 'word' }, index > 0 ? 'or' : 'and'))
        items.push(this.#chip(kind, text))
      })
    }
    $('chosen').replaceChildren(...items.length > 0 ? items : [h('li', { class: 'everything' }, 'All messages')])
  }

  /** More topics are known: who has begun to write sees them. */
  renew () {
    if (document.activeElement === $('item') && $('item').value !== '' && this.#active < 0) this.#propose()
  }

  /** Gives back what was refused, the first of it to be corrected, with the reasons beside it. */
  refuse (items) {
    if (items.length === 0) return
    if ($('item').value === '') {
      const [{ kind, text }] = items
      $('kind').value = kind
      this.#describe()
      $('item').value = text
    }
    this.fault(items.map(({ text, message }) => `${visible(text)} – ${message}`).join('\n'))
  }

  /** Shows what is wrong, or with an empty text nothing. */
  fault (text) {
    $('fault').textContent = text
    $('fault').hidden = text === ''
    if (text !== '') announce(text, true)
    $('item').setAttribute('aria-invalid', String(text !== ''))
  }

  #chip (kind, text) {
    const shown = visible(text)
    return h('li', { class: 'choice', title: shown },
      ...kind === 'topic' ? [] : [h('small', {}, kind)],
      h('bdi', {}, shown),
      ...kind === 'process' && isProcessId(text) ? [h('button', { class: 'slots', value: text, 'aria-label': `Slots of process ${shown}` }, 'Slots')] : [],
      h('button', { 'data-kind': kind, value: text, 'aria-label': `Remove ${kind} ${shown}` }, '×'))
  }

  #describe () {
    $('item').placeholder = EXAMPLES[$('kind').value]
    this.#shut()
  }

  #take (text) {
    const kind = $('kind').value
    this.fault('')
    this.#shut()
    if (text.trim() === '') return
    $('item').value = ''
    this.#change(kind, text, true)
  }

  #propose () {
    this.#options = proposals($('kind').value, $('item').value, this.#topics())
    this.#active = -1
    $('suggestions').replaceChildren(...this.#options.map(([value, note], index) => (
      h('li', { role: 'option', id: `option-${index}`, 'aria-selected': 'false' }, h('bdi', {}, visible(value)), h('small', {}, note)))))
    this.#show(this.#options.length > 0)
  }

  #show (isShown) {
    $('suggestions').hidden = !isShown
    $('item').setAttribute('aria-expanded', String(isShown))
    if (!isShown) $('item').removeAttribute('aria-activedescendant')
  }

  #shut () {
    this.#options = []
    this.#active = -1
    this.#show(false)
  }

  #key (event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key]
    if (event.key === 'Escape' && this.#options.length > 0) {
      event.stopPropagation()
      return this.#shut()
    }
    if (step === undefined) return
    event.preventDefault()
    if (this.#options.length === 0) return this.#propose()
    // One place more than there are options: that of the text itself.
    const places = this.#options.length + 1
    this.#active = (this.#active + 1 + step + places) % places - 1
    const options = $('suggestions').children
    for (const [index, option] of [...options].entries()) option.setAttribute('aria-selected', String(index === this.#active))
    options[this.#active]?.scrollIntoView({ block: 'nearest' })
    if (this.#active < 0) $('item').removeAttribute('aria-activedescendant')
    else $('item').setAttribute('aria-activedescendant', `option-${this.#active}`)
  }
}
