/* What can be done in a conversation: answering again, saying it differently, stopping, deciding, reading, asking without a line. */
import { $ } from './dom.js';
import * as api from './api.js';
import { emit } from './store.js';
import { isOpen } from './socket.js';
import { showError } from './dialogs.js';

export const POLL = 1500;

/* The part of a conversation that asks the server; ``Conversation`` has what it shows. */
export class Deeds {
  async again(message) {
    try {
      const turn = await api.post(`/messages/${message.id}/regenerate`);
      await this.reload();
      this.scroll.toEnd();
      this.turns.get(turn.id)?.element.focus({ preventScroll: true });
      emit('turns-changed', this.openTurns.length);
    } catch (error) { showError(error); }
  }

  async showVersion(id) {
    try {
      await api.post(`/messages/${id}/show`);
      await this.reload();
      const element = $(`#message-${id}`);
      element?.focus({ preventScroll: true });
      element?.scrollIntoView({ block: 'nearest' });
    } catch (error) { showError(error); }
  }

  async decide(turn, approval, approve) {
    try {
      const changed = await api.post(`/turns/${turn.id}/approvals`, { call_id: approval.id, approve });
      this.turns.get(turn.id)?.update(changed);
    } catch (error) { showError(error); throw error; }
  }

  async stop(turn) {
    try {
      const changed = await api.post(`/turns/${turn.id}/stop`);
      this.turnTold({ type: 'turn', turn: changed });
    } catch (error) { showError(error); }
  }

  /* The answer that is coming in now, or the one that waits. */
  stopAll() {
    const open = this.openTurns;
    const now = open.find((view) => view.turn.state !== 'queued') ?? open[0];
    if (now) this.stop(now.turn);
    return Boolean(now);
  }

  send(text, files) {
    this.outbox.add(text, files);
    this.scroll.toEnd();
  }

  async edit(message, text) {
    await api.post(`/messages/${message.id}/edit`, { client_id: api.clientId(), text });
    await this.reload();
    this.scroll.toEnd();
    emit('turns-changed', this.openTurns.length);
  }

  /* Read up to the end, if somebody is looking. */
  seen() {
    if (!this.id || !this.info || !this.scroll.follows || document.visibilityState !== 'visible' || !document.hasFocus() || !this.atEnd) return;
    const last = [...this.messages.values()].reduce((most, one) => Math.max(most, one.seq), 0);
    if (last <= this.info.last_read_seq) return;
    this.info.last_read_seq = last;
    const { id } = this;
    clearTimeout(this.reading);
    this.reading = setTimeout(() => api.post(`/conversations/${id}/read`, { seq: last }, { again: false }).then(() => emit('conversation-read', id)).catch(() => {}), 400);
  }

  /* Where no line can be opened (a proxy that does not let WebSockets through) answers still come, only less smoothly. */
  async poll() {
    if (isOpen() || this.signedOut || this.polling || !this.id || this.failed || !this.openTurns.length || document.visibilityState !== 'visible') return;
    this.polling = true;
    const { epoch } = this;
    try {
      for (const view of this.openTurns) {
        const { turn, text, attempt, final } = await api.get(`/turns/${view.turn.id}`, { again: false });
        if (epoch !== this.epoch) return;
        if (final) { await this.reload(); continue; }
        view.update(turn);
        if (text && !view.rendered) view.delta({ fence: attempt, offset: 0, text });
      }
    } catch { /* the strip says that there is no connection */ } finally { this.polling = false; }
  }
}
