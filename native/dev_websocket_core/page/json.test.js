import assert from 'node:assert/strict'
import { test } from 'node:test'
import { preview, pretty, visible } from './json.js'

const text = (pieces) => pieces.map(({ text }) => text).join('')
const kinds = (pieces) => pieces.filter(({ kind }) => kind !== 'mark').map(({ kind, text }) => [kind, text])

test('what cannot be seen is written out', () => {
  assert.equal(visible('a‮b\u0000c\n​\ud800x\udfff﻿'), 'a\\u202eb\\u0000c\\n\\u200b\\ud800x\\udfff\\ufeff')
  for (const plain of ['', 'grüße 漢字 😀', 'עברית', '<img src=x onerror=alert(1)>', '"\'\\u0000']) assert.equal(visible(plain), plain)
})

test('JSON over several lines is JSON', () => {
  const deep = JSON.parse(`${'['.repeat(64)}${']'.repeat(64)}`)
  for (const data of [null, 0, -1.5, true, '', '"\\', [], {}, [[]], { a: { b: [1, '2', null] }, '</script>': '<b>\n"' }, deep, { __proto__: null, toString: 1 }]) {
    const { pieces, isCut } = pretty(data)
    assert.deepEqual(JSON.parse(text(pieces)), JSON.parse(JSON.stringify(data)))
    assert.equal(isCut, false)
  }
  assert.equal(text(pretty({ a: [1, {}], b: 'x' }).pieces), JSON.stringify({ a: [1, {}], b: 'x' }, null, 2))
})

test('each piece has its kind', () => {
  assert.deepEqual(kinds(pretty({ k: ['s', 1, null, false] }).pieces), [
    ['key', '"k"'], ['string', '"s"'], ['number', '1'], ['word', 'null'], ['word', 'false']
  ])
})

test('long texts and many values are cut, and shown whole when asked for', () => {
  const long = 'x'.repeat(100_000)
  const cut = pretty({ long }, { characters: 10 })
  assert.equal(text(cut.pieces), '{\n  "long": "xxxxxxxxxx… 99990 more characters"\n}')
  assert.ok(cut.isCut)
  const many = pretty(Array.from({ length: 5000 }, (_, n) => [n]), { values: 10 })
  assert.match(text(many.pieces), /… 4995 more\n\]$/)
  assert.ok(many.isCut && many.pieces.length < 100)
  assert.equal(text(pretty({ long }, { values: Infinity, characters: Infinity }).pieces), JSON.stringify({ long }, null, 2))
})

test('the deepest data is no trouble', () => {
  const deep = JSON.parse(`${'[{"a":'.repeat(2000)}1${'}]'.repeat(2000)}`)
  assert.ok(pretty(deep).isCut)
  assert.ok(text(preview(deep)).length < 500)
})

test('a preview is one short line', () => {
  assert.equal(text(preview({ b: 'x\ny', a: [1, { c: null }] })), 'b: "x\\ny"  a: [1, {c: null}]')
  assert.equal(text(preview('plain')), '"plain"')
  assert.equal(text(preview([1, 'a'])), '[1, "a"]')
  assert.equal(text(preview(null)), 'null')
  const length = (data) => text(preview(data, [], 50)).length
  for (const data of ['x'.repeat(1e6), new Array(1e5).fill('y'), { ['k'.repeat(1e5)]: 1 }, { a: { b: 'z'.repeat(1e5) } }]) {
    assert.ok(length(data) < 60, `${length(data)}`)
  }
})

test('a preview begins with what the topics do not say', () => {
  const data = { Action: 'Transfer', Data: 'hello', Quantity: 5, topic: ['a', 'b'] }
  const line = text(preview(data, ['a', 'b', 'action:Transfer', 'quantity:5']))
  assert.equal(line, 'Data: "hello"  Action: "Transfer"  Quantity: 5  topic: ["a", "b"]')
})
