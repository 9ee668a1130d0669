// Many subscribers of one topic in one process. Checks every frame: the process that cast, its number, the order.
// usage: load.cjs URL CONNECTIONS PROCESSES EACH; tells `ready`, then `done` with what each connection got.
'use strict'

const { WebSocket } = require('ws')

const [url, ...numbers] = process.argv.slice(2)
const [connections, processes, each] = numbers.map(Number)

const tell = (event) => process.stdout.write(JSON.stringify(event) + '\n')
const results = []
let established = 0

function end (result, problem) {
  if (result.ended) return
  result.ended = true
  result.problem = problem
  results.push(result)
  if (results.length === connections) {
    tell({ event: 'done', results: results.map(({ count, problem }) => ({ count, problem })) })
    process.exit(0)
  }
}

function subscribe () {
  const socket = new WebSocket(url)
  const result = { count: 0, next: new Array(processes + 1).fill(1), seq: 0 }
  const check = (frame) => {
    if (frame.type === 'connection_established') {
      established += 1
      if (established === connections) tell({ event: 'ready' })
      return
    }
    if (frame.type !== 'message') return end(result, `a frame of type ${frame.type}: ${JSON.stringify(frame)}`)
    const [caster, number] = frame.data.data.split(':').map(Number)
    if (number !== result.next[caster]) return end(result, `${caster}:${number} instead of :${result.next[caster]}`)
    if (frame.seq <= result.seq) return end(result, `seq ${frame.seq} after ${result.seq}`)
    result.next[caster] += 1
    result.seq = frame.seq
    result.count += 1
    if (result.count === processes * each) end(result, null)
  }
  socket.on('message', (data) => check(JSON.parse(data)))
  socket.on('close', (code) => end(result, `closed with ${code}`))
  socket.on('error', (error) => end(result, String(error)))
}

for (let n = 0; n < connections; n++) subscribe()
