// Search and filter of the items. Works on what the page already shows: it only hides, shows and reorders.
(() => {
  "use strict";
  const list = document.getElementById("items");
  if (!list) return;
  const page = 25;
  const items = Array.from(list.children, (element) => ({ element, text: null }));
  const element = (id) => document.getElementById(id);
  const [search, more, shown, nothing] = ["search", "more", "shown", "nothing"].map(element);
  let limit = page;
  let reversed = false;

  const textOf = (item) => {
    if (item.text === null) item.text = item.element.textContent.normalize("NFC").toLowerCase();
    return item.text;
  };

  const update = () => {
    const words = search.value.normalize("NFC").toLowerCase().split(/\s+/).filter(Boolean);
    const which = document.querySelector("input[name=which]:checked").value;
    const matching = items.filter(
      (item) =>
        (which === "all" || item.element.classList.contains(which)) && words.every((word) => textOf(item).includes(word))
    );
    const backwards = which === "lost"; // then the largest loss comes first
    if (backwards) matching.reverse();
    if (backwards !== reversed) {
      list.append(...(backwards ? Array.from(items).reverse() : items).map((item) => item.element));
      reversed = backwards;
    }
    const visible = new Set(matching.slice(0, limit));
    for (const item of items) item.element.hidden = !visible.has(item);
    shown.textContent = `${Math.min(limit, matching.length)} of ${matching.length} shown`;
    more.hidden = matching.length <= limit;
    nothing.hidden = matching.length > 0;
  };

  const restart = () => {
    limit = page;
    update();
  };
  search.addEventListener("input", restart);
  for (const radio of document.querySelectorAll("input[name=which]")) radio.addEventListener("change", restart);
  more.addEventListener("click", () => {
    limit += 2 * page;
    update();
  });
  element("controls").hidden = false;
  update();
})();
