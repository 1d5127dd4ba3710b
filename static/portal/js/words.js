/* Words in the reader's language: the catalogue is a script of its own, loaded before the modules. */
const catalogue = globalThis.django ?? {};

export function gettext(text) {
  return catalogue.gettext ? catalogue.gettext(text) : text;
}

export function ngettext(one, many, count) {
  const text = catalogue.ngettext ? catalogue.ngettext(one, many, count) : (count === 1 ? one : many);
  return text.replaceAll('%(count)s', String(count));
}

/* fill('Stopped after %(time)s', { time: '4 s' }) */
export function fill(text, values) {
  return text.replace(/%\((\w+)\)s/g, (whole, name) => (name in values ? String(values[name]) : whole));
}
