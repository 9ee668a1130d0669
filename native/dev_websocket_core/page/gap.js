import { number } from './dom.js'
import { short } from './chip.js'
import { visible } from './json.js'

const GAPS = {
  slow: (count) => `${count} missing: dropped because this page reads too slowly`,
  overload: (count) => `${count} missing: dropped because the publish queue was full`,
  unreadable: (count) => `${count} missing: this server cannot read what a server of another release sent`,
  expired: (count) => `${count} missing: expired from the history before the replay`,
  epoch: (count) => `The server restarted and its sequence numbers start again${count === '0 messages' ? '' : `; ${count} missing`}`,
  cursor: () => 'The server could not resume from the cursor; messages may be missing'
}

/** What is missing of a process, instead of messages. */
const SLOT_GAPS = {
  not_cached: (count) => `${count} missing: not in the node's cache`,
  withheld: (count) => `${count} withheld: failed the node’s checks`,
  not_followed: (count) => `${count} missing: computed without a subscriber`,
  not_replayed: (count) => `${count} left out of the replay`,
  limit: () => 'Not followed: limit of followed processes reached'
}

/** What a gap frame says to people: what is missing and why, and where. */
export function wordsOf ({ reason, dropped = 0, after, epoch, process, from_slot: from, to_slot: to }) {
  const isOfProcess = typeof process === 'string'
  const [texts, what] = isOfProcess ? [SLOT_GAPS, 'slot'] : [GAPS, 'message']
  const count = `${number(dropped)} ${what}${dropped === 1 ? '' : 's'}`
  const text = texts[reason]?.(count) ?? `${count} missing: ${reason}`
  const slots = from === undefined ? '' : ` ${from}${to === from ? '' : `–${to}`}`
  const place = isOfProcess ? visible(`${short(process)}${slots}`) : reason === 'epoch' ? epoch : `after ${after ?? '?'}`
  return { text, place: String(place ?? '') }
}
