// The doctor's pages: the reader's zone for times that are typed, and a count of what is ticked. Without it everything works in UTC.
(() => {
  "use strict";

  function zones() {
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
    for (const field of document.querySelectorAll("input[name=zone]")) field.value = zone;
    for (const word of document.querySelectorAll("[data-zone]")) word.textContent = zone;
  }

  function ticked() {
    const place = document.querySelector("[data-ticked]");
    if (!place) return;
    const count = document.querySelectorAll("input[type=checkbox][name=issue]:checked").length;
    place.textContent = count ? `${count} ticked` : "none ticked";
  }

  document.addEventListener("change", (event) => {
    if (event.target.closest("input[type=checkbox]")) setTimeout(ticked);
  });

  // One open menu at a time; Escape closes it and gives the focus back.
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const menu of document.querySelectorAll("details[data-menu][open]")) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });
  document.addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll("details[data-menu][open]")) {
      if (!menu.contains(event.target)) menu.open = false;
    }
  });

  document.addEventListener("DOMContentLoaded", () => { zones(); ticked(); });
})();
