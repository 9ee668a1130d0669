/** Milliseconds between two looks at the clock, and the lateness that only a sleep explains. */
const LOOK = 5000
const SLEEP = 10_000

/**
 * Calls `hurry` when the network may be back: the browser is online, the page is looked at again, or the machine was asleep.
 * Gives a function that ends this.
 */
export function watchEnvironment (environment, clock, hurry) {
  const { document } = environment
  const seen = () => { if (document.visibilityState === 'visible') hurry() }
  environment.addEventListener?.('online', hurry)
  document?.addEventListener?.('visibilitychange', seen)
  let timer = null
  let last = 0
  const look = () => {
    const now = clock.wall()
    if (now - last > LOOK + SLEEP) hurry()
    last = now
    timer = clock.setTimeout(look, LOOK)
    // Looking alone keeps no process alive.
    timer?.unref?.()
  }
  if (clock.wall !== undefined) {
    last = clock.wall()
    look()
  }
  return () => {
    environment.removeEventListener?.('online', hurry)
    document?.removeEventListener?.('visibilitychange', seen)
    clock.clearTimeout(timer)
  }
}

/** The WebSocket of the environment; on an older Node that of the package `ws`. Throws an error that says how to get one. */
export async function findWebSocket () {
  if (globalThis.WebSocket !== undefined) return globalThis.WebSocket
  // Bundlers would look for a name that they can read.
  const name = ['w', 's'].join('')
  try {
    return (await import(/* @vite-ignore */ /* webpackIgnore: true */ name)).WebSocket
  } catch {}
  try {
    const { process } = globalThis
    const { createRequire } = process.getBuiltinModule('node:module')
    return createRequire(process.argv[1] ?? `${process.cwd()}/`)(name).WebSocket
  } catch {}
  throw new TypeError('there is no WebSocket here: use Node 22 or newer, or run npm install ws, or give the option WebSocket')
}
