// A file goes to the API as a stream, with what has arrived of it beside the button; a secret that is shown once can be saved as a file.
(() => {
  "use strict";

  const form = document.querySelector("form[data-upload]");
  const size = (bytes) => {
    const units = ["B", "KB", "MB", "GB", "TB"];
    let at = 0;
    while (bytes >= 1000 && at < units.length - 1) { bytes /= 1000; at += 1; }
    return `${bytes.toFixed(at > 1 ? 1 : 0)} ${units[at]}`;
  };

  function send(file) {
    const shown = form.querySelector("[data-upload-shown]");
    const bar = shown.querySelector("progress");
    const said = form.querySelector("[data-upload-said]");
    const wrong = form.querySelector("[data-upload-error]");
    const button = form.querySelector("button[type=submit]");
    const request = new XMLHttpRequest();
    const refuse = (sentence) => {
      shown.hidden = true;
      button.disabled = false;
      wrong.textContent = sentence;
      wrong.hidden = false;
    };
    shown.hidden = false;
    wrong.hidden = true;
    button.disabled = true;
    said.textContent = "It begins.";
    request.upload.addEventListener("progress", (event) => {
      if (!event.lengthComputable) return;
      bar.value = Math.floor((event.loaded / event.total) * 100);
      said.textContent = event.loaded < event.total
        ? `${size(event.loaded)} of ${size(event.total)}`
        : "It has arrived, and is being read.";
    });
    request.addEventListener("load", () => {
      let answer = {};
      try { answer = JSON.parse(request.responseText); } catch { /* a proxy's own words */ }
      if (request.status === 201 && answer.admin_url) { location.assign(answer.admin_url); return; }
      refuse(answer.detail || `The server answered ${request.status}.`);
    });
    request.addEventListener("error", () => refuse("The connection broke. Nothing was kept; try again."));
    request.open("PUT", `${form.dataset.upload}?name=${encodeURIComponent(file.name)}`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.setRequestHeader("X-CSRFToken", form.querySelector("input[name=csrfmiddlewaretoken]").value);
    request.send(file);
  }

  form?.addEventListener("submit", (event) => {
    const file = form.querySelector("input[type=file]").files[0];
    if (!file) return;
    event.preventDefault();
    send(file);
  });

  for (const button of document.querySelectorAll("[data-save]")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([`${button.dataset.text}\n`], { type: "text/plain" }));
      link.download = button.dataset.save;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
  }

  for (const button of document.querySelectorAll("[data-print]")) {
    button.hidden = false;
    button.addEventListener("click", () => window.print());
  }

  // A key that is shown once is gone with its page: whoever has neither taken it nor typed it back is asked first.
  if (document.querySelector("[data-once]")) {
    let kept = false;
    const keep = () => { kept = true; };
    for (const button of document.querySelectorAll("[data-copy], [data-save], [data-print]")) button.addEventListener("click", keep);
    for (const one of document.querySelectorAll("form")) one.addEventListener("submit", keep);
    window.addEventListener("beforeunload", (event) => { if (!kept) event.preventDefault(); });
  }
})();
