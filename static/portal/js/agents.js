/* Whom one can talk to: the first thing on an empty page. */
import { h, lamp, letter } from './dom.js';
import * as api from './api.js';
import { emit } from './store.js';
import { fill, gettext } from './words.js';

const MANY = 7;

export function memoryWords(agent) {
  if (agent.memory_policy === 'shared') return gettext('Remembers across all conversations, with everybody who talks to it.');
  if (agent.memory_policy === 'isolated') return gettext('Each conversation is apart: nobody else’s words turn up in yours.');
  return '';
}

export function agentLamp(agent, options) {
  if (agent.paused) return lamp('attention', gettext('paused'), options);
  if (agent.state === 'missing') return lamp('trouble', gettext('not reachable'), options);
  if (agent.state === 'archived') return lamp('off', gettext('archived'), options);
  return lamp('good', gettext('ready'), options);
}

export function agentLetter(agent) {
  const badge = h('span', { class: 'jack big', 'aria-hidden': 'true' }, letter(agent.name));
  return badge;
}

export class AgentPicker {
  constructor(thread) {
    this.thread = thread;
    this.known = new Map();
  }

  async find(id) {
    if (!this.known.has(id)) await this.#fetch('');
    return this.known.get(id);
  }

  async #fetch(q) {
    const page = await api.get(`/agents?limit=60&q=${encodeURIComponent(q)}`);
    for (const agent of page.items) this.known.set(agent.id, agent);
    return page;
  }

  async show() {
    const list = h('ul', { class: 'agents' });
    const memory = h('p', { class: 'second memory' });
    const note = h('p', { class: 'second', role: 'status' }, gettext('Loading the agents…'));
    const input = h('input', { type: 'search', id: 'agent-search', placeholder: gettext('Find an agent'), 'aria-label': gettext('Find an agent'), autocomplete: 'off' });
    const field = h('div', { class: 'agent-search', hidden: true }, input);
    const element = h('section', { class: 'pick', 'aria-labelledby': 'pick-title' }, h('h2', { id: 'pick-title' }, gettext('Who would you like to talk to?')), field, note, list, memory);
    this.thread.replaceChildren(element);
    let timer = 0;
    let asked = 0;
    const fetchAndFill = async (q) => {
      asked += 1;
      const mine = asked;
      try {
        const page = await this.#fetch(q);
        if (mine !== asked) return;
        field.hidden = !q && page.items.length < MANY && !page.next;
        // What holds for all of them is said once.
        const policies = new Set(page.items.map((agent) => agent.memory_policy));
        const same = policies.size === 1 && page.items.length > 1;
        memory.textContent = same ? memoryWords(page.items[0]) : '';
        list.replaceChildren(...page.items.map((agent) => this.#card(agent, !same)));
        note.textContent = page.items.length ? (page.next ? gettext('There are more. Type a part of the name.') : '')
          : q ? fill(gettext('No agent is called “%(q)s”.'), { q }) : gettext('There is no agent for you yet. Ask an operator to let you talk to one.');
      } catch (error) {
        note.replaceChildren(lamp('trouble', error.message), ' ', h('button', { type: 'button', class: 'button plain small', onclick: () => fetchAndFill(q) }, gettext('Try again')));
      }
    };
    input.addEventListener('input', () => { clearTimeout(timer); timer = setTimeout(() => fetchAndFill(input.value.trim()), 200); });
    list.addEventListener('keydown', (event) => this.#key(event, list));
    await fetchAndFill('');
  }

  #card(agent, withMemory) {
    return h('li', {}, h('a', { class: 'agent-card', href: `/chat/?agent=${agent.id}`, onclick: (event) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey) return;
      event.preventDefault();
      emit('agent-chosen', agent);
    } },
    agentLetter(agent), h('span', { class: 'agent-name' }, agent.name), agentLamp(agent),
    agent.description ? h('span', { class: 'agent-words' }, agent.description) : null,
    withMemory ? h('span', { class: 'agent-memory' }, memoryWords(agent)) : null));
  }

  #key(event, list) {
    const cards = [...list.querySelectorAll('.agent-card')];
    const place = cards.indexOf(document.activeElement);
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (place < 0 || !step) return;
    event.preventDefault();
    cards[Math.max(0, Math.min(cards.length - 1, place + step))].focus();
  }

  /* The page of one agent, before anything was said. */
  introduce(agent) {
    this.thread.replaceChildren(h('section', { class: 'hello', 'aria-label': agent.name },
      agentLetter(agent), h('h2', {}, agent.name), agentLamp(agent),
      agent.description ? h('p', {}, agent.description) : null, h('p', { class: 'second' }, memoryWords(agent)),
      h('p', {}, h('a', { href: '/chat/', 'data-go': 'new' }, gettext('Talk to somebody else')))));
  }
}
