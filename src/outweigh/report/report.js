"use strict";
// Search, filter and paging of the doubtful pairs. Without it all of them stand on the page.
(() => {
  const PAGE = 10;
  const tools = document.getElementById("tools");
  if (!tools) return;
  const search = document.getElementById("search");
  const action = document.getElementById("action");
  const found = document.getElementById("found");
  const more = document.getElementById("more");
  const pairs = Array.from(document.querySelectorAll("#pairs > article"), (element) => ({
    element,
    text: element.textContent.toLowerCase(),
    actions: element.dataset.action.split("+"),
  }));
  let limit = PAGE;

  function show() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const matching = pairs.filter(
      (pair) =>
        (!action.value || pair.actions.includes(action.value)) && words.every((word) => pair.text.includes(word)),
    );
    const visible = new Set(matching.slice(0, limit));
    for (const pair of pairs) pair.element.hidden = !visible.has(pair);
    found.textContent = matching.length ? `${visible.size} of ${matching.length} shown` : "no pair matches";
    more.hidden = visible.size === matching.length;
  }
  function restart() {
    limit = PAGE;
    show();
  }
  search.addEventListener("input", restart);
  action.addEventListener("change", restart);
  tools.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", () => {
    limit += PAGE;
    show();
  });
  tools.hidden = false;
  show();
})();
