// The frames of `format=edges` as server-sent events, which need nothing but `fetch`: browsers and Node 18 have it.

/** The address of the stream for a process, from the slot `from` on. Without it, only new slots come. */
export function address (websocket, process, from) {
  const url = new URL(websocket.replace(/^ws/, 'http'))
  url.searchParams.set('format', 'edges')
  url.searchParams.set('process', process)
  if (from !== undefined) url.searchParams.set('from-slot', String(from))
  return url
}

/** The frames of one stream, until it ends. A refused request throws the error's code and text. */
export async function * frames (url, { fetch, signal }) {
  const response = await fetch(url, { headers: { accept: 'text/event-stream' }, signal })
  if (!response.ok) {
    const { error, message } = await response.json().catch(() => ({}))
    const refused = new Error(message ?? `the server answered ${response.status}`)
    throw Object.assign(refused, { code: error, status: response.status })
  }
  let text = ''
  const decoder = new TextDecoder()
  for await (const bytes of response.body) {
    text += decoder.decode(bytes, { stream: true })
    const events = text.split('\n\n')
    text = events.pop()
    for (const event of events) {
      const data = event.split('\n').find((line) => line.startsWith('data: '))
      if (data) yield JSON.parse(data.slice(6))
    }
  }
}

const pause = (milliseconds, signal) => new Promise((resolve) => {
  const timer = setTimeout(resolve, milliseconds)
  signal?.addEventListener('abort', () => { clearTimeout(timer); resolve() }, { once: true })
})

/**
 * The frames of a process for ever, each slot once: after the end of a stream a new one goes on behind the last edge.
 * Frames that are no edges have a `type`: `live` after the past slots, `gap` for missing slots, `error`.
 * `onLost` is called with each failure and the number of failures in a row.
 */
export async function * follow ({ websocket, process, from, fetch = globalThis.fetch, signal, pauses = [100, 1000, 5000], onLost = () => {} }) {
  let next = from
  for (let failures = 0; !signal?.aborted;) {
    try {
      for await (const frame of frames(address(websocket, process, next), { fetch, signal })) {
        failures = 0
        if (frame.type === 'gap' && frame.to_slot !== undefined) next = Math.max(next ?? 0, frame.to_slot + 1)
        if (frame.cursor !== undefined) {
          const slot = Number(frame.cursor)
          // A late slot of a gap comes after later ones.
          next = Math.max(next ?? 0, slot + 1)
        }
        // The server ends the stream: the next one goes on.
        if (frame.type === 'close') break
        if (frame.type !== 'connection_established') yield frame
      }
    } catch (error) {
      if (signal?.aborted) return
      // A request that is wrong stays wrong.
      if (error.status >= 400 && error.status < 500 && error.status !== 429) throw error
      onLost(error, failures + 1)
    }
    await pause(pauses[Math.min(failures++, pauses.length - 1)], signal)
  }
}
