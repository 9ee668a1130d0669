import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Retry, backoff } from '../retry.js'
import { Selection } from '../selection.js'
import { disconnected } from './fake.js'

test('the wait doubles up to a cap and is spread by chance', () => {
  const waits = (random) => [0, 1, 2, 5, 6, 7, 2000].map((attempt) => backoff(attempt, { minReconnectDelay: 500, maxReconnectDelay: 30_000, random }))
  assert.deepEqual(waits(() => 1), [500, 1000, 2000, 16_000, 30_000, 30_000, 30_000])
  assert.deepEqual(waits(() => 0.5), [250, 500, 1000, 8000, 15_000, 15_000, 15_000])
  assert.deepEqual(waits(() => 0), [0, 0, 0, 0, 0, 0, 0])
})

test('a restarting server is tried soon, but not over and over', () => {
  const retry = new Retry({ minReconnectDelay: 500, maxReconnectDelay: 30_000, stableAfter: 10_000, maxFaults: 5, random: () => 1 })
  for (let n = 0; n < 4; n++) retry.after({ code: 1006 })
  assert.deepEqual([retry.after({ code: 1012 }), retry.after({ code: 1012 })], [500, 8000])
  assert.equal(retry.after({ code: 1012, lived: 10_000 }), 500)
})

test('attempts wait longer and longer, until a connection was stable', () => {
  const { clock, sockets, states } = disconnected()
  const delays = () => states.filter(({ state }) => state === 'waiting').map(({ delay }) => delay)
  for (let n = 0; n < 3; n++) {
    sockets[n].onclose({ code: 1006, reason: '' })
    clock.step()
  }
  assert.deepEqual(delays(), [500, 1000, 2000])
  sockets[3].establish()
  clock.time += 10_000
  sockets[3].onclose({ code: 1006, reason: '' })
  assert.equal(delays().at(-1), 500)
})

test('a silent server is asked, and left when it says nothing', () => {
  const { client, clock, sockets } = disconnected()
  sockets[0].establish()
  clock.step()
  assert.deepEqual([clock.time, sockets[0].sent], [30_000, [{ type: 'ping' }]])
  sockets[0].tell({ type: 'pong', seq: 7 })
  assert.equal(client.cursor, 'e:7')
  clock.step()
  assert.deepEqual([clock.time, client.state, sockets[0].sent.length], [60_000, 'open', 2])
  clock.step()
  assert.deepEqual([client.state, sockets[0].closed], ['waiting', true])
})

test('a server that does not answer at all is left', () => {
  const { client, clock } = disconnected()
  clock.step()
  assert.deepEqual([clock.time, client.state], [10_000, 'waiting'])
})

test('closing leaves no timer, whatever goes on', () => {
  const phases = {
    connecting: () => {},
    open: ([socket]) => socket.establish(),
    waiting: ([socket]) => socket.onclose({ code: 1006, reason: '' })
  }
  for (const [state, reach] of Object.entries(phases)) {
    const { client, clock, sockets } = disconnected()
    reach(sockets)
    assert.equal(client.state, state)
    client.close()
    assert.deepEqual([client.state, clock.timers.size], ['closed', 0])
  }
})

test('a listener that closes the client is obeyed at once', () => {
  for (const last of ['open', 'waiting']) {
    const { client, clock, sockets } = disconnected()
    client.on('state', ({ state }) => { if (state === last) client.close() })
    sockets[0].establish()
    if (client.state !== 'closed') sockets[0].onclose({ code: 1006, reason: '' })
    assert.deepEqual([client.state, clock.timers.size, sockets.length], ['closed', 0, 1])
  }
  const { client, clock, sockets, states } = disconnected()
  client.on('established', () => client.close())
  sockets[0].establish()
  assert.deepEqual([states.at(-1).state, clock.timers.size], ['closed', 0])
})

test('messages can be iterated over, until the client is closed or gives up', async () => {
  for (const fatal of [false, true]) {
    const { client, sockets } = disconnected()
    const got = []
    const iteration = (async () => { for await (const { seq, cursor } of client) got.push([seq, cursor]) })()
    sockets[0].establish()
    sockets[0].tell({ type: 'message', seq: 1 })
    sockets[0].tell({ type: 'message', seq: 2 })
    if (fatal) sockets[0].onclose({ code: 3003, reason: 'no' })
    else client.close()
    if (fatal) await assert.rejects(iteration, { code: 3003, fatal: true, message: 'no' })
    else await iteration
    assert.deepEqual(got, [[1, 'e:1'], [2, 'e:2']])
  }
})

test('each connection tells how it was established, and each message its size', () => {
  const { client, sockets, clock } = disconnected()
  const told = []
  client.on('established', ({ epoch }) => told.push([epoch, client.state]))
  client.on('message', ({ size }) => told.push(size))
  sockets[0].establish()
  const frame = { type: 'message', seq: 1, data: 'grüße' }
  sockets[0].tell(frame)
  sockets[0].onclose({ code: 1006, reason: '' })
  clock.step()
  sockets[1].establish()
  assert.deepEqual(told, [['e', 'connecting'], JSON.stringify(frame).length, ['e', 'connecting']])
})

test('a cursor is checked', () => {
  assert.throws(() => disconnected({ cursor: 'nonsense' }), TypeError)
  assert.equal(disconnected({ cursor: 'e:5' }).sockets[0].url.searchParams.get('since'), 'e:5')
  assert.equal(disconnected({ cursor: 5 }).client.cursor, '5')
})

test('what a URL has already stays', () => {
  const { sockets: [{ url }] } = disconnected({ topics: 'a' })
  assert.equal(url.href, 'ws://server/ws?token=x&topic=a')
})

test('a selection knows templates by what they say', () => {
  const selection = new Selection({ template: [{ a: 1 }, '/path-x'] })
  selection.remove({ template: { a: 1 } })
  assert.deepEqual(selection.fields(), { template: ['/path-x'] })
})

test('a gap in the slots of a process moves the cursor and comes once', () => {
  const { client, clock, sockets } = disconnected()
  const gaps = []
  client.on('gap', (gap) => gaps.push(gap))
  client.on('message', () => {})
  sockets[0].establish(5)
  const gap = { type: 'gap', reason: 'not_cached', process: 'p', from_slot: 4, to_slot: 6, dropped: 3, seq: 7, timestamp: 1 }
  sockets[0].tell(gap)
  assert.deepEqual([gaps, client.cursor], [[gap], 'e:7'])
  sockets[0].tell(gap)
  sockets[0].tell({ ...gap, seq: 6 })
  assert.equal(gaps.length, 1)
  sockets[0].tell({ type: 'gap', reason: 'limit', process: 'p', dropped: 0, seq: 8, timestamp: 1 })
  assert.deepEqual([gaps.length, client.cursor], [2, 'e:8'])
  // Others have no number, whatever stands in its place.
  for (const seq of [undefined, null, 'x', 1.5]) sockets[0].tell({ type: 'gap', reason: 'slow', dropped: 1, after: 8, next: 10, seq })
  assert.deepEqual([gaps.length, client.cursor], [6, 'e:8'])
  sockets[0].onclose({ code: 1006, reason: '' })
  clock.step()
  assert.equal(sockets[1].url.searchParams.get('since'), 'e:8')
})

test('a stream that goes away and is made anew is told, and the cursor is of its new epoch', () => {
  const { client, clock, sockets } = disconnected()
  const told = []
  for (const type of ['gap', 'stale', 'live']) client.on(type, (frame) => told.push(frame))
  client.on('message', () => {})
  client.subscribe({ topics: ['a'] })
  sockets[0].establish(10)
  const frames = [
    { type: 'stale', since: 1 },
    { type: 'gap', reason: 'epoch', dropped: 0, after: 0, next: 1, epoch: 'f' },
    { type: 'live', seq: 0 },
  ]
  for (const frame of frames) sockets[0].tell(frame)
  assert.deepEqual(told, frames)
  assert.equal(client.cursor, 'e:10')
  sockets[0].tell({ type: 'message', seq: 1, timestamp: 1, topic: 'a', topics: ['a'], data: 1 })
  assert.equal(client.cursor, 'f:1')
  sockets[0].onclose({ code: 1006, reason: '' })
  clock.step()
  assert.equal(sockets[1].url.searchParams.get('since'), 'f:1')
})

test('a gap in the slots of a process belongs to the replay that brings it', () => {
  const { client, clock, sockets } = disconnected()
  const gaps = []
  client.on('gap', ({ seq }) => gaps.push(seq))
  client.on('message', () => {})
  sockets[0].establish(10)
  client.subscribe({ topics: ['process:p'], since: 'e:1' })
  const [{ id }] = sockets[0].sent
  sockets[0].tell({ type: 'subscription_response', id, seq: 10 })
  const tell = (seq) => sockets[0].tell({ type: 'gap', reason: 'withheld', process: 'p', from_slot: 4, to_slot: 4, dropped: 1, seq, timestamp: 1 })
  tell(4)
  assert.deepEqual([gaps, client.cursor], [[4], 'e:10'])
  sockets[0].onclose({ code: 1006, reason: '' })
  clock.step()
  sockets[1].establish(10)
  sockets[1].tell({ type: 'live', seq: 10 })
  assert.equal(sockets[1].sent.at(-1).since, 'e:4')
})
