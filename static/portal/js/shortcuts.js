/* Keys: each can be changed, and all can be turned off. "Mod" is Ctrl, on a Mac the command key. */
import { $$, h } from './dom.js';
import { anyOpen } from './dialogs.js';
import { me, prefer } from './store.js';
import { gettext } from './words.js';

export const isMac = /Mac|iPhone|iPad/.test(navigator.platform);

export const ACTIONS = () => [
  ['search', gettext('Search conversations'), 'Mod+K'],
  ['new', gettext('New conversation'), 'Mod+Shift+O'],
  ['stop', gettext('Stop the answer'), 'Escape'],
  ['write', gettext('To the message field'), 'Shift+Escape'],
  ['board', gettext('Show or hide the list'), 'Mod+Shift+S'],
  ['next', gettext('Next conversation'), 'Alt+ArrowDown'],
  ['previous', gettext('Previous conversation'), 'Alt+ArrowUp'],
  ['message-down', gettext('Next message'), 'Alt+J'],
  ['message-up', gettext('Previous message'), 'Alt+K'],
  ['newest', gettext('To the newest message'), 'Alt+End'],
  ['copy', gettext('Copy the last answer'), 'Mod+Shift+C'],
  ['again', gettext('Answer again'), 'Mod+Shift+R'],
  ['edit', gettext('Change the last message'), 'Mod+Shift+E'],
  ['attach', gettext('Add files'), 'Mod+Shift+U'],
  ['pin', gettext('Pin or unpin'), 'Mod+Shift+P'],
  ['help', gettext('Show the keys'), '?'],
];

export function keyOf(action) {
  const own = me.preferences.keys?.[action];
  return own ?? ACTIONS().find(([name]) => name === action)?.[2] ?? '';
}

/* "Mod+Shift+O" of an event, in one way only. */
export function nameOf(event) {
  if (['Control', 'Shift', 'Alt', 'Meta'].includes(event.key)) return '';
  const mod = isMac ? event.metaKey : event.ctrlKey;
  const other = isMac ? event.ctrlKey : event.metaKey;
  const letter = event.altKey && /^Key[A-Z]$/.test(event.code) ? event.code.slice(3) : event.key.length === 1 ? event.key.toUpperCase() : event.key;
  const isSign = event.key.length === 1 && !/[\p{L}\p{N} ]/u.test(event.key);
  return [mod && 'Mod', other && (isMac ? 'Ctrl' : 'Meta'), event.altKey && 'Alt', event.shiftKey && !isSign && 'Shift', letter === ' ' ? 'Space' : letter].filter(Boolean).join('+');
}

const SYMBOLS = { Escape: 'Esc', ArrowDown: '↓', ArrowUp: '↑', ArrowLeft: '←', ArrowRight: '→', End: gettext('End') };

export function shown(key) {
  return key.split('+').map((one) => (one === 'Mod' ? (isMac ? '⌘' : gettext('Ctrl')) : one === 'Shift' ? (isMac ? '⇧' : gettext('Shift')) : SYMBOLS[one] ?? one)).join(isMac ? '' : '+');
}

export function keyElement(action) {
  return h('kbd', {}, shown(keyOf(action)) || '–');
}

export function listen(run) {
  document.addEventListener('keydown', (event) => {
    if (event.defaultPrevented || event.isComposing || event.keyCode === 229) return;
    if (prefer('shortcuts', true) === false) return;
    const name = nameOf(event);
    if (!name || anyOpen()) return;
    const action = ACTIONS().map(([one]) => one).find((one) => keyOf(one) === name);
    if (!action) return;
    const writes = event.target.matches?.('input, textarea, select, [contenteditable]');
    // A key that is a letter means a letter where one writes.
    if (writes && !event.ctrlKey && !event.metaKey && !event.altKey && name.length === 1) return;
    if (run(action, event) !== false) event.preventDefault();
  });
  showKeys();
}

export function showKeys() {
  for (const element of $$('[data-key]')) {
    element.textContent = prefer('shortcuts', true) === false ? '' : shown(keyOf(element.dataset.key));
    element.hidden = !element.textContent;
  }
}
