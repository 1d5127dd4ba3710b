/* The invitation's code stands behind the # of the link, where no server sees it. It moves into the form, and out of the address. */
const field = document.querySelector('[data-join] [name="code"]');

function take() {
  const code = decodeURIComponent(location.hash.slice(1));
  if (!field || !code) return;
  field.value = code;
  history.replaceState(null, '', location.pathname + location.search);
  document.querySelector('[data-join] [name="username"]').focus();
}

try { take(); } catch (_) { /* Not a code: the person types it. */ }
window.addEventListener('hashchange', () => { try { take(); } catch (_) { /* as above */ } });
