import { $, announce, clock, say } from './dom.js'

/** States of the connection as people read them. */
const STATES = { connecting: 'Connecting', replaying: 'Replaying', open: 'Live', waiting: 'Reconnecting', closed: 'Disconnected' }

/** What the title begins with when there is something wrong: a tab shows no more than that. */
const TITLES = { connecting: 'Connecting', waiting: 'Reconnecting', closed: 'Disconnected' }

export function titleOf (state, isGone, name, isStale = false) {
  if (isGone && state !== 'closed') return `Server gone – ${name}`
  if (isStale) return `Stale – ${name}`
  return TITLES[state] === undefined ? `${name} – live` : `${TITLES[state]} – ${name}`
}

/** Whether the page is connected, as its title, its head and a bar above everything say. */
export class Status {
  #state = 'connecting'
  #name = ''
  #reason = ''
  /** When the server was lost, and when the next attempt is made. */
  #since = null
  #until = null
  #wasLive = false
  /** Since when the server is cut off from its stream. */
  #stale = null

  set name (name) {
    this.#name = name
    this.#show()
  }

  /** Something else is asked for: what the server may refuse is not lost. */
  begin () {
    if (this.#since === null) this.#wasLive = false
  }

  turn ({ state, delay, code, reason }) {
    this.#state = state
    this.#reason = reason || code
    this.#until = state === 'waiting' ? performance.now() + delay : null
    // A server says after each connection whether its stream is away.
    if (state === 'waiting' || state === 'closed') this.#stale = null
    if (state === 'open' || state === 'replaying') {
      if (!this.#wasLive || this.#since !== null) announce('Live')
      this.#wasLive = true
      this.#since = null
    }
    if (state === 'closed' || (state === 'waiting' && this.#wasLive)) this.lost()
    this.#show()
  }

  /** Nobody answers at all. */
  lost () {
    if (this.#since !== null) return
    this.#since = Date.now()
    this.#show()
    announce(this.#words(), true)
  }

  /** The server is cut off from its stream since a time, or it is not when there is none. */
  stale (since) {
    if (since === this.#stale) return
    this.#stale = since
    this.#show()
    announce(since === null ? 'Live' : this.#words(), since !== null)
  }

  /** Says how long it is until the next attempt. */
  tick () {
    say($('state-wait'), this.#until === null ? '' : ` in ${Math.max(0, Math.ceil((this.#until - performance.now()) / 1000))} s`)
  }

  #words () {
    if (this.#since === null) return `The server is cut off from its stream since ${clock(this.#stale).slice(0, 8)}. New messages come when it is back.`
    const at = clock(this.#since).slice(0, 8)
    if (this.#state === 'closed') return `Disconnected at ${at}: ${this.#reason}.`
    return this.#wasLive ? `The server is gone since ${at}. All below is from before.` : `The server has not answered since ${at}.`
  }

  #show () {
    const isGone = this.#since !== null
    $('state').dataset.state = this.#state
    const isStale = !isGone && this.#stale !== null
    say($('state-name'), isStale ? 'Stale' : STATES[this.#state])
    document.body.classList.toggle('gone', isGone || isStale)
    $('gone').hidden = !isGone && !isStale && this.#state !== 'waiting'
    $('retry').hidden = isStale
    say($('gone-text'), isGone || isStale ? this.#words() : 'Not connected.')
    document.title = titleOf(this.#state, isGone, this.#name, isStale)
    this.tick()
  }
}
