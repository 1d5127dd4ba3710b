/* An answer while it comes in: the state in words within a second, text block by block, tool calls in order, thoughts, approvals. */
import { fromServer, h, lamp } from './dom.js';
import { duration } from './moments.js';
import { fill, gettext } from './words.js';
import { head } from './message.js';
import { dressCode } from './clipboard.js';
import { Reasoning, ToolCard, approvalCard } from './tools.js';
import { Reader } from './announce.js';

export const OPEN = new Set(['queued', 'running', 'waiting_approval']);
export const FAILED = new Set(['failed', 'timed_out', 'dead']);

const length = (text) => [...text].length; // places are counted in characters, as the server counts them

export class TurnView {
  constructor(turn, agentName, deeds) {
    this.deeds = deeds;
    this.agentName = agentName;
    this.blocks = new Map();
    this.stretches = new Map();
    this.cards = new Map();
    this.reasonings = new Map();
    this.approvals = new Map();
    this.places = new WeakMap();
    this.reader = new Reader();
    this.status = h('p', { class: 'status' });
    this.items = h('div', { class: 'said' });
    const nameId = `turn-${turn.id}`;
    this.element = h('article', { class: 'message agent live', 'data-turn': turn.id, tabindex: '-1', 'aria-labelledby': nameId, 'aria-busy': 'true' },
      head(agentName, null, { kind: 'agent', id: nameId }), this.items, this.status);
    this.reset();
    this.update(turn);
    this.timer = setInterval(() => this.showState(), 1000);
  }

  /* How much of the text is here: for a line that broke. */
  get place() { return `${this.fence}:${this.held}`; }

  get isOpen() { return OPEN.has(this.turn.state); }

  reset(fence = 0) {
    this.fence = fence;
    this.held = 0;
    this.text = '';
    this.rendered = false;
    this.blocks.clear();
    this.stretches.clear();
    for (const card of this.cards.values()) card.stop();
    this.cards.clear();
    this.reasonings.clear();
    this.items.replaceChildren();
    this.plain = null;
    this.running = null;
  }

  update(turn) {
    this.turn = { ...this.turn, ...turn };
    if (!this.begun && this.turn.started_at) this.begun = performance.now() - Math.max(0, Math.min(Date.now() - new Date(this.turn.started_at), 3600000));
    if (!this.begun && this.turn.state === 'running') this.begun = performance.now();
    for (const approval of this.turn.approvals ?? []) this.approve(approval);
    this.showState();
  }

  showState() {
    const { state } = this.turn;
    const seconds = this.begun ? (performance.now() - this.begun) / 1000 : 0;
    const time = seconds >= 2 ? ` · ${duration(seconds)}` : '';
    let shown;
    if (state === 'queued') shown = this.deeds.isBehind(this.turn) ? ['off', gettext('Waiting until the answer before is finished')] : ['off', gettext('Waiting')];
    else if (state === 'waiting_approval') shown = ['attention', gettext('Waiting for your word')];
    else if (state !== 'running') shown = null;
    else if (this.running) shown = ['working', fill(gettext('Using %(tool)s'), { tool: this.running }) + time];
    else if (this.held || this.blocks.size) shown = ['working', gettext('Answering') + time];
    else shown = ['working', gettext('Thinking') + time];
    const key = shown ? shown.join() : state;
    if (key === this.shownState) return;
    this.shownState = key;
    this.status.replaceChildren(...(shown ? [lamp(...shown)] : []));
    if (state === 'queued' && this.deeds.isBehind(this.turn)) {
      this.status.append(h('button', { type: 'button', class: 'button plain small', onclick: () => this.deeds.stop(this.turn) }, gettext('Do not send')));
    }
  }

  /* Raw text at its place. Returns false when something before it is missing. */
  delta({ fence, offset, text }) {
    if (fence !== undefined && fence < this.fence) return true;
    if (fence !== undefined && fence > this.fence) this.reset(fence);
    if (offset > this.held) return false;
    const characters = [...text];
    const fresh = characters.slice(this.held - offset).join('');
    if (!fresh) return true;
    this.held += length(fresh);
    this.text += fresh;
    this.reader.grow(fresh);
    if (!this.rendered) {
      this.plain ??= this.#add(h('div', { class: 'prose plain' }), this.held - length(fresh), 1);
      this.plain.append(fresh);
    }
    this.#textCame();
    return true;
  }

  /* HTML of one block; start: where in the text its stretch begins (between two tool calls all blocks have the same). */
  block({ block, html, done, fence, start = 0 }) {
    if (fence !== undefined && fence > this.fence) this.reset(fence);
    if (!this.rendered) {
      this.rendered = true;
      // Until now it was shown as plain text: the server's own blocks take over.
      for (const element of this.items.querySelectorAll('.prose.plain')) element.remove();
      this.plain = null;
    }
    let element = this.blocks.get(block);
    if (!element) {
      if (!html) return;
      element = h('div', { class: 'block' });
      let prose = this.stretches.get(start);
      if (!prose) {
        prose = this.#add(h('div', { class: 'prose' }), start, 1);
        this.stretches.set(start, prose);
      }
      prose.append(element);
      this.blocks.set(block, element);
    }
    fromServer(element, html);
    element.classList.toggle('open', !done);
    if (done) dressCode(element);
    this.#textCame();
  }

  part({ part, index = 0, fence }) {
    if (fence !== undefined && fence > this.fence) this.reset(fence);
    if (part.type === 'tool_call') {
      if (this.cards.has(part.id)) return;
      const card = new ToolCard(part, { running: true });
      this.cards.set(part.id, card);
      this.#add(card.element, part.start, 0, index);
      this.running = part.name;
    } else if (part.type === 'tool_result') {
      let card = this.cards.get(part.id);
      if (!card) {
        card = new ToolCard({ name: part.name });
        this.cards.set(part.id, card);
        this.#add(card.element, part.start, 0, index);
      }
      card.result(part);
      this.running = null;
    } else if (part.type === 'reasoning') {
      this.reasoning({ index, start: part.start, offset: 0, text: part.text ?? '' });
    }
    this.plain = null;
    this.#closeReasoning();
    this.showState();
  }

  reasoning({ index = 0, start, offset = 0, text, fence }) {
    if (fence !== undefined && fence > this.fence) this.reset(fence);
    let one = this.reasonings.get(index);
    if (!one) {
      one = { view: new Reasoning('', { running: true }), held: 0, begun: performance.now() };
      this.reasonings.set(index, one);
      this.#add(one.view.element, start, 0, index);
      this.plain = null;
    }
    const fresh = [...text].slice(Math.max(0, one.held - offset)).join('');
    if (offset > one.held) one.view.grow('…');
    one.held = Math.max(one.held, offset + length(text));
    one.view.grow(fresh);
    this.showState();
  }

  approve(approval) {
    const key = `${approval.id}:${approval.approve}`;
    if (this.approvals.get(approval.id)?.key === key) return;
    const element = approvalCard(approval, (approve) => this.deeds.decide(this.turn, approval, approve));
    const known = this.approvals.get(approval.id);
    if (known) known.element.replaceWith(element);
    else this.#add(element);
    this.approvals.set(approval.id, { key, element });
  }

  /* It is over without a message of its own: what is there stays, with the reason and a way on. */
  fail(sentence, retry) {
    this.close();
    this.status.replaceChildren(lamp('trouble', sentence),
      h('button', { type: 'button', class: 'button plain small', onclick: retry }, gettext('Retry')));
  }

  stopped(retry) {
    this.close();
    this.status.replaceChildren(lamp('off', gettext('Stopped')),
      h('button', { type: 'button', class: 'button plain small', onclick: retry }, gettext('Answer again')));
  }

  close() {
    clearInterval(this.timer);
    for (const card of this.cards.values()) card.stop();
    this.element.classList.remove('live');
    this.element.removeAttribute('aria-busy');
    this.#closeReasoning();
  }

  end(message) {
    this.reader.end(message?.text ?? this.text);
    this.close();
  }

  #textCame() {
    if (this.running) this.running = null;
    this.#closeReasoning();
    this.showState();
  }

  #closeReasoning() {
    for (const one of this.reasonings.values()) {
      if (one.done) continue;
      one.done = true;
      one.view.done((performance.now() - one.begun) / 1000);
    }
  }

  /* Puts something where it belongs: by its place in the text, what stands beside the text before the text that follows it. Without a
     place it comes last. */
  #add(element, start = Infinity, kind = 0, index = 0) {
    const place = [start, kind, index];
    this.places.set(element, place);
    const later = [...this.items.children].find((one) => isLater(this.places.get(one) ?? [Infinity, 0, 0], place));
    if (later) later.before(element);
    else this.items.append(element);
    return element;
  }
}

function isLater(one, other) {
  for (let number = 0; number < 3; number += 1) {
    if (one[number] !== other[number]) return one[number] > other[number];
  }
  return false;
}
