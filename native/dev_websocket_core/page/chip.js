import { h } from './dom.js'
import { visible } from './json.js'

/** A topic as a button; `data-topic` is what it chooses. The key of `key:value` steps back behind the value. */
export function chip (topic, isChosen, text = topic) {
  const colon = text.indexOf(':')
  const key = colon > 0 ? [h('span', { class: 'key' }, visible(text.slice(0, colon + 1)))] : []
  const attributes = { class: isChosen ? 'chip chosen' : 'chip', 'data-topic': topic, title: visible(topic), tabindex: -1 }
  return h('button', attributes, ...key, visible(text.slice(colon > 0 ? colon + 1 : 0)))
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
