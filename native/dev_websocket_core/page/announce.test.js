import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Announcer, BETWEEN } from './announce.js'

/** An announcer whose time passes by hand. */
function announcer () {
  const said = []
  let [now, timers] = [5000, []]
  const clock = { now: () => now, later: (work, delay) => timers.push({ work, at: now + delay }) }
  const pass = (time) => {
    now += time
    const due = timers.filter(({ at }) => at <= now)
    timers = timers.filter(({ at }) => at > now)
    for (const { work } of due) work()
  }
  return { said, pass, announcer: new Announcer((text, isUrgent) => said.push([now, text, isUrgent]), clock) }
}

test('nothing is said sooner than a second after the last, and of more the newest', () => {
  const { said, pass, announcer: { say }, announcer: speaker } = announcer()
  for (let n = 0; n < 100; n++) {
    say.call(speaker, `text ${n}`)
    pass(50)
  }
  pass(BETWEEN)
  assert.equal(said[0][1], 'text 0')
  assert.equal(said.at(-1)[1], 'text 99')
  assert.ok(said.length <= 7, String(said.length))
  said.slice(1).forEach(([at], index) => assert.ok(at - said[index][0] >= BETWEEN))
})

test('what is urgent is not overtaken', () => {
  const { said, pass, announcer: speaker } = announcer()
  speaker.say('one')
  speaker.say('gone', true)
  speaker.say('copied')
  pass(BETWEEN)
  assert.deepEqual(said.map(([, text, isUrgent]) => [text, isUrgent]), [['one', false], ['gone', true]])
})
