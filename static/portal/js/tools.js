/* What an agent did beside talking: tool calls with their results, thoughts, and calls that wait for a word. */
import { h, icon, lamp } from './dom.js';
import { duration } from './moments.js';
import { fill, gettext } from './words.js';
import { prefer } from './store.js';

const LONGEST_PREVIEW = 90;
const LONGEST_SHOWN = 20000;

function pretty(text) {
  if (typeof text !== 'string') return JSON.stringify(text, null, 2) ?? '';
  try { return JSON.stringify(JSON.parse(text), null, 2); } catch { return text; }
}

function oneLine(text) {
  const flat = (typeof text === 'string' ? text : JSON.stringify(text) ?? '').replace(/\s+/g, ' ').trim();
  return flat.length > LONGEST_PREVIEW ? `${flat.slice(0, LONGEST_PREVIEW)}…` : flat;
}

function pane(title, text) {
  const whole = pretty(text);
  const shown = whole.length > LONGEST_SHOWN ? `${whole.slice(0, LONGEST_SHOWN)}…` : whole;
  return h('div', { class: 'pane' }, h('p', { class: 'pane-title' }, title), h('pre', { tabindex: '0' }, h('code', {}, shown || '–')));
}

/* A tool call; .result(part) finishes it. ms: how long it took. */
export class ToolCard {
  constructor(call, { running = false } = {}) {
    this.call = call;
    this.begun = performance.now();
    this.state = h('span', { class: 'tool-state' });
    this.body = h('div', { class: 'tool-body' }, pane(gettext('Input'), call.arguments ?? ''));
    this.element = h('details', { class: 'tool' },
      h('summary', {}, icon('tool'), h('span', { class: 'tool-name' }, call.name || gettext('Tool')), h('span', { class: 'tool-args cut' }, oneLine(call.arguments ?? '')), this.state),
      this.body);
    if (running) this.run();
    else this.show('off', gettext('no result'));
  }

  run() {
    this.show('working', gettext('running'));
    this.timer = setInterval(() => {
      if (!this.element.isConnected && performance.now() - this.begun > 3000) { clearInterval(this.timer); return; }
      const seconds = (performance.now() - this.begun) / 1000;
      if (seconds >= 2) this.show('working', fill(gettext('running for %(time)s'), { time: duration(seconds) }));
    }, 1000);
  }

  show(state, word) {
    this.state.replaceChildren(lamp(state, word));
  }

  result(part) {
    clearInterval(this.timer);
    const seconds = (part.ms ?? 0) / 1000;
    const time = seconds >= 10 ? duration(seconds) : `${seconds.toFixed(1)} s`;
    if (part.ok === false) this.show('trouble', fill(gettext('failed after %(time)s'), { time }));
    else this.show('good', time);
    this.body.querySelector('.pane.result')?.remove();
    const made = pane(part.ok === false ? gettext('Error') : gettext('Result'), part.output ?? '');
    made.classList.add('result');
    this.body.append(made);
  }

  stop() {
    clearInterval(this.timer);
  }
}

/* Thoughts, folded away. */
export class Reasoning {
  constructor(text = '', { running = false } = {}) {
    this.word = h('span', {}, running ? gettext('Thinking') : gettext('Thoughts'));
    this.text = h('div', { class: 'reasoning-text', tabindex: '0' }, text);
    this.element = h('details', { class: 'reasoning', open: prefer('reasoning', 'folded') === 'open' }, h('summary', {}, icon('think'), this.word), this.text);
  }

  grow(text) {
    this.text.append(text);
  }

  done(seconds) {
    this.word.textContent = seconds >= 1 ? fill(gettext('Thought for %(time)s'), { time: duration(seconds) }) : gettext('Thoughts');
  }
}

/* A call that waits for a word. decide(approve, reason) returns a promise. */
export function approvalCard(approval, decide) {
  const buttons = h('div', { class: 'buttons' });
  const element = h('section', { class: 'approval', 'aria-label': fill(gettext('Permission for %(tool)s'), { tool: approval.name ?? '' }) },
    h('p', {}, lamp('attention', fill(gettext('May it use %(tool)s?'), { tool: approval.name ?? '' }))),
    pane(gettext('Input'), approval.arguments ?? ''), buttons);
  const answered = () => {
    const word = approval.approve ? gettext('Allowed by %(name)s') : gettext('Refused by %(name)s');
    buttons.replaceChildren(lamp(approval.approve ? 'good' : 'off', fill(word, { name: String(approval.by ?? '').replace(/^person:/, '') })));
  };
  if (approval.approve !== null && approval.approve !== undefined) {
    answered();
    return element;
  }
  const choose = async (approve) => {
    for (const button of buttons.querySelectorAll('button')) button.disabled = true;
    try {
      await decide(approve);
    } catch (error) {
      for (const button of buttons.querySelectorAll('button')) button.disabled = false;
      throw error;
    }
  };
  buttons.append(
    h('button', { class: 'button small', type: 'button', onclick: () => choose(true) }, gettext('Allow')),
    h('button', { class: 'button plain small', type: 'button', onclick: () => choose(false) }, gettext('Refuse')));
  return element;
}
