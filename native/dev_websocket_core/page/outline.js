import { keyOf } from './rates.js'

/** Topics of one key that stand for themselves; more are folded. */
const ALONE = 5
/** Rows without a search, and with one. */
export const MAX_ROWS = 20
const MAX_FOUND = 100

/**
 * What the list of topics shows, as `{ rows, total }`. A row is a `topic`, a `family` of all topics of one key, or the
 * `heading` above those of the server that were silent. `rates` has what was counted here, `known` the topics of the server,
 * `chosen` what the person asked for, `open` the keys of the families that are unfolded.
 */
export function outline ({ rates, known, chosen = [], open = new Set(), search = '', second }) {
  const counted = rates.list(second)
  const all = new Map(counted.map((row) => [row.topic, row]))
  for (const topic of [...chosen, ...known]) if (!all.has(topic)) all.set(topic, { topic, total: 0, recent: 0 })
  const total = all.size
  const words = search.toLowerCase().split(/\s+/).filter((word) => word !== '')
  if (words.length > 0) return { rows: found([...all.values()], words), total }
  const families = familiesOf([...all.values()], rates, second)
  const rows = []
  const quiet = []
  const wanted = new Set(chosen)
  for (const row of all.values()) {
    if (families.has(keyOf(row.topic)) && !wanted.has(row.topic)) continue
    (row.total > 0 || wanted.has(row.topic) ? rows : quiet).push({ kind: 'topic', ...row })
  }
  for (const family of families.values()) (family.total > 0 ? rows : quiet).push(family)
  // What was asked for is above, also when nothing came.
  rows.sort((a, b) => wanted.has(b.topic) - wanted.has(a.topic) || byTraffic(a, b))
  quiet.sort(byTraffic)
  const shown = rows.slice(0, MAX_ROWS)
  const rest = quiet.slice(0, Math.max(0, MAX_ROWS - shown.length))
  if (rest.length > 0) shown.push({ kind: 'heading', topic: '' }, ...rest)
  return { rows: shown.flatMap((row) => open.has(row.key) ? [{ ...row, isOpen: true }, ...membersOf(row, all)] : [row]), total }
}

function familiesOf (rows, rates, second) {
  const members = new Map()
  for (const { topic } of rows) {
    const key = keyOf(topic)
    if (key !== null) members.set(key, (members.get(key) ?? 0) + 1)
  }
  const families = new Map()
  for (const [key, count] of members) {
    if (count > ALONE) families.set(key, { kind: 'family', key, count, topic: `${key}:*`, ...rates.family(key, second) })
  }
  return families
}

function membersOf ({ key }, all) {
  const members = [...all.values()].filter(({ topic }) => keyOf(topic) === key).sort(byTraffic)
  return members.slice(0, MAX_ROWS).map((row) => ({ kind: 'topic', isMember: true, ...row }))
}

/** What has all words: the same first, then what begins so, each with the busiest first. */
function found (rows, words) {
  const text = words.join(' ')
  const rank = (name) => name === text ? 0 : name.startsWith(text) ? 1 : name.includes(`:${text}`) || name.includes(`/${text}`) ? 2 : 3
  return rows
    .map((row) => ({ row, name: row.topic.toLowerCase() }))
    .filter(({ name }) => words.every((word) => name.includes(word)))
    .map(({ row, name }) => ({ row, rank: rank(name) }))
    .sort((a, b) => a.rank - b.rank || byTraffic(a.row, b.row))
    .slice(0, MAX_FOUND)
    .map(({ row }) => ({ kind: 'topic', ...row }))
}

function byTraffic (a, b) {
  return b.recent - a.recent || b.total - a.total || (a.topic < b.topic ? -1 : 1)
}
