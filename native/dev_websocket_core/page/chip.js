import { h } from './dom.js'
import { visible } from './json.js'
import { Names } from './names.js'

/** Of all names that are shown, so that each is cut where it does not differ. */
let names = new Names()

/** Says whether there are others than before. */
export function know (all) {
  const before = names
  names = new Names(all)
  return !names.equals(before)
}

/** A name in two parts, of which the first, that others have as well, gives way where there is little room. */
export function parts (name, least = 0) {
  const split = Math.max(least, names.splitOf(name))
  const head = split > 0 ? [h('span', { class: 'head' }, visible(name.slice(0, split)))] : []
  return [...head, h('span', { class: 'tail' }, visible(name.slice(split)))]
}

/** A topic as a button; `data-topic` is what it chooses. The key of `key:value` steps back behind the value. */
export function chip (topic, isChosen, text) {
  const attributes = { class: isChosen ? 'chip chosen' : 'chip', 'data-topic': topic, title: visible(topic), 'aria-label': visible(topic), tabindex: -1 }
  const colon = topic.indexOf(':')
  return h('button', attributes, ...text === undefined ? parts(topic, colon > 0 ? colon + 1 : 0) : [h('span', { class: 'tail' }, visible(text))])
}

/** Calls back with the topic when a chip below the element is clicked, and whether it is to be added to what is chosen. */
export function onChip (element, callback) {
  element.addEventListener('click', (event) => {
    const topic = event.target.closest('[data-topic]')?.dataset.topic
    if (topic !== undefined) callback(topic, event.ctrlKey || event.metaKey || event.shiftKey)
  })
}

/** Ids are told apart by their ends. */
export function short (id) {
  return id.length > 16 ? `${id.slice(0, 6)}…${id.slice(-4)}` : id
}
