/* Scrolling that is never stolen: the end is followed only by somebody who is there. */
import { $ } from './dom.js';

const NEAR = 72;

export class Scroll {
  constructor(onTop, onBottom) {
    this.box = $('#scroller');
    this.thread = $('#thread');
    this.button = $('#newest');
    this.follows = true;
    this.onBottom = onBottom;
    this.box.addEventListener('scroll', () => this.#moved(), { passive: true });
    // Wheel and fingers are a wish: even while text pours in they let go of the end.
    this.box.addEventListener('wheel', (event) => { if (event.deltaY < 0) this.follows = false; }, { passive: true });
    new ResizeObserver(() => this.#grew()).observe(this.thread);
    new ResizeObserver(() => this.#grew()).observe(this.box);
    this.sentinel = new IntersectionObserver((entries) => entries.some((one) => one.isIntersecting) && onTop(), { root: this.box, rootMargin: '600px 0px 0px 0px' });
  }

  watchTop(element) {
    this.sentinel.disconnect();
    if (element) this.sentinel.observe(element);
  }

  get distance() { return this.box.scrollHeight - this.box.scrollTop - this.box.clientHeight; }

  #moved() {
    this.follows = this.distance < NEAR;
    this.button.hidden = this.follows || !this.thread.querySelector('.message');
    if (this.follows) this.onBottom();
  }

  #grew() {
    if (this.follows) this.box.scrollTop = this.box.scrollHeight;
    else this.button.hidden = this.distance < NEAR || !this.thread.querySelector('.message');
  }

  toEnd() {
    this.follows = true;
    this.button.hidden = true;
    this.box.scrollTop = this.box.scrollHeight;
    this.onBottom();
  }

  /* Nothing is followed: a page that is read from its beginning. */
  rest() {
    this.follows = false;
    this.button.hidden = true;
    this.box.scrollTop = 0;
  }

  /* Adds something above without moving what is seen. */
  keep(change) {
    const before = this.box.scrollHeight - this.box.scrollTop;
    const follows = this.follows;
    change();
    this.follows = follows;
    this.box.scrollTop = this.box.scrollHeight - before;
  }

  to(element) {
    this.follows = false;
    element.scrollIntoView({ block: 'center' });
    this.button.hidden = this.distance < NEAR;
  }
}
