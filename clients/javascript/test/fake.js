import { Client } from '../index.js'

/** Time that goes on when it is told to. */
export class Clock {
  time = 0
  timers = new Map()
  next = 1
  now = () => this.time
  setTimeout = (callback, delay) => {
    this.timers.set(this.next, { callback, at: this.time + delay })
    return this.next++
  }

  clearTimeout = (timer) => { this.timers.delete(timer) }

  /** Goes on to the next timer. */
  step () {
    const [id, { callback, at }] = [...this.timers].sort(([, a], [, b]) => a.at - b.at)[0]
    this.timers.delete(id)
    this.time = at
    callback()
  }
}

/** A client on sockets that do nothing: `sockets` has each of them. */
export function disconnected ({ url = 'ws://server/ws?token=x', Socket = (WebSocket) => WebSocket, ...options } = {}) {
  const clock = new Clock()
  const sockets = []
  class WebSocket {
    sent = []
    constructor (url, protocols, more) {
      this.url = new URL(url)
      this.protocols = protocols
      this.headers = more?.headers
      sockets.push(this)
    }

    send (text) { this.sent.push(JSON.parse(text)) }
    close () {
      this.closed = true
      queueMicrotask(() => this.onclose?.({ code: 1000, reason: '' }))
    }

    message (seq, topics = ['t']) { this.tell({ type: 'message', seq, topics, data: { n: seq } }) }
    tell (frame) { this.onmessage({ data: JSON.stringify(frame) }) }
    establish (seq = 0, more = {}) { this.tell({ type: 'connection_established', epoch: 'e', seq, subscribed_topics: [], ignored: [], ...more }) }
    lose (code = 1006, reason = '') { this.onclose({ code, reason }) }
    asked (type) { return this.sent.filter((frame) => frame.type === type) }
  }
  const client = new Client(url, { WebSocket: Socket(WebSocket), clock, random: () => 1, transport: 'websocket', ...options })
  const states = []
  client.on('state', (state) => states.push(state))
  return { client, clock, sockets, states }
}

/** Resolves when everything has been done that waits for nothing else. */
export const settled = () => new Promise((resolve) => setImmediate(resolve))
