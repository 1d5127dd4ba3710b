/* How much of today's quota is used, once it is worth saying. */
import { $ } from './dom.js';
import * as api from './api.js';
import { on } from './store.js';
import { fill, gettext } from './words.js';

const WORTH_SAYING = 0.5;

export function watchUsage() {
  let timer = 0;
  const later = () => { clearTimeout(timer); timer = setTimeout(show, 1500); };
  on('usage-changed', later);
  on('answered', later);
  show();
}

async function show() {
  const element = $('#standing');
  try {
    const standing = await api.get('/me/usage', { again: false });
    const words = [];
    let most = 0;
    for (const [name, text] of [['messages', gettext('%(used)s of %(limit)s messages today')], ['tokens', gettext('%(used)s of %(limit)s tokens today')]]) {
      const one = standing[name];
      if (!one?.limit) continue;
      const share = one.used / one.limit;
      most = Math.max(most, share);
      if (share >= WORTH_SAYING) words.push(fill(text, { used: one.used.toLocaleString(document.documentElement.lang), limit: one.limit.toLocaleString(document.documentElement.lang) }));
    }
    element.hidden = !words.length;
    element.textContent = words.join(', ');
    element.classList.toggle('full', most >= 1);
  } catch {
    element.hidden = true;
  }
}
