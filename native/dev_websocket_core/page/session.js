import { base, itemsOf, queryOf, refusable, socketOf } from './choice.js'
import { Client } from '../../../clients/javascript/dev_websocket.js'

/** Refusals of one part of a choice, and of what there is once. */
const OF_ONE = /^(bad_topic|bad_regex|regex_too_big|bad_template)$/
const OF_TOKEN = /^(unauthorized|forbidden|insecure|busy)$/
const OF_ALL = { bad_last: 'last', bad_since: 'since' }

/** One connection at a time for what is chosen, and why it is refused when it is: browsers do not tell that. */
export class Session {
  #events
  #access
  #client = null
  #isEstablished = false
  #refusals = 0

  /** `events` has a function for `message`, `gap`, `stale`, `established`, `state`, `lost` and `refused`; `access` has the token. */
  constructor (events, access) {
    this.#events = events
    this.#access = access
  }

  get cursor () {
    return this.#client?.cursor ?? null
  }

  /** Connects for a choice instead of what was before. With a cursor it goes on there. */
  open (choice, cursor = choice.since) {
    const before = this.#client
    this.#client = null
    before?.close()
    this.#refusals = 0
    const options = { ...itemsOf(choice), process: choice.process, slow: choice.slow ?? undefined, last: choice.last, cursor, transport: 'websocket' }
    if (this.#access.token !== null) options.token = () => this.#access.token ?? undefined
    let client
    try {
      client = new Client(socketOf(location, choice), options)
    } catch (error) {
      return this.#events.refused([{ kind: 'since', message: error.message }])
    }
    this.#client = client
    this.#isEstablished = false
    const on = (type, listener) => client.on(type, (event) => { if (client === this.#client) listener(event) })
    this.#events.state({ state: client.state })
    on('message', (frame) => this.#events.message(frame, client.state !== 'replaying'))
    on('direct', (frame) => this.#events.message(frame, true))
    on('gap', (frame) => this.#events.gap(frame))
    on('stale', ({ since }) => this.#events.stale(since))
    on('live', ({ process }) => { if (process === undefined) this.#events.stale(null) })
    on('established', (frame) => {
      this.#isEstablished = true
      this.#refusals = 0
      this.#events.established(frame)
    })
    on('state', (change) => {
      this.#events.state(change)
      if (change.state !== 'waiting') return
      if (!this.#isEstablished) this.#diagnose(client, choice)
      this.#isEstablished = false
    })
  }

  async #diagnose (client, choice) {
    const faults = await faultsOf({ ...choice, fromSlot: null, since: client.cursor }, this.#access.headers)
    if (client !== this.#client || client.state === 'open') return
    if (faults === null) return this.#events.lost()
    if (faults.length > 0) return this.#events.refused(faults)
    // It may have come back just now.
    const message = 'it may not take WebSockets from pages of this origin'
    if (++this.#refusals > 1) this.#events.refused([{ kind: 'page', message }])
  }
}

/** What the server refuses of a choice, as `{ kind, text, message }`; null when nobody answers. */
async function faultsOf (choice, headers) {
  const refusal = await refusalOf(queryOf(choice), headers)
  if (refusal === null) return null
  if (refusal.error === undefined) return []
  if (OF_TOKEN.test(refusal.error)) return [{ kind: 'token', message: refusal.message }]
  if (refusal.error.startsWith('not_')) return [{ kind: 'page', message: 'why, it says only while `events` is among its endpoints' }]
  if (!OF_ONE.test(refusal.error)) return [{ kind: OF_ALL[refusal.error] ?? 'page', message: refusal.message }]
  const faults = []
  for (const { kind, text, query } of refusable(choice)) {
    const { error, message } = await refusalOf(query, headers) ?? {}
    if (error !== undefined) faults.push({ kind, text, message })
  }
  return faults
}

/** Asks for a query as server-sent events, whose refusal a page can read. Null when nobody answers. */
export async function refusalOf (query, headers) {
  const abort = new AbortController()
  try {
    const answer = await fetch(`${base(location)}ws${query}`, { headers: { ...headers, accept: 'text/event-stream' }, signal: abort.signal })
    return answer.ok ? {} : await answer.json()
  } catch {
    return null
  } finally {
    abort.abort()
  }
}
