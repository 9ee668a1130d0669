// One connection of the `ws` package, told what to do by JSON lines and telling what happens to it likewise.
'use strict'

const { createInterface } = require('node:readline')
const { WebSocket } = require('ws')

const [url, ...subprotocols] = process.argv.slice(2)
const socket = new WebSocket(url, subprotocols)
const commands = createInterface({ input: process.stdin })

const tell = (event) => process.stdout.write(JSON.stringify(event) + '\n')

socket.on('open', () => tell({ event: 'open', protocol: socket.protocol }))
socket.on('message', (data, isBinary) => tell({ event: isBinary ? 'binary' : 'text', text: data.toString() }))
socket.on('pong', (data) => tell({ event: 'pong', text: data.toString() }))
socket.on('error', (error) => process.stderr.write(`${error}\n`))
socket.on('close', (code, reason) => {
  tell({ event: 'close', code, reason: reason.toString() })
  commands.close()
})
socket.on('unexpected-response', (_request, response) => {
  let body = ''
  response.on('data', (chunk) => { body += chunk })
  response.on('end', () => {
    tell({ event: 'refused', status: response.statusCode, body })
    commands.close()
  })
})

const actions = {
  text: ({ text }) => socket.send(text),
  binary: ({ base64 }) => socket.send(Buffer.from(base64, 'base64')),
  ping: ({ text }) => socket.ping(text),
  close: ({ code, reason }) => socket.close(code, reason)
}
commands.on('line', (line) => {
  const command = JSON.parse(line)
  actions[command.do](command)
})
// Without who tells it what to do, it has nothing to live for.
process.stdin.on('end', () => socket.terminate())
