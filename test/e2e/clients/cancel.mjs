// Aborts clients at each step of connecting, and waits of one that is connected. usage: cancel.mjs URL
import { createRequire } from 'node:module'
import { Client } from '../../../clients/javascript/index.js'

const { WebSocket } = createRequire(import.meta.url)('ws')
const url = process.argv[2]
const turn = () => new Promise((resolve) => setImmediate(resolve))

let connects = 0
for (let n = 0; n < 1000; n++) {
  const controller = new AbortController()
  const client = new Client(url, { topics: ['a'], WebSocket, signal: controller.signal })
  const ready = client.ready().catch(() => {})
  for (let step = n % 12; step > 0; step--) await turn()
  controller.abort()
  await ready
  if (client.state === 'closed') connects++
}

const client = new Client(url, { topics: ['a'], WebSocket })
await client.ready()
let waits = 0
for (let n = 0; n < 1000; n++) {
  const controller = new AbortController()
  const { reply } = n % 100 === 0 ? client.subscribe({ topics: `t${n}` }) : {}
  const wait = client.ready({ signal: controller.signal })
  controller.abort()
  await wait.catch(() => {})
  await reply
  if (client.state === 'open') waits++
}
await client.close()
process.stdout.write(JSON.stringify({ connects, waits, state: client.state }))
