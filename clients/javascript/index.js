export { Client } from './dev_websocket.js'
export { ClientError } from './errors.js'
export { verify } from './verify.js'
