import { $, announce, say } from './dom.js'

/** Name of the token in the storage of this tab, which ends with the tab. */
const KEY = 'dev_websocket_token'

/** The field for a token. It is shown when the server asks for one; the token never becomes part of the address. */
export class TokenField {
  #token = null

  /** Calls `changed` after another token was entered. */
  constructor ({ changed }) {
    try {
      this.#token = sessionStorage.getItem(KEY)
    } catch {
      // Without storage the token lasts until the page is loaded again.
    }
    $('access').onsubmit = (event) => {
      event.preventDefault()
      this.#keep($('token').value.trim() || null)
      $('token').value = ''
      this.hide()
      changed()
    }
  }

  get token () {
    return this.#token
  }

  /** Headers of a request to the server. */
  get headers () {
    return this.#token === null ? {} : { authorization: `Bearer ${this.#token}` }
  }

  ask (message) {
    say($('access-fault'), message)
    announce(`This server asks for a token. ${message}`, true)
    $('access').hidden = false
  }

  hide () {
    $('access').hidden = true
  }

  #keep (token) {
    this.#token = token
    try {
      if (token === null) sessionStorage.removeItem(KEY)
      else sessionStorage.setItem(KEY, token)
    } catch {
      // The same.
    }
  }
}
