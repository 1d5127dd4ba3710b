/* What every page does: times of the reader's zone, menus that close, the theme without loading again. */
import { showMoments } from './moments.js';
import { look } from './look.js';

const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (zone && !document.cookie.split('; ').includes(`time_zone=${encodeURIComponent(zone)}`)) {
  document.cookie = `time_zone=${encodeURIComponent(zone)}; path=/; max-age=31536000; samesite=lax${location.protocol === 'https:' ? '; secure' : ''}`;
}

showMoments();
setInterval(showMoments, 30000);
look();

document.addEventListener('click', (event) => {
  for (const menu of document.querySelectorAll('details[data-menu][open]')) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});
document.addEventListener('keydown', (event) => {
  const menu = event.key === 'Escape' && document.activeElement?.closest('details[data-menu][open]');
  if (!menu) return;
  menu.open = false;
  menu.querySelector('summary').focus();
  event.stopPropagation();
}, true);
