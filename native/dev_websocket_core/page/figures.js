import { $, duration, number, perSecond, say, size } from './dom.js'
import { Rates, area, median } from './rates.js'

/** Milliseconds that the latency looks back. */
const LOOK_BACK = 5000
/** Gaps that are kept for who asks what is missing. */
const MAX_GAPS = 200

/** The numbers above the stream: how much came, how fast, how late, and what is missing. */
export class Figures {
  #latencies
  #volume
  #missed
  #gaps

  constructor () {
    this.clear()
  }

  clear () {
    this.rates = new Rates(second())
    this.#latencies = []
    this.#volume = this.#missed = this.#gaps = 0
    /** The newest gaps as `{ at, frame }`, the newest first. */
    this.gaps = []
  }

  /** Counts a message; only a live one has come just now. */
  message ({ frame, isLive, latency, size }) {
    this.#volume += size
    this.rates.count(frame.topics ?? [], second(), isLive)
    if (isLive) this.#latencies.push({ at: performance.now(), latency })
  }

  gap (frame) {
    this.#missed += frame.dropped ?? 0
    this.#gaps++
    this.gaps.unshift({ at: Date.now(), frame })
    this.gaps.length = Math.min(this.gaps.length, MAX_GAPS)
  }

  draw () {
    const { all } = this.rates
    say($('rate'), perSecond(all.rate(second())))
    say($('received'), number(all.total))
    say($('volume'), this.#volume > 0 ? size(this.#volume) : '')
    this.#latencies = this.#latencies.filter(({ at }) => at > performance.now() - LOOK_BACK)
    const latency = median(this.#latencies.map(({ latency }) => latency))
    say($('latency'), latency === null ? '–' : duration(latency))
    say($('missed'), number(this.#missed))
    say($('gaps'), this.#gaps > 0 ? `in ${number(this.#gaps)} ${this.#gaps === 1 ? 'gap' : 'gaps'}` : '')
    $('missed').classList.toggle('bad', this.#gaps > 0)
    trace($('pace'), all.series(second()))
  }
}

/** Draws a series as the two paths of a picture: what is below the line, and the line. */
export function trace (picture, series) {
  const { width, height } = picture.viewBox.baseVal
  const path = series.some((count) => count > 0) ? area(series, width, height) : { area: '', line: '' }
  picture.firstChild.setAttribute('d', path.area)
  picture.lastChild.setAttribute('d', path.line)
}

export function second () {
  return Math.floor(performance.now() / 1000)
}
