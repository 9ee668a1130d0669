import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Names } from './names.js'

const tails = (names, of = names) => {
  const known = new Names(names)
  return of.map((name) => name.slice(known.splitOf(name)))
}

test('a long name is parted where it differs', () => {
  const rooms = Array.from({ length: 500 }, (_, n) => `sensor/building-0/room-${n}/temperature`)
  const cut = tails(rooms).map((tail) => tail.slice(0, 12))
  assert.equal(new Set(cut).size, 500)
  assert.deepEqual(tails(['sensor/building-0/room-17/heat', 'sensor/building-0/room-18/heat']), ['room-17/heat', 'room-18/heat'])
})

test('numbers stay whole', () => {
  assert.deepEqual(tails(['price:8.23', 'price:8.25']), ['8.23', '8.25'])
})

test('names that differ at once, or alone, stay whole', () => {
  assert.deepEqual(tails(['prices', 'news', 'pricing']), ['prices', 'news', 'pricing'])
  assert.deepEqual(tails(['sensor/building-0/room-1']), ['sensor/building-0/room-1'])
})

test('what others continue keeps its last piece', () => {
  assert.deepEqual(tails(['sensor/building', 'sensor/building/room']), ['building', 'building/room'])
})

test('a long piece is parted a little before the difference', () => {
  const same = 'x'.repeat(40)
  assert.deepEqual(tails([`${same}1`, `${same}2`]), [`${'x'.repeat(12)}1`, `${'x'.repeat(12)}2`])
})

test('a name that is not among them is parted as well, and no character is halved', () => {
  assert.deepEqual(tails(['sensor/building-0/a'], ['sensor/building-0/b']), ['b'])
  const same = '🏴'.repeat(20)
  for (const tail of tails([`${same}1`, `${same}2`])) assert.ok(!/^[\udc00-\udfff]/.test(tail), tail)
  assert.deepEqual(tails(['aaaaaaaaaaaaaaaaaaaa'], ['']), [''])
})

test('names are the same in any order', () => {
  assert.ok(new Names(['b', 'a', 'b']).equals(new Names(['a', 'b'])))
  for (const other of [[], ['a'], ['a', 'c'], ['a', 'b', 'c']]) assert.ok(!new Names(['a', 'b']).equals(new Names(other)))
})
