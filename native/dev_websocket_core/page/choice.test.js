import assert from 'node:assert/strict'
import { test } from 'node:test'
import { add, addressOf, chosenAs, choiceOf, isEverything, isProcessId, itemsOf, only, queryOf, refusable, remove, simplify, socketOf } from './choice.js'

const LOCAL = { origin: 'http://localhost:8735', pathname: '/' }

test('an address without a choice is everything', () => {
  for (const search of ['', '?', '?topic=', '?topic=*', '?topic=a,*&match=x', '?last=100']) {
    const choice = choiceOf(search)
    assert.ok(isEverything(choice), search)
    assert.equal(queryOf(choice), '', search)
    assert.deepEqual(itemsOf(choice), { topics: ['*'], match: [], template: [] })
  }
})

test('an address is read as the server reads it, and written so that people can read it', () => {
  const search = '?topic=a,%20b%20,,action:*&topic=a&match=^x%2B+y&process=p1&template=%7B%22a%22:1%7D&last=20&slow=latest&token=t%26'
  const choice = choiceOf(search)
  assert.deepEqual(choice.topic, ['a', 'b', 'action:*'])
  assert.deepEqual(choice.match, ['^x+ y'])
  assert.deepEqual([choice.process, choice.template, choice.last, choice.slow], [['p1'], ['{"a":1}'], 20, 'latest'])
  const query = '?topic=a,b,action:*&process=p1&match=%5Ex%2B%20y&template=%7B%22a%22:1%7D&last=20&slow=latest&token=t%26'
  assert.equal(queryOf(choice), query)
  assert.deepEqual(choiceOf(query), choice)
})

test('any text comes back from the address', () => {
  for (const text of ['&=#?', '100%', '+', ' in between', '<b>"\'', 'grüße', '‮', '😀', '\\u0000', '/ws?x']) {
    for (const kind of ['topic', 'process', 'match', 'template']) {
      const choice = choiceOf('')
      add(choice, kind, `x${text}x`)
      assert.deepEqual(choiceOf(queryOf(choice))[kind], [`x${text}x`], `${kind} ${text}`)
    }
  }
})

test('since goes before last, and the raw format is not for the page', () => {
  assert.equal(queryOf(choiceOf('?since=e:5&last=3&format=raw')), '?since=e:5')
  assert.equal(queryOf(choiceOf('?last=x')), '')
  assert.equal(queryOf(choiceOf('?last=0')), '?last=0')
})

test('a choice changes by what a person does', () => {
  const choice = choiceOf('?topic=a')
  assert.equal(add(choice, 'topic', ' a '), false)
  assert.equal(add(choice, 'topic', ' '), false)
  assert.equal(add(choice, 'template', '{"a":1}'), true)
  assert.equal(queryOf(choice), '?topic=a&template=%7B%22a%22:1%7D')
  remove(choice, 'topic', 'a')
  assert.deepEqual(itemsOf(choice), { topics: [], match: [], template: ['{"a":1}'] })
  only(choice, 'process:p')
  assert.equal(queryOf(choice), '?process=p')
  only(choice, '*')
  assert.ok(isEverything(choice))
})

test('the topic of a process is chosen as the process', () => {
  assert.deepEqual(chosenAs('process:p'), ['process', 'p'])
  assert.deepEqual(chosenAs('process:'), ['topic', 'process:'])
  assert.deepEqual(chosenAs('prices'), ['topic', 'prices'])
  assert.deepEqual(chosenAs('process:*'), ['topic', 'process:*'])
  assert.equal(queryOf(choiceOf('?topic=process:p,a&process=p')), '?topic=a&process=p')
})

test('the WebSocket is beside the page', () => {
  const at = (origin, pathname, search = '') => socketOf({ origin, pathname }, choiceOf(search))
  assert.equal(at('http://localhost:8735', '/'), 'ws://localhost:8735/ws')
  assert.equal(at('https://node.example', '/'), 'wss://node.example/ws')
  assert.equal(at('https://node.example', '/live/'), 'wss://node.example/live/ws')
  assert.equal(at('https://node.example', '/a/live'), 'wss://node.example/a/live/ws')
  assert.equal(at('http://[::1]:80', '/', '?token=a%20b&topic=x'), 'ws://[::1]/ws?token=a+b')
  assert.equal(at('https://node.example', '//evil.example/'), 'wss://node.example//evil.example/ws')
})

test('other clients get the same at an address of its own', () => {
  assert.equal(addressOf(LOCAL, choiceOf('')), 'ws://localhost:8735/ws?topic=*')
  assert.equal(addressOf(LOCAL, choiceOf('?topic=a&last=5')), 'ws://localhost:8735/ws?topic=a&last=5')
})

test('each part of a choice can be asked for by itself', () => {
  const parts = refusable(choiceOf('?match=(&topic=a&template=%7Bx&last=5&token=t'))
  assert.deepEqual(parts.map(({ kind, text, query }) => [kind, text, query]), [
    ['topic', 'a', '?topic=a&token=t'],
    ['match', '(', '?match=(&token=t'],
    ['template', '{x', '?template=%7Bx&token=t']
  ])
})

test('slots are those of one process', () => {
  const id = 'p'.repeat(42) + '_'
  assert.ok(isProcessId(id))
  for (const text of ['', 'p', `${id}p`, `${id.slice(1)}!`, `${id.slice(1)}\n`]) assert.ok(!isProcessId(text), text)
  const choice = choiceOf(`?process=${id}&from-slot=17&last=5`)
  assert.equal(choice.fromSlot, 17)
  assert.equal(queryOf(choice), `?process=${id}&from-slot=17`)
  assert.equal(addressOf(LOCAL, choice), `ws://localhost:8735/ws?process=${id}&from-slot=17`)
  assert.equal(queryOf(choiceOf(`?topic=a&process=${id}&from-slot=0`)), `?topic=a&process=${id}&from-slot=0`)
  // What the server refuses, or would not know of which process.
  for (const search of ['?from-slot=1', '?process=p&from-slot=1', `?process=${id}&process=q&from-slot=1`, `?process=${id}&topic=*&from-slot=1`,
    `?process=${id}&from-slot=x`, `?process=${id}&from-slot=-1`, `?process=${id}&from-slot=1e3`, `?process=${id}&from-slot=${'9'.repeat(16)}`]) {
    assert.equal(choiceOf(search).fromSlot, null, search)
  }
  add(choice, 'process', 'q')
  simplify(choice)
  assert.equal(choice.fromSlot, null)
})
