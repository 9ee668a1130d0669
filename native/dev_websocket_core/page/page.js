import { TokenField } from './access.js'
import { FIRST, add, addressOf, base, choiceOf, chosenAs, only, queryOf, remove, simplify } from './choice.js'
import { onChip } from './chip.js'
import { Chooser } from './chooser.js'
import { $, copies, h, number, say } from './dom.js'
import { Figures, second } from './figures.js'
import { visible } from './json.js'
import { listenForKeys, store, stored } from './keys.js'
import { Rows } from './rows.js'
import { Session } from './session.js'
import { Stream, jsonLines } from './stream.js'
import { Topics } from './topics.js'

/** Milliseconds between two looks at the server's list of topics. */
const REFRESH = 60_000
/** Milliseconds between two drawings of the rows, and of everything else. */
const PAUSE = 100
const TICK = 500
/** Pixels of the lowest row. */
const ROW = 36
/** With more messages a second, new rows are not pointed out. */
const CALM = 20

const STATES = { connecting: 'Connecting', replaying: 'Replaying', open: 'Live', waiting: 'Reconnecting', closed: 'Disconnected' }

const choice = choiceOf(location.search)
choice.last ??= choice.since === null ? FIRST : null

const stream = new Stream()
const figures = new Figures()
/** Topics that the server knows, and the first frame of the connection. */
let known = []
let server = {}
let hasInfo = true
let isPaused = false
let isDrawing = false
let drawn = 0
/** When the next attempt to connect is made. */
let until = null
/** Whether the notice ends with the next connection. */
let isTrouble = false

const isChosen = (topic) => {
  const [kind, text] = chosenAs(topic)
  return choice[kind].includes(text)
}
const rows = new Rows($('rows'), { isChosen, changed: draw })
const topics = new Topics($('busiest'), { isChosen })
const chooser = new Chooser({ topics: allTopics, change })

const access = new TokenField({ changed: () => open(session.cursor) })
const session = new Session({
  message (frame, isLive) {
    const entry = { kind: 'message', frame, isLive, latency: Date.now() - frame.timestamp, size: frame.size ?? 0 }
    stream.add(entry)
    figures.message(entry)
    draw()
  },
  gap (frame) {
    stream.add({ kind: 'gap', frame: { ...frame, epoch: server.epoch }, size: 0 })
    figures.gap(frame)
    draw()
  },
  established (frame) {
    server = frame
    access.hide()
    if (isTrouble) notice('')
    refresh()
  },
  state ({ state, delay, code, reason }) {
    $('state').dataset.state = state
    say($('state-name'), STATES[state])
    until = state === 'waiting' ? performance.now() + delay : null
    $('retry').hidden = state !== 'waiting' && state !== 'closed'
    if (state === 'closed') notice(`Connection closed: ${reason || code}`)
    if (code === 3000 || code === 3003) access.ask(reason)
    tick()
    draw()
  },
  refused: correct
}, access)

// ---- What is chosen ----

function change (kind, text, isAdded) {
  const before = queryOf(choice)
  if (!isAdded) remove(choice, kind, text)
  else if (kind === 'topic') for (const topic of text.split(',')) add(choice, kind, topic)
  else add(choice, kind, text)
  simplify(choice)
  if (queryOf(choice) !== before) view()
}

function choose (topic, isMore) {
  const [kind, text] = chosenAs(topic)
  if (isMore) return change(kind, text, !isChosen(topic))
  const before = queryOf(choice)
  only(choice, topic)
  // What was alone already gives way to everything.
  if (queryOf(choice) === before) remove(choice, kind, text)
  view()
}

/** Begins anew with what is chosen now. */
function view () {
  if (choice.since !== null) choice.last ??= FIRST
  choice.since = null
  isPaused = false
  clear()
  figures.clear()
  chooser.fault('')
  open()
}

function open (cursor) {
  history.replaceState(null, '', location.pathname + queryOf(choice))
  chooser.draw(choice)
  const last = $('last')
  const value = String(choice.last ?? FIRST)
  if (![...last.options].some((option) => option.value === value)) last.add(new Option(`the newest ${value}`, value))
  last.value = value
  document.title = `${[...choice.topic, ...choice.process, ...choice.match, ...choice.template].map(visible).join(', ') || 'All messages'} – live`
  session.open(choice, cursor)
}

/** Leaves out what the server refuses, and says so where it can be corrected. */
function correct (faults) {
  const items = []
  for (const fault of faults) {
    const { kind, message } = fault
    if (kind === 'token') return access.ask(message)
    if (kind === 'page') return notice(`The server refused the subscription: ${message}`, true)
    if (kind === 'last') choice.last = Number(/\d*$/.exec(message)[0])
    else if (kind === 'since') [choice.since, choice.last] = [null, FIRST]
    else items.push(fault)
    if (items.at(-1) !== fault) notice(message)
  }
  for (const { kind, text } of items) remove(choice, kind, text)
  open()
  chooser.refuse(items)
}

/** Says something about the connection as a whole, or with an empty text nothing. */
function notice (text, ends = false) {
  isTrouble = ends
  say($('notice').firstChild, text)
  $('notice').hidden = text === ''
}

// ---- Topics of the server ----

function allTopics () {
  return [...new Set([...figures.rates.busiest(Infinity, second()).map(({ topic }) => topic), ...known])]
}

async function refresh () {
  if (!hasInfo) return
  try {
    const answer = await fetch(new URL('info', base(location)), { cache: 'no-store', headers: access.headers })
    // It may be switched off.
    hasInfo = answer.status !== 404
    if (answer.ok) known = (await answer.json()).topics.filter((topic) => typeof topic === 'string')
    chooser.renew()
  } catch {
    // The next time, then.
  }
}

// ---- Drawing ----

/** Draws with the next frame of the browser, but not again and again. */
function draw () {
  if (isDrawing) return
  isDrawing = true
  setTimeout(() => requestAnimationFrame(() => {
    isDrawing = false
    drawn = performance.now()
    render()
  }), Math.max(0, drawn + PAUSE - performance.now()))
}

function render () {
  // Who reads is not disturbed, and sees all there is. Else what is out of sight is not worth a row.
  const isReading = rows.areOpen || isScrolled()
  if (!isPaused && !isReading) stream.take()
  const { entries, matching, waiting } = stream
  rows.show(isPaused || isReading ? matching : matching.slice(-Math.ceil(innerHeight / ROW)))
  $('newer').hidden = isPaused || waiting === 0
  say($('newer'), `↑ ${number(waiting)} new`)
  say($('pause'), isPaused ? `Resume${waiting > 0 ? ` · ${number(waiting)} new` : ''}` : 'Pause')
  $('pause').setAttribute('aria-pressed', String(isPaused))
  say($('count'), `${matching === entries ? '' : `${number(matching.length)} of `}${number(entries.length)} shown`)
  $('export').disabled = matching.length === 0
  $('empty').hidden = matching.length > 0
  say($('empty'), entries.length > 0
    ? 'No matches'
    : $('state').dataset.state === 'open' ? 'Connected. The next message appears here the moment it is published.' : '')
}

function isScrolled () {
  const top = Math.max(0, $('scroller').getBoundingClientRect().top)
  return $('rows').getBoundingClientRect().top < top - 4
}

function tick () {
  say($('state-wait'), until === null ? '' : ` in ${Math.max(0, Math.ceil((until - performance.now()) / 1000))} s`)
  say($('cursor'), session.cursor ?? '–')
  $('rows').classList.toggle('calm', figures.rates.all.rate(second()) > CALM)
  figures.draw()
  topics.draw(figures.rates, known)
}

function clear () {
  stream.clear()
  rows.closeAll()
  render()
}

function pause () {
  isPaused = !isPaused
  render()
}

function showNewest () {
  rows.closeAll()
  $('scroller').scrollTop = 0
  if (isScrolled()) $('stream').scrollIntoView()
  render()
}

// ---- Buttons and keys ----

onChip($('rows'), choose)
onChip($('busiest'), choose)
$('busiest').addEventListener('click', ({ target }) => {
  const topic = target.closest('[data-add]')?.dataset.add
  if (topic !== undefined) choose(topic, true)
})
$('last').onchange = ({ target }) => {
  choice.last = Number(target.value)
  view()
}
$('retry').onclick = () => open(session.cursor)
$('notice').lastChild.onclick = () => notice('')
copies($('copy-link'), () => location.href)
copies($('copy-address'), () => addressOf(location, choice))
copies($('cursor'), () => session.cursor ?? '')
$('pause').onclick = pause
$('clear').onclick = clear
$('newer').onclick = showNewest
$('scroller').onscroll = draw
addEventListener('scroll', draw, { passive: true })
$('export').onclick = () => {
  const lines = jsonLines(stream.matching)
  const href = URL.createObjectURL(new Blob([lines], { type: 'application/x-ndjson' }))
  h('a', { href, download: `messages-${new Date().toISOString().replace(/[:.]/g, '-')}.jsonl` }).click()
  setTimeout(() => URL.revokeObjectURL(href), 1000)
}
$('item').onfocus = refresh
$('filter').oninput = ({ target }) => {
  stream.filter = target.value
  render()
}
$('show-limits').onclick = () => {
  const facts = { address: addressOf(location, choice), protocol: server.protocol, cursor: session.cursor, ...server.limits }
  $('limits').lastElementChild.replaceChildren(...Object.entries(facts).flatMap(([name, value]) => [
    h('dt', {}, name.replaceAll('_', ' ')), h('dd', {}, typeof value === 'number' ? number(value) : visible(String(value ?? '–')))
  ]))
  $('limits').showModal()
}
$('show-help').onclick = () => $('help').showModal()
for (const dialog of document.querySelectorAll('dialog')) {
  dialog.onclick = ({ target }) => { if (target === dialog) dialog.close() }
}

const root = document.documentElement.dataset
root.theme = stored('theme') ?? ''
$('theme').onclick = () => {
  const isDark = root.theme === '' ? matchMedia('(prefers-color-scheme: dark)').matches : root.theme === 'dark'
  root.theme = isDark ? 'light' : 'dark'
  store('theme', root.theme)
}

listenForKeys({
  '/': () => $('filter').focus(),
  a: () => $('item').focus(),
  ' ': pause,
  '?': () => $('help').showModal(),
  ArrowDown: ({ target }) => rows.focus(target.closest('#rows li') ? 'nextSibling' : undefined),
  ArrowUp: ({ target }) => rows.focus(target.closest('#rows li') ? 'previousSibling' : undefined),
  Home: () => rows.focusNewest(),
  Escape ({ target }) {
    if (target === $('filter') && target.value !== '') {
      target.value = ''
      target.dispatchEvent(new Event('input'))
    } else target.blur()
  }
})

$('topics').open = !matchMedia('(max-width: 760px)').matches
say($('host'), location.host)
setInterval(tick, TICK)
setInterval(() => { if (!document.hidden && $('state').dataset.state === 'open') refresh() }, REFRESH)
open()
