// What the admin's pages do beyond SQLAdmin's own scripts. Loaded in the head, so that no page is
// drawn light before it turns dark.

const dark = window.matchMedia("(prefers-color-scheme: dark)");

function followTheDevice() {
  document.documentElement.dataset.bsTheme = dark.matches ? "dark" : "light";
}

followTheDevice();
dark.addEventListener("change", followTheDevice);

document.addEventListener("DOMContentLoaded", () => {
  // Messages from the server, which SQLAdmin would show with an inline script.
  for (const element of document.querySelectorAll(".toast")) {
    new window.tabler.bootstrap.Toast(element, { delay: 5000 }).show();
  }

  // Filters can be folded, and are where they would push the list off the screen.
  const filters = document.querySelector("#filter-sidebar");
  if (filters) {
    const [heading, body] = filters.children;
    const summary = document.createElement("summary");
    summary.className = heading.className;
    summary.textContent = heading.textContent.trim();
    const details = document.createElement("details");
    details.open = window.matchMedia("(min-width: 992px)").matches;
    details.append(summary, body);
    filters.replaceChildren(details);
  }

  // What SQLAdmin gives no name.
  document.querySelector("#search-reset")?.setAttribute("aria-label", "Clear the search");
  for (const select of document.querySelectorAll("#filter-sidebar select")) {
    select.setAttribute("aria-label", "Comparison");
  }

  // A date range is two fields in the page and one value in its address: 2026-01-01..2026-01-31.
  for (const form of document.querySelectorAll("[data-date-range]")) {
    form.addEventListener("submit", () => {
      const [first, last] = form.querySelectorAll("input[type=date]");
      const value = form.querySelector("[data-date-range-value]");
      value.value = first.value || last.value ? `${first.value}..${last.value}` : "__all";
    });
  }
});
