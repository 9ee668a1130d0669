import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Stream, jsonLines } from './stream.js'

const message = (seq, more = {}) => {
  return { kind: 'message', size: 100, frame: { type: 'message', seq, topics: [], data: null, cursor: `e:${seq}`, size: 100, ...more } }
}
const seqs = (entries) => entries.map(({ frame }) => frame.seq)

test('what arrives waits, is taken and counted', () => {
  const stream = new Stream()
  stream.add(message(1))
  stream.add(message(2))
  assert.deepEqual([stream.waiting, stream.entries], [2, []])
  stream.take()
  assert.deepEqual([seqs(stream.entries), stream.waiting], [[1, 2], 0])
  stream.add(message(3))
  stream.take()
  assert.deepEqual(seqs(stream.entries), [1, 2, 3])
  stream.add(message(4))
  stream.clear()
  assert.deepEqual([stream.waiting, stream.entries], [0, []])
  stream.take()
  assert.deepEqual(stream.entries, [])
})

test('the newest 500 are kept, also of what waits', () => {
  const stream = new Stream()
  stream.add(message(1))
  stream.take()
  for (let seq = 2; seq <= 502; seq++) stream.add(message(seq))
  stream.take()
  assert.deepEqual([stream.entries.length, seqs(stream.entries)[0]], [500, 3])
  for (let seq = 503; seq <= 5000; seq++) stream.add(message(seq))
  assert.equal(stream.waiting, 4498)
  stream.take()
  assert.deepEqual([stream.entries.length, seqs(stream.entries)[0]], [500, 4501])
})

test('large messages are kept as far as there is room, the newest always', () => {
  const stream = new Stream()
  for (let seq = 1; seq <= 10; seq++) stream.add({ ...message(seq), size: 1_000_000 })
  stream.take()
  assert.deepEqual(seqs(stream.entries), [3, 4, 5, 6, 7, 8, 9, 10])
  stream.add({ ...message(11), size: 50_000_000 })
  stream.take()
  assert.deepEqual(seqs(stream.entries), [11])
  stream.add(message(12))
  stream.take()
  assert.deepEqual(seqs(stream.entries), [12])
})

test('a filter finds words anywhere in an entry', () => {
  const stream = new Stream()
  const entry = message(77, { topics: ['action:Mint'], process: 'P1', slot: 5, data: { note: 'Für "dich"', '<b>': [1.5] } })
  const gap = { kind: 'gap', size: 0, frame: { type: 'gap', reason: 'expired', dropped: 3 } }
  stream.add(entry)
  stream.add(gap)
  stream.take()
  for (const [text, found] of [
    ['', true], ['  ', true], ['MINT', true], ['mint p1', true], ['mint absent', false], ['77', true], ['für', true], ['<b>', true], ['1.5', true],
    ['"slot":5', true], ['message', false]
  ]) {
    stream.filter = text
    assert.equal(stream.matching.includes(entry), found, text)
  }
  stream.filter = 'expired'
  assert.deepEqual(stream.matching, [gap])
})

test('JSON lines are the frames as they came', () => {
  const line = '{"type":"message","seq":1,"topics":["a\\nb"],"data":null}\n'
  assert.equal(jsonLines([message(1, { topics: ['a\nb'] }), message(1, { topics: ['a\nb'] })]), line + line)
})
