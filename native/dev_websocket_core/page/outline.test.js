import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MAX_ROWS, outline } from './outline.js'
import { Rates } from './rates.js'

const shown = (given) => outline({ rates: new Rates(0), known: [], second: 100, ...given }).rows.map(({ kind, topic }) => kind === 'heading' ? '-' : topic)

test('topics of one key are folded, and counted together', () => {
  const rates = new Rates(0)
  for (let n = 0; n < 152; n++) rates.count(['prices', `price:${n}`, `seq:${n}`], 98)
  rates.count(['action:Mint'], 98)
  assert.deepEqual(shown({ rates }), ['price:*', 'prices', 'seq:*', 'action:Mint'])
  const { rows, total } = outline({ rates, known: [], second: 100 })
  assert.deepEqual([rows[0].count, rows[0].total, rows[0].recent, total], [152, 152, 152, 306])
})

test('a family counts what is forgotten of its members', () => {
  const rates = new Rates(0)
  for (let n = 0; n < 5000; n++) rates.count([`seq:${n}`, 'prices'], 98)
  const { rows } = outline({ rates, known: [], second: 100 })
  assert.deepEqual(rows.map(({ topic, total }) => [topic, total]), [['prices', 5000], ['seq:*', 5000]])
})

test('few topics of a key stand for themselves, and an unfolded family shows its busiest', () => {
  const rates = new Rates(0)
  for (const action of ['Mint', 'Burn', 'Mint']) rates.count([`action:${action}`], 98)
  assert.deepEqual(shown({ rates }), ['action:Mint', 'action:Burn'])
  for (let n = 0; n < 50; n++) rates.count([`price:${n % 30}`], 98)
  const members = shown({ rates, open: new Set(['price']) })
  assert.deepEqual(members.slice(0, 3), ['price:*', 'price:0', 'price:1'])
  assert.equal(members.length, 1 + MAX_ROWS + 2)
})

test('what is chosen stands first though it is quiet, and the rest of the server below a heading', () => {
  const rates = new Rates(0)
  const known = ['alpha', 'beta', 'quiet', ...Array.from({ length: 9 }, (_, n) => `day:${n}`)]
  assert.deepEqual(shown({ rates, known, chosen: ['quiet'] }), ['quiet', '-', 'alpha', 'beta', 'day:*'])
  rates.count(['loud'], 98)
  assert.deepEqual(shown({ rates, known, chosen: ['day:3'] }), ['day:3', 'loud', '-', 'alpha', 'beta', 'day:*', 'quiet'])
})

test('one topic is found among thousands', () => {
  const known = Array.from({ length: 5000 }, (_, n) => `old-prices/${n}`)
  known.splice(2500, 0, 'prices', 'prices/ar', 'x:prices')
  const { rows, total } = outline({ rates: new Rates(0), known, second: 1, search: 'Prices' })
  assert.deepEqual(rows.slice(0, 3).map(({ topic }) => topic), ['prices', 'prices/ar', 'x:prices'])
  assert.equal(total, 5003)
  assert.deepEqual(shown({ known, search: 'prices 4999' }), ['old-prices/4999'])
  assert.deepEqual(shown({ known, search: 'absent' }), [])
  assert.equal(shown({ known }).length, MAX_ROWS + 1)
})
