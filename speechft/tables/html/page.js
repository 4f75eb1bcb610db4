// Sorting and filtering of tables; the page is complete without it.
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
  const tools = document.querySelector(`[data-tools="${table.id}"]`);
  const filter = tools.querySelector("input"), order = tools.querySelector("select"), count = tools.querySelector("output");
  const value = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim().toLowerCase();
  const sort = (column, direction) => {
    heads.forEach((head, place) => head.removeAttribute("aria-sort"));
    const sorted = [...rows];
    if (column >= 0) {
      heads[column].setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
      sorted.sort((first, second) => {
        const [a, b] = [value(first, column), value(second, column)];
        if (a === "" || b === "") return (a === "") - (b === "");  // pending entries come last
        const [x, y] = [Number(a), Number(b)];
        return direction * (Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y);
      });
    }
    body.append(...sorted);
    order.value = column < 0 ? "" : `${column} ${direction}`;
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    const first = head.dataset.better === "higher" ? -1 : 1;
    button.addEventListener("click", () => sort(column, order.value === `${column} ${first}` ? -first : first));
  });
  order.addEventListener("change", () => sort(...(order.value ? order.value.split(" ").map(Number) : [-1, 1])));
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
    count.textContent = words.length ? `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows` : "";
  });
  tools.hidden = false;
}
const reveal = () => {
  const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
  if (target) target.scrollIntoView();
};
addEventListener("hashchange", reveal);
reveal();
