/* Where one writes. Enter sends, except while an input method composes; a new line is Shift+Enter (or the other way round, as one likes). */
import { $, $$ } from './dom.js';
import { Tray } from './attachments.js';
import * as drafts from './drafts.js';
import { kept, on, prefer } from './store.js';
import { showError } from './dialogs.js';
import { fill, gettext } from './words.js';

const coarse = matchMedia('(pointer: coarse)');

export class Composer {
  constructor({ onSend, onEdit, onEditLast }) {
    this.form = $('#composer');
    this.words = $('#words');
    this.sendButton = $('#send');
    this.stopButton = $('#stop');
    this.key = null;
    this.editing = null;
    this.onSend = onSend;
    this.onEdit = onEdit;
    this.tray = new Tray(() => this.#changed());
    this.words.addEventListener('input', () => this.#changed());
    this.words.addEventListener('keydown', (event) => this.#key(event, onEditLast));
    this.form.addEventListener('submit', (event) => { event.preventDefault(); this.submit(); });
    window.addEventListener('pagehide', () => drafts.flush());
    window.addEventListener('storage', (event) => this.#elsewhere(event));
    document.addEventListener('do-edit-cancel', () => this.cancelEdit());
    on('preferences-changed', () => this.hint());
    this.hint();
  }

  get isEmpty() { return !this.words.value.trim() && !this.tray.items.length; }

  hint() {
    const lines = prefer('enter', 'send') === 'line' || coarse.matches;
    $('#composer-hint').textContent = coarse.matches ? '' : lines ? gettext('Ctrl+Enter sends') : gettext('Enter sends, Shift+Enter is a new line');
    this.words.enterKeyHint = lines ? 'enter' : 'send';
  }

  /* Shows the draft of a conversation (its number) or of a beginning one ("new.7"). */
  show(key, agentName, serverDraft) {
    if (this.key !== key) {
      drafts.flush();
      this.editing = null;
      $('#editing').hidden = true;
      this.key = key;
      const draft = drafts.find(key, serverDraft);
      this.words.value = draft.text;
      this.tray.restore(draft.files ?? []);
    }
    this.words.placeholder = fill(gettext('Say something to %(name)s'), { name: agentName });
    this.form.hidden = false;
    this.#fit();
    this.#buttons();
  }

  hide() {
    drafts.flush();
    this.form.hidden = true;
    this.key = null;
  }

  /* The key of a beginning conversation becomes its number. */
  became(key) {
    if (this.key !== key) drafts.forget(this.key);
    this.key = key;
  }

  focus() {
    if (!this.form.hidden) this.words.focus({ preventScroll: true });
  }

  busy(open) {
    this.stopButton.hidden = !open;
    this.form.classList.toggle('answering', open > 0);
    this.#buttons();
  }

  edit(message) {
    this.editing = { message, before: this.words.value };
    this.words.value = message.text;
    $('#editing').hidden = false;
    this.#fit();
    this.#buttons();
    this.words.focus();
    this.words.setSelectionRange(message.text.length, message.text.length);
  }

  cancelEdit() {
    if (!this.editing) return false;
    this.words.value = this.editing.before;
    this.editing = null;
    $('#editing').hidden = true;
    this.#changed();
    this.words.focus();
    return true;
  }

  /* What could not be sent comes back to be changed. */
  putBack({ text, files }) {
    this.words.value = [text, this.words.value].filter(Boolean).join('\n');
    if (files?.length) this.tray.restore(files);
    this.#changed();
    this.words.focus();
  }

  async submit() {
    if (this.form.hidden || this.tray.isBusy || this.isEmpty) return;
    const text = this.words.value.trim();
    if (this.editing) {
      const { message, before } = this.editing;
      try {
        await this.onEdit(message, text);
      } catch (error) { showError(error); return; }
      this.editing = null;
      $('#editing').hidden = true;
      this.words.value = before;
      this.#changed();
      return;
    }
    const files = this.tray.take();
    this.words.value = '';
    this.#fit();
    this.#buttons();
    const { key } = this;
    try {
      await this.onSend(text, files);
      drafts.forget(key);
    } catch (error) {
      this.putBack({ text, files });
      showError(error);
    }
  }

  #key(event, onEditLast) {
    // keyCode 229: some browsers say so for the Enter that ends a composition.
    if (event.isComposing || event.keyCode === 229) return;
    if (event.key === 'ArrowUp' && this.isEmpty && !this.editing && !event.altKey) {
      if (onEditLast()) event.preventDefault();
      return;
    }
    if (event.key !== 'Enter' || event.altKey) return;
    const lines = prefer('enter', 'send') === 'line' || coarse.matches;
    const wants = event.ctrlKey || event.metaKey || (!lines && !event.shiftKey);
    if (!wants) return;
    event.preventDefault();
    this.submit();
  }

  #changed() {
    this.#fit();
    this.#buttons();
    if (this.key !== null && !this.editing) drafts.keep(this.key, this.words.value, this.tray.files);
  }

  #buttons() {
    this.sendButton.disabled = this.isEmpty || this.tray.isBusy;
    const waits = !this.stopButton.hidden;
    $('.send-word', this.sendButton).textContent = waits && !this.editing ? gettext('Queue') : gettext('Send');
  }

  #fit() {
    this.words.style.height = 'auto';
    this.words.style.height = `${Math.min(this.words.scrollHeight + 2, Math.round(window.innerHeight * 0.4))}px`;
  }

  /* Another tab wrote: shown here unless somebody is writing here. */
  #elsewhere(event) {
    if (event.key !== `switchboard.draft.${this.key}` || document.hasFocus() || this.editing) return;
    const draft = kept.get(`draft.${this.key}`) ?? { text: '', files: [] };
    this.words.value = draft.text;
    this.tray.restore(draft.files ?? []);
    this.#fit();
    this.#buttons();
  }
}

export function closeMenus() {
  for (const menu of $$('details[data-menu][open]')) menu.open = false;
}
