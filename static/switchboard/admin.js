// The operator's site: times in the reader's zone, ids that a click copies, parts that update themselves. No inline script.
(() => {
  "use strict";

  const STEPS = [[60, 1, "s"], [3600, 60, "min"], [86400, 3600, "h"], [Infinity, 86400, "days"]];

  function relative(date) {
    const seconds = (Date.now() - date.getTime()) / 1000;
    const size = Math.abs(seconds);
    if (size < 2) return "just now";
    const [, unit, word] = STEPS.find(([limit]) => size < limit);
    const number = Math.floor(size / unit);
    const text = `${number} ${word === "days" && number === 1 ? "day" : word}`;
    return seconds > 0 ? `${text} ago` : `in ${text}`;
  }

  function times(root) {
    for (const element of root.querySelectorAll("time[data-ago]")) {
      const date = new Date(element.dateTime);
      if (Number.isNaN(date.getTime())) continue;
      element.textContent = relative(date);
      element.title = date.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "long" });
    }
    for (const element of root.querySelectorAll("time[data-exact]")) {
      const date = new Date(element.dateTime);
      if (Number.isNaN(date.getTime())) continue;
      element.textContent = element.dataset.exact === "clock"
        ? date.toLocaleTimeString(undefined, { timeStyle: "medium" })
        : date.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
      element.title = `${relative(date)}, ${date.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "long" })}`;
    }
  }

  async function copy(text) {
    if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
    // Without a secure context there is no clipboard API: a selection and the old command do.
    const area = document.createElement("textarea");
    area.value = text;
    area.style.position = "fixed";
    area.style.opacity = "0";
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    event.preventDefault();
    try {
      await copy(button.dataset.copy);
      button.dataset.copied = "";
      setTimeout(() => delete button.dataset.copied, 1500);
    } catch {
      window.prompt("Copy this:", button.dataset.copy);
    }
  });

  // What is replaced is not read out by itself: its sentence goes into a region that stays.
  function say(part) {
    const voice = document.querySelector("[data-voice]");
    const sentence = part.querySelector("[data-say]");
    if (!voice || !sentence) return;
    const text = sentence.textContent.replace(/\s+/g, " ").trim();
    if (text !== voice.dataset.said) voice.textContent = text;
    voice.dataset.said = text;
  }

  // What a page that waits says when nobody answers it: the work is done elsewhere, and goes on without this page.
  function lost(part) {
    if (part.querySelector("[data-lost]")) return;
    const line = document.createElement("p");
    line.className = "sb-lost sb-small";
    line.dataset.lost = "";
    line.textContent = "▲ Switchboard does not answer at the moment. What it was doing goes on there; this page asks again by itself.";
    part.append(line);
    const voice = document.querySelector("[data-voice]");
    if (voice) voice.textContent = line.textContent;
  }

  // A part with data-live="address" is fetched again every data-every milliseconds until it comes back without data-live.
  function follow(part) {
    let failures = 0;
    const again = (wait) => setTimeout(step, wait);
    async function step() {
      if (!part.isConnected) return;
      if (document.hidden) return again(1000);
      // Whoever reads it by keyboard is not thrown out of it.
      if ("calm" in part.dataset && part.contains(document.activeElement)) return again(1000);
      try {
        const answer = await fetch(part.dataset.live, { headers: { "X-Part": "1" }, credentials: "same-origin" });
        if (answer.redirected || answer.status === 403) return location.reload();
        if (!answer.ok) throw new Error(String(answer.status));
        failures = 0;
        part.querySelector("[data-lost]")?.remove();
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").body.firstElementChild;
        if (!fresh) return;
        if (fresh.innerHTML !== part.dataset.seen) {
          const open = [...part.querySelectorAll("details")].map((one) => one.open);
          const log = part.querySelector("[data-tail]");
          // Whoever scrolled up to read is left there; whoever stands at the end follows it.
          const atEnd = !log || log.scrollHeight - log.scrollTop - log.clientHeight < 24;
          const top = log ? log.scrollTop : 0;
          part.dataset.seen = fresh.innerHTML;
          part.replaceChildren(...fresh.childNodes);
          [...part.querySelectorAll("details")].forEach((one, i) => { if (open[i]) one.open = true; });
          const newLog = part.querySelector("[data-tail]");
          if (newLog) newLog.scrollTop = atEnd ? newLog.scrollHeight : top;
          times(part);
          say(part);
        }
        // What it waited for is over, and the page around it says something else now.
        if (!fresh.dataset.live && part.dataset.then === "reload") return location.reload();
        if (!fresh.dataset.live) { part.removeAttribute("data-live"); part.removeAttribute("aria-busy"); return; }
      } catch {
        failures += 1;
        if (failures > 1) lost(part);
      }
      again(Math.min(30000, Number(part.dataset.every || 1500) * 2 ** Math.min(failures, 5)));
    }
    again(Number(part.dataset.every || 1500));
  }

  // The theme writes the name of a chosen file into the first text field of the form, whatever that field is for. Ours are no such fields.
  document.addEventListener("change", (event) => {
    if (event.target.matches("input[type=file]")) event.stopPropagation();
  }, true);

  // A button that was pressed is not pressed twice: what it asked for is under way. Some answers are files and leave the page where it is,
  // and a page that is gone back to can be used again.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (event.defaultPrevented || form.method !== "post") return;
    if ("sent" in form.dataset) { event.preventDefault(); return; }
    form.dataset.sent = "";
    event.submitter?.setAttribute("aria-busy", "true");
    setTimeout(() => free(form), 10000);
  });
  function free(form) {
    delete form.dataset.sent;
    for (const button of document.querySelectorAll("[type=submit][aria-busy]")) button.removeAttribute("aria-busy");
  }
  window.addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-sent]")) free(form);
  });

  document.addEventListener("change", (event) => {
    const all = event.target.closest("[data-check-all]");
    if (!all) return;
    for (const box of document.querySelectorAll(`input[type=checkbox][name="${all.dataset.checkAll}"]`)) box.checked = all.checked;
  });

  // The theme has controls that only a mouse reaches; here they get a name, a place in the tab order and the Enter key.
  const NAMES = { dock_to_right: "Show or hide the navigation", close: "Close", unfold_more: "Account and theme" };
  function reachable() {
    const clickable = "a[x-on\\:click]:not([href]), span[x-on\\:click], div.cursor-pointer[x-on\\:click]";
    for (const element of document.querySelectorAll(clickable)) {
      element.tabIndex = 0;
      element.setAttribute("role", "button");
      const name = NAMES[element.textContent.trim()];
      if (name) element.setAttribute("aria-label", name);
      element.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        element.click();
      });
    }
  }

  document.addEventListener("DOMContentLoaded", () => {
    reachable();
    times(document);
    setInterval(() => times(document), 15000);
    for (const part of document.querySelectorAll("[data-live]")) follow(part);
  });
})();
