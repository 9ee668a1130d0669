/** Signed answers of a node: HTTP message signatures (RFC 9421), and the content ids of messages. */
/** `name=("key" ..);parameter="value"..` of a dictionary. */
const INPUT = /([\w*.-]+)=(\(((?:"[^"]*"|[^)"])*)\)((?:;[\w*.-]+(?:=(?:"[^"]*"|[^;,\s]+))?)*))/g
const SIGNATURE = /([\w*.-]+)=:([A-Za-z0-9+/=]*):/g
/** The node adds this to its answer. */
const STATUS = 'status'
const LIST = '.="list"'

/** The signatures of an answer: algorithm, address of the key, the keys that are covered with their values, and whether it is valid. */
export async function signaturesOf (headers) {
  const values = new Map([...(headers.get('signature') ?? '').matchAll(SIGNATURE)].map(([, name, value]) => [name, value]))
  const signatures = []
  for (const { name, keys, params, line } of inputsOf(headers)) {
    if (!values.has(name)) continue
    const key = bytesOf(params.get('keyid'))
    const alg = params.get('alg')
    const covered = new Map(keys.map((key) => [key, headers.get(key.replace(/^@/, ''))]))
    signatures.push({
      alg,
      covered,
      address: key === null ? null : textOf(await crypto.subtle.digest('SHA-256', key)),
      isValid: async () => {
        const signature = bytesOf(values.get(name))
        if (alg !== 'rsa-pss-sha512' || key === null || signature === null || [...covered.values()].includes(null)) return false
        const jwk = { kty: 'RSA', alg: 'PS512', n: textOf(key), e: 'AQAB' }
        const base = latin1(baseOf([...covered].map(([key, value]) => [key.replace(/^@/, ''), value]), line))
        try {
          const imported = await crypto.subtle.importKey('jwk', jwk, { name: 'RSA-PSS', hash: 'SHA-512' }, false, ['verify'])
          return await crypto.subtle.verify({ name: 'RSA-PSS', saltLength: 64 }, imported, signature, base)
        } catch {
          return false
        }
      }
    })
  }
  return signatures
}

/**
 * The content ids that the message of an answer may have: with and without the status that the node adds, as a message and as
 * a list, whose type the node leaves out. A message has the id of another only if all of its keys are the same.
 */
export async function idsOf ({ headers, body }) {
  const digest = headers.get('content-digest')
  if (digest !== null && digest !== `sha-256=:${btoa(charactersOf(new Uint8Array(await crypto.subtle.digest('SHA-256', body))))}:`) return []
  const fields = headersOf(headers)
  const types = typesOf(fields)
  const variants = []
  for (const isBare of [true, false]) {
    for (const isList of [false, true]) {
      const rest = isBare ? types.filter(([key]) => key !== STATUS).map(([, text]) => text) : types.map(([, text]) => text)
      const all = isList ? [LIST, ...rest] : rest
      const variant = new Map(fields)
      if (isBare) variant.delete(STATUS)
      variant.delete('ao-types')
      if (all.length > 0) variant.set('ao-types', all.join(', '))
      variants.push(await idOf(variant))
    }
  }
  return variants
}

/** The fields of the message of an answer, by their keys: `{ link }`, `{ bytes }`, or `{ empty }` with the type. */
export function fieldsOf ({ headers, body }) {
  const named = headersOf(headers)
  const fields = new Map()
  for (const [key, type] of typesOf(named).map(([key, text]) => [key, /="(.*)"$/.exec(text)?.[1]])) {
    if (type?.startsWith('empty-')) fields.set(key, { empty: type })
  }
  const inline = named.get('ao-body-key') ?? 'body'
  for (const [name, value] of named) {
    if (name === 'content-digest') for (const [key, bytes] of partsOf(named.get('content-type'), body, inline)) fields.set(key, { bytes })
    else if (name.endsWith('+link')) fields.set(name.slice(0, -5), { link: value })
    else if (!['ao-types', 'ao-body-key', STATUS].includes(name) && !(name === 'content-type' && /^multipart\//.test(value))) fields.set(name, { bytes: latin1(value) })
  }
  return fields
}

/** The headers that belong to the message: those that a signature covers. */
function headersOf (headers) {
  const [input] = inputsOf(headers)
  return new Map((input?.keys ?? []).map((key) => [key, headers.get(key.replace(/^@/, '')) ?? '']))
}

function inputsOf (headers) {
  return [...(headers.get('signature-input') ?? '').matchAll(INPUT)].map(([, name, line, keys, params]) => ({
    name,
    line,
    keys: [...keys.matchAll(/"([^"]*)"/g)].map(([, key]) => key),
    params: new Map([...params.matchAll(/;([\w*.-]+)=(?:"([^"]*)"|([^;]+))/g)].map(([, key, text, bare]) => [key, text ?? bare]))
  }))
}

/** The types of a message: pairs of a key and its text in `ao-types`. */
function typesOf (fields) {
  return (fields.get('ao-types') ?? '').split(', ').filter((text) => text !== '').map((text) => [text.split('=')[0], text])
}

/** The id of a message without a signature: of its keys in their order. */
async function idOf (fields) {
  const names = [...fields.keys()].sort()
  const line = `(${names.map((name) => `"${name}"`).join(' ')});alg="hmac-sha256";keyid="ao"`
  const key = await crypto.subtle.importKey('raw', latin1('ao'), { name: 'HMAC', hash: 'SHA-256' }, false, ['sign'])
  return textOf(await crypto.subtle.sign('HMAC', key, latin1(baseOf(names.map((name) => [name, fields.get(name)]), line))))
}

function baseOf (pairs, line) {
  return `${pairs.map(([name, value]) => `"${name}": ${value}\n`).join('')}"@signature-params": ${line}`
}

/** The values in a body: one, or those of a form. */
function partsOf (type, body, inline) {
  const [, boundary] = /^multipart\/.*boundary="?([^";]+)"?/.exec(type ?? '') ?? []
  if (boundary === undefined) return [[inline, body]]
  const text = charactersOf(body)
  return text.slice(2 + boundary.length + 2, text.lastIndexOf(`\r\n--${boundary}--`)).split(`\r\n--${boundary}\r\n`).map((part) => {
    const [, head, value] = /^(.*?)\r\n\r\n(.*)$/s.exec(part) ?? [null, part, '']
    return [/name="([^"]*)"/.exec(head)?.[1] ?? inline, latin1(value)]
  })
}

/** A character for each byte, as headers have them. */
export function charactersOf (bytes) {
  let text = ''
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192))
  return text
}

function latin1 (text) {
  return Uint8Array.from(text, (character) => character.charCodeAt(0))
}

function bytesOf (base64) {
  try {
    return base64 ? Uint8Array.from(atob(base64), (character) => character.charCodeAt(0)) : null
  } catch {
    return null
  }
}

/** Bytes in the alphabet of ids. */
export function textOf (bytes) {
  return btoa(charactersOf(new Uint8Array(bytes))).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '')
}
