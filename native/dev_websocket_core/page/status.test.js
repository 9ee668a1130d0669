import assert from 'node:assert/strict'
import { test } from 'node:test'
import { titleOf } from './status.js'

test('a title begins with what is wrong', () => {
  assert.deepEqual(['connecting', 'replaying', 'open', 'waiting', 'closed'].map((state) => titleOf(state, false, 'a')),
    ['Connecting – a', 'a – live', 'a – live', 'Reconnecting – a', 'Disconnected – a'])
  // An attempt to connect does not bring a server back.
  for (const state of ['waiting', 'connecting']) assert.equal(titleOf(state, true, 'a'), 'Server gone – a')
  assert.equal(titleOf('closed', true, 'a'), 'Disconnected – a')
  assert.equal(titleOf('open', false, 'a', true), 'Stale – a')
  assert.equal(titleOf('waiting', true, 'a', true), 'Server gone – a')
})
