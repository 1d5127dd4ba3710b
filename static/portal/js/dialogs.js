/* Dialogs: the browser's own <dialog>, named, closed by Escape, giving the focus back to where it came from. And toasts. */
import { $, h, iconButton } from './dom.js';
import { gettext } from './words.js';
import { politely } from './announce.js';

let count = 0;

/* Opens a dialog. build(close) returns its content; the promise resolves with what close() was given. */
export function open(title, build, { wide = false, keep = false, cls = '' } = {}) {
  const before = document.activeElement;
  count += 1;
  const id = `dialog-${count}`;
  return new Promise((resolve) => {
    let result;
    const dialog = h('dialog', { class: `sheet ${wide ? 'wide' : ''} ${cls}`, 'aria-labelledby': id });
    const close = (value) => { result = value; dialog.close(); };
    dialog.append(
      h('div', { class: 'sheet-head' }, h('h2', { id }, title), keep ? null : iconButton('cross', gettext('Close'), () => close())),
      h('div', { class: 'sheet-body' }, build(close, dialog)),
    );
    if (keep) dialog.addEventListener('cancel', (event) => event.preventDefault());
    else dialog.addEventListener('pointerdown', (event) => event.target === dialog && close());
    dialog.addEventListener('close', () => {
      dialog.remove();
      if (before?.isConnected && before !== document.body) before.focus({ preventScroll: true });
      else $('#words')?.focus({ preventScroll: true });
      resolve(result);
    });
    document.body.append(dialog);
    dialog.showModal();
    (dialog.querySelector('[autofocus]') ?? dialog.querySelector('.sheet-body button, .sheet-body input') ?? dialog).focus();
  });
}

export function anyOpen() { return Boolean($('dialog[open]')); }

/* Asks before something that cannot easily be undone. Resolves with true or false. */
export async function confirm(title, sentence, deed, { danger = false } = {}) {
  return await open(title, (close) => [
    h('p', {}, sentence),
    h('div', { class: 'buttons' },
      h('button', { class: `button ${danger ? 'danger' : ''}`, type: 'button', onclick: () => close(true) }, deed),
      h('button', { class: 'button plain', type: 'button', autofocus: true, onclick: () => close(false) }, gettext('Cancel'))),
  ]) === true;
}

/* One line of text. Resolves with it, or undefined. */
export function askText(title, label, value, deed) {
  return open(title, (close) => {
    const input = h('input', { type: 'text', id: 'asked', value, maxlength: 255, autofocus: true });
    input.select?.();
    return h('form', { onsubmit: (event) => { event.preventDefault(); close(input.value.trim()); } },
      h('div', { class: 'field' }, h('label', { for: 'asked' }, label), input),
      h('div', { class: 'buttons' }, h('button', { class: 'button' }, deed),
        h('button', { class: 'button plain', type: 'button', onclick: () => close() }, gettext('Cancel'))));
  });
}

/* A short word at the edge, with one thing that can be done about it. */
export function toast(sentence, { deed, action, trouble = false, seconds = 9 } = {}) {
  const element = h('div', { class: `toast ${trouble ? 'trouble' : ''}`, role: trouble ? 'alert' : null }, h('span', {}, sentence));
  const gone = () => element.remove();
  let timer = setTimeout(gone, seconds * 1000);
  if (deed) {
    element.append(h('button', { type: 'button', class: 'button plain small', onclick: () => { gone(); action(); } }, deed));
  }
  element.append(iconButton('cross', gettext('Close this word'), gone));
  // Whoever reads it or is about to press its button has the time they need.
  for (const name of ['pointerenter', 'focusin']) element.addEventListener(name, () => clearTimeout(timer));
  for (const name of ['pointerleave', 'focusout']) element.addEventListener(name, () => { timer = setTimeout(gone, 4000); });
  $('#toasts').append(element);
  if (!trouble) politely(sentence);
  return gone;
}

export function showError(error) {
  if (error?.name === 'AbortError') return;
  toast(error?.message || String(error), { trouble: true, seconds: 14 });
}
