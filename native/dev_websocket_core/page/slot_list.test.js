import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SlotList, outputOf, partsOf, summaryOf } from './slot_list.js'

const ID = 'p'.repeat(43)
const result = (slot, more = {}) => ({ type: 'message', process: ID, slot, data: { type: 'result', process: ID, slot, 'outbox-count': 0, ...more } })
const message = (slot, n) => ({ type: 'message', process: ID, slot, from: [ID], data: { n } })
const gap = (from, to, reason = 'not_cached') => ({ type: 'gap', process: ID, reason, from_slot: from, to_slot: to })
const shown = (slots) => slots.items.map(({ kind, slot, parts }) => kind === 'gap' ? `gap ${slot}` : `${slot}:${parts.map(({ data }) => data.n)}`)

test('frames of a slot are one item', () => {
  const slots = new SlotList(3)
  for (const frame of [result(3), message(3, 1), message(3, 2), result(4)]) assert.ok(slots.take(frame, 10))
  assert.deepEqual(shown(slots), ['3:1,2', '4:'])
  assert.equal(slots.next, 4)
  assert.equal(slots.live, null)
  assert.ok(slots.take({ type: 'live', process: ID, slot: 5, seq: 9 }, 10))
  assert.deepEqual([slots.live, slots.next], [5, 5])
  slots.lost()
  assert.equal(slots.live, null)
})

test('a slot that is read again takes the place of what was there', () => {
  const slots = new SlotList(0)
  for (const frame of [result(0), message(0, 1), result(1), message(1, 1)]) slots.take(frame, 10)
  // The connection was lost in the middle of slot 1.
  slots.lost()
  assert.equal(slots.next, 1)
  for (const frame of [result(1), message(1, 1), message(1, 2)]) slots.take(frame, 10)
  assert.deepEqual(shown(slots), ['0:1', '1:1,2'])
})

test('late slots and gaps stand where they belong', () => {
  const slots = new SlotList(0)
  for (const frame of [result(0), gap(1, 2), result(3)]) slots.take(frame, 10)
  assert.deepEqual(shown(slots), ['0:', 'gap 1', '3:'])
  assert.equal(slots.next, 3)
  // The same gap again, as a replay tells it.
  slots.take(gap(1, 2), 10)
  assert.deepEqual(shown(slots), ['0:', 'gap 1', '3:'])
  slots.take(result(2), 10)
  assert.deepEqual(shown(slots), ['0:', 'gap 1', '2:', '3:'])
  assert.equal(slots.next, 3)
  slots.take({ type: 'gap', process: ID, reason: 'limit' }, 0)
  assert.equal(slots.items.at(-1).frame.reason, 'limit')
})

test('what is no part of a slot changes nothing', () => {
  const slots = new SlotList(0)
  for (const frame of [null, { type: 'pong' }, { type: 'message', data: {} }, message(7, 1), { type: 'gap', reason: 'slow' }]) assert.equal(slots.take(frame, 1), false)
  // A message that poses as a result is a message: its sender is the process.
  slots.take(result(0), 1)
  slots.take({ ...message(0, 1), data: { type: 'result', n: 1 } }, 1)
  assert.deepEqual(shown(slots), ['0:1'])
  assert.equal(slots.next, 0)
})

test('the newest slots are kept', () => {
  const slots = new SlotList(0)
  for (let slot = 0; slot < 1000; slot++) slots.take(result(slot), 10)
  assert.equal(slots.items.length, 200)
  assert.equal(slots.items[0].slot, 800)
  slots.take(result(1000), 9_000_000)
  assert.deepEqual(shown(slots), ['1000:'])
})

test('an output is found in the places that programs use', () => {
  for (const output of ['a', { data: 'a' }, { data: { output: 'a' } }, { body: 'a' }, { print: 'a' }, { data: '', print: true, body: 'a' }]) {
    assert.equal(outputOf({ output }), 'a')
  }
  assert.equal(outputOf({ data: 'a' }), 'a')
  assert.equal(outputOf({ data: { output: '\u001b[31ma\u001b[0m' } }), 'a')
  for (const nothing of [{}, { output: {} }, { output: { data: { $size: 5, $get: '/x' } } }, { output: null }, { output: 5 }]) assert.equal(outputOf(nothing), null)
})

test('a slot is summed up in a line', () => {
  assert.deepEqual(summaryOf({ result: { output: '\n  one \ntwo' } }), { isError: false, text: 'one' })
  assert.deepEqual(summaryOf({ result: { error: { message: 'x' }, output: 'a' } }), { isError: true, text: '{"message":"x"}' })
  assert.deepEqual(summaryOf({ result: {} }), { isError: false, text: '' })
})

test('messages come before events', () => {
  const parts = ['a', 'b', 'c']
  assert.deepEqual(partsOf({ result: { 'outbox-count': 2 }, parts }), { messages: ['a', 'b'], events: ['c'] })
  assert.deepEqual(partsOf({ result: {}, parts: [] }), { messages: [], events: [] })
})
