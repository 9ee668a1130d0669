const LOST = 1006

/**
 * One WebSocket, whichever implementation. Gives each frame and the length of its text to `received`, and its end to `lost`,
 * once: also an end that the socket does not notice. After `close` it gives nothing.
 */
export class Connection {
  #socket
  #options
  #lost
  #timer = null
  #first = null
  #heard = null
  // Whether the server owes a frame: the first one, and after a ping.
  #owed = true

  constructor (url, options, { received, lost }) {
    const { WebSocket = globalThis.WebSocket, timeout } = options
    const socket = this.#socket = new WebSocket(url.href)
    this.#options = options
    this.#lost = lost
    let told = ''
    socket.onmessage = ({ data }) => {
      this.#hear()
      received(parsed(data) ?? {}, data.length)
    }
    socket.onerror = ({ message }) => { told = message ?? '' }
    socket.onclose = ({ code, reason }) => this.#end({ code, reason: reason || told })
    // Only the package `ws` shows an answer that is no upgrade, and leaves the rest to who looks at it.
    socket.on?.('unexpected-response', (request, response) => {
      let body = ''
      response.on('data', (chunk) => { body += chunk })
      response.on('end', () => {
        request.destroy()
        const { error, message } = parsed(body) ?? { message: body.slice(0, 200) }
        this.#end({ code: LOST, status: response.statusCode, error, reason: message })
      })
    })
    this.#after(timeout, () => this.#drop('no answer'))
  }

  send (frame) {
    this.#socket.send(JSON.stringify(frame))
  }

  close (code, reason) {
    this.#detach()?.close(code, reason)
  }

  /** Gives the socket, whose events concern nobody any more. */
  #detach () {
    const socket = this.#socket
    this.#socket = null
    this.#options.clock.clearTimeout(this.#timer)
    if (socket !== null) {
      socket.onmessage = socket.onclose = null
      // An error that nobody listens for ends a Node process.
      socket.onerror = () => {}
    }
    return socket
  }

  #end (details) {
    if (this.#detach() === null) return
    this.#lost({ ...details, lived: this.#first === null ? 0 : this.#options.clock.now() - this.#first })
  }

  /** Gives up a connection from which nothing comes, without a goodbye that would take as long. */
  #drop (reason) {
    const socket = this.#socket
    if (socket.terminate) socket.terminate()
    else socket.close()
    this.#end({ code: LOST, reason })
  }

  #hear () {
    this.#heard = this.#options.clock.now()
    this.#first ??= this.#heard
    if (!this.#owed) return
    this.#owed = false
    this.#watch()
  }

  /** Asks after a silence whether the server is still there: a script in a browser does not see WebSocket pings. */
  #watch () {
    const { clock, heartbeat, timeout } = this.#options
    if (!heartbeat) return clock.clearTimeout(this.#timer)
    const silence = clock.now() - this.#heard
    if (silence < heartbeat) return this.#after(heartbeat - silence, () => this.#watch())
    this.#owed = true
    this.send({ type: 'ping' })
    this.#after(timeout, () => this.#drop('no answer to a ping'))
  }

  #after (delay, callback) {
    const { clock } = this.#options
    clock.clearTimeout(this.#timer)
    this.#timer = clock.setTimeout(callback, delay)
  }
}

function parsed (text) {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}
