import { $ } from './dom.js'

/** Single-key shortcuts can be switched off: speech and stray keys would hit them. */
const SETTING = 'keys'

/** Listens for keys outside of fields: `actions` has a function for each key that does something here. */
export function listenForKeys (actions) {
  const single = $('keys')
  single.checked = stored(SETTING) !== 'off'
  single.onchange = () => store(SETTING, single.checked ? 'on' : 'off')
  document.addEventListener('keydown', (event) => {
    const { key, target, ctrlKey, metaKey, altKey, isComposing } = event
    if (event.defaultPrevented || ctrlKey || metaKey || altKey || isComposing) return
    const action = actions[key]
    if (action === undefined || document.querySelector('dialog[open]')) return
    if (key === 'Escape') return action(event)
    if (target.matches('input, select, textarea, summary') || (key.length === 1 && !single.checked)) return
    // A button is pressed with the space bar; a row is opened with Enter alone.
    if (key === ' ' && target.matches('button:not(.line, .chip)')) return
    // Text that scrolls is scrolled.
    if (target.matches('pre') && key !== '/') return
    event.preventDefault()
    action(event)
  })
  // The space bar presses a button when it is let go.
  document.addEventListener('keyup', (event) => {
    if (event.key === ' ' && single.checked && event.target.matches('.line, #rows .chip')) event.preventDefault()
  })
}

export function stored (name) {
  try {
    return localStorage.getItem(`live-page-${name}`)
  } catch {
    return null
  }
}

/** Browsers may keep nothing for a page; then a setting holds as long as the page. */
export function store (name, value) {
  try {
    localStorage.setItem(`live-page-${name}`, value)
  } catch {}
}
