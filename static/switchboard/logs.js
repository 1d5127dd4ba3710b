// The page of the logs: new lines come by themselves, and whoever reads further up is left exactly there.
(() => {
  "use strict";
  const root = document.querySelector("[data-logs]");
  if (!root) return;
  const view = root.querySelector("[data-logs-view]");
  const list = root.querySelector("[data-logs-list]");
  const state = root.querySelector("[data-logs-state]");
  const fresh = root.querySelector("[data-logs-new]");
  const pause = root.querySelector("[data-logs-pause]");
  const empty = root.querySelector("[data-logs-empty]");
  const EVERY = 1500, MOST = 3000, MOST_WAITING = 2000, NEAR = 32;
  let newest = Number(root.dataset.newest || 0), paused = false, failures = 0, waiting = [], skipped = 0, said = "";

  // The last seconds are given again, for lines that became visible late.
  const seen = new Set([...list.children].map((one) => one.dataset.id));
  const unseen = (lines) => lines.filter((one) => !seen.has(one.dataset.id) && seen.add(one.dataset.id));

  const atEnd = () => view.scrollHeight - view.scrollTop - view.clientHeight < NEAR;
  const say = (text) => { if (text !== said) { said = text; state.textContent = text; } };

  function clocks(part) {
    for (const one of part.querySelectorAll("[data-clock]")) {
      const date = new Date(one.dataset.clock);
      if (Number.isNaN(date.getTime())) continue;
      one.textContent = date.toLocaleTimeString([], { hour12: false });
    }
  }

  function items(html) {
    const part = document.createElement("ol");
    part.innerHTML = html;
    clocks(part);
    return [...part.children];
  }

  function tell() {
    const count = waiting.length + skipped;
    fresh.hidden = count === 0;
    fresh.textContent = count === 1 ? "1 new line" : `${count} new lines`;
    if (paused) say("Paused. New lines wait.");
    else if (count) say("You are reading further up; new lines wait.");
    else say("Following: new lines appear at the end.");
  }

  // Adds what waits at the end, and goes there. Lines that were too many to keep are fetched by loading the page again.
  function take() {
    if (skipped) return location.reload();
    list.append(...waiting);
    waiting = [];
    while (list.children.length > MOST) list.firstElementChild.remove();
    empty.hidden = list.children.length > 0;
    view.scrollTop = view.scrollHeight;
    tell();
  }

  function arrived(lines) {
    if (!lines.length) return;
    const follow = !paused && atEnd() && !window.getSelection()?.toString();
    waiting.push(...lines);
    if (waiting.length > MOST_WAITING) { skipped += waiting.length - MOST_WAITING; waiting.length = MOST_WAITING; }
    if (follow) take(); else tell();
  }

  const address = (name, value) => `${root.dataset.tailAddress}&${name}=${value}`;

  async function step() {
    let soon = false;
    if (!document.hidden) {
      try {
        const answer = await fetch(address("after", newest), { credentials: "same-origin", headers: { "X-Part": "1" } });
        if (answer.redirected || answer.status === 403) return location.reload();
        if (!answer.ok) throw new Error(String(answer.status));
        const found = await answer.json();
        if (failures) { failures = 0; tell(); }
        if (found.newest) newest = Math.max(newest, found.newest);
        arrived(unseen(items(found.html)));
        soon = found.more;
      } catch {
        failures += 1;
        say("The server does not answer; it is asked again.");
      }
    }
    setTimeout(step, soon ? 50 : Math.min(30000, EVERY * 2 ** Math.min(failures, 4)));
  }

  fresh.addEventListener("click", () => { paused = false; pause.textContent = "Pause"; take(); view.focus({ preventScroll: true }); });
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Go on" : "Pause";
    if (!paused && atEnd()) take(); else tell();
  });
  view.addEventListener("scroll", () => { if (!paused && waiting.length && atEnd()) take(); }, { passive: true });

  // Earlier lines are put above without moving what is being read.
  const earlier = root.querySelector("[data-logs-earlier]");
  earlier?.addEventListener("click", async (event) => {
    const first = list.firstElementChild;
    if (!first) return;
    event.preventDefault();
    try {
      const answer = await fetch(`${earlier.dataset.logsEarlier}&before=${first.dataset.id}`, { credentials: "same-origin" });
      if (!answer.ok) throw new Error(String(answer.status));
      const found = await answer.json();
      const height = view.scrollHeight;
      list.prepend(...unseen(items(found.html)));
      view.scrollTop += view.scrollHeight - height;
      if (!found.more) earlier.parentElement.remove();
    } catch {
      location.href = earlier.href;
    }
  });

  clocks(list);
  view.scrollTop = view.scrollHeight;
  if ("still" in root.dataset) return say("These lines end at a time in the past; no new ones are added.");
  pause.hidden = false;
  tell();
  setTimeout(step, EVERY);
})();
