import assert from 'node:assert/strict'
import { test } from 'node:test'
import { proposals } from './chooser.js'

const TOPICS = ['prices', 'action:Mint', 'process:p1', 'action:Burn', 'from:a', 'x:y']
const values = (kind, text, topics = TOPICS) => proposals(kind, text, topics).map(([value]) => value)

test('topics are proposed that have the text in them, and families of several', () => {
  assert.deepEqual(values('topic', ''), ['action:*', ...TOPICS])
  assert.deepEqual(values('topic', 'ACT'), ['action:*', 'action:Mint', 'action:Burn'])
  assert.deepEqual(values('topic', 'in'), ['action:Mint'])
  assert.deepEqual(values('topic', 'prices'), [])
  assert.equal(values('topic', '', Array.from({ length: 100 }, (_, n) => `t${n}`)).length, 8)
})

test('what begins with the text comes first', () => {
  assert.deepEqual(values('topic', 'pr', ['x:pr', 'prices', 'apr']), ['prices', 'x:pr', 'apr'])
})

test('processes and templates are made of topics', () => {
  assert.deepEqual(values('process', ''), ['p1'])
  assert.deepEqual(values('template', 'mint'), ['{"action":"Mint"}'])
  assert.deepEqual(values('template', ''), ['{"action":"Mint"}', '{"action":"Burn"}', '{"x":"y"}'])
  assert.deepEqual(values('match', ''), [])
})
