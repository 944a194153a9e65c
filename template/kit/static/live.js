// Shows the state of the service as it changes, while the page is looked at. Without this script the
// page shows the state of the moment at which it was opened.

const live = document.querySelector("[data-live]");
let source;

function listen() {
  source?.close();
  if (document.hidden) {
    return;
  }
  source = new EventSource(live.dataset.live);
  source.onopen = () => live.removeAttribute("data-lost");
  source.onerror = () => live.setAttribute("data-lost", "");
  source.onmessage = (event) => {
    const focused = live.contains(document.activeElement) && document.activeElement.href;
    live.innerHTML = event.data;
    [...live.querySelectorAll("a")].find((link) => link.href === focused)?.focus();
  };
}

listen();
document.addEventListener("visibilitychange", listen);
window.addEventListener("pagehide", () => source?.close());
