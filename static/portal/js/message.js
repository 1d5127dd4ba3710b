/* One thing that was said, as an element. */
import { fromServer, h, icon, iconButton, lamp, letter } from './dom.js';
import { atClock, duration, exactly } from './moments.js';
import { fill, gettext, ngettext } from './words.js';
import { copy, dressCode } from './clipboard.js';
import { Reasoning, ToolCard, approvalCard } from './tools.js';

const ADDRESS = /https?:\/\/[^\s<>"']+[^\s<>"'.,;:!?)\]]/g;

/* What people say is shown as it is; only addresses become links. */
export function plainWithLinks(text) {
  const pieces = [];
  let end = 0;
  for (const match of text.matchAll(ADDRESS)) {
    pieces.push(text.slice(end, match.index), h('a', { href: match[0], target: '_blank', rel: 'noopener noreferrer nofollow' }, match[0]));
    end = match.index + match[0].length;
  }
  pieces.push(text.slice(end));
  return pieces;
}

export function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  const units = ['KB', 'MB', 'GB'];
  let value = bytes / 1024;
  let unit = 0;
  while (value >= 1024 && unit < 2) { value /= 1024; unit += 1; }
  return `${value.toLocaleString(document.documentElement.lang, { maximumFractionDigits: value < 10 ? 1 : 0 })} ${units[unit]}`;
}

function fileElement(file) {
  if (/^image\/(png|jpeg|gif|webp)$/.test(file.media_type)) {
    const picture = h('img', { src: file.url, alt: file.name, loading: 'lazy', decoding: 'async', width: file.width, height: file.height });
    return h('a', { class: 'picture-file', href: file.url, target: '_blank', rel: 'noopener' }, picture);
  }
  return h('a', { class: 'file', href: file.url, target: '_blank', rel: 'noopener' }, icon('file'),
    h('span', { class: 'cut' }, file.name), h('span', { class: 'second' }, size(file.size)));
}

export function head(name, date, { kind, id }) {
  return h('header', { class: 'message-head' },
    h('span', { class: 'jack', 'aria-hidden': 'true' }, kind === 'user' ? '' : letter(name)),
    h('h2', { class: 'name', id }, name),
    date ? h('time', { datetime: date.toISOString(), title: exactly(date) }, atClock(date)) : null);
}

/* The parts of an answer, in the order in which they happened. */
function answerParts(message, deeds) {
  const parts = message.parts.length ? message.parts : [{ type: 'text', html: message.html }];
  const cards = new Map();
  const shown = [];
  for (const part of parts) {
    if (part.type === 'text') {
      if (part.html) shown.push(fromServer(h('div', { class: 'prose' }), part.html));
    } else if (part.type === 'reasoning') {
      if (part.text) {
        const thoughts = new Reasoning(part.text);
        thoughts.done((part.ms ?? 0) / 1000);
        shown.push(thoughts.element);
      }
    } else if (part.type === 'tool_call') {
      const card = new ToolCard(part);
      cards.set(part.id, card);
      shown.push(card.element);
    } else if (part.type === 'tool_result') {
      let card = cards.get(part.id);
      if (!card) {
        card = new ToolCard({ name: part.name });
        shown.push(card.element);
      }
      card.result(part);
    }
  }
  if (!parts.some((part) => part.type === 'text' && part.html) && message.html) shown.push(fromServer(h('div', { class: 'prose' }), message.html));
  for (const approval of message.turn?.approvals ?? []) shown.push(approvalCard(approval, (approve) => deeds.decide(message.turn, approval, approve)));
  return shown;
}

/* ‹2/3› between the versions of a message. */
function versions(message, deeds) {
  const count = message.siblings.length;
  if (count < 2) return null;
  const place = message.siblings.indexOf(message.id);
  const step = (by, name, label) => iconButton(name, label, () => deeds.show(message.siblings[place + by], message), { disabled: message.siblings[place + by] === undefined });
  return h('span', { class: 'versions', role: 'group', 'aria-label': gettext('Versions') },
    step(-1, 'left', gettext('Earlier version')),
    h('span', { class: 'version-count' }, fill(gettext('%(place)s/%(count)s'), { place: place + 1, count })),
    step(1, 'right', gettext('Later version')));
}

function costs(turn) {
  if (!turn) return null;
  const words = [];
  if (turn.started_at && turn.finished_at) words.push(duration((new Date(turn.finished_at) - new Date(turn.started_at)) / 1000));
  if (turn.output_tokens) words.push(ngettext('%(count)s token', '%(count)s tokens', turn.output_tokens));
  if (turn.state === 'cancelled') words.unshift(gettext('stopped'));
  if (!words.length) return null;
  const title = turn.input_tokens ? fill(gettext('%(in)s tokens read, %(out)s written'), { in: turn.input_tokens, out: turn.output_tokens ?? 0 }) : null;
  return h('span', { class: 'costs', title }, words.join(' · '));
}

/* deeds: what can be done with it (edit, again, show, decide), given by the conversation. */
export function messageElement(message, deeds) {
  const kind = message.role === 'assistant' ? 'agent' : message.role;
  const date = new Date(message.said_at);
  const nameId = `name-${message.id}`;
  const article = h('article', {
    class: `message ${kind}`, id: `message-${message.id}`, 'data-id': message.id, 'data-seq': message.seq, tabindex: '-1', 'aria-labelledby': nameId,
  });
  if (kind === 'notice') {
    const failed = ['failed', 'timed_out', 'dead'].includes(message.turn?.state);
    article.append(h('h2', { class: 'unseen', id: nameId }, gettext('Notice')), h('div', { class: 'notice-text' }, failed ? lamp('trouble', gettext('Failed'), { quiet: true }) : lamp('off', gettext('Notice'), { quiet: true }), h('span', {}, message.text)));
    return article;
  }
  article.append(head(message.sender.name, date, { kind, id: nameId }));
  const said = h('div', { class: 'said' });
  if (message.state === 'redacted') said.append(h('p', { class: 'second' }, gettext('This message was taken back.')));
  else if (kind === 'user') {
    if (message.text) said.append(h('div', { class: 'words' }, ...plainWithLinks(message.text)));
  } else said.append(...answerParts(message, deeds));
  if (message.attachments.length) said.append(h('div', { class: 'files' }, ...message.attachments.map(fileElement)));
  article.append(said);
  dressCode(article);

  const footer = h('footer', { class: 'message-deeds' });
  if (message.text) {
    const button = iconButton('copy', gettext('Copy the message'), () => copy(message.text, button));
    footer.append(button);
  }
  if (kind === 'user' && deeds.mayEdit(message)) footer.append(iconButton('pen', gettext('Say it differently'), () => deeds.edit(message)));
  if (kind === 'agent') footer.append(iconButton('again', gettext('Answer again'), () => deeds.again(message)));
  footer.append(...[versions(message, deeds), kind === 'agent' ? costs(message.turn) : null].filter(Boolean));
  if (message.transport && !['portal', 'turn', 'import'].includes(message.transport)) {
    footer.append(h('span', { class: 'costs' }, message.transport === 'matrix' ? gettext('from the Matrix room') : message.transport === 'api' ? gettext('from a program') : message.transport));
  }
  if (footer.childNodes.length) article.append(footer);
  if (message.state === 'held') article.append(h('p', { class: 'status' }, lamp('attention', gettext('Kept, but not answered'))));
  return article;
}

/* What could not be sent yet: it is in this browser, and goes out as soon as it can. */
export function unsentElement(unsent, name, deeds) {
  const status = h('p', { class: 'status' });
  const element = h('article', { class: 'message user unsent', tabindex: '-1', 'aria-label': gettext('Not sent yet') },
    head(name, null, { kind: 'user', id: `unsent-${unsent.client_id}` }),
    h('div', { class: 'said' }, unsent.text ? h('div', { class: 'words' }, ...plainWithLinks(unsent.text)) : null,
      unsent.files?.length ? h('div', { class: 'files' }, ...unsent.files.map(fileElement)) : null), status);
  element.show = (error) => {
    if (!error) {
      status.replaceChildren(lamp('working', gettext('Sending')));
      return;
    }
    status.replaceChildren(lamp('trouble', error.message),
      h('button', { class: 'button plain small', type: 'button', onclick: () => deeds.resend(unsent) }, gettext('Send again')),
      h('button', { class: 'button plain small', type: 'button', onclick: () => deeds.forget(unsent) }, gettext('Take it back')));
  };
  element.show(null);
  return element;
}
