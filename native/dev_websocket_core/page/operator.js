import { base } from './choice.js'
import { $, announce, duration, h, number, say, size } from './dom.js'
import { visible } from './json.js'

/** Connections of one page of the list. */
const PAGE_OF_CONNECTIONS = 50
/** Milliseconds that a button to end a connection waits for the second click. */
const SECOND_CLICK = 5000

/** What only an operator may do: look at connections, end one, and cast a message. Shown where the server says it serves them. */
export class Operator {
  #access
  #cursor = 0

  constructor (access) {
    this.#access = access
    $('show-connections').onclick = () => {
      $('connections').showModal()
      this.#list(0)
    }
    $('show-cast').onclick = () => {
      say($('cast-result'), '')
      $('cast').showModal()
      $('cast-message').focus()
    }
    $('reload-connections').onclick = () => this.#list(0)
    $('more-connections').onclick = () => this.#list(this.#cursor)
    $('connection-rows').onclick = ({ target }) => {
      if (target.matches('button')) this.#end(target)
    }
    $('cast-form').onsubmit = (event) => {
      event.preventDefault()
      this.#cast($('cast-message').value)
    }
  }

  /** `names` are the paths that serve this page. */
  show (names = []) {
    $('show-connections').hidden = !names.includes('connections')
    $('show-cast').hidden = !names.includes('cast')
  }

  async #list (cursor) {
    const { connections = [], cursor: next = null, message } = await this.#ask(`connections?cursor=${cursor}&limit=${PAGE_OF_CONNECTIONS}`)
    const rows = connections.map((connection) => this.#row(connection))
    if (cursor === 0) $('connection-rows').replaceChildren(...rows)
    else $('connection-rows').append(...rows)
    this.#cursor = next
    $('more-connections').hidden = next === null
    say($('connections-note'), message ?? `${number($('connection-rows').children.length)} shown`)
  }

  #row ({ connection, peer, format, age, send_buffer_bytes: bytes, send_buffer_frames: frames, dropped, subscriptions, topics }) {
    const more = subscriptions > topics.length ? ` and ${number(subscriptions - topics.length)} more` : ''
    const waiting = bytes > 0 ? `${size(bytes)} in ${number(frames)}` : '–'
    return h('tr', {},
      h('th', { scope: 'row' }, number(connection)),
      h('td', {}, h('button', { value: connection, 'aria-label': `End connection ${connection}` }, 'End')),
      h('td', {}, peer), h('td', {}, format), h('td', {}, duration(age)),
      h('td', { class: bytes > 0 ? 'bad' : null }, waiting), h('td', { class: dropped > 0 ? 'bad' : null }, number(dropped)),
      h('td', { class: 'wide' }, visible(topics.join(', ')) + more || '–'))
  }

  /** Ends a connection with the second click: the first may have been meant for another row. */
  async #end (button) {
    if (!button.classList.contains('sure')) {
      button.classList.add('sure')
      button.textContent = 'End it?'
      setTimeout(() => {
        button.classList.remove('sure')
        if (!button.disabled) button.textContent = 'End'
      }, SECOND_CLICK)
      return
    }
    button.disabled = true
    const { message } = await this.#ask(`connections/${button.value}`, { method: 'DELETE' })
    button.textContent = message === undefined ? 'Ended' : 'Failed'
    const text = message ?? `Connection ${button.value} was ended`
    say($('connections-note'), text)
    announce(text)
  }

  async #cast (body) {
    const { seq, message } = await this.#ask('cast', { method: 'POST', body, headers: { 'content-type': 'application/json' } })
    const text = seq === undefined ? message : `Published as ${number(seq)}`
    say($('cast-result'), text)
    $('cast-result').classList.toggle('bad', seq === undefined)
    announce(text)
  }

  /** The answer, or `{ message }` where there is none. */
  async #ask (path, { headers, ...options } = {}) {
    try {
      const answer = await fetch(new URL(path, base(location)), { cache: 'no-store', headers: { ...this.#access.headers, ...headers }, ...options })
      return await answer.json()
    } catch {
      return { message: 'The server does not answer.' }
    }
  }
}
