/* Files that go with a message: by drag, paste, choice and camera. Checked against the limits before they are sent; each shows its progress. */
import { $, h, icon, iconButton } from './dom.js';
import * as api from './api.js';
import { size } from './message.js';
import { fill, gettext } from './words.js';
import { showError, toast } from './dialogs.js';

export class Tray {
  constructor(onChange) {
    this.element = $('#tray');
    this.items = [];
    this.limits = null;
    this.onChange = onChange;
    for (const [input, button] of [[$('#files'), 'attach'], [$('#camera'), 'camera']]) {
      input.addEventListener('change', () => { this.add([...input.files]); input.value = ''; });
      document.addEventListener(`do-${button}`, () => input.click());
    }
    this.#listen();
    api.get('/attachments').then((limits) => this.#learn(limits)).catch(() => {});
  }

  get files() { return this.items.filter((one) => one.file).map((one) => one.file); }

  get isBusy() { return this.items.some((one) => !one.file); }

  #learn(limits) {
    this.limits = limits;
    $('#files').accept = limits.kinds.flatMap((kind) => [kind.media_type, ...kind.suffixes.map((suffix) => (suffix.startsWith('.') ? suffix : `.${suffix}`))]).join(',');
    $('#limits').textContent = fill(gettext('Up to %(count)s files of %(size)s each: %(kinds)s'), {
      count: limits.max_files, size: size(limits.max_bytes), kinds: limits.kinds.map((kind) => kind.label).join(', '),
    });
  }

  /* Files that a draft names. */
  restore(files) {
    for (const one of this.items) one.abort?.abort();
    this.items = [];
    this.element.replaceChildren();
    for (const file of files) this.#place({ file, name: file.name });
    this.#changed();
  }

  take() {
    const { files } = this;
    this.restore([]);
    return files;
  }

  add(files) {
    for (const file of files) {
      const refusal = this.#refusal(file);
      if (refusal) { toast(refusal, { trouble: true }); continue; }
      this.#upload(file);
    }
  }

  #refusal(file) {
    if (!this.limits) return '';
    const name = file.name || gettext('The file');
    if (this.items.length >= this.limits.max_files) return fill(gettext('%(name)s was not added: a message carries up to %(count)s files.'), { name, count: this.limits.max_files });
    if (file.size > this.limits.max_bytes) return fill(gettext('%(name)s is too large: %(size)s, and up to %(most)s can be sent.'), { name, size: size(file.size), most: size(this.limits.max_bytes) });
    if (file.size === 0) return fill(gettext('%(name)s is empty.'), { name });
    return '';
  }

  async #upload(file) {
    const item = { name: file.name, abort: new AbortController(), local: file.type.startsWith('image/') ? URL.createObjectURL(file) : '' };
    this.#place(item);
    this.#changed();
    try {
      item.file = await api.upload('/attachments', file, (share) => { item.bar.value = share; }, item.abort.signal);
      item.element.classList.add('ready');
      item.bar.remove();
    } catch (error) {
      this.#remove(item, { tell: false });
      if (error.name !== 'AbortError') showError(error);
    }
    this.#changed();
  }

  #place(item) {
    const picture = item.local || (item.file && /^image\//.test(item.file.media_type) ? item.file.url : '');
    item.bar = h('progress', { max: 1, value: 0, 'aria-label': fill(gettext('Sending %(name)s'), { name: item.name }) });
    item.element = h('li', { class: `tray-item ${item.file ? 'ready' : ''}` },
      picture ? h('img', { src: picture, alt: '' }) : icon('file'), h('span', { class: 'cut' }, item.name), item.file ? null : item.bar,
      iconButton('cross', fill(gettext('Remove %(name)s'), { name: item.name }), () => this.#remove(item)));
    this.items.push(item);
    this.element.append(item.element);
  }

  #remove(item, { tell = true } = {}) {
    item.abort?.abort();
    if (item.local) URL.revokeObjectURL(item.local);
    item.element.remove();
    this.items = this.items.filter((one) => one !== item);
    if (item.file && tell) api.del(`/attachments/${item.file.id}`).catch(() => {});
    this.#changed();
    $('#words').focus();
  }

  #changed() {
    this.element.hidden = !this.items.length;
    this.onChange();
  }

  #listen() {
    const drop = $('#drop');
    let depth = 0;
    const carriesFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes('Files') && !$('#composer').hidden;
    document.addEventListener('dragenter', (event) => { if (carriesFiles(event)) { depth += 1; drop.hidden = false; event.preventDefault(); } });
    document.addEventListener('dragleave', () => { depth = Math.max(0, depth - 1); if (!depth) drop.hidden = true; });
    document.addEventListener('dragover', (event) => carriesFiles(event) && event.preventDefault());
    document.addEventListener('drop', (event) => {
      depth = 0;
      drop.hidden = true;
      if (!carriesFiles(event)) return;
      event.preventDefault();
      this.add([...event.dataTransfer.files]);
    });
    $('#words').addEventListener('paste', (event) => {
      const files = [...(event.clipboardData?.files ?? [])];
      if (!files.length) return;
      event.preventDefault();
      this.add(files.map((file, number) => (file.name && file.name !== 'image.png' ? file : new File([file], `${gettext('picture')}-${number + 1}.${file.type.split('/')[1] || 'png'}`, { type: file.type }))));
    });
  }
}
