/* Asking the server. Refusals become ApiError with the server's own sentence; when the session has ended, the person signs in again in a
   dialog, and what was asked is asked once more. */
import { gettext } from './words.js';

const BASE = '/api/v1/chat';
let cookieName = 'csrftoken';
let askToSignIn = async () => false;

export class ApiError extends Error {
  constructor(status, problem = {}, retryAfter = 0) {
    super(problem.detail || problem.title || gettext('The server did not understand the page. Load it again.'));
    this.status = status;
    this.code = problem.code || '';
    this.problem = problem;
    this.retryAfter = retryAfter;
  }

  get isOffline() { return this.status === 0; }
}

export function setUp({ csrfCookie, signIn }) {
  cookieName = csrfCookie || cookieName;
  askToSignIn = signIn;
}

export function csrf() {
  const found = document.cookie.split('; ').find((one) => one.startsWith(`${cookieName}=`));
  return found ? decodeURIComponent(found.slice(cookieName.length + 1)) : '';
}

async function answerOf(response) {
  const type = response.headers.get('content-type') || '';
  const body = response.status === 204 ? null : type.includes('json') ? await response.json().catch(() => null) : await response.text();
  if (response.ok) return body;
  const problem = body && typeof body === 'object' ? body : {};
  throw new ApiError(response.status, problem, Number(response.headers.get('retry-after') || problem.retry_after || 0));
}

async function ask(method, path, { body, form, signal, again = true } = {}) {
  const headers = { Accept: 'application/json' };
  if (method !== 'GET') headers['X-CSRFToken'] = csrf();
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  let response;
  try {
    response = await fetch(/^\/(api|account|portal)\//.test(path) ? path : BASE + path, {
      method, headers, signal, credentials: 'same-origin', body: form ?? (body === undefined ? undefined : JSON.stringify(body)),
    });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError(0, { detail: gettext('The server cannot be reached. What you wrote is kept here.') });
  }
  try {
    return await answerOf(response);
  } catch (error) {
    const ended = error.status === 401 || (error.status === 403 && error.code === 'auth.csrf');
    if (ended && again && await askToSignIn()) return ask(method, path, { body, form, signal, again: false });
    throw error;
  }
}

export const get = (path, options) => ask('GET', path, options);
export const post = (path, body = {}, options = {}) => ask('POST', path, { body, ...options });
export const put = (path, body = {}, options = {}) => ask('PUT', path, { body, ...options });
export const patch = (path, body = {}, options = {}) => ask('PATCH', path, { body, ...options });
export const del = (path, options = {}) => ask('DELETE', path, options);
export const postForm = (path, form, options = {}) => ask('POST', path, { form, ...options });

/* A file with its progress, which fetch cannot tell. */
export function upload(path, file, onProgress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const form = new FormData();
    form.append('file', file, file.name);
    request.open('POST', BASE + path);
    request.setRequestHeader('X-CSRFToken', csrf());
    request.setRequestHeader('Accept', 'application/json');
    request.upload.addEventListener('progress', (event) => event.lengthComputable && onProgress(event.loaded / event.total));
    request.addEventListener('load', () => {
      let body = {};
      try { body = JSON.parse(request.responseText); } catch { /* no JSON: the status says enough */ }
      if (request.status >= 200 && request.status < 300) resolve(body);
      else reject(new ApiError(request.status, body, Number(request.getResponseHeader('retry-after') || 0)));
    });
    request.addEventListener('error', () => reject(new ApiError(0, { detail: gettext('The server cannot be reached. Try again in a moment.') })));
    request.addEventListener('abort', () => reject(new DOMException('aborted', 'AbortError')));
    signal?.addEventListener('abort', () => request.abort());
    request.send(form);
  });
}

/* All addresses of pages come as whole URLs with a cursor; the page asks by path. */
export function pathOf(url) {
  if (!url) return null;
  const parsed = new URL(url, location.href);
  return parsed.pathname + parsed.search;
}

export function clientId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}
