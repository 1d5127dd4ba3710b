/* Reading by link, and the Matrix room that shows the same conversation. */
import { h, lamp } from './dom.js';
import * as api from './api.js';
import * as dialogs from './dialogs.js';
import { copy } from './clipboard.js';
import { exactly, relatively } from './moments.js';
import { fill, gettext } from './words.js';

export function showShare(conversation) {
  return dialogs.open(gettext('Share by link'), () => {
    const list = h('ul', { class: 'plain-list' });
    const made = h('div', { 'aria-live': 'polite' });
    const problem = h('p', { class: 'trouble-text', role: 'alert', hidden: true });
    const days = h('select', { id: 'share-days' }, [['', gettext('until it is ended')], ['1', gettext('for a day')], ['7', gettext('for a week')], ['30', gettext('for a month')]].map(([value, word]) => h('option', { value }, word)));
    const fail = (error) => { problem.textContent = error.message; problem.hidden = false; };
    const load = async () => {
      try {
        const { items } = await api.get(`/conversations/${conversation}/share`);
        const usable = items.filter((one) => !one.revoked_at);
        list.replaceChildren(...usable.map((one) => {
          const created = new Date(one.created_at);
          return h('li', {},
            h('span', {}, h('code', {}, `${one.hint}…`), ' ', h('span', { class: 'second' }, h('time', { datetime: one.created_at, title: exactly(created) }, relatively(created)),
              one.expires_at ? ` · ${fill(gettext('until %(time)s'), { time: exactly(new Date(one.expires_at)) })}` : '', ` · ${fill(gettext('read %(count)s times'), { count: one.views })}`)),
            h('button', { type: 'button', class: 'button plain small', onclick: async () => { try { await api.del(`/conversations/${conversation}/share?id=${one.id}`); await load(); } catch (error) { fail(error); } } }, gettext('End')));
        }));
        if (!usable.length) list.replaceChildren(h('li', { class: 'second' }, gettext('Nobody else can read this conversation.')));
      } catch (error) { fail(error); }
    };
    const make = async () => {
      problem.hidden = true;
      try {
        const body = days.value ? { expires_in_days: Number(days.value) } : {};
        const link = await api.post(`/conversations/${conversation}/share`, body);
        const url = new URL(link.url, location.href).href;
        const field = h('input', { type: 'text', readonly: true, value: url, 'aria-label': gettext('Link'), onfocus: () => field.select() });
        const button = h('button', { type: 'button', class: 'button', onclick: () => copy(url, button) }, gettext('Copy the link'));
        made.replaceChildren(h('div', { class: 'notice good' }, h('p', {}, gettext('This link is shown once. Whoever has it can read what was said until now.')), field, h('div', { class: 'buttons' }, button)));
        field.focus();
        await load();
      } catch (error) { fail(error); }
    };
    load();
    return [
      h('p', {}, gettext('Whoever has the link can read the conversation as it is now, without signing in. What is said later stays private.')),
      h('div', { class: 'field' }, h('label', { for: 'share-days' }, gettext('The link works')), days),
      h('div', { class: 'buttons' }, h('button', { type: 'button', class: 'button', onclick: make }, gettext('Make a link'))),
      problem, made, h('h3', {}, gettext('Links of this conversation')), list,
    ];
  });
}

export function showRoom(conversation) {
  return dialogs.open(gettext('Matrix room'), (close) => {
    const body = h('div', {}, h('p', { class: 'second' }, gettext('Looking…')));
    const problem = h('p', { class: 'trouble-text', role: 'alert', hidden: true });
    const fail = (error) => { problem.textContent = error.message; problem.hidden = false; };
    const show = (room) => {
      if (room) {
        body.replaceChildren(h('p', {}, lamp('good', gettext('This conversation is in a Matrix room as well, with one history.'))),
          h('p', {}, h('code', {}, room.alias || room.room_id)),
          h('div', { class: 'buttons' }, h('a', { class: 'button', href: room.url, target: '_blank', rel: 'noopener' }, gettext('Open the room'))));
      } else {
        body.replaceChildren(h('p', {}, gettext('The conversation can go on in a Matrix room: what is said there is shown here, and the other way round.')),
          h('div', { class: 'buttons' },
            h('button', { type: 'button', class: 'button', onclick: async (event) => {
              event.target.disabled = true;
              try { const made = await api.post(`/conversations/${conversation}/room`); show(made.room ?? made); } catch (error) { fail(error); if (error.code?.includes('matrix')) account(); } finally { event.target.disabled = false; }
            } }, gettext('Open in a Matrix room')),
            h('button', { type: 'button', class: 'button plain', onclick: account }, gettext('I have no Matrix account'))));
      }
    };
    const account = async () => {
      problem.hidden = true;
      try {
        const made = await api.post('/matrix-account');
        body.replaceChildren(h('div', { class: 'notice good' }, h('p', {}, gettext('You have a Matrix account now. The password is shown once.')),
          h('dl', { class: 'facts' }, ...[[gettext('Account'), made.user_id ?? made.matrix_user_id], [gettext('Password'), made.password], [gettext('Server'), made.homeserver ?? made.homeserver_url ?? made.server]]
            .filter(([, value]) => value).flatMap(([name, value]) => [h('dt', {}, name), h('dd', {}, h('code', {}, value))]))),
        h('div', { class: 'buttons' }, h('button', { type: 'button', class: 'button', onclick: () => show(null) }, gettext('Next'))));
      } catch (error) { fail(error); }
    };
    api.get(`/conversations/${conversation}`).then((info) => show(info.room), fail);
    return [body, problem, h('div', { class: 'buttons' }, h('button', { type: 'button', class: 'button plain', onclick: () => close() }, gettext('Close')))];
  });
}
