const LOST = 1006
/** Milliseconds that a goodbye may take before the socket is ended. */
const GOODBYE = 50

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
  #paused = false
  #opened = false
  // Whether the server owes a frame: the first one, and after a ping.
  #owed = true

  constructor ({ url, headers, token }, WebSocket, options, { received, lost }) {
    const protocols = token === undefined ? [] : ['dev-websocket.v1', `bearer.${token}`]
    const socket = this.#socket = headers === undefined ? new WebSocket(url.href, protocols) : withHeaders(WebSocket, url.href, protocols, headers)
    this.#options = options
    this.#lost = lost
    let told = ''
    socket.onopen = () => { this.#opened = true }
    socket.onmessage = ({ data }) => {
      this.#hear()
      received(typeof data === 'string' ? parsed(data) : null, data.length ?? 0)
    }
    socket.onerror = ({ message }) => { told = message ?? '' }
    socket.onclose = ({ code, reason }) => this.#end({ code, reason: reason || told })
    // Only the package `ws` shows an answer that is no upgrade, and leaves the rest to its user.
    socket.on?.('unexpected-response', (request, response) => {
      let body = ''
      const end = () => {
        request.destroy()
        this.#end({ code: LOST, ...answerDetails(response.statusCode, response.headers['retry-after'], body, url) })
      }
      response.on('data', (chunk) => {
        body += chunk
        if (body.length > MAX_REFUSAL) end()
      })
      response.on('end', end)
      response.on('error', end)
    })
    this.#after(options.timeout, () => this.#drop('no answer'))
  }

  canSend = true

  get canPause () {
    return typeof this.#socket?.pause === 'function' && typeof this.#socket.resume === 'function'
  }

  send (frame) {
    this.#socket?.send(JSON.stringify(frame))
  }

  /** Reads no more, and expects nothing, until `resume`. */
  pause () {
    if (this.#paused || this.#socket === null) return
    this.#paused = true
    this.#socket.pause()
    this.#options.clock.clearTimeout(this.#timer)
  }

  resume () {
    if (!this.#paused || this.#socket === null) return
    this.#paused = false
    this.#socket.resume()
    this.#heard = this.#options.clock.now()
    if (this.#owed) this.#after(this.#options.timeout, () => this.#drop('no answer'))
    else this.#watch()
  }

  /** Asks at once whether the server is still there. */
  probe () {
    if (this.#socket === null || this.#owed || this.#paused) return
    this.#ask()
  }

  /** Resolves when the socket has ended: in time, also when the server does not say goodbye. */
  close (code, reason) {
    const isPaused = this.#paused
    const socket = this.#detach()
    if (socket === null) return Promise.resolve()
    return new Promise((resolve) => {
      const timer = socket.terminate ? setTimeout(() => socket.terminate(), GOODBYE) : null
      socket.onclose = () => {
        clearTimeout(timer)
        resolve()
      }
      if (isPaused) socket.resume()
      socket.close(code, reason)
      // An implementation that cannot be ended takes its time; nothing of it concerns the client any more.
      if (timer === null) resolve()
    })
  }

  /** Gives the socket, whose events concern nobody any more. */
  #detach () {
    const socket = this.#socket
    this.#socket = null
    this.#options.clock.clearTimeout(this.#timer)
    if (socket !== null) {
      socket.onmessage = socket.onclose = socket.onopen = null
      // An error that nobody listens for ends a Node process.
      socket.onerror = () => {}
    }
    return socket
  }

  #end (details) {
    if (this.#detach() === null) return
    this.#lost({ ...details, opened: this.#opened, lived: this.#first === null ? 0 : this.#options.clock.now() - this.#first })
  }

  /** Gives up a connection from which nothing comes, without a goodbye that would take as long. */
  drop (reason, code = LOST) {
    this.#drop(reason, code)
  }

  #drop (reason, code = LOST) {
    const socket = this.#socket
    if (socket === null) return
    this.#end({ code, reason })
    if (socket.terminate) socket.terminate()
    else socket.close()
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
    const { clock, pingInterval } = this.#options
    if (!pingInterval) return clock.clearTimeout(this.#timer)
    const silence = clock.now() - this.#heard
    if (silence < pingInterval) return this.#after(pingInterval - silence, () => this.#watch())
    this.#ask()
  }

  #ask () {
    this.#owed = true
    this.send({ type: 'ping' })
    this.#after(this.#options.timeout, () => this.#drop('no answer to a ping'))
  }

  #after (delay, callback) {
    const { clock } = this.#options
    clock.clearTimeout(this.#timer)
    this.#timer = clock.setTimeout(callback, delay)
  }
}

/** Characters of a refusal that are read. */
const MAX_REFUSAL = 10_000

/** The details of an HTTP answer that is no upgrade and no stream. */
export function answerDetails (status, retryAfter, body, url) {
  const seconds = Number(retryAfter)
  const details = { status, ...(seconds > 0 && { retryAfter: seconds * 1000 }) }
  const told = parsed(body)
  if (typeof told?.error === 'string') return { ...details, error: told.error, reason: told.message }
  const what = /^\s*</.test(body) ? 'a page of HTML' : body === '' ? 'nothing' : JSON.stringify(body.slice(0, 100))
  const advice = status === 401 || status === 403
    ? 'a proxy wants other credentials: give headers, url or token as functions, which are asked before every attempt'
    : 'is the path right, as in /ws, and does each proxy on the way pass the upgrade on?'
  return { ...details, reason: `${url.pathname} answered ${status} with ${what}: ${advice}` }
}

/** The package `ws` takes headers behind the protocols, the WebSocket of Node in their place. */
function withHeaders (WebSocket, href, protocols, headers) {
  return WebSocket === globalThis.WebSocket ? new WebSocket(href, { protocols, headers }) : new WebSocket(href, protocols, { headers })
}

export function parsed (text) {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}
