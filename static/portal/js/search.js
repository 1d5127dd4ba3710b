/* Search over titles and texts: a dialog with one field and a list that the arrow keys go through. */
import { h } from './dom.js';
import * as api from './api.js';
import * as dialogs from './dialogs.js';
import { emit } from './store.js';
import { exactly, relatively } from './moments.js';
import { fill, gettext, ngettext } from './words.js';

const AFTER = 180;

function marked(pieces) {
  return pieces.map((piece) => (piece.mark ? h('mark', {}, piece.text) : piece.text));
}

export function showSearch() {
  return dialogs.open(gettext('Search conversations'), (close) => {
    const list = h('ul', { class: 'found-list', id: 'found', role: 'listbox', 'aria-label': gettext('Found') });
    const status = h('p', { class: 'second', role: 'status' });
    const input = h('input', {
      type: 'search', id: 'search-words', role: 'combobox', 'aria-expanded': 'true', 'aria-controls': 'found', 'aria-autocomplete': 'list', autofocus: true, autocomplete: 'off',
      placeholder: gettext('Titles and texts'), 'aria-label': gettext('Search conversations'), 'aria-describedby': 'search-hint',
    });
    const more = h('button', { type: 'button', class: 'button plain small', hidden: true }, gettext('More'));
    let timer = 0;
    let controller = null;
    let next = null;
    let active = -1;

    const options = () => [...list.querySelectorAll('[role="option"]')];
    const mark = (place) => {
      const all = options();
      active = all.length ? Math.max(0, Math.min(all.length - 1, place)) : -1;
      for (const [number, one] of all.entries()) one.setAttribute('aria-selected', String(number === active));
      if (active >= 0) {
        input.setAttribute('aria-activedescendant', all[active].id);
        all[active].scrollIntoView({ block: 'nearest' });
      } else input.removeAttribute('aria-activedescendant');
    };
    let number = 0;
    const option = (content, goal) => {
      number += 1;
      return h('li', { role: 'option', id: `found-${number}`, class: 'found-one', 'aria-selected': 'false', onclick: () => { close(); emit('go', goal); } }, content);
    };

    const show = (page, fresh) => {
      if (fresh) list.replaceChildren();
      if (fresh) {
        for (const one of page.titles) {
          list.append(option([h('span', { class: 'found-title cut' }, marked(one.title)), h('span', { class: 'second cut' }, one.agent, one.archived ? ` · ${gettext('archived')}` : '')], { conversation: one.conversation }));
        }
      }
      for (const one of page.items) {
        const date = new Date(one.said_at);
        list.append(option([
          h('span', { class: 'found-title cut' }, one.title || gettext('New conversation')),
          h('span', { class: 'found-text' }, marked(one.snippet)),
          h('span', { class: 'second cut' }, one.sender, ' · ', h('time', { datetime: one.said_at, title: exactly(date) }, relatively(date))),
        ], { conversation: one.conversation, message: { id: one.message, seq: one.seq } }));
      }
      next = api.pathOf(page.next);
      more.hidden = !next;
      const count = options().length;
      status.textContent = count ? ngettext('%(count)s place', '%(count)s places', count) : fill(gettext('Nothing was found for “%(q)s”.'), { q: input.value.trim() });
      if (fresh) mark(0);
    };

    const ask = async (path, fresh) => {
      controller?.abort();
      controller = new AbortController();
      try {
        show(await api.get(path, { signal: controller.signal }), fresh);
      } catch (error) {
        if (error.name !== 'AbortError') status.textContent = error.message;
      }
    };

    input.addEventListener('input', () => {
      clearTimeout(timer);
      const q = input.value.trim();
      if (!q) { controller?.abort(); list.replaceChildren(); status.textContent = ''; more.hidden = true; mark(-1); return; }
      timer = setTimeout(() => ask(`/search?q=${encodeURIComponent(q)}`, true), AFTER);
    });
    input.addEventListener('keydown', (event) => {
      if (event.isComposing) return;
      const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 6, PageUp: -6 }[event.key];
      if (step) { event.preventDefault(); mark(active + step); }
      else if (event.key === 'Escape') { event.preventDefault(); close(); } // otherwise the browser only empties the field
      else if (event.key === 'Enter') { event.preventDefault(); options()[active]?.click(); }
    });
    more.addEventListener('click', () => next && ask(next, false));
    return [
      input,
      h('p', { class: 'second', id: 'search-hint' }, gettext('Also: agent:name, from:me, pinned:yes, archived:yes, after:2026-01-31, “several words”')),
      status, list, more,
    ];
  }, { wide: true, cls: 'search' });
}
