import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Client, ClientError } from '../index.js'
import { watchEnvironment } from '../environment.js'
import { matcherOf } from '../match.js'
import { Selection, split } from '../selection.js'
import { disconnected, settled } from './fake.js'

const query = ({ url }) => Object.fromEntries([...url.searchParams.keys()].map((name) => [name, url.searchParams.getAll(name)]))

test('the past that a URL asks for is asked once, and then the cursor', () => {
  for (const [url, first] of [['last=3', { last: ['3'] }], ['since=e:5', { since: ['e:5'] }], ['lastEventId=e:5', { since: ['e:5'] }], ['since=', {}]]) {
    const { clock, sockets } = disconnected({ url: `ws://server/ws?topic=t,u&${url}&token=x` })
    assert.deepEqual(query(sockets[0]), { token: ['x'], topic: ['t', 'u'], ...first })
    sockets[0].establish(9)
    if (first.last ?? first.since) sockets[0].tell({ type: 'live', seq: 9 })
    sockets[0].lose()
    clock.step()
    assert.deepEqual(query(sockets[1]), { token: ['x'], topic: ['t', 'u'], since: ['e:9'] })
  }
})

test('a subscription of the URL can be ended like any other', async () => {
  const { client, clock, sockets } = disconnected({ url: () => 'ws://server/ws?topic=t,u&process=p&match=^m&template={"a":1}&slow=latest' })
  await settled()
  assert.deepEqual(query(sockets[0]), { slow: ['latest'], topic: ['t', 'u', 'process:p'], match: ['^m'], template: ['{"a":1}'] })
  sockets[0].establish(1)
  client.unsubscribe({ topics: 'u', template: { a: 1 } })
  sockets[0].lose()
  clock.step()
  await settled()
  assert.deepEqual(query(sockets[1]), { slow: ['latest'], topic: ['t', 'process:p'], match: ['^m'], since: ['e:1'] })
})

test('an undefined or null option is an absent one', () => {
  const names = ['minReconnectDelay', 'maxReconnectDelay', 'stableAfter', 'maxFaults', 'pingInterval', 'timeout', 'maxQueue', 'maxQueueBytes', 'topics', 'match',
    'template', 'process', 'cursor', 'last', 'slow', 'headers', 'token', 'logger', 'signal', 'overflow', 'autoConnect', 'fetch']
  for (const value of [undefined, null]) {
    const { clock, sockets, states } = disconnected(Object.fromEntries(names.map((name) => [name, value])))
    assert.equal(sockets[0].url.search, '?token=x')
    sockets[0].lose()
    assert.equal(states.at(-1).delay, 500)
    clock.step()
    clock.step()
    assert.equal(clock.time, 10_500)
  }
})

test('options that do not fit throw', () => {
  const unfit = [{ topic: ['a'] }, { base: 1 }, { minReconnectDelay: NaN }, { minReconnectDelay: 0 }, { minReconnectDelay: -1 }, { maxReconnectDelay: Infinity },
    { timeout: '10' }, { timeout: 0 }, { timeout: 2 ** 31 }, { pingInterval: -1 }, { pingInterval: Infinity }, { minReconnectDelay: 5, maxReconnectDelay: 4 },
    { maxFaults: {} }, { maxQueue: 0 }, { slow: 'fast' }, { transport: 'carrier' }, { overflow: 'drop' }, { last: -1 }, { last: 1.5 }, { last: '3' }, { topics: 5 },
    { topics: [null] }, { match: [/x/] }, { template: [5] }, { process: 5 }, { token: 'a b' }, { token: 5 }, { headers: 'x' }, { logger: {} }, { random: 1 }, { cursor: 'x' }, { signal: 5 }]
  for (const options of unfit) assert.throws(() => disconnected(options), (error) => error instanceof TypeError || error instanceof RangeError, JSON.stringify(options))
  assert.throws(() => disconnected({ topic: ['a'] }), /topics/)
  for (const url of ['nonsense', 'ftp://server/ws', 'ws://server/ws?format=raw', '', 5, null]) assert.throws(() => disconnected({ url }), TypeError, url)
  const { client } = disconnected()
  for (const items of [{ topic: 'a' }, {}, { topics: [] }, null, { topics: 5 }, 'a', { topics: 'a', since: 'x' }]) assert.throws(() => client.subscribe(items), TypeError)
  assert.throws(() => client.on('nope', () => {}), /message/)
  assert.throws(() => client.on('message'), TypeError)
})

test('a listener that throws changes nothing for the others or the order', async () => {
  const told = []
  const reported = []
  const { client, sockets } = disconnected({ logger: { warn () {}, error: (text, error) => reported.push(error.message) } })
  for (const type of ['established', 'message', 'gap', 'state', 'reply', 'live', 'direct']) {
    client.on(type, () => { throw new Error(type) })
    client.on(type, async () => { throw new Error(`later ${type}`) })
    client.on(type, (value) => told.push(value.seq ?? value.state ?? type))
  }
  sockets[0].establish(4)
  sockets[0].message(5)
  sockets[0].tell({ type: 'gap', reason: 'slow', dropped: 1, after: 5, next: 7 })
  sockets[0].tell({ type: 'direct', data: 1 })
  sockets[0].message(7)
  await settled()
  assert.deepEqual(told, [4, 'open', 5, 'gap', 'direct', 7])
  assert.deepEqual([client.state, reported.length], ['open', 12])
})

test('calls that are made together are sent together', async () => {
  const { client, sockets } = disconnected()
  sockets[0].establish(0, { limits: { max_inbound_bytes: 65_536, max_inbound_rate: 50 } })
  const all = Array.from({ length: 100 }, (_, n) => client.subscribe({ topics: `t${n}` }))
  await settled()
  const [frame, ...rest] = sockets[0].sent
  assert.deepEqual([frame.topics.length, rest.length], [100, 0])
  sockets[0].tell({ type: 'subscription_response', id: frame.id, seq: 3, subscribed_topics: frame.topics })
  assert.deepEqual(new Set(await Promise.all(all.map(async ({ reply }) => (await reply).seq))), new Set([3]))
})

test('of calls that were sent together only the refused one is', async () => {
  const { client, clock, sockets } = disconnected()
  const errors = []
  client.on('error', ({ code }) => errors.push(code))
  sockets[0].establish(0, { limits: { max_inbound_rate: 5 } })
  const subscriptions = Array.from({ length: 8 }, (_, n) => client.subscribe({ topics: `t${n}` }))
  await settled()
  const refuse = (frame) => sockets[0].tell({ type: 'error', id: frame.id, code: 'bad_topic', message: 'no' })
  refuse(sockets[0].sent[0])
  // No faster than the server takes them: four of five a second.
  assert.equal(sockets[0].sent.length, 4)
  clock.step()
  assert.equal(sockets[0].sent.length, 8)
  clock.step()
  assert.equal(sockets[0].sent.length, 9)
  for (const frame of sockets[0].sent.slice(1)) {
    if (frame.topics[0] === 't3') refuse(frame)
    else sockets[0].tell({ type: 'subscription_response', id: frame.id, seq: 1, subscribed_topics: [] })
  }
  const ends = await Promise.allSettled(subscriptions.map(({ reply }) => reply))
  assert.deepEqual(ends.map(({ status }) => status === 'rejected'), [0, 1, 2, 3, 4, 5, 6, 7].map((n) => n === 3))
  assert.ok(ends[3].reason instanceof ClientError)
  assert.deepEqual([errors, ends[3].reason.code, ends[3].reason.fatal], [['bad_topic'], 'bad_topic', false])
})

test('a subscription has its own messages, and ends alone', async () => {
  const { client, clock, sockets } = disconnected()
  sockets[0].establish()
  const one = client.subscribe({ topics: ['a*'] })
  const two = client.subscribe({ topics: ['a*', 'b'] })
  await settled()
  const [{ id, topics }] = sockets[0].sent
  assert.deepEqual(topics, ['a*', 'b'])
  sockets[0].tell({ type: 'subscription_response', id, seq: 0, subscribed_topics: [] })
  const got = { one: [], two: [] }
  const read = async (name, subscription) => { for await (const { seq } of subscription) got[name].push(seq) }
  const reading = [read('one', one), read('two', two)]
  sockets[0].message(1, ['ab'])
  sockets[0].message(2, ['b'])
  one.unsubscribe()
  await settled()
  // The other one still wants it.
  assert.equal(sockets[0].sent.length, 1)
  sockets[0].message(3, ['ac'])
  await settled()
  two.unsubscribe()
  await Promise.all(reading)
  assert.deepEqual(got, { one: [1], two: [1, 2, 3] })
  await settled()
  assert.deepEqual(sockets[0].sent[1].topics, ['a*', 'b'])
  sockets[0].lose()
  clock.step()
  assert.equal(sockets[1].url.searchParams.get('topic'), null)
})

test('a subscription that is ended before the reply is ended after it', async () => {
  const { client, sockets } = disconnected()
  sockets[0].establish()
  const subscription = client.subscribe({ topics: 'a' })
  await settled()
  subscription.unsubscribe()
  await assert.rejects(subscription.reply, { code: 'unsubscribed' })
  sockets[0].tell({ type: 'subscription_response', id: sockets[0].sent[0].id, seq: 0, subscribed_topics: [] })
  await settled()
  assert.deepEqual(sockets[0].sent.map(({ type }) => type), ['subscribe', 'unsubscribe'])
})

test('subscriptions that fit into no URL are made again by frames, before anything is delivered', async () => {
  const template = Array.from({ length: 16 }, (_, n) => ({ [`k${n}`]: 'x'.repeat(3900) }))
  const topics = Array.from({ length: 128 }, (_, n) => `${n}-${'y'.repeat(245)}`)
  for (const [items, frames] of [[{ template }, 1], [{ topics }, 1], [{ topics, template }, 2]]) {
    const { client, sockets, states } = disconnected({ ...items, cursor: 'e:5' })
    assert.equal(sockets[0].url.search, '?token=x')
    sockets[0].establish(9, { limits: { max_inbound_bytes: 65_536, max_inbound_rate: 50 } })
    assert.equal(client.state, 'replaying')
    const { sent } = sockets[0]
    assert.deepEqual([sent.length, ...sent.map(({ since }) => since)], [frames, ...Array(frames).fill('e:5')])
    if (frames > 1) assert.ok(sent[0].topics.length > 0 && sent[0].template.length > 0)
    const got = []
    client.on('message', ({ seq }) => got.push(seq))
    sent.forEach(({ id }, n) => {
      sockets[0].tell({ type: 'subscription_response', id, seq: 9 + n, subscribed_topics: [] })
      sockets[0].message(8 - n)
      sockets[0].message(10 + n)
      sockets[0].tell({ type: 'live', id, seq: 9 + n })
    })
    assert.deepEqual(got, frames === 1 ? [8, 10] : [7, 8, 10, 11])
    assert.deepEqual(states.map(({ state }) => state), ['replaying', 'open'])
    await settled()
    assert.equal(sent.length, frames)
  }
})

test('fields are split so that no part brings more than the whole', () => {
  const parts = split({ topics: ['a', 'b', 'c'], template: [{ k: 'x'.repeat(300) }, { l: 'x'.repeat(300) }] }, 900)
  assert.deepEqual(parts.map((part) => [part.topics?.length ?? 0, part.template?.length ?? 0]), [[3, 1], [0, 1]])
  assert.equal(split({ topics: ['x'.repeat(1000)] }, 900), null)
})

test('a slow loop holds at most its bound, and is told what it missed; the cursor is what it has had', async () => {
  const { client, sockets } = disconnected({ maxQueue: 10 })
  const loop = client.updates()
  sockets[0].establish(0)
  for (let seq = 1; seq <= 1000; seq++) sockets[0].message(seq)
  const got = []
  for (let n = 0; n < 11; n++) {
    const { value } = await loop.next()
    if (value.type === 'message') assert.equal(client.cursor, `e:${value.seq}`)
    got.push(value.type === 'gap' ? [value.reason, value.dropped, value.after, value.next] : value.seq)
  }
  assert.deepEqual(got, [['queue', 990, 0, 991], 991, 992, 993, 994, 995, 996, 997, 998, 999, 1000])
})

test('where the socket can pause, nothing is lost', async () => {
  const { client, clock, sockets } = disconnected({
    maxQueue: 10,
    Socket: (WebSocket) => class extends WebSocket {
      isPaused = false
      pause () { this.isPaused = true }
      resume () { this.isPaused = false }
    }
  })
  const loop = client[Symbol.asyncIterator]()
  sockets[0].establish(0)
  let seq = 0
  const fill = () => { while (!sockets[0].isPaused) sockets[0].message(++seq) }
  fill()
  assert.deepEqual([seq, clock.timers.size], [10, 0])
  for (let n = 1; n <= 100; n++) {
    assert.equal((await loop.next()).value.seq, n)
    fill()
    assert.ok(seq - n <= 10)
  }
  // An answer that stands behind messages is read, however full the queue is.
  const { reply } = client.subscribe({ topics: 'x' })
  await settled()
  assert.equal(sockets[0].isPaused, false)
  const { id } = sockets[0].sent.at(-1)
  sockets[0].tell({ type: 'subscription_response', id, seq, subscribed_topics: [] })
  await reply
  assert.equal(sockets[0].isPaused, true)
})

test('url, headers and token are asked for before every attempt', async () => {
  let calls = 0
  const functions = {
    url: async () => `ws://server/ws?n=${++calls}`,
    headers: () => ({ 'x-n': String(calls) }),
    token: async () => `token-${calls}`
  }
  const { client, clock, sockets } = disconnected(functions)
  await settled()
  sockets[0].establish(3)
  sockets[0].tell({ type: 'token_expires', at: 1 })
  await settled()
  assert.deepEqual(sockets[0].sent, [{ type: 'auth', token: 'token-1', id: 1 }])
  sockets[0].lose(3000)
  clock.step()
  await settled()
  assert.deepEqual(sockets.map(({ url, headers, protocols }) => [url.searchParams.get('n'), headers['x-n'], protocols]), [
    ['1', '1', ['dev-websocket.v1', 'bearer.token-1']], ['2', '2', ['dev-websocket.v1', 'bearer.token-2']]])
  sockets[1].establish(3)
  sockets[1].lose(3003)
  assert.equal(client.state, 'closed')
  await assert.rejects(client.ready(), { code: 3003, fatal: true })
})

test('a function that throws is tried again, unless it says that this is fatal', async () => {
  const errors = [new Error('not yet'), Object.assign(new Error('never'), { fatal: true })]
  const { client, clock, states } = disconnected({ token: () => { throw errors.shift() } })
  await settled()
  assert.deepEqual([states.at(-1).state, states.at(-1).code], ['waiting', 'token'])
  clock.step()
  await settled()
  assert.equal(client.state, 'closed')
})

test('a closed client is not opened by what it waited for', async () => {
  let answer
  const { client, sockets } = disconnected({ url: () => new Promise((resolve) => { answer = resolve }) })
  client.close()
  answer('ws://server/ws')
  await settled()
  assert.deepEqual([sockets.length, client.state], [0, 'closed'])
  assert.throws(() => client.connect(), { code: 'closed' })
  assert.throws(() => client.subscribe({ topics: 'a' }), { code: 'closed' })
})

test('ready and replies end with the client', async () => {
  const { client, sockets } = disconnected()
  const ready = client.ready()
  const { reply } = client.subscribe({ topics: 'a' })
  const aborted = client.ready({ signal: AbortSignal.abort(new Error('enough')) })
  await assert.rejects(aborted, /enough/)
  sockets[0].establish()
  await ready
  client.close()
  await assert.rejects(reply, { code: 'closed' })
  await assert.rejects(client.ready(), { code: 'closed' })
})

test('a signal closes the client', async () => {
  const controller = new AbortController()
  const { client, clock } = disconnected({ signal: controller.signal })
  const reading = (async () => { for await (const _ of client); })()
  controller.abort(new Error('enough'))
  await assert.rejects(reading, /enough/)
  assert.deepEqual([client.state, clock.timers.size], ['closed', 0])
})

test('the network, a look at the page and the end of a sleep make it try at once', () => {
  const document = Object.assign(new EventTarget(), { visibilityState: 'visible' })
  const environment = Object.assign(new EventTarget(), { document })
  const wake = [(clock) => environment.dispatchEvent(new Event('online')), () => document.dispatchEvent(new Event('visibilitychange'))]
  for (const event of wake) {
    const { client, clock, sockets } = disconnected({ environment })
    sockets[0].establish()
    event()
    assert.deepEqual(sockets[0].sent.at(-1), { type: 'ping' })
    sockets[0].lose()
    event()
    assert.deepEqual([client.state, sockets.length], ['connecting', 2])
    client.close()
    event()
    assert.deepEqual([clock.timers.size, sockets.length], [0, 2])
  }
  let now = 0
  let look
  let hurries = 0
  const end = watchEnvironment({}, { wall: () => now, setTimeout: (callback) => { look = callback }, clearTimeout () {} }, () => hurries++)
  for (const late of [5000, 5100, 60_000, 5000]) {
    now += late
    look()
  }
  end()
  assert.equal(hurries, 1)
})

test('a wrong server is not taken for a right one', () => {
  for (const frame of [{ type: 'hello' }, 'text', null]) {
    const { client, sockets, states } = disconnected()
    sockets[0].tell(frame)
    assert.deepEqual([client.state, states.at(-1).code], ['closed', 'bad_server'])
  }
})

test('without a WebSocket the error says how to get one', { skip: globalThis.WebSocket !== undefined }, async () => {
  const client = new Client('ws://127.0.0.1:1/ws')
  await assert.rejects(client.ready(), (error) => error instanceof ClientError && error.fatal && /npm install ws/.test(error.message))
})

test('a subscription knows its messages', () => {
  const fits = (items, frame) => matcherOf(new Selection(items))({ type: 'message', topics: [], data: {}, ...frame })
  assert.ok(fits({ topics: '*' }, {}))
  assert.ok(fits({ topics: 'a*c' }, { topics: ['abc'] }) && !fits({ topics: 'a*c' }, { topics: ['abd'] }))
  assert.ok(fits({ match: '^ro+m' }, { topics: ['room'] }) && !fits({ match: '^ro+m' }, { topics: ['xroom'] }))
  assert.ok(fits({ template: { Kind: '1', n: { a: 2 } } }, { data: { kind: 1, N: { a: 2, b: 3 } } }))
  assert.ok(fits({ template: { kind: 'x' } }, { data: { Tags: [{ name: 'Kind', value: 'x' }] } }))
  assert.ok(!fits({ topics: 'a', template: { kind: 'x' } }, { topics: ['a'] }))
  assert.ok(fits({ template: { slot: 7 } }, { slot: 7 }) && fits({ template: '/compute' }, { path: 'x/compute' }))
  assert.ok(fits({ topics: 'process:p' }, { type: 'gap', topics: undefined, process: 'p' }))
})
