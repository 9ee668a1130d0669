// A bot that tells when a price moves. It resumes where it stopped, and names what it missed.
//
// usage: node alert.mjs URL PERCENT [FILE of the cursor], after `npm install ./clients/javascript` (and `ws` before Node 22)
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { Client } from 'dev-websocket-client'

const [url, percent, file] = process.argv.slice(2)
const known = new Map()

// The tags of a message by their names in lower case: each process writes them its own way.
const tags = (data) => Object.fromEntries(Object.entries(data).map(([name, value]) => [name.toLowerCase(), value]))

function stored () {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return null
  }
}

// Replaces the file in one step, so that a bot that is killed meanwhile leaves the old cursor or the new one.
function store (cursor) {
  writeFileSync(`${file}.new`, cursor)
  renameSync(`${file}.new`, file)
}

const client = new Client(url, { topics: ['prices'], cursor: file ? stored() : null })
client.on('gap', ({ dropped, reason }) => {
  // Prices from before the gap are too old to compare with.
  known.clear()
  console.log(`missed ${dropped ?? 'some'} messages: ${reason}`)
})
process.once('SIGTERM', () => client.close())
process.once('SIGINT', () => client.close())

for await (const { data } of client) {
  const { symbol, price } = tags(data)
  if (symbol !== undefined && price !== undefined) {
    const now = Number(price)
    const before = known.get(symbol)
    if (before === undefined) {
      known.set(symbol, now)
    } else if (Math.abs(now - before) >= before * Number(percent) / 100) {
      known.set(symbol, now)
      console.log(`${symbol} moved from ${before} to ${now}`)
    }
  }
  // After the work: a bot that is stopped in the middle does this message again.
  if (file && client.cursor) store(client.cursor)
}
