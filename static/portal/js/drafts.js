/* What somebody was about to say: in this browser at once, on the server a moment later, so that it is there after a reload, a crash, an ended
   session, and on another device. The newer one counts. */
import * as api from './api.js';
import { kept } from './store.js';

const SERVER_AFTER = 1500;
let timer = 0;
let pending = null;

export function keep(key, text, files) {
  const draft = text || files.length ? { text, files, at: new Date().toISOString() } : null;
  kept.set(`draft.${key}`, draft);
  if (typeof key !== 'number') return;
  pending = { key, text, files };
  clearTimeout(timer);
  timer = setTimeout(flush, SERVER_AFTER);
}

export function flush() {
  clearTimeout(timer);
  if (!pending) return;
  const { key, text, files } = pending;
  pending = null;
  // Somebody who is signed out keeps it here; it goes up with the next letter.
  api.put(`/conversations/${key}/draft`, { text, attachments: files.map((one) => one.id) }, { again: false }).catch(() => {});
}

export function forget(key) {
  kept.set(`draft.${key}`, null);
  if (pending?.key === key) { pending = null; clearTimeout(timer); }
  if (typeof key === 'number') api.put(`/conversations/${key}/draft`, { text: '', attachments: [] }, { again: false }).catch(() => {});
}

/* server: the draft that came with the conversation. */
export function find(key, server) {
  const local = kept.get(`draft.${key}`);
  const remote = server?.at ? { text: server.text ?? '', files: server.files ?? [], at: server.at } : null;
  if (local && remote) return new Date(local.at) >= new Date(remote.at) ? local : remote;
  return local ?? remote ?? { text: '', files: [] };
}
