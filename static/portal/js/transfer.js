/* All conversations out of here, and conversations into here; and those that were put away. */
import { h, lamp } from './dom.js';
import * as api from './api.js';
import * as dialogs from './dialogs.js';
import { emit } from './store.js';
import { exactly, relatively } from './moments.js';
import { fill, gettext, ngettext } from './words.js';

const wait = (seconds) => new Promise((resolve) => { setTimeout(resolve, seconds * 1000); });

export function showTransfer() {
  return dialogs.open(gettext('Export or import conversations'), () => {
    const status = h('div', { role: 'status' });
    const file = h('input', { type: 'file', id: 'import-file', accept: '.json,.zip,application/json,application/zip' });
    const results = h('div', { role: 'status' });
    const exportAll = async (event) => {
      const button = event.target;
      button.disabled = true;
      status.replaceChildren(lamp('working', gettext('Collecting your conversations')));
      try {
        let job = await api.post('/export');
        for (let tries = 0; !job.url && !['failed', 'dead', 'cancelled'].includes(job.state) && tries < 600; tries += 1) {
          await wait(1);
          if (!button.isConnected) return;
          job = await api.get(`/export/${job.id}`);
        }
        if (!job.url) throw new Error(job.error || gettext('The export failed. Try again, or tell an operator.'));
        status.replaceChildren(h('p', {}, lamp('good', gettext('Your conversations are ready.'))), h('a', { class: 'button', href: job.url, download: true }, gettext('Save the file')));
      } catch (error) {
        status.replaceChildren(lamp('trouble', error.message));
      } finally { button.disabled = false; }
    };
    const importFile = async (event) => {
      event.preventDefault();
      if (!file.files[0]) return;
      const form = new FormData();
      form.append('file', file.files[0]);
      results.replaceChildren(lamp('working', gettext('Reading the file')));
      try {
        const report = await api.postForm('/import', form);
        results.replaceChildren(lamp('good', ngettext('%(count)s conversation was taken over.', '%(count)s conversations were taken over.', report.conversations ?? report.imported ?? 0)),
          ...(report.findings ?? report.problems ?? []).slice(0, 20).map((one) => h('p', { class: 'second' }, one.sentence ?? one.detail ?? String(one))));
        emit('list-changed');
      } catch (error) { results.replaceChildren(lamp('trouble', error.message)); }
    };
    return [
      h('h3', {}, gettext('Export')), h('p', {}, gettext('All your conversations with their files, as JSON, Markdown and HTML in one ZIP file.')),
      h('div', { class: 'buttons' }, h('button', { type: 'button', class: 'button', onclick: exportAll }, gettext('Export everything'))), status,
      h('hr'), h('h3', {}, gettext('Import')), h('p', {}, gettext('A file that was exported here, from ChatGPT or from Open WebUI. The same file twice changes nothing.')),
      h('form', { onsubmit: importFile }, h('div', { class: 'field' }, h('label', { for: 'import-file' }, gettext('File')), file), h('div', { class: 'buttons' }, h('button', { class: 'button plain' }, gettext('Import')))), results,
    ];
  });
}

export function showArchive() {
  return dialogs.open(gettext('Archived conversations'), (close) => {
    const body = h('div', {}, h('p', { class: 'second' }, gettext('Loading…')));
    const section = (title, items, deed, empty) => [h('h3', {}, title), items.length ? h('ul', { class: 'plain-list' }, items.map((one) => {
      const date = new Date(one.last_message_at);
      const item = h('li', {},
        h('span', { class: 'cut' }, deed === 'restore' ? h('span', {}, one.title || gettext('New conversation')) : h('a', { href: `/chat/c/${one.id}/`, onclick: (event) => { event.preventDefault(); close(); emit('go', { conversation: one.id }); } }, one.title || gettext('New conversation')),
          ' ', h('span', { class: 'second' }, h('time', { datetime: one.last_message_at, title: exactly(date) }, relatively(date)))),
        h('button', { type: 'button', class: 'button plain small', 'aria-label': fill(gettext('Bring back “%(title)s”'), { title: one.title }), onclick: async () => {
          try {
            if (deed === 'restore') await api.post(`/conversations/${one.id}/restore`);
            else await api.patch(`/conversations/${one.id}`, { archived: false });
            item.remove();
            emit('list-changed');
          } catch (error) { dialogs.showError(error); }
        } }, gettext('Bring back')));
      return item;
    })) : h('p', { class: 'second' }, empty)];
    Promise.all([api.get('/conversations?archived=true&limit=200'), api.get('/conversations?removed=true&limit=200')]).then(([archived, removed]) => {
      body.replaceChildren(...section(gettext('Archived'), archived.items, 'unarchive', gettext('What you put away will appear here.')).flat(),
        ...section(gettext('Deleted in the last 30 days'), removed.items, 'restore', gettext('What you delete can be brought back here for 30 days.')).flat());
    }, (error) => body.replaceChildren(lamp('trouble', error.message)));
    return body;
  }, { wide: true });
}
