import { TokenField } from './access.js'
import { FIRST, add, addressOf, base, choiceOf, chosenAs, only, queryOf, remove, simplify } from './choice.js'
import { know, onChip } from './chip.js'
import { Chooser } from './chooser.js'
import { $, announce, clock, copies, h, number, say } from './dom.js'
import { Figures, second } from './figures.js'
import { wordsOf } from './gap.js'
import { Hold } from './hold.js'
import { visible } from './json.js'
import { listenForKeys, store, stored } from './keys.js'
import { Operator } from './operator.js'
import { ProcessView } from './process_view.js'
import { Rows } from './rows.js'
import { ServerTotals } from './server.js'
import { Session } from './session.js'
import { Status } from './status.js'
import { Stream, jsonLines } from './stream.js'
import { Topics } from './topics.js'

/** Milliseconds between two looks at the server's list of topics. */
const REFRESH = 60_000
/** Milliseconds between two drawings of the rows, and of everything else. */
const PAUSE = 100
const TICK = 500
/** Pixels of the lowest row. */
const ROW = 36
/** Slots that are shown before the newest one that is known. */
const EARLIER = 20
/** With more messages a second, new rows are not pointed out. */
const CALM = 20

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
/** Whether the notice ends with the next connection. */
let isTrouble = false

const isChosen = (topic) => {
  const [kind, text] = chosenAs(topic)
  return choice[kind].includes(text)
}
const rows = new Rows($('rows'), { isChosen, changed: draw })
const hold = new Hold($('scroller'), { changed: draw })
const topics = new Topics($('busiest'), { isChosen, changed: tick })
const status = new Status()
const chooser = new Chooser({ topics: allTopics, change, slots: (process) => showSlots(process, firstSlot(process)) })

const access = new TokenField({
  changed () {
    open(session.cursor)
    processView.restart()
  }
})
const processView = new ProcessView(access, { changed: (slot) => showSlots(choice.process[0], slot) })
const totals = new ServerTotals(access)
const operator = new Operator(access)
const session = new Session({
  message (frame, isLive) {
    const entry = { kind: 'message', frame, isLive, latency: Date.now() - frame.timestamp, size: frame.size ?? 0 }
    stream.add(entry)
    figures.message(entry)
    draw()
  },
  gap (frame) {
    stream.add({ kind: 'gap', frame: { epoch: server.epoch, ...frame }, size: 0 })
    figures.gap(frame)
    draw()
  },
  established (frame) {
    server = frame
    access.hide()
    if (isTrouble) notice('')
    refresh()
    totals.begin()
  },
  state (change) {
    status.turn(change)
    if (change.code === 3000 || change.code === 3003) access.ask(change.reason)
    tick()
    draw()
  },
  stale: (since) => status.stale(since),
  lost: () => status.lost(),
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

/** Shows the slots of a process from one on, or with null its messages again. */
function showSlots (process, slot) {
  if (slot !== null) [choice.topic, choice.process, choice.match, choice.template] = [[], [process], [], []]
  choice.fromSlot = slot
  view()
}

/** The first slot to show, as far as the page knows: some before the newest that it has seen. */
function firstSlot (process) {
  const slots = stream.entries.map(({ frame }) => frame.process === process ? frame.slot : undefined).filter(Number.isInteger)
  return slots.length > 0 ? Math.max(0, Math.max(...slots) - EARLIER) : 0
}

/** Begins anew with what is chosen now. */
function view () {
  if (choice.since !== null) choice.last ??= FIRST
  choice.since = null
  isPaused = false
  status.begin()
  clear()
  figures.clear()
  chooser.fault('')
  open()
  viewSlots()
}

function viewSlots () {
  processView.show(choice.fromSlot === null ? null : { choice, process: choice.process[0], from: choice.fromSlot })
}

function open (cursor) {
  history.replaceState(null, '', location.pathname + queryOf(choice))
  chooser.draw(choice)
  const last = $('last')
  const value = String(choice.last ?? FIRST)
  if (![...last.options].some((option) => option.value === value)) last.add(new Option(`the newest ${value}`, value))
  last.value = value
  status.name = `${[...choice.topic, ...choice.process, ...choice.match, ...choice.template].map(visible).join(', ') || 'All messages'}`
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
  if (text !== '') announce(text, true)
}

// ---- Topics of the server ----

function allTopics () {
  return [...new Set([...figures.rates.busiest(second()), ...known])]
}

async function refresh () {
  if (!hasInfo) return
  try {
    const answer = await fetch(new URL('info', base(location)), { cache: 'no-store', headers: access.headers })
    // It may be switched off.
    hasInfo = answer.status !== 404
    if (answer.ok) {
      const info = await answer.json()
      known = info.topics.filter((topic) => typeof topic === 'string')
      operator.show(info.operator)
    }
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
  const isReading = isRead()
  if (!isPaused && !isReading) stream.take()
  const { entries, matching, waiting } = stream
  // A held list only grows downwards, as it does for who scrolls.
  rows.show(isPaused || isReading ? matching : matching.slice(-Math.ceil(innerHeight / ROW)))
  $('newer').hidden = isPaused || waiting === 0
  say($('newer'), `↑ ${number(waiting)} new`)
  $('stream').classList.toggle('held', isReading && waiting > 0)
  say($('pause'), isPaused ? `Resume${waiting > 0 ? ` · ${number(waiting)} new` : ''}` : 'Pause')
  $('pause').setAttribute('aria-pressed', String(isPaused))
  say($('count'), `${matching === entries ? '' : `${number(matching.length)} of `}${number(entries.length)} shown`)
  $('export').disabled = matching.length === 0
  $('empty').hidden = matching.length > 0
  say($('empty'), entries.length > 0
    ? 'No matches'
    : $('state').dataset.state === 'open' ? 'Connected. The next message appears here the moment it is published.' : '')
}

function isRead () {
  return rows.areOpen || isScrolled() || (stream.entries.length > 0 && hold.isHeld)
}

function isScrolled () {
  const top = Math.max(0, $('scroller').getBoundingClientRect().top)
  return $('rows').getBoundingClientRect().top < top - 4
}

function tick () {
  status.tick()
  say($('cursor'), session.cursor ?? '–')
  $('rows').classList.toggle('calm', figures.rates.all.rate(second()) > CALM)
  figures.draw()
  // A row in which somebody may be about to click stays as it is.
  if (know(allTopics()) && !isRead()) rows.rename()
  topics.draw({ rates: figures.rates, known, chosen: chosenTopics() })
}

/** Topics that were asked for by their names. */
function chosenTopics () {
  return [...choice.topic.filter((topic) => !topic.includes('*')), ...choice.process.map((id) => `process:${id}`)]
}

function clear () {
  stream.clear()
  rows.closeAll()
  hold.release()
  render()
}

function pause () {
  isPaused = !isPaused
  render()
}

function showNewest () {
  rows.closeAll()
  hold.release()
  takeNewest()
}

/** Shows what waits, though somebody points or reads. */
function takeNewest () {
  if (!isPaused) stream.take()
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
$('show-missing').onclick = () => {
  const items = figures.gaps.map(({ at, frame }) => {
    const { text, place } = wordsOf({ epoch: server.epoch, ...frame })
    return h('li', {}, h('time', {}, clock(at)), h('b', {}, text), h('small', {}, place))
  })
  $('missing').lastElementChild.replaceChildren(...items.length > 0 ? items : [h('li', { class: 'hint' }, 'Nothing, as far as the server says.')])
  $('missing').showModal()
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
  t () {
    $('topics').open = true
    $('find').focus()
  },
  ' ': pause,
  '?': () => $('help').showModal(),
  ArrowDown: ({ target }) => rows.focus(target.closest('#rows li') ? 'nextSibling' : undefined),
  ArrowUp ({ target }) {
    const row = target.closest('#rows li')
    // Above the newest that is shown is what waits.
    if (row !== null && row.previousSibling === null) takeNewest()
    rows.focus(row ? 'previousSibling' : undefined)
  },
  Home () {
    takeNewest()
    rows.focusNewest()
  },
  Escape ({ target }) {
    if (target.matches('#filter, #find') && target.value !== '') {
      target.value = ''
      target.dispatchEvent(new Event('input'))
    } else target.blur()
  }
})

// What a phone has no room for lies behind a button.
const phone = matchMedia('(max-width: 760px)')
const moved = ['first', 'clear', 'export', 'server'].map((id) => [$(id), $(id).parentNode, $(id).nextSibling])
phone.onchange = () => {
  $('topics').open = !phone.matches
  if (phone.matches) $('more').append(...moved.map(([element]) => element))
  else for (const [element, parent, next] of moved.toReversed()) parent.insertBefore(element, next)
}
phone.onchange()
say($('host'), location.host)
setInterval(tick, TICK)
setInterval(() => { if (!document.hidden && $('state').dataset.state === 'open') refresh() }, REFRESH)
open()
if (choice.fromSlot !== null) viewSlots()
