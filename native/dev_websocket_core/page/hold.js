/** Milliseconds that a finger holds the rows after it has left them: its click comes then. */
const AFTER_TOUCH = 700

/**
 * Whether somebody points at something in an element or has the focus there, so that nothing may move in it. A pointer that
 * rests while the page changes below it holds nothing; it must have been moved there.
 */
export class Hold {
  #area
  #changed
  #isPointed = false
  #place = ''
  #touch = null

  /** `changed` is called when the element is let go. */
  constructor (area, { changed }) {
    this.#area = area
    this.#changed = changed
    area.addEventListener('pointermove', (event) => this.#point(event))
    area.addEventListener('pointerdown', (event) => this.#point(event, true))
    area.addEventListener('pointerleave', ({ pointerType }) => { if (pointerType === 'mouse') this.#leave() })
    for (const type of ['pointerup', 'pointercancel']) {
      area.addEventListener(type, ({ pointerType }) => {
        if (pointerType !== 'mouse') this.#touch = setTimeout(() => this.#leave(), AFTER_TOUCH)
      })
    }
    area.addEventListener('focusout', ({ relatedTarget }) => { if (!area.contains(relatedTarget)) changed() })
  }

  get isHeld () {
    return this.#isPointed || this.#area.querySelector(':focus-visible') !== null
  }

  /** Lets go until the pointer is moved again. */
  release () {
    this.#isPointed = false
  }

  #point ({ screenX, screenY }, isPressed = false) {
    // Browsers also report a move when something else comes to lie below the pointer.
    const place = `${screenX} ${screenY}`
    const isMoved = place !== this.#place
    this.#place = place
    if (!isMoved && !isPressed) return
    clearTimeout(this.#touch)
    this.#isPointed = true
  }

  #leave () {
    if (!this.#isPointed) return
    this.#isPointed = false
    this.#changed()
  }
}
