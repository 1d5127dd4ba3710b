// "WebSocket check": ticket, socket, welcome, five frames there and back; each step with its time. No inline script.
(() => {
  "use strict";

  const panel = document.querySelector("[data-socket-check]");
  if (!panel) return;
  const steps = panel.querySelector("[data-steps]");
  const outcome = panel.querySelector("[data-outcome]");
  const LAMPS = { good: "●", working: "◐", trouble: "■" };
  const PINGS = 5;
  const PATIENCE = 10000;

  function lamp(state, word) {
    const shape = Object.assign(document.createElement("span"), { className: "sb-lamp-shape", textContent: LAMPS[state] });
    shape.setAttribute("aria-hidden", "true");
    const whole = Object.assign(document.createElement("span"), { className: `sb-lamp sb-lamp-${state}` });
    whole.append(shape, word);
    return whole;
  }

  function step(state, word, milliseconds) {
    const line = document.createElement("li");
    line.append(lamp(state, milliseconds === undefined ? word : `${word}, ${Math.round(milliseconds)} ms`));
    steps.append(line);
  }

  function done(state, sentence) {
    outcome.replaceChildren(lamp(state, sentence));
    panel.dataset.state = state;
  }

  async function ticket() {
    const token = panel.querySelector("[name=csrfmiddlewaretoken]").value;
    const answer = await fetch(panel.dataset.ticket, { method: "POST", headers: { "X-CSRFToken": token }, credentials: "same-origin" });
    if (!answer.ok) throw new Error(`The server gave no ticket (${answer.status}).`);
    return (await answer.json()).ticket;
  }

  function talk(text) {
    return new Promise((resolve, reject) => {
      const scheme = location.protocol === "https:" ? "wss" : "ws";
      const socket = new WebSocket(`${scheme}://${location.host}${panel.dataset.path}?ticket=${encodeURIComponent(text)}`, panel.dataset.subprotocol);
      const began = performance.now();
      const times = [];
      let asked = 0;
      const late = setTimeout(() => fail("Nothing came within ten seconds: something in between takes frames and passes none on."), PATIENCE);
      function fail(sentence) {
        clearTimeout(late);
        reject(new Error(sentence));
        socket.close();
      }
      function ping() {
        asked = performance.now();
        socket.send(JSON.stringify({ type: "ping", id: times.length + 1 }));
      }
      socket.addEventListener("open", () => step("good", "The socket opened", performance.now() - began));
      socket.addEventListener("message", (event) => {
        const frame = JSON.parse(event.data);
        if (frame.type === "welcome") {
          step("good", "The server said welcome", performance.now() - began);
          ping();
        } else if (frame.type === "pong") {
          times.push(performance.now() - asked);
          if (times.length < PINGS) return ping();
          clearTimeout(late);
          socket.close(1000);
          resolve(times);
        }
      });
      socket.addEventListener("close", (event) => {
        if (times.length >= PINGS) return;
        const why = event.code === 1006
          ? "The upgrade was refused or the connection cut: look at the proxy (ws.proxy_upgrade)."
          : `The server ended it with ${event.code}${event.reason ? `: ${event.reason}` : "."}`;
        fail(why);
      });
    });
  }

  panel.querySelector("[data-run]").addEventListener("submit", async (event) => {
    event.preventDefault();
    steps.replaceChildren();
    done("working", "Trying");
    try {
      const began = performance.now();
      const text = await ticket();
      step("good", "A one-use ticket was given", performance.now() - began);
      const times = await talk(text);
      const middle = [...times].sort((one, other) => one - other)[Math.floor(times.length / 2)];
      step("good", `${times.length} frames went there and back, half of them within`, middle);
      done("good", `Sockets work from here: ${Math.round(middle)} ms there and back.`);
    } catch (error) {
      step("trouble", error.message);
      done("trouble", error.message);
    }
  });
})();
