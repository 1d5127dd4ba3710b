/* The line to the server: one WebSocket, opened again whenever it breaks, with each subscription resumed from where it stood.
   Writing goes over HTTP, which is idempotent and has its own errors; what happens comes over this line. */
import { get } from './api.js';
import { emit, on } from './store.js';

const PROTOCOL = 'switchboard.v1';
const WAITS = [0.3, 1, 2, 4, 8, 15];
const SIGNED_OUT = [4401, 4409];
const NOT_ALLOWED = 4403;

let socket = null;
let ready = false;
let attempts = 0;
let timer = 0;
let heartbeat = 20;
let lastFrame = 0;
let beating = 0;
let number = 0;
let life = '';
const subscriptions = new Map();
const waiting = new Map();

export function setUp() {
  on('signed-in', () => { attempts = 0; now(); });
  window.addEventListener('online', now);
  window.addEventListener('offline', () => state('lost'));
  document.addEventListener('visibilitychange', () => document.visibilityState === 'visible' && !ready && now());
  window.addEventListener('pagehide', () => socket?.close(1000));
  window.addEventListener('pageshow', (event) => event.persisted && now());
  connect();
}

/* Follow a conversation. resume() says where it stands: {cursor, turns: {id: "fence:offset"}}; heard(frame) gets every frame. */
export function subscribe(conversation, resume, heard) {
  subscriptions.set(conversation, { resume, heard });
  if (ready) sendSubscription(conversation);
  return () => {
    if (subscriptions.get(conversation)?.heard !== heard) return;
    subscriptions.delete(conversation);
    if (ready) send({ type: 'unsubscribe', id: nextId(), conversation });
  };
}

export function isOpen() { return ready; }

export function say(frame) {
  if (ready) send(frame);
}

/* A frame that is answered with ok or error. */
export function request(frame) {
  if (!ready) return Promise.reject(new Error('closed'));
  const id = nextId();
  return new Promise((resolve, reject) => {
    waiting.set(id, { resolve, reject });
    send({ ...frame, id });
  });
}

/* Try at once instead of waiting. */
export function now() {
  clearTimeout(timer);
  if (!ready && (!socket || socket.readyState > 1)) connect();
}

function nextId() {
  number += 1;
  return `p${number}`;
}

function state(name, more = {}) { emit('line', { name, ...more }); }

function connect() {
  state('connecting', { attempts });
  const opened = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/ws`, [PROTOCOL]);
  socket = opened;
  opened.addEventListener('message', (event) => {
    if (socket !== opened) return;
    lastFrame = performance.now();
    let frame;
    try { frame = JSON.parse(event.data); } catch { return; }
    take(frame);
  });
  opened.addEventListener('close', (event) => socket === opened && closed(event));
}

function send(frame) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(frame));
}

function sendSubscription(conversation) {
  const { resume } = subscriptions.get(conversation);
  const frame = { type: 'subscribe', id: nextId(), conversation, render: true };
  const { cursor, turns } = resume();
  if (cursor) frame.cursor = cursor;
  if (turns && Object.keys(turns).length) frame.turns = turns;
  send(frame);
}

function take(frame) {
  if (frame.type === 'welcome') {
    ready = true;
    attempts = 0;
    heartbeat = Number(frame.heartbeat) || 20;
    if (life && frame.life && life !== frame.life) {
      // Rows were put back from a backup: what this page shows of later ones is true no more. What is unsent is kept.
      window.location.reload();
      return;
    }
    life = frame.life || life;
    clearInterval(beating);
    beating = setInterval(beat, heartbeat * 500);
    state('open');
    for (const conversation of subscriptions.keys()) sendSubscription(conversation);
    return;
  }
  if ((frame.type === 'ok' || frame.type === 'error') && waiting.has(frame.id)) {
    const { resolve, reject } = waiting.get(frame.id);
    waiting.delete(frame.id);
    if (frame.type === 'ok') resolve(frame);
    else reject(Object.assign(new Error(frame.detail), frame));
    return;
  }
  if (frame.type === 'ping') { send({ type: 'pong' }); return; }
  if (frame.type === 'conversation') { emit('conversation-told', frame); }
  if (frame.type === 'bye') { emit('bye', frame); return; }
  const own = frame.conversation ? subscriptions.get(frame.conversation) : null;
  if (own) own.heard(frame);
  else if (!frame.conversation) for (const { heard } of [...subscriptions.values()]) heard(frame);
}

function beat() {
  if (performance.now() - lastFrame > heartbeat * 2500) {
    socket?.close();
    closed({ code: 4408 });
    return;
  }
  send({ type: 'ping' });
}

async function closed(event) {
  ready = false;
  socket = null;
  clearInterval(beating);
  for (const { reject } of waiting.values()) reject(new Error('closed'));
  waiting.clear();
  if (event.code === 1000 && document.visibilityState === 'hidden') return;
  if (event.code === NOT_ALLOWED) { state('refused'); return; }
  if (SIGNED_OUT.includes(event.code) || attempts === 2) {
    // A refused handshake carries no code: after a few attempts it is asked whether anybody is still signed in.
    const standing = await get('/account/again', { again: false }).catch(() => null);
    if (standing && !standing.person) {
      // Nobody is interrupted while they write: the page says so, and asks when something is sent.
      state('signed-out');
      return;
    }
  }
  const wait = WAITS[Math.min(attempts, WAITS.length - 1)] * (0.8 + Math.random() * 0.4);
  attempts += 1;
  state('lost', { wait, attempts });
  clearTimeout(timer);
  timer = setTimeout(connect, wait * 1000);
}
