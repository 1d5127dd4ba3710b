/* What the page knows, and who wants to hear of it. Names of events are verbs in the past: "conversation-changed", "access-ended". */
const heard = new Map();

export function on(name, listener) {
  if (!heard.has(name)) heard.set(name, new Set());
  heard.get(name).add(listener);
  return () => heard.get(name).delete(listener);
}

export function emit(name, value) {
  for (const listener of [...(heard.get(name) ?? [])]) listener(value);
}

/* Kept in this browser; a browser that forbids it only forgets. */
export const kept = {
  get(key) {
    try { return JSON.parse(localStorage.getItem(`switchboard.${key}`)); } catch { return null; }
  },
  set(key, value) {
    try {
      if (value === null || value === undefined) localStorage.removeItem(`switchboard.${key}`);
      else localStorage.setItem(`switchboard.${key}`, JSON.stringify(value));
    } catch { /* full or forbidden */ }
  },
  keys() {
    try { return Object.keys(localStorage).filter((key) => key.startsWith('switchboard.')).map((key) => key.slice(12)); } catch { return []; }
  },
};

export const me = { id: 0, username: '', name: '', preferences: {} };

export function prefer(name, fallback) {
  return name in me.preferences ? me.preferences[name] : fallback;
}
