/* What was said and is not stored yet. Kept in this browser until the server has it, so that neither a reload nor a crash nor an ended session
   loses it; sent with an id of its own, so that sending it twice is saying it once. */
import * as api from './api.js';
import { emit, kept } from './store.js';

const WAIT = 4000;

export class Outbox {
  constructor(conversation) {
    this.conversation = conversation;
    this.key = `outbox.${conversation.id}`;
    this.list = kept.get(this.key) ?? [];
    this.busy = false;
    this.closed = false;
  }

  all() { return this.list; }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
  }

  add(text, files = []) {
    const unsent = { client_id: api.clientId(), text, files };
    this.list.push(unsent);
    this.#keep();
    this.conversation.placeUnsent(unsent);
    this.flush();
  }

  async flush() {
    clearTimeout(this.timer);
    if (this.busy || this.closed) return;
    this.busy = true;
    try {
      // In order: what was said first is stored first.
      while (this.list.length && !this.closed) {
        const unsent = this.list.find((one) => !one.refused);
        if (!unsent) break;
        unsent.element?.show(null);
        try {
          const said = await api.post(`/conversations/${this.conversation.id}/messages`, {
            client_id: unsent.client_id, text: unsent.text, attachments: (unsent.files ?? []).map((one) => one.id),
          });
          this.#remove(unsent);
          if (!this.closed) this.conversation.sent(said);
          emit('usage-changed');
        } catch (error) {
          if (error.name === 'AbortError') return;
          unsent.element?.show(error);
          if (error.isOffline || error.status === 401 || error.status >= 500 || error.status === 429) {
            this.timer = setTimeout(() => this.flush(), Math.max(WAIT, error.retryAfter * 1000));
            return;
          }
          unsent.refused = true;
          this.#keep();
        }
      }
    } finally {
      this.busy = false;
    }
  }

  resend(unsent) {
    delete unsent.refused;
    this.flush();
  }

  forget(unsent) {
    this.#remove(unsent);
    emit('taken-back', unsent);
  }

  /* The server told of it before it answered. */
  arrived(clientId) {
    const unsent = clientId && this.list.find((one) => one.client_id === clientId);
    if (unsent) this.#remove(unsent);
  }

  #remove(unsent) {
    this.list = this.list.filter((one) => one !== unsent);
    unsent.element?.remove();
    this.#keep();
  }

  #keep() {
    kept.set(this.key, this.list.length ? this.list.map(({ element, ...rest }) => rest) : null);
  }
}
