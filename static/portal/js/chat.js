/* The chat page: puts its parts together, and knows which address shows what. */
import { $, $$, h, lamp } from './dom.js';
import * as api from './api.js';
import * as socket from './socket.js';
import * as dialogs from './dialogs.js';
import { signInAgain } from './again.js';
import { Conversation } from './conversation.js';
import { Composer, closeMenus } from './composer.js';
import { Sidebar } from './sidebar.js';
import { AgentPicker, agentLamp } from './agents.js';
import { copy } from './clipboard.js';
import { showSearch } from './search.js';
import { showRoom, showShare } from './sharing.js';
import { showArchive, showTransfer } from './transfer.js';
import { savePreferences, showKeysOverlay, showSettings } from './settings.js';
import * as shortcuts from './shortcuts.js';
import { watchUsage } from './usage.js';
import { emit, me, on, prefer } from './store.js';
import { politely, urgently } from './announce.js';
import { duration } from './moments.js';
import { fill, gettext } from './words.js';

const desk = $('#desk');
const narrow = matchMedia('(max-width: 820px)');
me.id = Number(desk.dataset.person);
me.username = desk.dataset.username;
me.name = desk.dataset.name;
me.preferences = JSON.parse($('#preferences').textContent);

api.setUp({ csrfCookie: desk.dataset.csrfCookie, signIn: signInAgain });
socket.setUp();

const conversation = new Conversation();
const picker = new AgentPicker($('#thread'));
const sidebar = new Sidebar({ open: (id) => go(`/chat/c/${id}/`), gone: () => go('/chat/', { replace: true }) });
const composer = new Composer({
  onSend: send,
  onEdit: (message, text) => conversation.edit(message, text),
  onEditLast: () => editLast(),
});
let agent = null;
/* The address, without its fragment, of what is shown. */
let shown = '';
const MESSAGE = /^#message-(\d+)-(\d+)$/;
const address = () => location.pathname + location.search;

/* Addresses. */
function go(path, { replace = false, message = null } = {}) {
  if (replace) history.replaceState({}, '', path);
  else if (path !== location.pathname + location.search) history.pushState({}, '', path);
  return show({ message });
}

async function show({ message = null } = {}) {
  closeMenus();
  if (narrow.matches) board(false, { quiet: true });
  const found = /^\/chat\/c\/(\d+)\/?$/.exec(location.pathname);
  const hash = MESSAGE.exec(location.hash);
  const jump = message ?? (hash ? { id: Number(hash[1]), seq: Number(hash[2]) } : null);
  agent = null;
  shown = address();
  if (found) {
    const id = Number(found[1]);
    sidebar.select(id);
    if (conversation.id === id && !conversation.failed) {
      if (jump) await conversation.jump(jump).catch(dialogs.showError);
      return;
    }
    composer.hide();
    await conversation.open(id, { message: jump });
    if (!jump && !narrow.matches) composer.focus();
    return;
  }
  conversation.forget();
  sidebar.select(null);
  $('#line-tools').hidden = true;
  composer.busy(0);
  const wanted = Number(new URLSearchParams(location.search).get('agent'));
  if (wanted) {
    try { agent = await picker.find(wanted); } catch (error) { dialogs.showError(error); }
  }
  title(gettext('New conversation'), agent);
  if (agent) {
    picker.introduce(agent);
    composer.show(`new.${agent.id}`, agent.name);
    composer.focus();
  } else {
    composer.hide();
    await picker.show();
  }
}

function title(text, who) {
  $('#title').textContent = text;
  document.title = `${text} · Switchboard`;
  $('#who').replaceChildren(...(who ? [agentLamp(who, { quiet: true }), ' ', who.name] : []));
}

/* Saying something: the conversation is made with its first message. */
async function send(text, files) {
  if (!conversation.id && agent) {
    const info = await api.post('/conversations', { agent: agent.id });
    history.replaceState({}, '', `/chat/c/${info.id}/`);
    shown = address();
    const { key } = composer;
    conversation.begin(info);
    composer.became(info.id);
    if (key !== info.id) composer.busy(0);
    sidebar.put(info);
    sidebar.select(info.id);
    agent = null;
  }
  conversation.send(text, files);
  composer.focus();
}

function editLast() {
  const own = [...conversation.messages.values()].filter((one) => one.role === 'user' && conversation.deeds.mayEdit(one)).sort((a, b) => b.seq - a.seq)[0];
  if (!own) return false;
  emit('edit', own);
  return true;
}

function lastAnswer() {
  return [...conversation.messages.values()].filter((one) => one.role === 'assistant').sort((a, b) => b.seq - a.seq)[0];
}

/* The list of conversations: a drawer on a telephone, beside the page elsewhere. */
function board(open, { quiet = false } = {}) {
  const closed = open === undefined ? !desk.classList.contains('board-closed') && !narrow.matches : !open;
  const shown = narrow.matches ? (open ?? !desk.classList.contains('board-open')) : !closed;
  if (narrow.matches) {
    desk.classList.toggle('board-open', shown);
    $('#curtain').hidden = !shown;
    $('#board').inert = !shown;
    $('#main').inert = shown;
    if (shown) ($('.jack-row[aria-current]') ?? $('.board-tools a')).focus();
    else if (!quiet) $('#show-board').focus();
  } else {
    desk.classList.toggle('board-closed', closed);
    $('#board').inert = closed;
    $('#main').inert = false;
    if (!quiet) {
      savePreferences({ sidebar: closed ? 'closed' : 'open' });
      (closed ? $('#show-board') : $('.board-head .only-wide')).focus();
    }
  }
  $('#show-board').setAttribute('aria-expanded', String(shown));
}

function layout() {
  desk.classList.remove('board-open');
  $('#curtain').hidden = true;
  board(narrow.matches ? false : prefer('sidebar', 'open') === 'open', { quiet: true });
}

/* What can be done, by buttons and by keys. Returns false when it does not apply now. */
const deeds = {
  board: () => board(narrow.matches ? undefined : desk.classList.contains('board-closed')),
  search: () => { showSearch(); },
  new: () => { go('/chat/'); },
  settings: () => { closeMenus(); showSettings(); },
  help: () => { showKeysOverlay(); },
  'archive-list': () => { closeMenus(); showArchive(); },
  'export-all': () => { closeMenus(); showTransfer(); },
  share: () => conversation.id && void showShare(conversation.id),
  room: () => { closeMenus(); if (conversation.id) showRoom(conversation.id); },
  print: () => { closeMenus(); window.print(); },
  rename: () => { closeMenus(); sidebar.rename(conversation.id); },
  pin: () => { closeMenus(); if (conversation.id) sidebar.pin(conversation.id); },
  archive: () => { closeMenus(); sidebar.archive(conversation.id); },
  delete: () => { closeMenus(); sidebar.remove(conversation.id); },
  newest: () => { conversation.newest(); composer.focus(); },
  attach: () => { closeMenus(); if ($('#composer').hidden) return false; document.dispatchEvent(new Event('do-attach')); return true; },
  camera: () => { closeMenus(); document.dispatchEvent(new Event('do-camera')); },
  'edit-cancel': () => { composer.cancelEdit(); },
  write: () => { composer.focus(); },
  next: () => neighbour(1),
  previous: () => neighbour(-1),
  'message-down': () => step(1),
  'message-up': () => step(-1),
  copy: () => { const last = lastAnswer(); if (!last || !conversation.id) return false; copy(last.text); return true; },
  again: () => { const last = lastAnswer(); if (!last) return false; conversation.again(last); return true; },
  edit: () => editLast(),
  stop: () => {
    const menu = $('details[data-menu][open]');
    if (menu) return false;
    if (narrow.matches && desk.classList.contains('board-open')) { board(false); return true; }
    if (composer.cancelEdit()) return true;
    return conversation.stopAll();
  },
};

function neighbour(by) {
  const id = sidebar.neighbour(by);
  if (id === null) return false;
  go(`/chat/c/${id}/`);
  return true;
}

function step(by) {
  const all = $$('.message', $('#thread'));
  if (!all.length) return false;
  const place = all.indexOf(document.activeElement?.closest('.message'));
  const goal = all[Math.max(0, Math.min(all.length - 1, place < 0 ? all.length - 1 : place + by))];
  goal.focus();
  goal.scrollIntoView({ block: 'nearest' });
  return true;
}

document.addEventListener('click', (event) => {
  const link = event.target.closest('a[data-go]');
  if (link && !event.metaKey && !event.ctrlKey && !event.shiftKey && event.button === 0) {
    event.preventDefault();
    go(new URL(link.href).pathname);
    return;
  }
  const button = event.target.closest('[data-do]');
  if (button) deeds[button.dataset.do]?.();
});
/* The link that skips to the content changes the fragment only: nothing is shown anew under the hands of whoever goes by keyboard. */
window.addEventListener('popstate', () => { if (address() !== shown || MESSAGE.test(location.hash)) show(); });
narrow.addEventListener('change', layout);
shortcuts.listen((action) => deeds[action]?.());

/* What the parts tell. */
on('conversation-opened', (info) => {
  $('#line-tools').hidden = false;
  title(info.title || gettext('New conversation'), info.agent ?? null);
  for (const link of $$('[data-export]')) {
    link.href = `/api/v1/chat/conversations/${info.id}/export?format=${link.dataset.export}`;
  }
  pinWord(info);
  composer.show(info.id, info.agent?.name ?? gettext('the agent'), info.draft);
  composer.busy(0);
  if (!info.agent || info.agent.state === 'archived') {
    composer.hide();
    strip('attention', gettext('The agent of this conversation no longer answers. You can read and export it.'));
  } else if ($('#strip').dataset.kind !== 'line') strip();
});
on('conversation-changed', (info) => {
  sidebar.put(info);
  if (info.id !== conversation.id) return;
  Object.assign(conversation.info, info);
  title(info.title || gettext('New conversation'), conversation.info.agent);
  pinWord(info);
});
on('conversation-missing', () => { $('#line-tools').hidden = true; title(gettext('Not found'), null); composer.hide(); });
on('agent-chosen', (chosen) => go(`/chat/?agent=${chosen.id}`));
on('edit', (message) => composer.edit(message));
on('taken-back', (unsent) => composer.putBack(unsent));
on('go', ({ conversation: id, message }) => {
  const path = `/chat/c/${id}/`;
  if (location.pathname === path && message) {
    if (narrow.matches) board(false, { quiet: true });
    conversation.jump(message).catch(dialogs.showError);
  }
  else go(path, { message });
});
on('list-changed', () => sidebar.load());
on('turns-changed', (count) => { composer.busy(count); if (conversation.id) sidebar.setWorking(conversation.id, count > 0); });
on('signed-in', () => { conversation.outbox?.flush(); sidebar.load(); });

function pinWord(info) {
  const button = $('#line-menu [data-do="pin"]');
  button.textContent = info.pinned ? gettext('Unpin') : gettext('Pin');
}

function strip(state, sentence, { kind = '', action = null, deed = '' } = {}) {
  const element = $('#strip');
  element.dataset.kind = kind;
  element.hidden = !sentence;
  element.replaceChildren(...(sentence ? [lamp(state, sentence)] : []));
  if (action) element.append(h('button', { type: 'button', class: 'button plain small', onclick: action }, deed));
}

let lostAt = 0;
let lostTimer = 0;
on('line', ({ name, wait }) => {
  desk.dataset.line = name;
  clearTimeout(lostTimer);
  if (name === 'open') {
    if (lostAt && performance.now() - lostAt > 3000) politely(gettext('Connected again.'));
    lostAt = 0;
    if ($('#strip').dataset.kind === 'line') strip();
    conversation.outbox?.flush();
    return;
  }
  if (name === 'lost') {
    if (!lostAt) { lostAt = performance.now(); }
    // A hiccup of a second is nobody's business.
    lostTimer = setTimeout(() => {
      strip('attention', wait > 3 ? fill(gettext('No connection. Trying again in %(time)s. What you write is kept.'), { time: duration(wait) }) : gettext('No connection. Trying again. What you write is kept.'), { kind: 'line', action: socket.now, deed: gettext('Try now') });
      urgently(gettext('No connection.'));
    }, performance.now() - lostAt > 1500 ? 0 : 1500);
  } else if (name === 'signed-out') strip('attention', gettext('Your session has ended.'), { kind: 'line', action: signInAgain, deed: gettext('Sign in') });
  else if (name === 'refused') strip('trouble', gettext('The server refuses this page’s connection. Load the page again; if that does not help, tell an operator that this address is not allowed.'), { kind: 'line' });
});

layout();
sidebar.load();
watchUsage();
show();
