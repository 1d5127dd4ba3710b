/* Settings of the page, and the overlay of keys. Kept with the person, so they hold on every device. */
import { h } from './dom.js';
import * as api from './api.js';
import * as dialogs from './dialogs.js';
import { emit, me, prefer } from './store.js';
import { ACTIONS, keyElement, keyOf, nameOf, showKeys, shown } from './shortcuts.js';
import { fill, gettext } from './words.js';

async function save(changes) {
  Object.assign(me.preferences, changes);
  for (const [name, value] of Object.entries(changes)) if (value === null) delete me.preferences[name];
  showKeys();
  emit('preferences-changed', me.preferences);
  try {
    me.preferences = (await api.post('/portal/preferences', changes)).preferences;
  } catch (error) { dialogs.showError(error); }
}

export const savePreferences = save;

function choice(name, label, values, fallback) {
  const id = `setting-${name}`;
  const select = h('select', { id, onchange: () => save({ [name]: select.value }) },
    Object.entries(values).map(([value, word]) => h('option', { value, selected: prefer(name, fallback) === value }, word)));
  return h('div', { class: 'field' }, h('label', { for: id }, label), select);
}

export function showSettings() {
  return dialogs.open(gettext('Settings and shortcuts'), () => {
    const on = h('input', { type: 'checkbox', id: 'setting-shortcuts', checked: prefer('shortcuts', true) !== false, onchange: () => save({ shortcuts: on.checked }) });
    return [
      choice('enter', gettext('The Enter key'), { send: gettext('sends the message'), line: gettext('begins a new line (Ctrl+Enter sends)') }, 'send'),
      choice('reasoning', gettext('Thoughts of agents'), { folded: gettext('folded away'), open: gettext('shown') }, 'folded'),
      choice('announce', gettext('Screen readers hear answers'), {
        sentences: gettext('sentence by sentence'), whole: gettext('when they are finished'), off: gettext('not by themselves'),
      }, 'sentences'),
      h('h3', {}, gettext('Keys')),
      h('div', { class: 'choice' }, on, h('label', { for: 'setting-shortcuts' }, gettext('Keyboard shortcuts'))),
      keyTable(),
      h('p', {}, h('button', { type: 'button', class: 'button plain small', onclick: (event) => { save({ keys: null }); event.target.closest('.sheet-body').querySelector('table').replaceWith(keyTable()); } }, gettext('All keys as they were'))),
    ];
  }, { wide: true });
}

export function showKeysOverlay() {
  return dialogs.open(gettext('Keys'), (close) => [
    h('table', { class: 'table keys' }, h('caption', { class: 'unseen' }, gettext('Keys')),
      h('thead', { class: 'unseen' }, h('tr', {}, h('th', { scope: 'col' }, gettext('Action')), h('th', { scope: 'col' }, gettext('Key')))),
      h('tbody', {}, ACTIONS().map(([action, label]) => h('tr', {}, h('th', { scope: 'row' }, label), h('td', {}, keyElement(action)))))),
    h('div', { class: 'buttons' }, h('button', { type: 'button', class: 'button plain', onclick: () => { close(); setTimeout(showSettings); } }, gettext('Change keys'))),
  ]);
}

function keyTable() {
  const rows = ACTIONS().map(([action, label]) => {
    const key = h('kbd', {}, shown(keyOf(action)) || '–');
    const button = h('button', { type: 'button', class: 'button plain small', 'aria-label': fill(gettext('Another key for “%(action)s”'), { action: label }), onclick: () => record(action, key, button) }, gettext('Change'));
    return h('tr', {}, h('th', { scope: 'row' }, label), h('td', {}, key), h('td', {}, button));
  });
  return h('table', { class: 'table keys' },
    h('caption', { class: 'unseen' }, gettext('Keys')),
    h('thead', { class: 'unseen' }, h('tr', {}, h('th', { scope: 'col' }, gettext('Action')), h('th', { scope: 'col' }, gettext('Key')), h('th', { scope: 'col' }, gettext('Change')))),
    h('tbody', {}, rows));
}

function record(action, shownKey, button) {
  button.textContent = gettext('Press a key…');
  const done = () => {
    button.textContent = gettext('Change');
    button.removeEventListener('keydown', listen);
    button.removeEventListener('blur', done);
  };
  const listen = (event) => {
    if (event.key === 'Tab') return;
    event.preventDefault();
    event.stopPropagation();
    const name = event.key === 'Backspace' ? '' : nameOf(event);
    if (!name && event.key !== 'Backspace') return;
    const taken = name && ACTIONS().find(([other]) => other !== action && keyOf(other) === name);
    if (taken) { dialogs.showError(new Error(fill(gettext('%(key)s is the key of “%(action)s”.'), { key: shown(name), action: taken[1] }))); done(); return; }
    save({ keys: { ...(me.preferences.keys ?? {}), [action]: name } });
    shownKey.textContent = shown(name) || '–';
    done();
  };
  button.addEventListener('keydown', listen);
  button.addEventListener('blur', done);
}
