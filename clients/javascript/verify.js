import { parsed } from './connection.js'
import { ClientError } from './errors.js'
import { fieldsOf, idsOf, signaturesOf, textOf } from './signed.js'

/** Keys that the node sets in events, whatever the message says, and those that it leaves out. */
const OF_NODE = new Set(['from', 'process'])
/** Keys of a result that its event has. */
const OF_RESULT = ['output', 'error', 'data']

/**
 * Fetches the slot of an event from a node, and checks that the node has signed it with the key of this address, for this
 * process and slot, and that the content of the event is that of the signed slot. Gives `{ address, results }`. Throws a
 * `ClientError` with the code `not_reachable`, `not_signed`, `signature`, `address` or `content`.
 */
export async function verify (event, { node, address, fetch = globalThis.fetch, signal } = {}) {
  const { process, slot, path, data } = event ?? {}
  if (typeof process !== 'string' || !Number.isInteger(slot)) throw new TypeError('an event with a process and a slot can be verified, no other')
  if (typeof address !== 'string') throw new TypeError('the option address is that of the node that you trust')
  const source = new Source(node, `${process}~process@1.0/compute&slot=${slot}`, fetch, signal)
  const results = await signedResults(await source.answer(''), { process, slot, address })
  const isResult = data?.type === 'result' && !/\/results\//.test(path ?? '')
  if (isResult) await sameResult(source, data, results)
  else if (/\/results\/outbox\//.test(path ?? '')) await sameMessage(source, path, data, results)
  else await sameLine(source, path ?? '', data, results)
  return { address, results }
}

/** The content id of the results that the answer is signed for. */
async function signedResults ({ headers }, { process, slot, address }) {
  const signatures = (await signaturesOf(headers)).filter(({ alg }) => alg === 'rsa-pss-sha512')
  if (signatures.length === 0) throw failure('not_signed', 'the answer has no signature with a public key')
  const own = signatures.filter((signature) => signature.address === address)
  if (own.length === 0) throw failure('address', `${signatures.map((signature) => signature.address).join(', ')} signed the slot, not ${address}`)
  let covered = null
  for (const signature of own) if (await signature.isValid()) covered ??= signature.covered
  if (covered === null) throw failure('signature', `the signature of ${address} does not fit the answer`)
  // Only what the signature covers counts.
  const found = { process: covered.get('process+link') ?? covered.get('process'), slot: covered.get('at-slot'), results: covered.get('results+link') }
  if (found.process !== process) throw failure('content', `the answer is signed for the process ${found.process}`)
  if (found.slot !== String(slot)) throw failure('content', `the answer is signed for slot ${found.slot}`)
  if (found.results === undefined) throw failure('content', 'the signature does not cover the results')
  return found.results
}

/** The parts of a result that its event has are those of the slot. */
async function sameResult (source, data, results) {
  if (data['results-id'] !== undefined && data['results-id'] !== results) throw failure('content', `results-id is ${results} in the signed slot`)
  const found = await source.message('/results', results)
  for (const key of OF_RESULT) await source.same(data[key], found.get(key), `/results/${key}`)
  const outbox = found.get('outbox')?.link
  const count = outbox === undefined ? 0 : (await source.message('/results/outbox', outbox)).size
  if ((data['outbox-count'] ?? 0) !== count) throw failure('content', `the signed slot has ${count} messages`)
}

/** Each message on the way to that of the event has the id by which the one before it names it. */
async function sameMessage (source, path, data, results) {
  const { place, field } = await source.find(path, results)
  if (field.link === undefined) throw failure('content', `${place} is no message in the signed slot`)
  await source.sameKeys(data, await source.message(place, field.link), place, OF_NODE)
}

/** One of the lines of an output is the event. */
async function sameLine (source, path, data, results) {
  const { place, field } = await source.find(path, results)
  const lines = field.bytes === undefined ? [] : new TextDecoder().decode(field.bytes).split('\n')
  const wanted = textOfLine(data)
  if (!lines.some((line) => line.includes('"_e"') && textOfLine(parsed(line)) === wanted)) throw failure('content', `${place} has no such line in the signed slot`)
}

/** A line without the keys that the node sets, in one order of its keys. */
function textOfLine (line) {
  if (line === null || typeof line !== 'object') return null
  const sorted = (value) => {
    if (value === null || typeof value !== 'object') return typeof value === 'number' ? String(value) : value
    return Array.isArray(value) ? value.map(sorted) : Object.entries(value).sort(([one], [other]) => (one < other ? -1 : 1)).map(([key, item]) => [key, sorted(item)])
  }
  return JSON.stringify(sorted(Object.fromEntries(Object.entries(line).filter(([key]) => !OF_NODE.has(key) && key !== 'slot'))))
}

/** The messages of one slot of a node, each proven by its content id. */
class Source {
  #base
  #fetch
  #signal

  constructor (node, path, fetch, signal) {
    this.#base = new URL(path, `${String(node).replace(/\/*$/, '')}/`)
    this.#fetch = fetch
    this.#signal = signal
  }

  async answer (place) {
    let told
    try {
      const answer = await (0, this.#fetch)(`${this.#base.href}${place}`, { signal: this.#signal, cache: 'no-store' })
      if (answer.ok) return { headers: answer.headers, body: new Uint8Array(await answer.arrayBuffer()) }
      told = `answered ${answer.status}`
    } catch (error) {
      if (this.#signal?.aborted) throw error
      told = error.cause?.message ?? error.message
    }
    throw failure('not_reachable', `${this.#base.href}${place}: ${told}`)
  }

  /** The fields of the message with this content id. */
  async message (place, id) {
    const answer = await this.answer(place)
    if (!(await idsOf(answer)).includes(id)) throw failure('content', `${place} is not the message ${id} that is signed for`)
    return fieldsOf(answer)
  }

  /** The field at a path of the slot. */
  async find (path, results) {
    const [, keys] = /\/results\/([^/].*)$/.exec(path) ?? []
    if (keys === undefined) throw failure('content', `the path ${path} is none of the slot`)
    let field = { link: results }
    let place = '/results'
    for (const key of keys.split('/')) {
      field = field.link === undefined ? undefined : (await this.message(place, field.link)).get(key)
      place += `/${key}`
      if (field === undefined) throw failure('content', `the signed slot has no ${place}`)
    }
    return { place, field }
  }

  /** Whether a value of an event is that of a field: `{ link }`, `{ bytes }`, or one that is empty. */
  async same (value, field, place) {
    if (value === undefined && field === undefined) return
    const isNested = value !== null && typeof value === 'object'
    // The event has a reference in place of this value.
    if (isNested && ('$get' in value || '$omitted' in value)) return
    if (isNested && Object.hasOwn(value, '$link')) {
      if (field?.link === value.$link) return
    } else if (isNested && field?.link !== undefined) {
      return this.sameKeys(value, await this.message(place, field.link), place, new Set())
    } else if (isNested ? Object.keys(value).length === 0 && /^empty-(message|list)$/.test(field?.empty) : value === '' && field?.empty === 'empty-binary') {
      return
    } else if (field?.bytes !== undefined && isText(value, field.bytes)) return
    throw failure('content', `${place} is not what the signed slot has`)
  }

  async sameKeys (value, fields, place, but) {
    const entries = new Map(Array.isArray(value) ? value.map((item, n) => [String(n + 1), item]) : Object.entries(value ?? {}))
    for (const key of new Set([...entries.keys(), ...fields.keys()])) {
      if (but.has(key) || /^(priv|commitments$)/.test(key)) continue
      await this.same(entries.get(key), fields.get(key), `${place}/${key}`)
    }
  }
}

function isText (value, bytes) {
  if (value !== null && typeof value === 'object') return value.$base64url === textOf(bytes)
  const text = new TextDecoder().decode(bytes)
  return text === String(value) || (typeof value === 'number' && Number(text) === value)
}

function failure (code, message) {
  return new ClientError(code, message)
}
