// Shows what /health/ready says, and asks again every ten seconds while the page is looked at.

const section = document.querySelector("[data-health]");
const summary = section.querySelector("[data-health-summary]");
const list = section.querySelector("[data-health-checks]");

function show(element, state, text) {
  element.dataset.state = state;
  element.textContent = text;
}

function row(name, check) {
  const item = document.createElement("li");
  const state = document.createElement("span");
  item.append(name, state);
  state.className = "state";
  show(state, check.state, check.state === "up" ? `${check.latency_ms} ms` : check.reason);
  return item;
}

async function refresh() {
  if (document.hidden) {
    return;
  }
  try {
    const response = await fetch(section.dataset.health, {
      headers: { Accept: "application/json" },
    });
    const { checks = {} } = await response.json();
    show(summary, response.ok ? "up" : "down", response.ok ? "ready" : "not ready");
    list.replaceChildren(...Object.entries(checks).map(([name, check]) => row(name, check)));
  } catch {
    show(summary, "down", "no answer");
    list.replaceChildren();
  }
}

refresh();
setInterval(refresh, 10_000);
document.addEventListener("visibilitychange", refresh);
