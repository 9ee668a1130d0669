import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { ClientError, verify } from '../index.js'
import { charactersOf, idsOf, textOf } from '../signed.js'

// What a node served for a slot: recorded, with its signatures.
const recorded = JSON.parse(readFileSync(new URL('../../fixtures/signed_slot.json', import.meta.url)))
const NODE = 'https://node.example'
const [result, first, second] = recorded.events
const STATE = Object.keys(recorded.answers)[0]
const RESULTS = `${STATE}/results`

/** A node with the recorded answers, changed by `change`. Counts requests. */
function nodeOf (change = () => {}) {
  const { answers } = structuredClone(recorded)
  change(answers)
  const fetched = []
  const fetch = async (url) => {
    const path = decodeURI(url.slice(NODE.length))
    fetched.push(path)
    const answer = answers[path]
    if (answer === undefined) return new Response('no', { status: 404 })
    return new Response(Uint8Array.from(answer.body, (character) => character.charCodeAt(0)), { headers: answer.headers })
  }
  return { fetched, verify: (event, more) => verify(event, { node: `${NODE}/`, address: recorded.address, fetch, ...more }) }
}

const code = (code) => (error) => error instanceof ClientError && error.code === code && error.message !== ''
const swap = (text, from, to) => {
  assert.ok(text.includes(from))
  return text.replace(from, to)
}

test('each event of a slot is what the node signed', async () => {
  for (const event of recorded.events) {
    const node = nodeOf()
    const { address, results } = await node.verify(event)
    assert.deepEqual([address, results], [recorded.address, result.data['results-id']])
    assert.equal(node.fetched.filter((path) => path === STATE).length, 1)
  }
})

test('an event whose content is another one is refused', async () => {
  const changes = {
    'a text': [first, ({ data }) => { data.quantity = '21' }],
    'a byte of a body': [first, ({ data }) => { data.data = swap(data.data, 'two', 'twO') }],
    'one key more': [first, ({ data }) => { data.more = '1' }],
    'one key less': [first, ({ data }) => { delete data.quantity }],
    'another message of the slot': [first, (event) => { event.path = second.path }],
    'a path of another slot': [first, (event) => { event.path = '/elsewhere' }],
    'a message that is not there': [first, (event) => { event.path = first.path.replace(/1$/, '3') }],
    'a number': [second, ({ data }) => { data.number = 13 }],
    'a switch': [second, ({ data }) => { data.flag = false }],
    'what was empty': [second, ({ data }) => { data.empty = 'x' }],
    'a nested value': [second, ({ data }) => { data.tags[0].value = 'blue' }],
    'a nested value more': [second, ({ data }) => { data.tags.push({ name: 'x', value: 'y' }) }],
    'an output': [result, ({ data }) => { data.output.body = 'slot 2' }],
    'a deep output': [result, ({ data }) => { data.output.data.deep.list[1] = 'z' }],
    'no output': [result, ({ data }) => { delete data.output }],
    'an error': [result, ({ data }) => { data.error = 'x' }],
    'the count of messages': [result, ({ data }) => { data['outbox-count'] = 1 }],
    'the id of the results': [result, ({ data }) => { data['results-id'] = data['state-id'] }]
  }
  for (const [what, [event, change]] of Object.entries(changes)) {
    const changed = structuredClone(event)
    change(changed)
    await assert.rejects(nodeOf().verify(changed), code('content'), what)
  }
})

test('a slot that says something else is refused', async () => {
  const other = 'x'.repeat(43)
  const process = result.process
  const moved = (answers) => { for (const path of Object.keys(answers)) answers[path.replace(process, other)] = answers[path] }
  await assert.rejects(nodeOf(moved).verify({ ...result, process: other }), code('content'))
  const later = (answers) => { for (const path of Object.keys(answers)) answers[path.replace('slot=1', 'slot=2')] = answers[path] }
  await assert.rejects(nodeOf(later).verify({ ...result, slot: 2 }), code('content'))
})

test('an answer that was changed has no valid signature', async () => {
  const changes = {
    'the results': ({ headers }) => { headers['results+link'] = headers['process+link'] },
    'a byte of the signature': ({ headers }) => { headers.signature = headers.signature.replace(/(=:..)(.)/g, (_, before, byte) => before + (byte === 'A' ? 'B' : 'A')) },
    'the keys that it covers': ({ headers }) => { headers['signature-input'] = headers['signature-input'].replaceAll(' "results+link"', '') },
    'a key that it covers': ({ headers }) => { delete headers.device },
    'the parameters': ({ headers }) => { headers['signature-input'] = headers['signature-input'].replace('tag="', 'tag="x') }
  }
  for (const [what, change] of Object.entries(changes)) {
    const node = nodeOf((answers) => change(answers[STATE]))
    await assert.rejects(node.verify(result), code('signature'), what)
    assert.equal(node.fetched.length, 1)
  }
})

test('a body is that of its digest, whatever the event says', async () => {
  const changed = structuredClone(first)
  changed.data.data = 'two\nlineS'
  const node = nodeOf((answers) => { answers[decodeURI(first.path)].body = changed.data.data })
  await assert.rejects(node.verify(changed), code('content'))
})

test('a key without a signature counts for nothing', async () => {
  // The real values of another slot beside signed ones: only the signed ones are looked at.
  const node = nodeOf((answers) => { answers[STATE].headers.process = 'x'.repeat(43) })
  await node.verify(result)
})

test('parts that are not those of the signed slot are refused', async () => {
  for (const path of Object.keys(recorded.answers).slice(1)) {
    for (const name of ['headers', 'body']) {
      const node = nodeOf((answers) => {
        const answer = answers[path]
        if (name === 'body') answer.body = answer.body === '' ? '' : `x${answer.body.slice(1)}`
        else answer.headers = Object.fromEntries(Object.entries(answer.headers).map(([key, value]) => [key, /^(signature|content-|ao-|status)/.test(key) ? value : `${value}x`]))
      })
      const event = [result, first, second].find(({ path: of }) => (of.includes('/outbox/') ? path.startsWith(of) : !path.includes('/outbox/'))) ?? result
      const changed = name === 'body' ? recorded.answers[path].body !== '' : Object.keys(recorded.answers[path].headers).some((key) => !/^(signature|content-|ao-|status)/.test(key))
      if (changed) await assert.rejects(node.verify(event), code('content'), `${name} of ${path}`)
    }
  }
})

test('an answer that nobody signed is refused', async () => {
  const hmac = ({ headers }) => {
    for (const name of ['signature', 'signature-input']) {
      headers[name] = headers[name].split(/, (?=sig-)/).filter((item) => item.split('=')[0] === hmacName).join(', ')
    }
  }
  const hmacName = /(sig-[\w-]+)=\([^)]*\);alg="hmac-sha256"/.exec(recorded.answers[STATE].headers['signature-input'])[1]
  await assert.rejects(nodeOf((answers) => hmac(answers[STATE])).verify(result), code('not_signed'))
  const none = ({ headers }) => { for (const name of ['signature', 'signature-input']) delete headers[name] }
  await assert.rejects(nodeOf((answers) => none(answers[STATE])).verify(result), code('not_signed'))
})

/** A key of the test's own, and a state that it signs for these results. */
async function ownKey () {
  const { privateKey, publicKey } = await crypto.subtle.generateKey({ name: 'RSA-PSS', modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]), hash: 'SHA-512' }, true, ['sign', 'verify'])
  const { n } = await crypto.subtle.exportKey('jwk', publicKey)
  const modulus = Uint8Array.from(atob(n.replace(/-/g, '+').replace(/_/g, '/')), (character) => character.charCodeAt(0))
  const address = textOf(await crypto.subtle.digest('SHA-256', modulus))
  const line = `("process+link" "at-slot" "results+link");alg="rsa-pss-sha512";keyid="${btoa(charactersOf(modulus))}"`
  const sign = async (results) => {
    const base = `"process+link": ${result.process}\n"at-slot": 1\n"results+link": ${results}\n"@signature-params": ${line}`
    const signature = new Uint8Array(await crypto.subtle.sign({ name: 'RSA-PSS', saltLength: 64 }, privateKey, new TextEncoder().encode(base)))
    return { 'results+link': results, signature: `sig-own=:${btoa(charactersOf(signature))}:`, 'signature-input': `sig-own=${line}` }
  }
  return { address, line, sign }
}

test('a signature of another key is not that of the node', async () => {
  const { address, line, sign: signed } = await ownKey()
  const { headers } = recorded.answers[STATE]
  const own = await signed(headers['results+link'])
  const sign = (answers) => { Object.assign(answers[STATE].headers, own) }
  await assert.rejects(nodeOf(sign).verify(result), code('address'))
  assert.equal((await nodeOf(sign).verify(result, { address })).address, address)
  // The name of the trusted key beside the signature of another.
  const keyid = /keyid="([^"]{100,})"/.exec(headers['signature-input'])[1]
  const borrowed = (answers) => {
    sign(answers)
    answers[STATE].headers['signature-input'] = `sig-own=${line.replace(/keyid=".*"/, `keyid="${keyid}"`)}`
  }
  await assert.rejects(nodeOf(borrowed).verify(result), code('signature'))
})

test('a node that is away is told as such', async () => {
  await assert.rejects(nodeOf((answers) => { delete answers[STATE] }).verify(result), code('not_reachable'))
  await assert.rejects(nodeOf((answers) => { delete answers[RESULTS] }).verify(result), code('not_reachable'))
  await assert.rejects(nodeOf().verify(result, { fetch: async () => { throw new TypeError('fetch failed') } }), code('not_reachable'))
  await assert.rejects(verify({ data: {} }, { node: NODE, address: recorded.address }), TypeError)
  await assert.rejects(verify(result, { node: NODE }), TypeError)
  await assert.rejects(verify(result, { node: NODE, address: recorded.address, signal: AbortSignal.abort(new Error('enough')) }), /enough/)
})

test('what an event only refers to is not compared', async () => {
  const changed = structuredClone(result)
  changed.data.data = { $size: 6000, $get: `${result.path}/results/data` }
  await nodeOf().verify(changed)
})

test('an event of an output is one of its lines', async () => {
  const { address, sign } = await ownKey()
  const body = 'hello\n{"_e":1,"Action":"Buy","Price":7,"slot":9}\n{"Action":"None"}'
  const digest = btoa(charactersOf(new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(body)))))
  const results = { headers: { 'content-digest': `sha-256=:${digest}:`, 'ao-body-key': 'data', 'signature-input': 'sig-x=("ao-body-key" "content-digest");alg="hmac-sha256";keyid="ao"' }, body }
  const [id] = await idsOf({ headers: new Headers(results.headers), body: new TextEncoder().encode(body) })
  const own = await sign(id)
  const node = nodeOf((answers) => {
    Object.assign(answers[STATE].headers, own)
    answers[RESULTS] = results
  })
  const event = (data, path = `${result.path}/results/data`) => ({ process: result.process, slot: 1, path, data: { from: result.process, process: result.process, ...data } })
  await node.verify(event({ Price: 7, Action: 'Buy', _e: 1 }), { address })
  for (const data of [{ Price: 8, Action: 'Buy', _e: 1 }, { Action: 'Buy', _e: 1 }, { Price: 7, Action: 'Buy', _e: 1, more: 1 }, { Action: 'None' }]) {
    await assert.rejects(node.verify(event(data), { address }), code('content'))
  }
  await assert.rejects(node.verify(event({ Price: 7, Action: 'Buy', _e: 1 }, `${result.path}/results/error`), { address }), code('content'))
})
