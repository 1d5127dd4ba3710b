/* What a screen reader is told: answers sentence by sentence, never letter by letter, and one line when something is over. */
import { $ } from './dom.js';
import { prefer } from './store.js';

const EVERY = 1200;
let queue = [];
let timer = 0;

export function politely(text) {
  queue.push(text);
  if (!timer) timer = setTimeout(say, 60);
}

export function urgently(text) {
  const region = $('#urgent');
  region.textContent = '';
  requestAnimationFrame(() => { region.textContent = text; });
}

function say() {
  const text = queue.join(' ');
  queue = [];
  timer = 0;
  const region = $('#polite');
  region.textContent = '';
  requestAnimationFrame(() => { region.textContent = text.slice(0, 1000); });
  timer = setTimeout(() => { timer = 0; if (queue.length) say(); }, EVERY);
}

/* Splits off the sentences that are complete: { sentences: [...], rest }. */
export function sentencesOf(text) {
  const sentences = [];
  let rest = text;
  for (;;) {
    const match = /[.!?…]["')\]]*\s+|\n+/u.exec(rest);
    if (!match) return { sentences, rest };
    const sentence = rest.slice(0, match.index + match[0].length).trim();
    if (sentence) sentences.push(sentence);
    rest = rest.slice(match.index + match[0].length);
  }
}

/* Markdown's signs are not read out. */
export function plain(text) {
  return text.replace(/```\w*/g, '').replace(/!?\[([^\]]*)\]\([^)]*\)/g, '$1').replace(/[*_`#>|~]+/g, ' ').replace(/\s+/g, ' ').trim();
}

/* Follows one growing answer. */
export class Reader {
  #rest = '';

  grow(text) {
    if (prefer('announce', 'sentences') !== 'sentences') return;
    const { sentences, rest } = sentencesOf(this.#rest + text);
    this.#rest = rest;
    for (const sentence of sentences) {
      const words = plain(sentence);
      if (words) politely(words);
    }
  }

  end(whole) {
    const how = prefer('announce', 'sentences');
    if (how === 'sentences' && this.#rest.trim()) politely(plain(this.#rest));
    if (how === 'whole' && whole) politely(plain(whole));
    this.#rest = '';
  }
}
