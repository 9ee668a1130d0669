import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Rates, SPAN, Window, area, fold, median } from './rates.js'

/** The series without its leading zeros. */
const tail = (series) => series.slice(series.findIndex((count) => count > 0))

test('counts stand in their seconds, and go when they are old', () => {
  const window = new Window(1000)
  for (const second of [1000, 1000, 1001, 1003]) window.count(second)
  assert.deepEqual(tail(window.series(1004)), [2, 1, 0, 1])
  assert.equal(window.series(1004).length, SPAN - 1)
  assert.deepEqual(tail(window.series(1003)), [2, 1, 0])
  assert.deepEqual(tail(window.series(1000 + SPAN)), [1, 0, 1, ...new Array(SPAN - 4).fill(0)])
  window.count(1000 + SPAN)
  assert.deepEqual(tail(window.series(1001 + SPAN)), [0, 1, ...new Array(SPAN - 4).fill(0), 1].slice(1))
  assert.ok(window.series(5000).every((count) => count === 0))
  assert.deepEqual([window.total, window.recent], [5, 0])
})

test('the rate is the mean of the last whole seconds, of as many as there were', () => {
  const window = new Window(10)
  assert.equal(window.rate(10), 0)
  for (let n = 0; n < 6; n++) window.count(10)
  assert.equal(window.rate(10), 0)
  assert.equal(window.rate(11), 6)
  assert.equal(window.rate(12), 3)
  assert.equal(window.rate(15), 1.2)
  assert.equal(window.rate(16), 0)
})

test('the busiest topics come first', () => {
  const rates = new Rates(0)
  rates.count(['old', 'old2'], 0)
  rates.count(['old'], 0)
  rates.count(['a', 'b'], 100)
  rates.count(['b'], 100)
  rates.count([], 100)
  assert.deepEqual(rates.busiest(101), ['b', 'a', 'old', 'old2'])
  assert.equal(rates.all.total, 5)
  assert.equal(rates.all.rate(101), 3 / 5)
  rates.count(['b'], 101, false)
  assert.deepEqual(rates.list(101).at(-1), { topic: 'b', total: 3, recent: 2 })
  assert.deepEqual(tail(rates.paceOf({ topic: 'b' }, 101).series), [2])
  assert.deepEqual(rates.paceOf({ topic: 'absent' }, 101), { rate: 0, series: [] })
})

test('all topics of a key are counted together', () => {
  const rates = new Rates(0)
  for (const topic of ['price:1', 'price:2', 'price', ':', ':x', 'price:']) rates.count([topic], 10)
  assert.deepEqual(rates.family('price', 11), { total: 2, recent: 2 })
  assert.deepEqual(tail(rates.paceOf({ topic: 'price:*', key: 'price' }, 11).series), [2])
  assert.deepEqual(rates.family('', 11), { total: 0, recent: 0 })
})

test('topics and keys without end take no memory without end', () => {
  const rates = new Rates(0)
  for (let n = 0; n < 5000; n++) rates.count(['kept', `once${n}:${n}`], 0)
  const topics = rates.busiest(0)
  assert.equal(topics.length, 1000)
  assert.ok(topics.includes('kept') && topics.includes('once4999:4999') && !topics.includes('once0:0'))
  assert.deepEqual([rates.family('once4999', 0).total, rates.family('once0', 0).total], [1, 0])
})

test('a folded series has the newest seconds', () => {
  assert.deepEqual(fold([9, 1, 2, 3, 4], 2), [3, 7])
  assert.deepEqual(fold([1, 2], 2), [3])
})

test('an area spans its box', () => {
  assert.equal(area([0, 2, 1], 10, 5).line, 'M0,5L5,1L10,3')
  assert.equal(area([0, 0], 10, 5).area, 'M0,5L0,5L10,5L10,5Z')
})

test('the median is in the middle', () => {
  assert.deepEqual([median([]), median([3]), median([9, 1, 5])], [null, 3, 5])
})
