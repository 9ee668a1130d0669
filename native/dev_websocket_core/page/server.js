import { $, h, number, perSecond, size } from './dom.js'
import { base } from './choice.js'
import { paceBetween, span, totalsOf } from './totals.js'

/** Milliseconds between two looks at the server's metrics. */
const METRICS_EVERY = 5000

/** Totals of the server beside those of this page, as far as it shows its metrics to this caller. */
export class ServerTotals {
  #access
  #timer = null
  #before = null

  constructor (access) {
    this.#access = access
  }

  /** There is a connection, perhaps to another server or with another token. */
  begin () {
    clearTimeout(this.#timer)
    this.#before = null
    this.#look()
  }

  async #look () {
    const isThere = document.hidden || await this.#read()
    if (isThere) this.#timer = setTimeout(() => this.#look(), METRICS_EVERY)
  }

  /** Says whether it may be asked again. */
  async #read () {
    try {
      const answer = await fetch(new URL('metrics', base(location)), { cache: 'no-store', headers: this.#access.headers })
      if (answer.ok) this.#show({ at: performance.now(), ...totalsOf(await answer.text()) })
      else $('totals').replaceChildren()
      return answer.ok
    } catch {
      // The server is gone, which the page says elsewhere.
      return true
    }
  }

  #show (now) {
    const before = this.#before
    this.#before = now
    const pace = (name) => {
      const rate = paceBetween(before && { at: before.at, value: before[name] }, { at: now.at, value: now[name] })
      return rate === null ? number(now[name]) : `${perSecond(rate)}/s`
    }
    const facts = [
      ['Clients', now.clients, number],
      ['In', now.published, () => pace('published')],
      ['Out', now.delivered, () => pace('delivered')],
      ['Dropped', now.dropped, number],
      ['Buffers', now.memory, size],
      ['Up', now.started, (started) => span(Date.now() / 1000 - started)],
      ['Version', now.version, String]
    ]
    $('totals').replaceChildren(...facts.flatMap(([name, value, text]) => (
      value === undefined ? [] : [h('div', { class: name === 'Dropped' && value > 0 ? 'bad' : null }, h('dt', {}, name), h('dd', {}, text(value)))])))
  }
}
