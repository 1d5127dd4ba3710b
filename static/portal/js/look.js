/* The theme changes at once; the server is told, so that the next page has it from the start. A language needs a new page. */
export function look() {
  for (const form of document.querySelectorAll('form[data-look]')) {
    form.addEventListener('submit', (event) => {
      const button = event.submitter;
      if (button?.name !== 'theme') return;
      event.preventDefault();
      show(button.value);
      const body = new FormData(form);
      body.set('theme', button.value);
      fetch(form.action, { method: 'POST', body, headers: { Accept: 'application/json' }, credentials: 'same-origin' }).catch(() => {});
    });
  }
}

function show(theme) {
  const root = document.documentElement;
  if (theme === 'auto') delete root.dataset.theme;
  else root.dataset.theme = theme;
  document.querySelector('meta[name="color-scheme"]').content = theme === 'auto' ? 'light dark' : theme;
  for (const button of document.querySelectorAll('form[data-look] button[name="theme"]')) {
    button.setAttribute('aria-pressed', String(button.value === theme));
  }
}
