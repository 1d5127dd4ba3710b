/* Making elements. Text is always text: nothing that people wrote becomes markup here. */
const SVG = 'http://www.w3.org/2000/svg';

export const $ = (selector, root = document) => root.querySelector(selector);
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

/* h('button', { class: 'quiet', type: 'button', onclick: … , hidden: true }, 'Words', element, null) */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, '');
    else element.setAttribute(name, String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const ICONS = {
  copy: 'M8 7.5h7.500v8.500H8zM4.500 12.500V4h7.500',
  check: 'M4.500 10.500l3.500 3.500 7.500-8',
  again: 'M15.500 10a5.500 5.500 0 1 1-1.700-4M15.500 3.500V7H12',
  pen: 'M4 16l.8-3.200 8.400-8.400 2.400 2.400-8.400 8.400zM12 5.600L14.400 8',
  left: 'M12 5l-5 5 5 5',
  right: 'M8 5l5 5-5 5',
  down: 'M5 8l5 5 5-5',
  cross: 'M5 5l10 10M15 5L5 15',
  pin: 'M7 3.500h6l-.8 5 2.300 2.500h-9L7.800 8.500zM10 11v5.500',
  box: 'M3.500 4.500h13v3.500h-13zM4.500 8v7.500h11V8M8 11h4',
  bin: 'M4 6h12M8 6V4h4v2M5.500 6l.8 10.500h7.400L14.500 6',
  back: 'M7.500 5L3.500 9l4 4M4 9h7.500a4 4 0 0 1 0 7.500H9',
  file: 'M5.500 3h6l3.500 3.500V17h-9.500zM11.500 3v3.500H15',
  tool: 'M12.500 4a3.500 3.500 0 0 0-3 5.300L4 14.800 5.700 16.500l5.500-5.500A3.500 3.500 0 0 0 16 8l-2.200 1.500-2-2L13.500 5z',
  think: 'M10 3.500a5 5 0 0 0-3 9V14.500h6V12.500a5 5 0 0 0-3-9M8 17h4',
  dots: 'M4 10h.01M10 10h.01M16 10h.01',
};

export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', '0 0 20 20');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  const path = document.createElementNS(SVG, 'path');
  path.setAttribute('d', ICONS[name] ?? ICONS.dots);
  svg.append(path);
  return svg;
}

const SHAPES = { good: '●', working: '◐', attention: '▲', trouble: '■', off: '○' };

/* A lamp is colour, shape and word; the word may be for screen readers only. */
export function lamp(state, word, { quiet = false } = {}) {
  return h('span', { class: `lamp ${state}` },
    h('span', { 'aria-hidden': 'true' }, SHAPES[state] ?? SHAPES.off), h('span', { class: quiet ? 'unseen' : null }, word));
}

/* A button with a picture and a name for everybody who cannot see it. */
export function iconButton(name, label, action, more = {}) {
  return h('button', { type: 'button', class: 'quiet', 'aria-label': label, title: label, onclick: action, ...more }, icon(name));
}

/* HTML that the server has sanitised; nothing else may come here. */
export function fromServer(element, html) {
  element.innerHTML = html;
  return element;
}

export function letter(name) {
  const found = /\p{L}|\p{N}/u.exec(name || '');
  return (found ? found[0] : '?').toLocaleUpperCase();
}
