/* Signing in again without leaving the page: nothing that was written is lost, and what was asked is asked again. */
import { h } from './dom.js';
import * as dialogs from './dialogs.js';
import { ApiError, csrf } from './api.js';
import { emit, me } from './store.js';
import { gettext } from './words.js';

let asked = null;

/* One dialog, however many requests wait for it. Resolves with true once somebody is signed in. */
export function signInAgain() {
  asked ??= ask().finally(() => { asked = null; });
  return asked;
}

async function ask() {
  const done = await dialogs.open(gettext('Sign in again'), (close) => {
    const problem = h('p', { class: 'trouble-text', role: 'alert', hidden: true });
    const user = h('input', { id: 'again-name', type: 'text', autocomplete: 'username', value: me.username, required: true });
    const password = h('input', { id: 'again-password', type: 'password', autocomplete: 'current-password', required: true, autofocus: true });
    const code = h('input', { id: 'again-code', type: 'text', inputmode: 'numeric', autocomplete: 'one-time-code' });
    const codeField = h('div', { class: 'field', hidden: true }, h('label', { for: 'again-code' }, gettext('Code of your authenticator app')), code);
    const button = h('button', { class: 'button wide' }, gettext('Sign in'));
    const form = h('form', {
      onsubmit: async (event) => {
        event.preventDefault();
        button.disabled = true;
        problem.hidden = true;
        try {
          const standing = await post({ username: user.value, password: password.value, code: code.value });
          if (me.id && standing.person?.id !== me.id) { location.reload(); return; }
          close(true);
        } catch (error) {
          if (error.code === 'again.code_needed') { codeField.hidden = false; code.required = true; code.focus(); }
          problem.textContent = error.message;
          problem.hidden = false;
        } finally {
          button.disabled = false;
        }
      },
    },
    h('p', {}, gettext('Your session has ended. What you wrote is kept here.')),
    h('div', { class: 'field' }, h('label', { for: 'again-name' }, gettext('Name or e-mail')), user),
    h('div', { class: 'field' }, h('label', { for: 'again-password' }, gettext('Password')), password),
    codeField, problem, button,
    h('p', { class: 'second leave' }, h('a', { href: `/account/login/?next=${encodeURIComponent(location.pathname)}` }, gettext('Go to the sign-in page instead'))));
    return form;
  }, { keep: true });
  if (done) emit('signed-in');
  return Boolean(done);
}

async function post(body) {
  if (!csrf()) await fetch('/account/again', { credentials: 'same-origin' });
  let response;
  try {
    response = await fetch('/account/again', {
      method: 'POST', credentials: 'same-origin', body: JSON.stringify(body),
      headers: { 'Content-Type': 'application/json', Accept: 'application/json', 'X-CSRFToken': csrf() },
    });
  } catch {
    throw new ApiError(0, { detail: gettext('The server cannot be reached. Try again in a moment.') });
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new ApiError(response.status, answer);
  return answer;
}
