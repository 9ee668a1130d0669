import { Cursor } from './cursor.js'
import { Recovery } from './recovery.js'
import { Requests, refused } from './requests.js'
import { Selection, split } from './selection.js'
import { Slots } from './slots.js'

/** Frame types that answer a request. */
const REPLIES = new Set(['subscription_response', 'unsubscription_response'])
/** Refusals that pass, as the server has no room for all clients together. */
const CROWDED = new Set(['too_many_globs', 'too_many_expressions', 'too_many_distinct_templates', 'too_many_unindexed_patterns', 'busy'])

/**
 * The frames of all connections of a client, one after the other: the subscriptions, the cursor, and the requests
 * without a reply. It calls the methods of `host`: `turn`, `emit`, `deliver`, `drop` and `report`.
 */
export class Exchange {
  #host
  #clock
  #cursor
  #slots
  #recovery
  /** Subscriptions that the server has confirmed, or that the options name. */
  selection
  // Those that the URL of this connection asked for.
  #asked = new Selection()
  #changes = []
  #isScheduled = false
  // Subscriptions with a `since` of their own whose replay is not over. Only the first has been sent.
  #replays = []
  // Subscriptions that are made again by frames, and the frames that are held until all of them are there.
  #restore = null
  #requests = null
  #connection = null
  #how = null
  #id = 0
  #established = null

  constructor (host, options, items) {
    this.#host = host
    this.#clock = options.clock
    this.#cursor = new Cursor(options.cursor ?? null)
    this.selection = new Selection(items)
    this.#slots = new Slots(options.slots, options.fromSlot, () => this.selection, options)
    this.#recovery = new Recovery(this.#slots, host, options, (frame) => frame.type === 'gap' ? this.#tellGap(frame) : this.#deliver(frame))
  }

  get cursor () {
    return this.#cursor.text
  }

  /** The newest slot of each process that was delivered whole. */
  get slots () {
    return this.#slots.whole
  }

  /** The process and the slot that a stream of events has to ask for, null when none is missing. */
  get missedSlots () {
    return this.#slots.next()
  }

  /** Whether an answer is waited for. */
  get isWaiting () {
    return this.#changes.length > 0 || this.#replays.length > 0 || (this.#requests !== null && !this.#requests.isEmpty)
  }

  /** A connection that was made; `how` is what its URL asks for. */
  connect (connection, how) {
    this.#connection = connection
    this.#how = how
    this.#asked = how.isByFrames ? new Selection() : new Selection(this.selection.fields())
    this.#requests = null
    this.#recovery.connect(connection, how.slots)
  }

  /** The connection is gone. Gives gaps, also none, when the past was refused, so that another one is asked for next. */
  lost (error) {
    if (this.#requests !== null) {
      this.#id = this.#requests.nextId
      this.#requests.end()
    }
    this.#connection = this.#requests = this.#restore = this.#established = null
    for (const replay of this.#replays) replay.id = replay.upTo = null
    for (const change of this.#changes) change.isSent = false
    const isRefused = this.#recovery.lost(error)
    if (error === 'bad_since') return [this.#forget()]
    return isRefused ? [] : null
  }

  /** Drops the cursor. Gives the gap that this is. */
  #forget () {
    const gap = this.#cursor.forget()
    this.#slots.lose(gap)
    return gap
  }

  /** All that waits for an answer gets none. */
  end (error) {
    const waiting = [...this.#changes, ...this.#replays]
    this.#changes = []
    this.#replays = []
    for (const change of waiting) change.fail?.(error)
  }

  // ---- Subscriptions ----

  /** Subscribes for a holder, which gets the reply or the refusal. With `since`, past publications come first. */
  subscribe (items, since, holder) {
    const fields = new Selection(items).fields()
    if (since != null) {
      this.#replays.push({ items: new Selection(items), since: new Cursor(String(since)).text, id: null, upTo: null, holder, fail: (error) => holder.fail(error) })
      this.#replayNext()
      return
    }
    const change = {
      type: 'subscribe',
      fields,
      holder,
      fulfil: (reply) => {
        this.selection.add(fields, holder)
        this.#asked.add(fields)
        holder.fulfil(reply)
        if (change.isCancelled) this.unsubscribe(fields, holder)
        else this.#recovery.next()
      },
      fail: (error) => holder.fail(error)
    }
    this.#change(change)
  }

  /** Ends what a holder subscribed to, or these items for everybody. */
  unsubscribe (items, holder) {
    const pending = holder && this.#changes.find((change) => change.holder === holder)
    if (pending && !pending.isSent) return this.#changes.splice(this.#changes.indexOf(pending), 1)
    if (pending) pending.isCancelled = true
    for (const replay of this.#replays) {
      if (holder === undefined || replay.holder === holder) replay.items.remove(items)
    }
    const gone = this.selection.remove(items, holder)
    const fields = holder === undefined ? new Selection(items).fields() : gone
    if (fields === null) return
    const fulfil = () => {
      this.#asked.remove(fields)
      if (holder === undefined) this.selection.remove(fields)
    }
    this.#change({ type: 'unsubscribe', fields, fulfil, fail: () => {} })
  }

  /** Hands data to the node's listener. Gives the request's id, or null without a connection: it is not kept for later. */
  say (frame) {
    return this.#requests === null || !this.#connection.canSend ? null : this.#requests.say(frame)
  }

  /** Where the URL says that the client begins, when it knows no place yet. */
  begin (cursor, slots) {
    if (this.cursor === null) this.#cursor = new Cursor(cursor)
    for (const [process, slot] of Object.entries(slots)) this.#slots.begin(process, slot)
  }

  #change (change) {
    this.#changes.push(change)
    if (this.#isScheduled) return
    this.#isScheduled = true
    // Requests of one turn go out together.
    queueMicrotask(() => {
      this.#isScheduled = false
      this.#flush()
    })
  }

  #flush () {
    if (this.#host.state !== 'open' || this.#changes.length === 0) return
    const unsent = this.#changes.filter(({ isSent }) => !isSent)
    if (unsent.length === 0) return
    // A stream of events is asked anew; its first frame is the answer.
    if (!this.#connection.canSend) return this.#host.reopen()
    for (const change of unsent) {
      change.isSent = true
      // Subscriptions that the server has are not sent again, unless the request would be empty and get no reply.
      if (change.type === 'subscribe') change.asked = new Selection(change.fields).without(this.#asked) ?? change.fields
    }
    this.#requests.ask(unsent.map((change) => ({
      type: change.type,
      fields: change.asked ?? change.fields,
      fulfil: (frame) => this.#settle(change, () => change.fulfil(frame)),
      fail: (frame) => this.#settle(change, () => {
        const error = refused(frame)
        change.fail(error)
        this.#host.emit('error', error)
      })
    })))
  }

  #settle (change, act) {
    const at = this.#changes.indexOf(change)
    if (at >= 0) this.#changes.splice(at, 1)
    act()
  }

  /** Subscriptions that a stream of events has to have in its URL, as it takes no frames. */
  takeChanges () {
    for (const change of this.#changes) {
      if (change.type === 'subscribe') this.selection.add(change.fields, change.holder)
      change.isSent = true
    }
  }

  // ---- Frames ----

  received (frame, size) {
    if (this.#established === null) {
      if (frame?.type !== 'connection_established' || typeof frame.epoch !== 'string') {
        return this.#host.drop('the first frame is not that of dev_websocket: is the path right, as in /ws?', 'bad_server')
      }
      return this.#welcome(frame)
    }
    if (frame === null || typeof frame !== 'object') return
    if (this.#restore?.held && (frame.type === 'message' || frame.type === 'gap')) {
      return this.#restore.held.push([frame, size])
    }
    switch (frame.type) {
      case 'message': return this.#message(frame, size)
      case 'live': return this.#live(frame)
      case 'pong': return this.#passed(frame.seq)
      case 'gap': return this.#gap(frame)
      case 'stale': return this.#host.deliver(frame, 0, this.cursor)
      case 'direct': return this.#host.deliver(frame, 0, null)
      case 'token_expires': return this.#host.renew()
    }
    const isReply = REPLIES.has(frame.type)
    if (isReply) this.#passed(frame.seq)
    const isAnswer = this.#requests.answer(frame)
    if (isReply) this.#host.emit('reply', frame)
    if (frame.type === 'error' && !isAnswer && !this.#recovery.refuses(frame)) this.#host.emit('error', refused(frame))
  }

  #welcome (frame) {
    this.#established = frame
    this.#cursor.enter(frame.epoch)
    this.#requests = new Requests((out) => this.#connection?.send(out), this.#clock, frame.limits, this.#id)
    this.#recovery.welcome(this.#requests)
    this.#host.emit('established', frame)
    if (this.#connection === null) return
    const { past, isByFrames } = this.#how
    if (isByFrames) return this.#restoreAll()
    const isIgnored = frame.ignored?.includes(past)
    if (past !== null && !isIgnored) return this.#host.turn('replaying')
    // A server without this `since` has replayed no missed publication.
    const gap = past === 'since' ? this.#forget() : null
    this.#open(frame.seq)
    if (gap) this.#host.deliver(gap, 0, this.cursor)
  }

  /** Makes subscriptions again that the URL had no room for. Several frames bring several replays, which are put in order. */
  #restoreAll () {
    const parts = split(this.selection.fields(), this.#requests.frameBytes)
    if (parts === null) return this.#host.drop('the subscriptions do not fit into frames that the server takes', 'too_large')
    this.#host.turn('replaying')
    if (this.#connection === null) return
    const restore = this.#restore = { left: parts.length, seq: 0, held: parts.length > 1 ? [] : null, selection: new Selection(this.selection.fields()) }
    const since = this.cursor
    for (const part of parts) this.#restorePart(restore, part, since)
  }

  #restorePart (restore, part, since) {
    const id = this.#requests.post('subscribe', since === null ? part : { ...part, since }, (frame) => {
      if (frame.type !== 'error') {
        if (since === null) this.#restored(restore, frame.seq)
        return
      }
      if (frame.code === 'bad_since') {
        const gap = this.#forget()
        if (gap.cursor !== null) this.#host.deliver(gap, 0, this.cursor)
        return this.#restorePart(restore, part, null)
      }
      this.#host.drop(frame.message, frame.code, !CROWDED.has(frame.code))
    })
    if (since !== null) (restore.ids ??= new Set()).add(id)
  }

  #restored (restore, seq) {
    restore.seq = Math.max(restore.seq, seq)
    if (--restore.left > 0) return
    this.#restore = null
    const place = ([frame]) => frame.seq ?? frame.next ?? 0
    let before = null
    for (const [frame, size] of (restore.held ?? []).sort((one, other) => place(one) - place(other))) {
      // Each replay told of the same gap.
      const text = frame.type === 'gap' ? JSON.stringify(frame) : null
      if (text !== null && text === before) continue
      before = text ?? before
      if (frame.type === 'gap') this.#gap(frame)
      else this.#message(frame, size)
    }
    this.#asked = restore.selection
    this.#open(restore.seq)
  }

  /** All that was missed is here. What was changed while it came is told to the server. */
  #open (seq) {
    this.#cursor.advance(seq)
    for (const change of this.#changes.filter(({ isSent }) => isSent)) {
      this.#settle(change, () => change.fulfil(this.#firstReply(change)))
    }
    const fields = this.#asked.without(this.selection)
    const isAsked = this.#changes.some(({ type }) => type === 'unsubscribe')
    if (fields !== null && !isAsked) this.#changes.push({ type: 'unsubscribe', fields, fulfil: () => {}, fail: () => {} })
    this.#host.turn('open')
    this.#flush()
    this.#replayNext()
    this.#recovery.next()
  }

  /** The first frame of a connection as the reply to what its URL asked for. */
  #firstReply ({ type }) {
    const { seq, subscribed_topics, timestamp } = this.#established
    return { type: type === 'subscribe' ? 'subscription_response' : 'unsubscription_response', seq, subscribed_topics, timestamp }
  }

  #message (frame, size) {
    frame.size = size
    if (frame.replayed === true) {
      if (isOfSlot(frame) && !this.#slots.isGiven(frame)) this.#deliver(frame)
      return
    }
    const isPast = this.#isPast(frame.seq)
    if (!Number.isInteger(frame.seq) || !this.#isNew(frame.seq)) return
    if (isPast || !this.#slots.hold(frame, size)) this.#deliver(frame, isPast)
  }

  #deliver (frame, isPast = false) {
    if (isOfSlot(frame) && !isPast) this.#slots.give(frame)
    frame.cursor = this.cursor
    this.#host.deliver(frame, frame.size, this.cursor)
  }

  /** A gap in the slots of a process is a publication with a number of its own, any other has none. */
  #gap (frame) {
    // The stream of several nodes was made anew. The next messages are of this epoch.
    if (typeof frame.epoch === 'string') this.#cursor.enter(frame.epoch)
    if (frame.replayed === true) {
      // One that comes with a refusal is told when the slots are not asked for again.
      if (this.#recovery.isRefused) return
      if (frame.reason !== 'not_replayed') this.#slots.report(frame.process, frame.from_slot, frame.to_slot)
      return this.#tellGap(frame)
    }
    if (Number.isInteger(frame.seq) && !this.#isNew(frame.seq)) return
    this.#slots.lose(frame)
    if (!this.#slots.hold(frame, 0)) this.#tellGap(frame)
    this.#recovery.next()
  }

  #tellGap (frame) {
    if (frame.process !== undefined) this.#slots.give(frame)
    this.#host.deliver(frame, 0, this.cursor)
  }

  /** Moves the cursor to a publication, or that of the replay that it belongs to. Says whether it was not there yet. */
  #isNew (seq) {
    if (!this.#isPast(seq)) return this.#cursor.advance(seq)
    this.#replays[0].since = this.#cursor.at(seq)
    return true
  }

  /** Whether a publication belongs to a replay that a subscription has asked for. */
  #isPast (seq) {
    const [replay] = this.#replays
    return replay !== undefined && replay.upTo !== null && seq <= replay.upTo
  }

  #live (frame) {
    const [replay] = this.#replays
    if (frame.process !== undefined) {
      // The replay had all publications up to here.
      this.#passed(frame.seq)
      this.#recovery.live(frame)
    } else if (this.#restore !== null) {
      if (this.#restore.ids?.delete(frame.id)) this.#restored(this.#restore, frame.seq)
    } else if (this.#host.state === 'replaying') {
      this.#open(frame.seq)
    } else if (replay?.id != null && replay.id === frame.id) {
      this.#replays.shift()
      this.selection.add(replay.items.fields(), replay.holder)
      this.#asked.add(replay.items.fields())
      this.#cursor.advance(frame.seq)
      this.#replayNext()
    }
    this.#host.deliver(frame, 0, this.cursor)
  }

  /** Whatever has a lower number than an answer comes before it, unless past publications come at the same time. */
  #passed (seq) {
    if (!Number.isInteger(seq)) return
    const isReplaying = this.#host.state !== 'open' || (this.#replays.length > 0 && this.#replays[0].upTo !== null)
    if (!isReplaying) this.#cursor.advance(seq)
  }

  /** One replay at a time, so that it is known which one a message belongs to. */
  #replayNext () {
    while (this.#host.state === 'open' && this.#replays.length > 0 && this.#replays[0].id === null) {
      const [replay] = this.#replays
      const fields = replay.items.fields()
      if (fields === null || !this.#connection.canSend) {
        this.#replays.shift()
        if (fields !== null) this.#refuse(replay, { code: 'not_supported', message: 'a stream of events takes no since of its own' })
        continue
      }
      replay.id = this.#requests.post('subscribe', { ...fields, since: replay.since }, (frame) => {
        if (frame.type !== 'error') {
          replay.upTo = frame.seq
          return replay.holder.fulfil(frame)
        }
        this.#replays.shift()
        this.#replayNext()
        if (frame.code !== 'bad_since') return this.#refuse(replay, frame)
        this.subscribe(fields, null, replay.holder)
        this.#host.deliver({ type: 'gap', reason: 'cursor', cursor: replay.since }, 0, this.cursor)
      })
    }
  }

  #refuse (replay, frame) {
    const error = refused(frame)
    replay.fail(error)
    this.#host.emit('error', error)
  }
}

function isOfSlot ({ process, slot }) {
  return typeof process === 'string' && Number.isInteger(slot)
}
