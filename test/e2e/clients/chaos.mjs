// Follows a topic through a bad network until its last number, checks every number, and ends by itself.
// usage: node --expose-gc chaos.mjs URL; tells `open`, then `done` with what it found, once its input names the last number.
import { createRequire } from 'node:module'
import { Client } from '../../../clients/javascript/index.js'

const { WebSocket } = createRequire(import.meta.url)('ws')
const url = process.argv[2]
const tell = (event) => process.stdout.write(JSON.stringify(event) + '\n')

let until = Infinity
let last = 0
let covered = 0
let gaps = 0
let wrong = null
let attempts = 0
const memory = []
// The first messages count from when it is there.
const client = new Client(() => url, { topics: ['chaos'], last: 0, WebSocket, minReconnectDelay: 1, maxReconnectDelay: 20, pingInterval: 200, timeout: 500 })
client.on('error', (error) => { wrong ??= `${error.code} ${error.message}` })
client.on('state', ({ state }) => {
  if (state !== 'connecting') return
  if (++attempts % 20 !== 0) return
  globalThis.gc()
  memory.push(process.memoryUsage().heapUsed)
})

process.stdin.once('data', (text) => {
  until = Number(text)
  process.stdin.destroy()
  if (last >= until) client.close()
})
await client.ready()
tell({ event: 'open' })
for await (const update of client.updates()) {
  if (update.type === 'gap') {
    gaps++
    covered += update.dropped ?? 0
    continue
  }
  const number = update.data.data
  const missing = number - last - 1
  if (missing < 0 || missing > covered) wrong ??= `${number} after ${last}, and gaps name ${covered}`
  covered -= missing
  last = number
  if (last >= until) break
}
await client.close()
tell({ event: 'done', last, gaps, wrong, attempts, memory })
