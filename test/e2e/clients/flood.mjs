// Leaves while a busy topic has filled the queue, and reads it with a slow body. usage: node --expose-gc flood.mjs URL
import { createRequire } from 'node:module'
import { Client } from '../../../clients/javascript/index.js'

const { WebSocket } = createRequire(import.meta.url)('ws')
const url = process.argv[2]
const turn = () => new Promise((resolve) => setImmediate(resolve))
const options = { topics: ['flood'], WebSocket, maxQueue: 100 }

const left = []
for (let n = 0; n < 5; n++) {
  const client = new Client(url, options)
  for await (const message of client) {
    // Until the queue is full and the socket paused: a turn of the loop for each message of it.
    if (message.seq > 0) break
  }
  for (let step = 0; step < 500; step++) await turn()
  const started = performance.now()
  await client.close()
  left.push(performance.now() - started)
}

// Each message takes as long as some hundred others need to come.
const client = new Client(url, { ...options, overflow: process.argv[3] ?? 'gap' })
let last = null
let covered = 0
let isExact = true
let count = 0
globalThis.gc()
const before = process.memoryUsage().heapUsed
for await (const update of client.updates()) {
  if (update.type === 'gap') {
    covered += update.dropped
    continue
  }
  // Every number that is missing was counted by a gap, and the cursor is that of the message in hand.
  if (last !== null && update.data.data - last - 1 !== covered) isExact = false
  if (client.cursor !== update.cursor) isExact = false
  covered = 0
  last = update.data.data
  for (let step = 0; step < 200; step++) await turn()
  if (++count === 200) break
}
globalThis.gc()
const held = process.memoryUsage().heapUsed - before
await client.close()
process.stdout.write(JSON.stringify({ left, held, isExact }))
