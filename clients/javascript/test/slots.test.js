import assert from 'node:assert/strict'
import { test } from 'node:test'
import { disconnected, settled } from './fake.js'

const P = 'p'.repeat(43)
const Q = 'q'.repeat(43)

/** The events of a slot: its result, and its messages. */
function events (process, slot, count = 1) {
  const path = `/${process}~process@1.0/compute&slot=${slot}`
  const frame = { type: 'message', timestamp: 0, topics: [`process:${process}`], process, slot }
  const messages = Array.from({ length: count }, (_, n) => ({ ...frame, path: `${path}/results/outbox/${n + 1}`, data: { n } }))
  return [{ ...frame, path, data: { type: 'result', slot, 'outbox-count': count } }, ...messages]
}

/** A client of processes on scripted sockets, and its events as `slot.part`. */
function follower (options = {}) {
  const all = disconnected({ process: P, ...options })
  const given = []
  all.client.on('message', ({ slot, path }) => given.push(`${slot}.${/outbox\/(\d+)/.exec(path)?.[1] ?? 0}`))
  const gaps = []
  all.client.on('gap', (gap) => gaps.push(gap))
  let seq = 0
  const tell = (frames, more) => { for (const frame of frames) all.sockets.at(-1).tell({ ...frame, ...more ?? { seq: ++seq } }) }
  const restart = (epoch, from = 0) => {
    all.sockets.at(-1).lose()
    all.clock.step()
    seq = from
    all.sockets.at(-1).establish(from, { epoch })
  }
  const asked = () => all.sockets.at(-1).asked('subscribe').map((frame) => [frame.process, frame['from-slot'], frame.id])
  const reply = (id) => all.sockets.at(-1).tell({ type: 'subscription_response', id, seq, subscribed_topics: [] })
  const live = (id, slot, process = P) => all.sockets.at(-1).tell({ type: 'live', id, process, slot, seq })
  return { ...all, given, gaps, tell, restart, asked, reply, live, replayed: { replayed: true } }
}

const EPOCH = { type: 'gap', reason: 'epoch', dropped: 0, after: 0, next: 1 }

test('a slot is whole when its last message or an event of a later one is there', () => {
  const { client, sockets, tell } = follower()
  sockets[0].establish()
  const [result, one, two] = events(P, 4, 2)
  const whole = [[result, 3], [one, 3], [two, 4], [events(P, 5, 0)[0], 5], [events(P, 6, 3)[0], 5], [events(P, 7, 1)[0], 6]]
  for (const [event, slot] of whole) {
    tell([event])
    assert.deepEqual(client.slots, { [P]: slot })
  }
})

test('with templates a slot is whole when a later one is there', () => {
  const { client, sockets, tell } = follower({ template: { n: 0 } })
  sockets[0].establish()
  tell(events(P, 4, 1))
  assert.deepEqual(client.slots, { [P]: 3 })
  tell(events(P, 5, 1).slice(1))
  assert.deepEqual(client.slots, { [P]: 4 })
})

test('only processes that are subscribed to by name have slots', () => {
  const { client, sockets, tell } = follower({ process: Q, topics: '*' })
  sockets[0].establish()
  tell([...events(P, 4), ...events(Q, 7)])
  assert.deepEqual(client.slots, { [Q]: 7 })
})

test('the slots are those of the message in hand', async () => {
  const { client, sockets, tell } = follower()
  const loop = client[Symbol.asyncIterator]()
  sockets[0].establish()
  tell([...events(P, 0), ...events(P, 1)])
  for (const slot of [-1, 0, 0, 1]) {
    await loop.next()
    assert.deepEqual(client.slots, { [P]: slot })
  }
})

test('behind a gap of an epoch or of the history, slots are asked for, and each event comes once', () => {
  for (const reason of ['epoch', 'expired']) {
    const { client, sockets, given, gaps, tell, restart, asked, reply, live, replayed } = follower()
    sockets[0].establish()
    tell([...events(P, 0), ...events(P, 1, 2).slice(0, 2)])
    restart('f', 9)
    tell([{ ...EPOCH, reason }], {})
    // Those that the history has are replayed, too.
    tell(events(P, 3))
    sockets[1].tell({ type: 'live', seq: 9 })
    const [[process, slot, id]] = asked()
    assert.deepEqual([process, slot], [P, 1])
    tell(events(P, 4))
    reply(id)
    for (const [slot, count] of [[1, 2], [2, 1], [3, 1]]) tell(events(P, slot, count), replayed)
    tell(events(P, 4), replayed)
    assert.equal(client.slots[P], 4)
    live(id, 5)
    tell(events(P, 5))
    assert.deepEqual(given, ['0.0', '0.1', '1.0', '1.1', '1.2', '2.0', '2.1', '3.0', '3.1', '4.0', '4.1', '5.0', '5.1'])
    assert.deepEqual(gaps.map((gap) => gap.reason), [reason])
    assert.equal(asked().length, 1)
  }
})

test('other gaps ask for nothing', () => {
  for (const reason of ['slow', 'overload', 'fault']) {
    const { sockets, gaps, tell, asked } = follower()
    sockets[0].establish()
    tell(events(P, 0))
    tell([{ ...EPOCH, reason }], {})
    assert.deepEqual([gaps.length, asked().length], [1, 0])
  }
})

test('slots that nobody followed are asked for in the place of their gap', () => {
  const { sockets, given, gaps, tell, asked, reply, live, replayed } = follower()
  sockets[0].establish()
  // Slots before the client are not its own.
  const gap = { type: 'gap', reason: 'not_followed', process: P, from_slot: 1, to_slot: 3, dropped: 3, timestamp: 0 }
  tell([gap])
  assert.deepEqual([gaps.length, asked().length], [1, 0])
  tell(events(P, 4))
  tell([{ ...gap, from_slot: 5, to_slot: 6, dropped: 2 }])
  tell(events(P, 7))
  assert.equal(gaps.length, 1)
  // The connection is open, so it is asked at the next occasion.
  assert.deepEqual(asked().map(([process, slot]) => [process, slot]), [[P, 5]])
  reply(1)
  for (const slot of [5, 6, 7]) tell(events(P, slot), replayed)
  live(1, 8)
  assert.deepEqual(given, ['4.0', '4.1', '5.0', '5.1', '6.0', '6.1', '7.0', '7.1'])
})

test('a recovery that is cut off goes on where it was', () => {
  const { sockets, given, tell, restart, asked, reply, live, replayed } = follower()
  sockets[0].establish()
  tell(events(P, 0))
  restart('f')
  tell([EPOCH], {})
  sockets[1].tell({ type: 'live', seq: 0 })
  reply(asked()[0][2])
  tell([...events(P, 1), ...events(P, 2).slice(0, 1)], replayed)
  restart('f')
  sockets[2].tell({ type: 'live', seq: 0 })
  const [[, slot, id]] = asked()
  assert.equal(slot, 2)
  reply(id)
  tell(events(P, 2), replayed)
  live(id, 3)
  tell(events(P, 3))
  assert.deepEqual(given, ['0.0', '0.1', '1.0', '1.1', '2.0', '2.1', '3.0', '3.1'])
})

test('slots that a replay reports as missing come late, once', () => {
  const { sockets, given, gaps, tell, restart, asked, reply, live, replayed } = follower()
  sockets[0].establish()
  tell(events(P, 0))
  restart('f')
  tell([EPOCH], {})
  sockets[1].tell({ type: 'live', seq: 0 })
  const [[, , id]] = asked()
  reply(id)
  tell([{ type: 'gap', reason: 'not_cached', process: P, from_slot: 1, to_slot: 2, dropped: 2, timestamp: 0 }], replayed)
  // This one was published meanwhile.
  tell(events(P, 2))
  tell(events(P, 3), replayed)
  live(id, 4)
  tell(events(P, 1))
  assert.deepEqual(given, ['0.0', '0.1', '3.0', '3.1', '2.0', '2.1', '1.0', '1.1'])
  assert.deepEqual(gaps.map(({ reason }) => reason), ['epoch', 'not_cached'])
})

test('one process after the other is asked for', () => {
  const { sockets, tell, restart, asked, reply, live } = follower({ process: [P, Q] })
  sockets[0].establish()
  tell([...events(P, 0), ...events(Q, 5)])
  restart('f')
  tell([EPOCH], {})
  sockets[1].tell({ type: 'live', seq: 0 })
  assert.deepEqual(asked().map(([process, slot]) => [process, slot]), [[P, 1]])
  reply(asked()[0][2])
  live(asked()[0][2], 1)
  assert.deepEqual(asked().map(([process, slot]) => [process, slot]), [[P, 1], [Q, 6]])
})

test('the client begins with the slots that it is given, and asks for them once', () => {
  for (const options of [{ fromSlot: { [P]: 3 } }, { slots: { [P]: 2 } }, { slots: { [P]: 2 }, fromSlot: { [P]: 0 } }, { url: `ws://server/ws?process=${P}&from-slot=3` }]) {
    const { client, sockets, asked, reply, live, clock, tell } = follower({ process: 'url' in options ? undefined : P, ...options })
    assert.equal(sockets[0].url.searchParams.get('from-slot'), null)
    assert.equal(sockets[0].url.searchParams.get('topic'), `process:${P}`)
    sockets[0].establish()
    const [[process, slot, id]] = asked()
    assert.deepEqual([process, slot], [P, 3])
    reply(id)
    live(id, 3)
    tell(events(P, 3))
    sockets[0].lose()
    clock.step()
    sockets[1].establish(2)
    sockets[1].tell({ type: 'live', seq: 2 })
    assert.deepEqual([asked(), client.slots], [[], { [P]: 3 }])
  }
  const unfit = [{ slots: 5 }, { slots: { x: 1 } }, { slots: { [P]: -2 } }, { fromSlot: { [P]: -1 } }, { fromSlot: { [P]: 1.5 } }, { fromSlot: { [P]: '1' } }, { slots: [1] }]
  for (const options of unfit) assert.throws(() => disconnected(options), (error) => error instanceof TypeError || error instanceof RangeError, JSON.stringify(options))
  for (const query of ['from-slot=1', `process=${P}&from-slot=x`, `process=${P}&process=${Q}&from-slot=1`]) {
    assert.throws(() => disconnected({ url: `ws://server/ws?${query}` }), TypeError)
  }
})

test('a process that is subscribed to later gets its slots then', async () => {
  const { client, sockets, asked } = follower({ process: undefined, slots: { [P]: 2 } })
  sockets[0].establish()
  assert.deepEqual(asked(), [])
  client.subscribe({ topics: `process:${P}` })
  await settled()
  sockets[0].tell({ type: 'subscription_response', id: 1, seq: 0, subscribed_topics: [] })
  assert.deepEqual(asked().at(-1).slice(0, 2), [P, 3])
})

test('a refusal that passes is tried again, and told in the end with all that came meanwhile', () => {
  for (const [refusals, isTold] of [[3, false], [11, true]]) {
    const { client, clock, sockets, given, gaps, tell, asked, reply, live, replayed } = follower({ slots: { [P]: 0 }, pingInterval: 0 })
    const errors = []
    client.on('error', (error) => errors.push([error.code, error.fatal]))
    sockets[0].establish()
    for (let n = 0; n < refusals; n++) {
      const id = asked().at(-1)[2]
      if (n === 1) {
        // It may also fail behind the reply; the gap and the live slot are not the last word.
        reply(id)
        sockets[0].tell({ type: 'error', id, code: 'replay_failed', message: 'no' })
        tell([{ type: 'gap', reason: 'not_replayed', process: P, from_slot: 1, to_slot: 3, dropped: 3, timestamp: 0 }], replayed)
        live(id, 4)
        tell(events(P, 4))
      } else sockets[0].tell({ type: 'error', id, code: 'too_many_slot_replays', message: 'later' })
      assert.equal(asked().length, n + 1)
      if (n < 10) clock.step()
    }
    assert.deepEqual([errors.length, new Set(errors.map(([, fatal]) => fatal))], [refusals, new Set([false])])
    if (isTold) {
      assert.deepEqual([gaps, given], [[{ type: 'gap', reason: 'not_replayed', process: P, from_slot: 1, to_slot: 3, dropped: 3 }], ['4.0', '4.1']])
      assert.equal(clock.timers.size, 0)
    } else {
      const id = asked().at(-1)[2]
      reply(id)
      for (const slot of [1, 2, 3, 4]) tell(events(P, slot), replayed)
      live(id, 5)
      assert.deepEqual([gaps, given], [[], ['1.0', '1.1', '2.0', '2.1', '3.0', '3.1', '4.0', '4.1']])
    }
  }
})

test('a refusal that stays is told at once', () => {
  const { client, clock, sockets, gaps, given, tell, asked } = follower({ slots: { [P]: 0 }, pingInterval: 0 })
  sockets[0].establish()
  sockets[0].tell({ type: 'error', id: asked()[0][2], code: 'unknown_field', message: 'an older server' })
  tell(events(P, 4))
  assert.deepEqual([gaps, given, clock.timers.size], [[{ type: 'gap', reason: 'not_replayed', process: P, from_slot: 1 }], ['4.0', '4.1'], 0])
  assert.equal(client.slots[P], 4)
})

test('events that are held have a bound', () => {
  const { sockets, gaps, given, tell, asked } = follower({ slots: { [P]: 0 }, pingInterval: 0, maxQueue: 10 })
  sockets[0].establish()
  for (let slot = 3; slot < 100; slot++) tell(events(P, slot))
  sockets[0].tell({ type: 'error', id: asked()[0][2], code: 'forbidden', message: 'no' })
  assert.deepEqual([gaps[0].from_slot, gaps[0].to_slot], [1, 94])
  assert.deepEqual(given, [95, 96, 97, 98, 99].flatMap((slot) => [`${slot}.0`, `${slot}.1`]))
})

test('a stream of events asks for slots in its URL', async () => {
  const asked = []
  const fetch = async (url) => {
    asked.push(Object.fromEntries(new URL(url).searchParams))
    return new Promise(() => {})
  }
  const { client } = disconnected({ process: P, slots: { [P]: 2 }, cursor: 'e:5', transport: 'events', fetch })
  await settled()
  assert.deepEqual(asked, [{ token: 'x', topic: `process:${P}`, process: P, 'from-slot': '3', lastEventId: `e:5;${P}:3` }])
  client.close()
})

/** A server that keeps slots, publishes, forgets and restarts as chance has it, as the protocol says. */
class Server {
  slots = []
  epoch = 0
  log = []
  seq = 0
  published = 0
  socket = null
  replay = null
  liveFrom = 0
  isAway = false

  constructor (random) { this.random = random }

  compute () { this.slots.push(Math.floor(this.random() * 4)) }

  /** The next slot goes out. */
  publish () {
    if (this.published >= this.slots.length) return
    for (const event of events(P, this.published, this.slots[this.published])) {
      const frame = { ...event, seq: ++this.seq }
      this.log.push(frame)
      if (this.socket !== null && this.replay === null && event.slot >= this.liveFrom) this.socket.tell(frame)
      // A connection may be cut between any two events.
      if (this.random() < 0.05) this.cut()
    }
    this.published++
  }

  accept (socket) {
    this.socket = socket
    this.replay = null
    this.liveFrom = 0
    this.taken = 0
    const [epoch, seq] = (socket.url.searchParams.get('since') ?? '').split(':')
    socket.establish(this.seq, { epoch: `e${this.epoch}` })
    if (seq === undefined) return
    const isOther = epoch !== `e${this.epoch}`
    const rest = this.log.filter((frame) => isOther || frame.seq > Number(seq))
    if (isOther) socket.tell({ ...EPOCH, next: this.log[0]?.seq ?? this.seq + 1 })
    else if (Number(seq) < (this.log[0]?.seq ?? this.seq + 1) - 1) socket.tell({ ...EPOCH, reason: 'expired', after: Number(seq) })
    for (const frame of rest) socket.tell(frame)
    socket.tell({ type: 'live', seq: this.seq })
  }

  /** Takes requests, and replays one event. */
  step () {
    const { socket } = this
    if (socket === null) return
    if (this.replay === null) {
      const request = socket.sent.slice(this.taken).find((frame) => frame['from-slot'] !== undefined)
      this.taken = request === undefined ? socket.sent.length : socket.sent.indexOf(request) + 1
      if (request === undefined) return
      if (this.random() < 0.2) return socket.tell({ type: 'error', id: request.id, code: 'too_many_slot_replays', message: '' })
      this.replay = { id: request.id, slot: request['from-slot'], part: 0 }
      return socket.tell({ type: 'subscription_response', id: request.id, seq: this.seq, subscribed_topics: [] })
    }
    const { replay } = this
    if (replay.slot >= this.published) {
      this.replay = null
      this.liveFrom = replay.slot
      return socket.tell({ type: 'live', id: replay.id, process: P, slot: replay.slot, seq: this.seq })
    }
    const parts = events(P, replay.slot, this.slots[replay.slot])
    socket.tell({ ...parts[replay.part++], replayed: true })
    if (replay.part === parts.length) Object.assign(replay, { slot: replay.slot + 1, part: 0 })
  }

  cut () {
    const { socket } = this
    this.socket = this.replay = null
    socket?.lose()
  }

  restart () {
    this.cut()
    this.epoch++
    this.log = []
    this.seq = 0
    // Slots that were computed and not published are old by then.
    this.published = this.slots.length
  }

  expire () {
    this.log = this.log.slice(Math.floor(this.random() * (this.log.length + 1)))
  }
}

/** Numbers that are the same with each seed. */
function randomOf (seed) {
  let state = seed
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
}

test('whatever happens to the connection and the server, each event comes once and in order', () => {
  for (let seed = 1; seed <= 300; seed++) {
    const random = randomOf(seed)
    const server = new Server(random)
    const { client, clock, sockets, given, gaps } = follower({ fromSlot: { [P]: 0 }, pingInterval: 0, stableAfter: 0 })
    let accepted = 0
    const serve = () => {
      while (accepted < sockets.length) server.accept(sockets[accepted++])
    }
    const acts = [[6, () => server.compute()], [8, () => server.publish()], [20, () => server.step()], [2, () => server.cut()], [1, () => server.restart()],
      [1, () => server.expire()], [6, () => { if (clock.timers.size > 0) clock.step() }]]
    const total = acts.reduce((sum, [weight]) => sum + weight, 0)
    for (let n = 0; n < 400; n++) {
      let at = random() * total
      acts.find(([weight]) => (at -= weight) < 0)[1]()
      serve()
    }
    for (let n = 0; n < 20_000 && (server.published < server.slots.length || server.socket === null || client.slots[P] < server.slots.length - 1 || server.replay !== null); n++) {
      if (server.published < server.slots.length) server.publish()
      if (clock.timers.size > 0) clock.step()
      serve()
      server.step()
    }
    const expected = server.slots.flatMap((count, slot) => Array.from({ length: count + 1 }, (_, part) => `${slot}.${part}`))
    assert.deepEqual(given, expected, `seed ${seed}`)
    assert.deepEqual([client.slots, gaps.filter(({ process }) => process !== undefined)], [{ [P]: server.slots.length - 1 }, []], `seed ${seed}`)
    client.close()
  }
})
