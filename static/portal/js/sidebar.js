/* The board: every conversation with its jack, what is unread, and what can be done with it. */
import { $, $$, h, icon, iconButton, lamp } from './dom.js';
import * as api from './api.js';
import { emit, on } from './store.js';
import { askText, showError, toast } from './dialogs.js';
import { dayName, exactly, relatively } from './moments.js';
import { fill, gettext, ngettext } from './words.js';

const DAY = 86400000;

export class Sidebar {
  constructor(actions) {
    this.element = $('#jacks');
    this.rows = new Map();
    this.next = null;
    this.current = null;
    this.working = new Set();
    this.actions = actions;
    this.element.addEventListener('keydown', (event) => this.#key(event));
    this.observer = new IntersectionObserver((entries) => entries.some((one) => one.isIntersecting) && this.more(), { root: this.element });
    on('conversation-told', (frame) => this.told(frame));
    on('conversation-read', (id) => this.#patch(id, { unread: 0 }));
    setInterval(() => this.#times(), 60000);
  }

  async load() {
    try {
      const page = await api.get('/conversations?limit=50');
      for (const one of page.items) this.rows.set(one.id, one);
      this.next = api.pathOf(page.next);
      this.loaded = true;
      this.render();
    } catch (error) {
      this.element.replaceChildren(h('div', { class: 'board-note' }, h('p', { class: 'second' }, error.message),
        h('button', { class: 'button plain small', type: 'button', onclick: () => this.load() }, gettext('Try again'))));
    }
  }

  async more() {
    if (!this.next || this.loading) return;
    this.loading = true;
    try {
      const page = await api.get(this.next);
      for (const one of page.items) this.rows.set(one.id, one);
      this.next = api.pathOf(page.next);
      this.render();
    } catch (error) { showError(error); } finally { this.loading = false; }
  }

  /* Something happened in a conversation, perhaps in another tab. */
  async told(frame) {
    const id = frame.id ?? frame.conversation;
    const known = this.rows.get(id);
    if (frame.removed) { this.#drop(id); return; }
    if (frame.archived) { if (this.rows.delete(id)) this.render(); return; }
    if (known && frame.title !== undefined && frame.last_message_at) {
      this.rows.set(id, { ...known, ...frame, unread: id === this.current && document.hasFocus() ? 0 : frame.unread ?? known.unread });
      this.render();
      return;
    }
    this.pending ??= new Set();
    this.pending.add(id);
    clearTimeout(this.asking);
    this.asking = setTimeout(() => this.#ask(), 250);
  }

  async #ask() {
    const ids = [...(this.pending ?? [])];
    this.pending = null;
    for (const id of ids) {
      try {
        const info = await api.get(`/conversations/${id}`, { again: false });
        if (info.archived) this.rows.delete(id);
        else this.rows.set(id, id === this.current && document.hasFocus() ? { ...info, unread: 0 } : info);
      } catch (error) {
        if (error.status === 404) this.rows.delete(id);
      }
    }
    this.render();
  }

  put(info) {
    this.rows.set(info.id, { ...this.rows.get(info.id), ...info });
    this.render();
  }

  select(id) {
    this.current = id;
    for (const link of $$('a.jack-row', this.element)) {
      if (Number(link.dataset.id) === id) link.setAttribute('aria-current', 'page');
      else link.removeAttribute('aria-current');
    }
    this.#roving();
  }

  /* Conversations in which somebody is answering just now. */
  setWorking(id, isWorking) {
    if (this.working.has(id) === isWorking) return;
    if (isWorking) this.working.add(id);
    else this.working.delete(id);
    this.#refreshRow(id);
  }

  neighbour(step) {
    const ids = $$('a.jack-row', this.element).map((link) => Number(link.dataset.id));
    if (!ids.length) return null;
    const place = ids.indexOf(this.current);
    return ids[place < 0 ? 0 : Math.min(ids.length - 1, Math.max(0, place + step))];
  }

  render() {
    const focused = document.activeElement?.closest?.('.jack-item')?.dataset.id;
    const rows = [...this.rows.values()].filter((one) => !one.archived)
      .sort((a, b) => (b.pinned - a.pinned) || (new Date(b.last_message_at) - new Date(a.last_message_at)) || (b.id - a.id));
    if (!rows.length) {
      this.element.replaceChildren(h('p', { class: 'second board-note' }, gettext('Your conversations will appear here. Begin one with an agent.')));
      this.#elsewhere();
      return;
    }
    const groups = new Map();
    for (const row of rows) {
      const name = row.pinned ? gettext('Pinned') : groupName(new Date(row.last_message_at));
      if (!groups.has(name)) groups.set(name, []);
      groups.get(name).push(row);
    }
    const nodes = [];
    let number = 0;
    for (const [name, list] of groups) {
      number += 1;
      nodes.push(h('h2', { class: 'group', id: `group-${number}` }, name),
        h('ul', { 'aria-labelledby': `group-${number}` }, list.map((row) => this.#row(row))));
    }
    if (this.next) {
      const more = h('p', { class: 'second board-note' }, gettext('Loading more…'));
      nodes.push(more);
      this.observer.disconnect();
      this.observer.observe(more);
    }
    const { scrollTop } = this.element;
    this.element.replaceChildren(...nodes);
    this.element.scrollTop = scrollTop;
    if (focused) $(`.jack-item[data-id="${focused}"] a`, this.element)?.focus({ preventScroll: true });
    this.select(this.current);
    this.#elsewhere();
  }

  #refreshRow(id) {
    const row = this.rows.get(id);
    const old = $(`.jack-item[data-id="${id}"]`, this.element);
    if (!row || !old) return;
    const had = old.contains(document.activeElement);
    const fresh = this.#row(row);
    old.replaceWith(fresh);
    if (had) $('a', fresh).focus({ preventScroll: true });
    this.select(this.current);
  }

  #row(row) {
    const working = this.working.has(row.id);
    const date = new Date(row.last_message_at);
    const title = row.title || gettext('New conversation');
    const sign = working ? lamp('working', gettext('answering'), { quiet: true }) : h('span', { class: `jack ${row.unread ? 'lit' : ''}`, 'aria-hidden': 'true' });
    const unread = row.unread ? h('span', { class: 'unread' }, h('span', { 'aria-hidden': 'true' }, row.unread > 99 ? '99+' : row.unread),
      h('span', { class: 'unseen' }, ngettext('%(count)s unread message', '%(count)s unread messages', row.unread))) : null;
    const draft = row.draft?.text && row.id !== this.current ? h('span', { class: 'draft-mark' }, gettext('Draft')) : null;
    return h('li', { class: `jack-item ${row.unread ? 'unread-row' : ''}`, 'data-id': row.id },
      h('a', { class: 'jack-row', href: `/chat/c/${row.id}/`, 'data-id': row.id, 'data-go': 'conversation', tabindex: '-1', title },
        sign, h('span', { class: 'jack-title cut' }, title),
        h('span', { class: 'jack-who cut' }, draft, row.agent?.name ?? gettext('no agent any more'), ' · ', h('time', { datetime: date.toISOString(), title: exactly(date) }, relatively(date))),
        unread),
      this.#menu(row, title));
  }

  #menu(row, title) {
    const item = (name, label, action, cls = '') => h('button', { type: 'button', class: cls, onclick: () => { menu.open = false; action(); } }, icon(name), label);
    const panel = h('div', { class: 'menu-panel' });
    const menu = h('details', { class: 'menu jack-menu', 'data-menu': true, ontoggle: () => {
      if (!menu.open) return;
      panel.replaceChildren(
        item('pen', gettext('Rename'), () => this.rename(row.id)),
        item('pin', row.pinned ? gettext('Unpin') : gettext('Pin'), () => this.pin(row.id)),
        item('box', gettext('Archive'), () => this.archive(row.id)),
        item('bin', gettext('Delete'), () => this.remove(row.id), 'danger'));
      place(menu, panel);
    } }, h('summary', { 'aria-label': fill(gettext('More for “%(title)s”'), { title }) }, icon('dots')), panel);
    return menu;
  }

  async rename(id) {
    const row = this.rows.get(id);
    const title = await askText(gettext('Rename the conversation'), gettext('Title'), row?.title ?? '', gettext('Rename'));
    if (title === undefined) return;
    await this.#change(id, { title });
  }

  async pin(id) { await this.#change(id, { pinned: !this.rows.get(id)?.pinned }); }

  async archive(id) {
    if (!await this.#change(id, { archived: true })) return;
    this.#drop(id);
    toast(gettext('The conversation is in the archive.'), { deed: gettext('Undo'), action: () => this.#change(id, { archived: false }) });
  }

  /* Deleted at once, and brought back at once if that was a mistake. */
  async remove(id) {
    const row = this.rows.get(id);
    try {
      await api.del(`/conversations/${id}`);
    } catch (error) { showError(error); return; }
    this.#drop(id);
    toast(fill(gettext('“%(title)s” was deleted. It can be brought back for 30 days.'), { title: row?.title || gettext('New conversation') }), {
      deed: gettext('Undo'),
      action: async () => {
        try { this.put(await api.post(`/conversations/${id}/restore`)); this.actions.open(id); } catch (error) { showError(error); }
      },
    });
  }

  async #change(id, changes) {
    try {
      const info = await api.patch(`/conversations/${id}`, changes);
      this.put(info);
      emit('conversation-changed', info);
      return info;
    } catch (error) { showError(error); return null; }
  }

  #drop(id) {
    this.rows.delete(id);
    this.render();
    if (id === this.current) this.actions.gone(id);
  }

  #patch(id, changes) {
    const row = this.rows.get(id);
    if (!row) return;
    this.rows.set(id, { ...row, ...changes });
    this.#refreshRow(id);
    this.#elsewhere();
  }

  #elsewhere() {
    const unread = [...this.rows.values()].filter((one) => one.unread && one.id !== this.current).length;
    $('#elsewhere').hidden = !unread;
    emit('unread-changed', unread);
  }

  #times() {
    for (const time of $$('time', this.element)) time.textContent = relatively(new Date(time.dateTime));
  }

  /* Arrow keys go through the list; it is one stop for the Tab key. */
  #roving() {
    const links = $$('a.jack-row', this.element);
    const active = links.find((link) => link === document.activeElement) ?? links.find((link) => link.hasAttribute('aria-current')) ?? links[0];
    for (const link of links) {
      link.tabIndex = link === active ? 0 : -1;
      const summary = link.parentElement.querySelector('summary');
      if (summary) summary.tabIndex = link === active ? 0 : -1;
    }
  }

  #key(event) {
    const link = event.target.closest('a.jack-row');
    if (!link) return;
    const links = $$('a.jack-row', this.element);
    const place = links.indexOf(link);
    const goal = { ArrowDown: place + 1, ArrowUp: place - 1, Home: 0, End: links.length - 1 }[event.key];
    if (goal !== undefined) {
      event.preventDefault();
      links[Math.max(0, Math.min(links.length - 1, goal))].focus();
      this.#roving();
    } else if (event.key === 'Delete') this.remove(Number(link.dataset.id));
    else if (event.key === 'F2') this.rename(Number(link.dataset.id));
  }
}

function groupName(date) {
  const today = new Date();
  today.setHours(0, 0, 0, 0);
  const days = (today - date) / DAY;
  if (days <= 1) return dayName(date);
  if (days < 7) return gettext('The last seven days');
  if (days < 30) return gettext('The last thirty days');
  return new Intl.DateTimeFormat(document.documentElement.lang, { month: 'long', year: 'numeric' }).format(date);
}

/* The panel is fixed, so that the scrolling list does not cut it off. */
function place(menu, panel) {
  const box = menu.getBoundingClientRect();
  const height = panel.offsetHeight;
  panel.style.top = `${Math.min(box.bottom + 2, window.innerHeight - height - 8)}px`;
  panel.style.left = `${Math.max(8, Math.min(box.right - panel.offsetWidth, window.innerWidth - panel.offsetWidth - 8))}px`;
}
