// A live monitor of a process, in place of the loop of aos that asks every two seconds: it prints each output once,
// and the prompt behind it.
//
// usage: node monitor.mjs URL PROCESS [FILE]
//   URL      the HyperBEAM node (http://..), or the address of its device (ws://host:8735/ws)
//   FILE     keeps the cursor: the slot that was printed last. Without it the monitor begins with new slots.
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { connect } from './results.mjs'
import { follow } from './frames.mjs'

const [url, id, file] = process.argv.slice(2)
if (!url || !id) {
  console.error('usage: node monitor.mjs URL PROCESS [FILE]')
  process.exit(2)
}
const isDevice = url.startsWith('ws')
const ao = connect(isDevice ? { WEBSOCKET_URL: url } : { URL: url })
const isTerminal = process.stdout.isTTY

function stored () {
  try {
    return Number(readFileSync(file, 'utf8')) + 1
  } catch {
    return undefined
  }
}

// Replaces the file in one step, so that a monitor that is killed meanwhile leaves the old cursor or the new one.
function store (cursor) {
  writeFileSync(`${file}.new`, cursor)
  renameSync(`${file}.new`, file)
}

// In a terminal the line of the prompt gives way to the output, as in aos.
function print ({ data, prompt = 'aos> ' }) {
  if (isTerminal) process.stdout.write(`\u001b[2K\u001b[0G${data}\n${prompt}`)
  else process.stdout.write(`${data}\n`)
}

let from = file ? stored() : undefined
if (from === undefined && !isDevice) from = (await ao.newest(id)) + 1
for await (const frame of follow({ websocket: await ao.streams(), process: id, from })) {
  if (frame.type === 'gap' && frame.dropped > 0) console.error(`missed ${frame.dropped} slots: ${frame.reason}`)
  if (frame.type === 'error') console.error(`${frame.code}: ${frame.message}`)
  if (frame.cursor === undefined) continue
  const { Output, Error: failure } = frame.node
  if (Output?.print === true) print(Output)
  if (failure) console.error(typeof failure === 'string' ? failure : JSON.stringify(failure))
  if (file) store(frame.cursor)
}
