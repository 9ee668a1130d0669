import { Announcer } from './announce.js'

/** Elements made of nodes alone: no text of a message is ever read as HTML. */

export const $ = (id) => document.getElementById(id)

/** An element with attributes, listeners (`onclick`) and children; texts become text nodes. */
export function h (name, attributes, ...children) {
  return fill(document.createElement(name), attributes, children)
}

export function svg (name, attributes, ...children) {
  return fill(document.createElementNS('http://www.w3.org/2000/svg', name), attributes, children)
}

function fill (element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (typeof value === 'function') element.addEventListener(name.slice(2), value)
    else if (value !== false && value != null) element.setAttribute(name, value === true ? '' : value)
  }
  element.append(...children)
  return element
}

/** Sets a text only where it differs, so that nothing is drawn again for nothing. */
export function say (element, text) {
  if (element.textContent !== text) element.textContent = text
}

/** The only live regions of the page, told by one announcer. */
const announcer = new Announcer((text, isUrgent) => {
  say($('said'), isUrgent ? '' : text)
  say($('alarm'), isUrgent ? text : '')
})

/** Has a text read out to who does not see the page. */
export function announce (text, isUrgent = false) {
  announcer.say(text, isUrgent)
}

const NUMBER = new Intl.NumberFormat('en')
const SIZES = ['B', 'KB', 'MB', 'GB', 'TB']

export function number (count) {
  return NUMBER.format(count)
}

export function size (bytes) {
  const power = bytes < 1000 ? 0 : Math.min(SIZES.length - 1, Math.floor(Math.log10(bytes) / 3))
  return `${(bytes / 1000 ** power).toFixed(power > 0 ? 1 : 0)} ${SIZES[power]}`
}

export function perSecond (rate) {
  return rate >= 100 ? number(Math.round(rate)) : rate.toFixed(1).replace(/\.0$/, '')
}

export function duration (milliseconds) {
  const absolute = Math.abs(milliseconds)
  if (absolute < 1000) return `${Math.round(milliseconds)} ms`
  return absolute < 60_000 ? `${(milliseconds / 1000).toFixed(1)} s` : `${Math.round(milliseconds / 60_000)} min`
}

/** The time of day, in milliseconds. */
export function clock (timestamp) {
  const date = new Date(timestamp)
  const two = (part) => String(part).padStart(2, '0')
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${String(date.getMilliseconds()).padStart(3, '0')}`
}

/** Makes a button copy what a function gives. */
export function copies (button, text) {
  button.onclick = async () => {
    try {
      await navigator.clipboard.writeText(text())
    } catch {
      // The clipboard is for pages by TLS or of this machine.
      const field = h('textarea', { class: 'away' }, text())
      button.after(field)
      field.select()
      document.execCommand('copy')
      field.remove()
    }
    button.classList.add('copied')
    announce('Copied')
    setTimeout(() => button.classList.remove('copied'), 1200)
  }
  return button
}

