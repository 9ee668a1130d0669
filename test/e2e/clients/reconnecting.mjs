// The JavaScript client on the `ws` package, or on Node's own WebSocket. Commands are JSON lines, events likewise.
// usage: reconnecting.mjs URL OPTIONS ws|own; ends by itself once the client is closed.
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import { drive } from './drive.mjs'

const [url, options, implementation] = process.argv.slice(2)
// Only `require` looks where NODE_PATH says.
const WebSocket = implementation === 'own' ? undefined : createRequire(import.meta.url)('ws').WebSocket
const commands = createInterface({ input: process.stdin })

const act = drive(url, { WebSocket, ...JSON.parse(options) }, (event) => {
  process.stdout.write(JSON.stringify(event) + '\n')
  // Nothing else may keep the process alive then: neither a timer nor a connection.
  if (event.value.state === 'closed') process.stdin.destroy()
})
commands.on('line', (line) => act(JSON.parse(line)))
// Without who tells it what to do, it has nothing to live for.
process.stdin.on('end', () => process.exit(1))
