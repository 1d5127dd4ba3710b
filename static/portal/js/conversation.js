/* The conversation that is open: its messages, the answers that come in, and what can be done with each. */
import { $, h, lamp } from './dom.js';
import * as api from './api.js';
import { emit, me, on } from './store.js';
import { subscribe, request as ask } from './socket.js';
import { messageElement, unsentElement } from './message.js';
import { FAILED, OPEN, TurnView } from './turn.js';
import { Scroll } from './scroll.js';
import { dayName } from './moments.js';
import { politely } from './announce.js';
import { showError } from './dialogs.js';
import { fill, gettext } from './words.js';
import { Outbox } from './outbox.js';
import { Deeds, POLL } from './deeds.js';

const PAGE = 50;
const AROUND = 25;

export class Conversation extends Deeds {
  constructor() {
    super();
    this.thread = $('#thread');
    this.scroll = new Scroll(() => this.older(), () => this.seen());
    this.deeds = {
      edit: (message) => emit('edit', message),
      again: (message) => this.again(message),
      show: (id) => this.showVersion(id),
      decide: (turn, approval, approve) => this.decide(turn, approval, approve),
      mayEdit: (message) => message.sender.person === me.id && message.state !== 'redacted' && message.transport === 'portal',
      stop: (turn) => this.stop(turn),
      isBehind: (turn) => [...this.turns.values()].some((view) => view.isOpen && view.turn.id < turn.id),
      resend: (unsent) => this.outbox.resend(unsent),
      forget: (unsent) => this.outbox.forget(unsent),
    };
    document.addEventListener('visibilitychange', () => this.seen());
    window.addEventListener('focus', () => this.seen());
    on('line', ({ name }) => { this.signedOut = name === 'signed-out'; if (name === 'open' && this.id && this.failed) this.open(this.id); });
    setInterval(() => this.poll(), POLL);
    this.forget();
  }

  forget() {
    this.unsubscribe?.();
    this.unsubscribe = null;
    this.outbox?.close();
    this.outbox = null;
    for (const view of this.turns?.values() ?? []) view.close();
    this.id = null;
    this.info = null;
    this.failed = false;
    this.messages = new Map();
    this.turns = new Map();
    this.over = new Set();
    this.toldSeq = 0;
    this.before = null;
    this.atEnd = true;
    this.cursor = '';
    this.loading = null;
    this.epoch = (this.epoch ?? 0) + 1;
    this.thread.replaceChildren();
    this.scroll.watchTop(null);
    this.scroll.rest();
  }

  get agentName() { return this.info?.agent?.name ?? gettext('Agent'); }

  get openTurns() { return [...this.turns.values()].filter((view) => view.isOpen); }

  /* Opens a conversation; message: {id, seq} to jump to. */
  async open(id, { message = null } = {}) {
    this.forget();
    this.id = id;
    const { epoch } = this;
    this.thread.replaceChildren(h('p', { class: 'second loading' }, gettext('Loading the conversation…')));
    try {
      const first = message ? `?before=${message.seq + AROUND}&limit=${PAGE}` : `?limit=${PAGE}`;
      const [info, page] = await Promise.all([api.get(`/conversations/${id}`), api.get(`/conversations/${id}/messages${first}`)]);
      if (epoch !== this.epoch) return;
      this.info = info;
      this.newFrom = info.unread ? info.last_read_seq : null;
      emit('conversation-opened', info);
      this.unsubscribe = subscribe(id, () => this.resume(), (frame) => this.hear(frame));
      this.outbox = new Outbox(this);
      this.place(page, { fresh: true, atEnd: !message || page.items.some((one) => one.id === page.head) });
      if (message) await this.jump(message);
      else this.scroll.toEnd();
    } catch (error) {
      if (epoch !== this.epoch) return;
      this.failed = true;
      const missing = error.status === 404;
      this.thread.replaceChildren(h('div', { class: 'empty' },
        h('p', {}, lamp('trouble', missing ? gettext('There is no such conversation, or it is not yours.') : error.message)),
        h('p', {}, missing ? h('a', { class: 'button', href: '/chat/', 'data-go': 'new' }, gettext('New conversation'))
          : h('button', { class: 'button', type: 'button', onclick: () => this.open(id, { message }) }, gettext('Try again')))));
      emit('conversation-missing', id);
    }
  }

  /* A new conversation that nobody has said anything in: made with the first message. */
  begin(info) {
    this.forget();
    this.id = info.id;
    this.info = info;
    this.newFrom = null;
    emit('conversation-opened', info);
    this.unsubscribe = subscribe(info.id, () => this.resume(), (frame) => this.hear(frame));
    this.outbox = new Outbox(this);
  }

  resume() {
    const turns = {};
    for (const [id, view] of this.turns) if (view.isOpen) turns[id] = view.place;
    return { cursor: this.cursor, turns };
  }

  /* A page of messages: all of them anew, or in front of those that are here. */
  place(page, { fresh = false, atEnd = true } = {}) {
    if (fresh) {
      this.messages.clear();
      this.thread.replaceChildren(h('div', { class: 'top', 'aria-hidden': 'true' }));
      this.atEnd = atEnd;
    }
    this.before = page.before;
    const nodes = [];
    let day = '';
    for (const message of page.items) {
      if (this.messages.has(message.id)) continue;
      const name = dayName(new Date(message.said_at));
      if (name !== day) nodes.push(h('p', { class: 'day' }, h('span', {}, name)));
      day = name;
      nodes.push(this.#make(message));
    }
    const top = $('.top', this.thread);
    const firstDay = $('.day', this.thread);
    if (firstDay && firstDay.textContent === day && !fresh) firstDay.remove();
    top.after(...nodes);
    if (fresh) {
      for (const message of page.items) this.#turnOf(message);
      // Answers that are messages by now, and those of branches that are not shown any more.
      for (const [turn, view] of this.turns) {
        if (view.element.isConnected) continue;
        view.close();
        this.turns.delete(turn);
      }
      for (const unsent of this.outbox?.all() ?? []) this.#placeUnsent(unsent);
      this.#placeNewLine();
    }
    this.scroll.watchTop(this.before ? top : null);
    emit('turns-changed', this.openTurns.length);
  }

  async older() {
    if (!this.before || this.loading) return this.loading;
    const { epoch } = this;
    this.loading = api.get(`/conversations/${this.id}/messages?before=${this.before}&limit=${PAGE}`).then((page) => {
      if (epoch === this.epoch) this.scroll.keep(() => this.place(page));
    }).catch((error) => epoch === this.epoch && showError(error)).finally(() => { this.loading = null; });
    return this.loading;
  }

  /* What stands below a window of the past, until its end. */
  async newest() {
    if (this.atEnd) { this.scroll.toEnd(); return; }
    await this.reload();
    this.scroll.toEnd();
  }

  /* Everything anew, keeping the answers that come in. */
  async reload() {
    const { epoch, id } = this;
    if (!id) return;
    const shown = Math.max(PAGE, Math.min(200, this.messages.size));
    let page;
    // What the line told while the page was on its way is newer: then it is fetched again.
    for (let tries = 0; tries < 3; tries += 1) {
      page = await api.get(`/conversations/${id}/messages?limit=${shown}`);
      if (epoch !== this.epoch) return;
      if (page.last_seq >= this.toldSeq) break;
    }
    const focused = document.activeElement?.closest?.('.message')?.id;
    this.scroll.keep(() => this.place(page, { fresh: true }));
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  }

  async jump({ id, seq }) {
    const { epoch } = this;
    if (!this.messages.has(id)) {
      let page = await api.get(`/conversations/${this.id}/messages?before=${seq + AROUND}&limit=${PAGE}`);
      if (epoch !== this.epoch) return;
      if (!page.items.some((one) => one.id === id)) {
        // It is in another branch: show that one.
        await api.post(`/messages/${id}/show`);
        page = await api.get(`/conversations/${this.id}/messages?before=${seq + AROUND}&limit=${PAGE}`);
        if (epoch !== this.epoch) return;
      }
      this.place(page, { fresh: true, atEnd: page.items.some((one) => one.id === page.head) });
    }
    const element = $(`#message-${id}`);
    if (!element) return;
    // Showing another branch makes the page anew a moment later: the mark outlasts that.
    this.found = id;
    this.scroll.to(element);
    element.classList.add('found');
    element.focus({ preventScroll: true });
    setTimeout(() => {
      if (this.found === id) this.found = null;
      $(`#message-${id}`)?.classList.remove('found');
    }, 4000);
  }

  /* Frames of the line. */
  hear(frame) {
    if (frame.type === 'subscribed') this.#subscribed(frame);
    else if (frame.type === 'message') this.#heard(frame);
    else if (frame.type === 'turn') this.turnTold(frame);
    else if (frame.type === 'conversation') this.#told(frame);
    else if (frame.type === 'gap') { this.cursor = frame.cursor ?? this.cursor; if (this.atEnd) this.reload().catch(showError); }
    else if (frame.type === 'unsubscribed') emit('conversation-missing', this.id);
    else if (frame.turn !== undefined) this.#progress(frame);
    else if (frame.type === 'error' && frame.code?.startsWith('resource')) this.failed = true;
  }

  #subscribed(frame) {
    if (frame.cursor) this.cursor = frame.cursor;
    // What changed while nobody listened is read again; what came in order arrives as frames.
    const stale = frame.gap || (frame.revision !== undefined && this.info && frame.revision !== this.info.revision) || (frame.head && this.messages.size && !this.messages.has(frame.head));
    if (frame.revision !== undefined && this.info) this.info.revision = frame.revision;
    if (stale && this.atEnd) this.reload().catch(showError);
    this.outbox?.flush();
  }

  #heard({ message, cursor }) {
    if (cursor) this.cursor = cursor;
    this.#take(message);
  }

  #take(message) {
    if (!message || message.conversation !== this.id) return;
    this.toldSeq = Math.max(this.toldSeq, message.seq);
    this.outbox?.arrived(message.client_id);
    if (this.messages.has(message.id)) {
      const old = $(`#message-${message.id}`, this.thread);
      const focused = old?.contains(document.activeElement);
      const fresh = this.#make(message);
      old?.replaceWith(fresh);
      if (focused) fresh.focus({ preventScroll: true });
      this.#turnOf(message);
      return;
    }
    const last = this.last;
    const expected = !last || message.parent === last.id || message.role === 'notice' || this.#isQueued(message);
    if (!expected || !this.atEnd) {
      if (this.atEnd) this.reload().catch(showError);
      return;
    }
    this.#append(message);
    if (message.role !== 'user') emit('answered', message);
    this.seen();
  }

  /* A message that was said while an answer was still coming: it hangs below the question until the answer is there. */
  #isQueued(message) {
    return this.messages.has(message.parent) || message.parent === null;
  }

  get last() {
    let last = null;
    for (const message of this.messages.values()) if (message.role !== 'notice' && (!last || message.seq > last.seq)) last = message;
    return last;
  }

  #append(message) {
    if (message.role === 'assistant' && message.turn) this.over.add(message.turn.id);
    const day = dayName(new Date(message.said_at));
    const days = this.thread.querySelectorAll('.day');
    const view = message.in_reply_to ? this.turns.get(this.#turnFor(message)) : null;
    const element = this.#make(message);
    if (view && message.role === 'assistant') {
      view.end(message);
      const focused = view.element.contains(document.activeElement);
      view.element.replaceWith(element);
      if (focused) element.focus({ preventScroll: true });
      this.turns.delete(view.turn.id);
      politely(fill(gettext('%(name)s has answered.'), { name: message.sender.name }));
    } else {
      const live = message.role === 'user' ? null : $('.message.live', this.thread);
      if (days.length === 0 || days[days.length - 1].textContent !== day) this.#insert(h('p', { class: 'day' }, h('span', {}, day)), live);
      this.#insert(element, live);
    }
    this.#turnOf(message);
    emit('turns-changed', this.openTurns.length);
  }

  #turnFor(message) {
    if (message.turn && this.turns.has(message.turn.id)) return message.turn.id;
    for (const [id, view] of this.turns) if (view.turn.message === message.in_reply_to) return id;
    return null;
  }

  #insert(element, before) {
    const unsent = $('.message.unsent', this.thread);
    const place = before ?? (element.classList.contains('unsent') ? null : unsent);
    if (place) place.before(element);
    else this.thread.append(element);
  }

  #make(message) {
    this.messages.set(message.id, message);
    const element = messageElement(message, this.deeds);
    if (message.id === this.found) element.classList.add('found');
    return element;
  }

  /* The answer to a question, if it is still coming in or failed. */
  #turnOf(message) {
    const { turn } = message;
    if (!turn || message.role !== 'user') return;
    if (OPEN.has(turn.state)) {
      if (!this.over.has(turn.id)) this.#follow(turn, message);
      return;
    }
    const view = this.turns.get(turn.id);
    if (view && !turn.reply) this.#over(this.#follow(turn, message), turn);
    else if (!view && !turn.reply && (FAILED.has(turn.state) || turn.state === 'cancelled')) this.#over(this.#view(turn, message), turn);
  }

  #view(turn, message) {
    const view = new TurnView(turn, this.agentName, this.deeds);
    this.turns.set(turn.id, view);
    const asked = $(`#message-${message?.id ?? turn.message}`, this.thread);
    if (!asked) { this.#insert(view.element); return view; }
    // Below its question, and below the notices about it.
    let place = asked;
    while (place.nextElementSibling?.matches('.message.notice')) place = place.nextElementSibling;
    place.after(view.element);
    return view;
  }

  #follow(turn, message) {
    const known = this.turns.get(turn.id);
    if (known) {
      known.update(turn);
      if (!known.element.isConnected) $(`#message-${message?.id ?? turn.message}`, this.thread)?.after(known.element);
      return known;
    }
    return this.#view(turn, message);
  }

  #over(view, turn) {
    view.update(turn);
    const asked = this.messages.get(turn.message ?? view.turn.message);
    const retry = () => this.again(asked ?? { id: view.turn.message });
    if (FAILED.has(turn.state)) view.fail(turn.error || gettext('The answer failed.'), retry);
    else view.stopped(retry);
    // The server leaves a notice with the same sentence: once is enough.
    for (const notice of this.thread.querySelectorAll('.message.notice')) {
      if (turn.error && notice.textContent.includes(turn.error)) notice.hidden = true;
    }
    emit('turns-changed', this.openTurns.length);
  }

  turnTold(frame) {
    const turn = typeof frame.turn === 'object' ? frame.turn : { ...frame, id: frame.turn };
    const asked = this.messages.get(turn.message);
    if (asked) asked.turn = { ...asked.turn, ...turn, id: turn.id };
    if (OPEN.has(turn.state)) this.over.delete(turn.id);
    else this.over.add(turn.id);
    if (OPEN.has(turn.state)) {
      if (!asked && !this.turns.has(turn.id)) return;
      this.#follow({ approvals: [], ...turn }, asked);
      emit('turns-changed', this.openTurns.length);
      return;
    }
    const view = this.turns.get(turn.id);
    if (!view) return;
    view.update(turn);
    emit('turns-changed', this.openTurns.length);
    const { epoch } = this;
    // The message that it left comes with the next frame; a turn that left none says so now.
    setTimeout(() => {
      if (epoch !== this.epoch || this.turns.get(turn.id) !== view) return;
      if (!turn.reply && (FAILED.has(turn.state) || turn.state === 'cancelled')) this.#over(view, view.turn);
      else this.reload().catch(() => {});
    }, turn.reply || turn.state === 'done' ? 1500 : 150);
  }

  #progress(frame) {
    const view = this.turns.get(frame.turn);
    if (!view) return;
    if (view.turn.state === 'queued') view.update({ state: 'running' });
    if (frame.type === 'delta') {
      if (!view.delta(frame)) ask({ type: 'text', turn: frame.turn, from: view.held }).then((answer) => answer.text && view.delta({ ...answer, offset: answer.offset ?? answer.from ?? view.held })).catch(() => {});
    } else if (frame.type === 'rendered') view.block(frame);
    else if (frame.type === 'part') view.part(frame);
    else if (frame.type === 'reasoning') view.reasoning(frame);
    else if (frame.type === 'reset') view.reset(frame.fence);
  }

  #told(frame) {
    if (!this.info || frame.id !== this.id) return;
    const moved = frame.revision !== undefined && frame.revision !== this.info.revision;
    Object.assign(this.info, frame);
    emit('conversation-changed', this.info);
    if (moved && this.atEnd) this.reload().catch(() => {});
  }

  placeUnsent(unsent) { return this.#placeUnsent(unsent); }

  #placeUnsent(unsent) {
    const element = unsentElement(unsent, me.name, this.deeds);
    this.thread.append(element);
    unsent.element = element;
    return element;
  }

  /* A message of one's own was stored. */
  sent({ message, turn }) {
    // The line may have been faster: what it told since then is newer than this.
    if (!this.messages.has(message.id)) this.#take({ ...message, turn: turn ?? message.turn });
    if (turn && OPEN.has(turn.state) && !this.over.has(turn.id)) this.#follow(turn, message);
    emit('turns-changed', this.openTurns.length);
  }

  #placeNewLine() {
    if (!this.newFrom) return;
    const first = [...this.messages.values()].filter((one) => one.seq > this.newFrom && one.sender.person !== me.id && !$(`#message-${one.id}`)?.hidden).sort((a, b) => a.seq - b.seq)[0];
    if (first) $(`#message-${first.id}`)?.before(h('p', { class: 'new-line' }, h('span', {}, gettext('New'))));
    this.newFrom = null;
  }
}
