// What the admin's pages do beyond SQLAdmin's own scripts.

// Messages from the server, which SQLAdmin would show with an inline script.
for (const element of document.querySelectorAll(".toast")) {
  new window.tabler.bootstrap.Toast(element, { delay: 5000 }).show();
}

// A date range is two fields in the page and one value in its address: 2026-01-01..2026-01-31.
for (const form of document.querySelectorAll("[data-date-range]")) {
  form.addEventListener("submit", () => {
    const [first, last] = form.querySelectorAll("input[type=date]");
    const value = form.querySelector("[data-date-range-value]");
    value.value = first.value || last.value ? `${first.value}..${last.value}` : "__all";
  });
}
