/* Copying, and the copy buttons of code. */
import { h, icon, iconButton } from './dom.js';
import { gettext } from './words.js';
import { politely } from './announce.js';
import { showError } from './dialogs.js';

export async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without HTTPS there is no clipboard: the old way.
    const area = h('textarea', { class: 'unseen', 'aria-hidden': 'true' });
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand('copy');
    area.remove();
    button?.focus();
    if (!done) { showError(new Error(gettext('The browser does not let the page copy. Select the text and copy it yourself.'))); return; }
  }
  politely(gettext('Copied'));
  if (!button) return;
  const before = [...button.childNodes];
  button.replaceChildren(icon('check'));
  button.classList.add('done');
  setTimeout(() => { button.replaceChildren(...before); button.classList.remove('done'); }, 1600);
}

/* Gives every block of code in an element its head: the language, and a button. Safe to call again. */
export function dressCode(root) {
  for (const block of root.querySelectorAll('.code:not(.dressed)')) {
    block.classList.add('dressed');
    const button = iconButton('copy', gettext('Copy the code'), () => copy(block.querySelector('code').textContent, button), { class: 'quiet copy-code' });
    block.prepend(h('div', { class: 'code-head' }, h('span', {}, block.dataset.language || gettext('text')), button));
  }
}
