// Compares the answers with recorded ones. The node is a stand-in that sends recorded frames.
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { readFileSync } from 'node:fs'
import { once } from 'node:events'
import { test } from 'node:test'
import { connect } from './results.mjs'

const read = (name) => JSON.parse(readFileSync(new URL(`recorded/${name}.json`, import.meta.url), 'utf8'))
const PROCESS = '1ZaCVOkeT1kJS6nLOL6J6SLiy5-_pauhZ4bnWJnfESo'
const edge = (slot) => ({ cursor: String(slot), node: { Output: { data: `${slot}`, print: true }, Messages: [], Spawns: [], Assignments: [] } })

/** A node with the slots of `edges`. Edges that are pushed later go to all streams. */
async function node (t, { edges = read('slots'), gaps = [], cut = Infinity } = {}) {
  const streams = new Set()
  const asked = []
  const send = (stream, frame) => stream.write(`data: ${JSON.stringify(frame)}\nid: x:1\n\n`)
  const server = createServer((request, response) => {
    const url = new URL(request.url, 'http://localhost')
    asked.push(`${url.pathname}${url.search}`)
    if (url.pathname.endsWith('/slot/current')) return response.end(edges.at(-1).cursor)
    if (url.pathname === '/~websocket@1.0/info') return response.end(JSON.stringify({ uri: `ws://localhost:${server.address().port}/ws` }))
    if (url.searchParams.get('process') !== PROCESS) {
      response.statusCode = 400
      return response.end(JSON.stringify({ error: 'bad_process', message: 'process must be an id' }))
    }
    assert.equal(request.headers.accept, 'text/event-stream')
    assert.equal(url.searchParams.get('format'), 'edges')
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    send(response, { type: 'connection_established' })
    const from = url.searchParams.get('from-slot')
    if (from !== null) {
      let left = cut
      for (const edge of edges.filter(({ cursor }) => Number(cursor) >= Number(from))) {
        if (left-- <= 0) return response.end('data: {"cursor"')
        send(response, edge)
      }
      gaps.forEach((gap) => send(response, gap))
      send(response, { type: 'live', process: PROCESS, slot: Number(edges.at(-1).cursor) + 1, seq: 1 })
    }
    streams.add(response)
    response.on('close', () => streams.delete(response))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => { server.closeAllConnections(); server.close() })
  const push = (edge) => { edges.push(edge); streams.forEach((stream) => send(stream, edge)) }
  return { asked, push, streams, URL: `http://localhost:${server.address().port}` }
}

function connected (t, options) {
  const ao = connect(options)
  t.after(() => ao.close())
  return ao
}

test('answers are those that were recorded', async (t) => {
  const { URL } = await node(t)
  const ao = connected(t, { URL })
  for (const { arguments: given, answer } of read('answers')) {
    assert.deepEqual(await ao.results({ process: PROCESS, ...given }), answer, JSON.stringify(given))
  }
})

test('calls that go forward are answered from one stream', async (t) => {
  const { URL, asked, push } = await node(t, { edges: [0, 1, 2].map(edge) })
  const ao = connected(t, { URL })
  let { edges } = await ao.results({ process: PROCESS, limit: 1000 })
  const seen = [...edges]
  for (let slot = 3; slot < 40; slot++) {
    push(edge(slot))
    while (seen.length <= slot) {
      ({ edges } = await ao.results({ process: PROCESS, from: seen.at(-1).cursor, limit: '1000' }))
      seen.push(...edges)
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
  assert.deepEqual(seen, Array.from({ length: 40 }, (_, slot) => edge(slot)))
  assert.deepEqual(asked, ['/~websocket@1.0/info', `/ws?format=edges&process=${PROCESS}&from-slot=0`])
})

test('a stream that is cut off goes on behind its last slot', async (t) => {
  const { URL, asked } = await node(t, { edges: Array.from({ length: 6 }, (_, slot) => edge(slot)), cut: 2 })
  const ao = connected(t, { URL })
  const { edges } = await ao.results({ process: PROCESS })
  assert.deepEqual(edges.map(({ cursor }) => cursor), ['0', '1', '2', '3', '4', '5'])
  assert.deepEqual(asked.slice(1).map((path) => path.split('from-slot=')[1]), ['0', '2', '4'])
})

test('more slots than are kept come in pages, and none is lost', async (t) => {
  const { URL } = await node(t, { edges: Array.from({ length: 500 }, (_, slot) => edge(slot)) })
  const ao = connected(t, { URL, keep: 20 })
  assert.equal((await ao.results({ process: PROCESS, limit: 30 })).edges.length, 30)
  const seen = []
  for (let page = { pageInfo: { hasNextPage: true } }; page.pageInfo.hasNextPage;) {
    page = await ao.results({ process: PROCESS, from: seen.at(-1), limit: 7 })
    seen.push(...page.edges.map(({ cursor }) => cursor))
  }
  assert.deepEqual(seen, Array.from({ length: 500 }, (_, slot) => `${slot}`))
})

test('missing slots are told', async (t) => {
  const gap = { type: 'gap', reason: 'not_cached', process: PROCESS, from_slot: 1, to_slot: 1, dropped: 1, replayed: true, timestamp: 1 }
  const { URL } = await node(t, { edges: [0, 2].map(edge), gaps: [gap] })
  const gaps = []
  const ao = connected(t, { URL, onGap: (gap) => gaps.push(gap) })
  const { edges } = await ao.results({ process: PROCESS })
  assert.deepEqual([edges.map(({ cursor }) => cursor), gaps], [['0', '2'], [gap]])
})

test('bad arguments and refused requests are errors', async (t) => {
  const { URL } = await node(t)
  const ao = connected(t, { URL })
  await assert.rejects(ao.results({}), /process is missing/)
  await assert.rejects(ao.results({ process: PROCESS, sort: 'UP' }), /sort/)
  for (const bad of ['x', '-1', '1.5', '']) await assert.rejects(ao.results({ process: PROCESS, from: bad }), /from/)
  await assert.rejects(ao.results({ process: 'x' }), { code: 'bad_process' })
  await assert.rejects(connected(t, {}).results({ process: PROCESS }), /URL is missing/)
})

test('a node that is away is an error, and the next call goes on', async (t) => {
  const { URL } = await node(t)
  let isAway = true
  const away = (...given) => isAway ? Promise.reject(new Error('away')) : fetch(...given)
  const ao = connected(t, { WEBSOCKET_URL: `${URL}/ws`, fetch: away, pauses: [1] })
  await assert.rejects(ao.results({ process: PROCESS }), /away/)
  isAway = false
  for (let edges = []; edges.length < 5;) {
    ({ edges } = await ao.results({ process: PROCESS }).catch(() => ({ edges: [] })))
    await new Promise((resolve) => setImmediate(resolve))
  }
})

test('a stream without calls is closed, and the next call opens another', async (t) => {
  const { URL, asked, streams } = await node(t)
  const ao = connected(t, { URL, idle: 1 })
  await ao.results({ process: PROCESS })
  const [stream] = streams
  await once(stream, 'close')
  await ao.results({ process: PROCESS, from: '0' })
  assert.equal(asked.filter((path) => path.startsWith('/ws')).length, 2)
})
