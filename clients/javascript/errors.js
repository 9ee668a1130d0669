/**
 * A refusal or a failure. `code` is a word of the server or of this client, or the number of a close frame, `status` that of
 * an HTTP answer. With `fatal` the client has given up.
 */
export class ClientError extends Error {
  constructor (code, message, { status, id, fatal = false, cause } = {}) {
    super(message || `closed with ${code}`, cause === undefined ? undefined : { cause })
    this.name = 'ClientError'
    this.code = code
    this.fatal = fatal
    if (status !== undefined) this.status = status
    if (id !== undefined) this.id = id
  }
}
