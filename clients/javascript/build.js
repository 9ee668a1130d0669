// Makes dist/index.cjs, for programs that `require`, of the modules that it consists of: in one file all names meet anyway.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'

const here = new URL('.', import.meta.url)
// Each comes after those that it uses.
const MODULES = ['errors', 'options', 'retry', 'cursor', 'selection', 'address', 'match', 'queue', 'slots', 'connection', 'events', 'environment', 'requests',
  'recovery', 'exchange', 'subscription', 'dev_websocket', 'signed', 'verify']

const text = (name) => readFileSync(new URL(name, here), 'utf8')
const body = MODULES.map((name) => text(`${name}.js`).split('\n').filter((line) => !line.startsWith('import ')).map((line) => line.replace(/^export /, '')).join('\n'))

mkdirSync(new URL('dist/', here), { recursive: true })
writeFileSync(new URL('dist/index.cjs', here), `'use strict'\n\n${body.join('\n')}\nmodule.exports = { Client, ClientError, verify }\n`)
writeFileSync(new URL('dist/index.d.cts', here), text('index.d.ts'))
