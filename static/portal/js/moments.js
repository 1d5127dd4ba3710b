/* Times in the reader's zone: relative, with the exact time on hover. */
const language = document.documentElement.lang || 'en';
const exact = new Intl.DateTimeFormat(language, { dateStyle: 'full', timeStyle: 'short' });
const clock = new Intl.DateTimeFormat(language, { timeStyle: 'short' });
const weekday = new Intl.DateTimeFormat(language, { weekday: 'long' });
const sameYear = new Intl.DateTimeFormat(language, { day: 'numeric', month: 'short' });
const otherYear = new Intl.DateTimeFormat(language, { day: 'numeric', month: 'short', year: 'numeric' });
const relative = new Intl.RelativeTimeFormat(language, { numeric: 'auto', style: 'long' });

const MINUTE = 60;
const HOUR = 3600;
const DAY = 86400;

export function exactly(date) {
  return exact.format(date);
}

export function atClock(date) {
  return clock.format(date);
}

/* "3 minutes ago", "in 2 days", then a date. */
export function relatively(date, now = new Date()) {
  const seconds = (date - now) / 1000;
  const size = Math.abs(seconds);
  if (size < 45) return relative.format(0, 'second');
  if (size < 50 * MINUTE) return relative.format(Math.round(seconds / MINUTE), 'minute');
  if (size < 22 * HOUR) return relative.format(Math.round(seconds / HOUR), 'hour');
  if (size < 26 * DAY) return relative.format(Math.round(seconds / DAY), 'day');
  return (date.getFullYear() === now.getFullYear() ? sameYear : otherYear).format(date);
}

/* The day in words, for a list that is in order of time. */
export function dayName(date, now = new Date()) {
  const days = Math.round((midnight(now) - midnight(date)) / (DAY * 1000));
  if (days === 0 || days === 1) return capital(relative.format(-days, 'day'));
  if (days > 1 && days < 7) return weekday.format(date);
  return (date.getFullYear() === now.getFullYear() ? sameYear : otherYear).format(date);
}

function midnight(date) {
  return new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime();
}

function capital(text) {
  return text.charAt(0).toLocaleUpperCase(language) + text.slice(1);
}

/* "4 s", "1:05", "1:00:00". */
export function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  const two = (number) => String(number).padStart(2, '0');
  const hours = Math.floor(whole / HOUR);
  const minutes = Math.floor((whole % HOUR) / MINUTE);
  return hours ? `${hours}:${two(minutes)}:${two(whole % MINUTE)}` : `${minutes}:${two(whole % MINUTE)}`;
}

export function showMoments(root = document) {
  for (const element of root.querySelectorAll('time[data-moment]')) {
    const date = new Date(element.dateTime);
    if (Number.isNaN(date.getTime())) continue;
    element.textContent = element.dataset.moment === 'exact' ? exactly(date) : relatively(date);
    element.title = exactly(date);
  }
}
