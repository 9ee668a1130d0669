// A reconnecting client, told what to do and telling what happens to it: the same in Node and in a browser.
import { Client } from '../../../clients/javascript/index.js'

const EVENTS = ['message', 'gap', 'state', 'error', 'reply', 'live', 'stale', 'direct']

export function drive (url, options, tell) {
  // Each call of the function takes the next token; the last one stays.
  const { tokens, ...rest } = options
  if (tokens) rest.token = () => tokens.length > 1 ? tokens.shift() : tokens[0]
  const client = new Client(url, rest)
  for (const event of EVENTS) {
    client.on(event, (value) => {
      // The text of an error is no field that JSON would show.
      tell({ event, value: value instanceof Error ? { ...value, message: value.message } : value, cursor: client.cursor, slots: client.slots })
    })
  }
  return ({ method, args }) => client[method](...args)
}
