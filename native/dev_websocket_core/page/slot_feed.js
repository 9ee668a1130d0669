import { socketOf } from './choice.js'
import { refusalOf } from './session.js'
import { Connection } from '../../../clients/javascript/connection.js'
import { checkedOptions } from '../../../clients/javascript/options.js'
import { Retry } from '../../../clients/javascript/retry.js'

/** Refusals that pass. */
const PASSES = /^(too_many_|busy|full)/
const ASKS_TOKEN = /^(unauthorized|forbidden|insecure)$/

/**
 * The frames of one process from a slot on. After a loss it asks for the slot that is next, so nothing is missed, whatever
 * happened to the server in the meantime.
 */
export class SlotFeed {
  #access
  #events
  #options = checkedOptions()
  #retry = new Retry(this.#options)
  #connection = null
  #timer = null
  #wanted = null
  #isEstablished = false

  /** `events` has the functions `received`, `lost` and `state`; `access` has the token. */
  constructor (access, events) {
    this.#access = access
    this.#events = events
  }

  /** Begins for `{ choice, process, next }`, of which `next` is a function. */
  open (wanted) {
    this.close()
    this.#wanted = wanted
    this.#retry = new Retry(this.#options)
    this.#connect()
  }

  close () {
    clearTimeout(this.#timer)
    this.#wanted = null
    this.#connection?.close()
    this.#connection = null
  }

  #connect () {
    const wanted = this.#wanted
    const url = new URL(socketOf(location, wanted.choice))
    url.searchParams.append('process', wanted.process)
    url.searchParams.append('from-slot', wanted.next())
    this.#isEstablished = false
    this.#events.state('connecting')
    const isPresent = (connection) => connection === this.#connection && wanted === this.#wanted
    const connection = new Connection({ url, token: this.#access.token ?? undefined }, WebSocket, this.#options, {
      received: (frame, size) => { if (isPresent(connection)) this.#received(frame, size) },
      lost: (details) => { if (isPresent(connection)) this.#lost(details, url) }
    })
    this.#connection = connection
  }

  #received (frame, size) {
    if (frame?.type === 'connection_established') {
      this.#isEstablished = true
      return this.#events.state('replaying')
    }
    this.#events.received(frame, size)
  }

  async #lost (details, url) {
    const wanted = this.#wanted
    this.#connection = null
    this.#events.lost()
    const delay = this.#retry.after(details)
    this.#events.state('waiting')
    // Browsers do not tell why a WebSocket is refused.
    const refusal = this.#isEstablished ? null : await refusalOf(url.search, this.#access.headers)
    if (wanted !== this.#wanted || this.#connection !== null) return
    if (refusal?.error !== undefined && !PASSES.test(refusal.error)) {
      this.#events.state('closed', refusal.message)
      if (ASKS_TOKEN.test(refusal.error)) this.#access.ask(refusal.message)
      return
    }
    if (delay === null) return this.#events.state('closed', details.reason || String(details.code))
    if (refusal?.message !== undefined) this.#events.state('waiting', refusal.message)
    this.#timer = setTimeout(() => this.#connect(), delay)
  }
}
