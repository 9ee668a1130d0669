// A drop-in for `results` of aoconnect: the same arguments and the same answer, from one stream of the node for each
// process. A call whose edges have come already asks nobody.
import { follow } from './frames.mjs'

const LIMIT = 25 // as the compute unit answers without a limit

/**
 * @param {object} options
 * @param {string} [options.URL] the HyperBEAM node; its device names the address of the stream
 * @param {string} [options.WEBSOCKET_URL] that address, if there is no node at URL: ws://host:8735/ws
 * @param {number} [options.keep] edges of a process that are kept for later calls
 * @param {number} [options.idle] milliseconds without a call after which a stream is closed
 * @param {number[]} [options.pauses] milliseconds before each further attempt to connect
 * @param {(gap: object) => void} [options.onGap] is told of slots that the node does not have
 */
export function connect ({ URL: node, WEBSOCKET_URL: websocket, fetch = globalThis.fetch, keep = 1000, idle = 10_000, pauses, onGap = () => {} } = {}) {
  const processes = new Map()
  let found

  const streams = () => (found ??= websocket ? Promise.resolve(websocket) : ask('/~websocket@1.0/info').then((info) => JSON.parse(info).uri))

  async function ask (path) {
    if (!node) throw new Error('URL is missing: the address of the node')
    const response = await fetch(`${node.replace(/\/$/, '')}${path}`)
    if (!response.ok) throw new Error(`${path}: the node answered ${response.status}`)
    return response.text()
  }

  /** The slot that the scheduler assigned last. */
  const newest = async (process) => Number(await ask(`/${process}~process@1.0/slot/current`))

  async function results ({ process, from, to, sort = 'ASC', limit = LIMIT }) {
    if (!process) throw new Error('process is missing')
    if (sort !== 'ASC' && sort !== 'DESC') throw new Error('sort must be ASC or DESC')
    const count = whole('limit', limit)
    // As the compute unit reads them: the slot `from` is left out, and `to` is part of the answer.
    let first = from === undefined || from === null ? 0 : whole('from', from) + 1
    const last = to === undefined || to === null ? Infinity : whole('to', to)
    if (sort === 'DESC' && node) {
      const end = Math.min(last, await newest(process))
      // One more tells whether there is a next page.
      first = Math.max(first, end - count)
    }
    const edges = await follower(process, await streams()).read(first, last, sort === 'ASC' ? count + 1 : Infinity)
    if (sort === 'DESC') edges.reverse()
    return { pageInfo: { hasNextPage: edges.length > count }, edges: edges.slice(0, count) }
  }

  function follower (process, websocket) {
    if (!processes.has(process)) processes.set(process, new Follower({ process, websocket, fetch, keep, idle, pauses, onGap }))
    return processes.get(process)
  }

  return { results, newest, streams, close: () => processes.forEach((follower) => follower.stop()) }
}

function whole (name, value) {
  const number = Number(value)
  if (!Number.isSafeInteger(number) || number < 0 || value === '') throw new Error(`${name} must be a slot number or a count`)
  return number
}

/** One process: its stream, and the edges that have come and may be asked for again. */
class Follower {
  #options
  #edges = new Map()
  #first = Infinity // the slot from which on the edges are whole
  #asked = 0
  #room = 0 // edges that are kept, at least as many as the last call wants
  #isLive = false
  #failure = null // why the stream has ended
  #lost = null // why it is interrupted
  #abort = null
  #timer = null
  #wake = []

  constructor (options) {
    this.#options = options
  }

  /** The edges of the slots `first` to `last`, in order: `enough` of them, or as many as the node has. */
  async read (first, last, enough) {
    clearTimeout(this.#timer)
    if (!this.#abort || first < this.#first) this.#start(first)
    this.#asked = first
    this.#room = Math.max(this.#options.keep, enough)
    this.#tell()
    let edges
    for (;;) {
      edges = this.#between(first, last)
      const isPast = [...this.#edges.keys()].some((slot) => slot > last)
      if (edges.length >= enough || isPast || this.#isLive || this.#failure || this.#lost || this.#isFull()) break
      await this.#change()
    }
    this.#timer = setTimeout(() => this.stop(), this.#options.idle)
    if (this.#failure ?? this.#lost) throw this.#failure ?? this.#lost
    return edges.slice(0, enough)
  }

  stop () {
    clearTimeout(this.#timer)
    this.#abort?.abort()
    this.#abort = null
    this.#edges.clear()
    this.#first = Infinity
    this.#tell()
  }

  #start (first) {
    this.stop()
    this.#abort = new AbortController()
    this.#first = first
    this.#isLive = false
    this.#failure = null
    this.#lost = null
    this.#pump(this.#abort.signal).catch((error) => {
      if (this.#failure === null) this.#failure = error
      this.#abort = null
      this.#tell()
    })
  }

  async #pump (signal) {
    const { process, websocket, fetch, pauses, onGap } = this.#options
    // A call that waits is told after three failures in a row. The stream tries on.
    const onLost = (error, failures) => {
      if (failures < 3) return
      this.#lost = error
      this.#tell()
    }
    for await (const frame of follow({ websocket, process, from: this.#first, fetch, signal, pauses, onLost })) {
      this.#lost = null
      if (signal.aborted) return
      if (frame.type === 'gap') onGap(frame)
      if (frame.type === 'error') throw Object.assign(new Error(frame.message), { code: frame.code })
      if (frame.type === 'live') this.#isLive = true
      if (frame.cursor !== undefined) this.#edges.set(Number(frame.cursor), frame)
      this.#tell()
      // The stream is not read on while nobody asks for what has come: the node waits, and nothing is lost.
      while (this.#isFull() && !signal.aborted) {
        this.#forget()
        if (this.#isFull()) await this.#change()
      }
    }
  }

  #isFull () {
    return this.#edges.size > this.#room
  }

  /** Forgets edges before the slot that was asked for last: the caller goes forward. */
  #forget () {
    for (const slot of [...this.#edges.keys()].sort((a, b) => a - b)) {
      if (!this.#isFull() || slot >= this.#asked) return
      this.#edges.delete(slot)
      this.#first = slot + 1
    }
  }

  #between (first, last) {
    const slots = [...this.#edges.keys()].filter((slot) => slot >= first && slot <= last)
    return slots.sort((a, b) => a - b).map((slot) => this.#edges.get(slot))
  }

  #change () {
    return new Promise((resolve) => this.#wake.push(resolve))
  }

  #tell () {
    this.#wake.splice(0).forEach((resolve) => resolve())
  }
}
