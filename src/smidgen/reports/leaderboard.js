// A click on a heading sorts by it, the better end first, a second click turns it round; the page is whole without it.
for (const table of document.querySelectorAll("table.board")) {
  const headings = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const value = (row, column) => {
    const cell = row.cells[column];
    if (cell.tagName === "TH") return cell.textContent.trim();
    return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
  };
  const order = (a, b) => (typeof a === "string" ? a.localeCompare(b, undefined, { numeric: true }) : a - b);
  const sort = (column) => {
    const heading = headings[column];
    const turned = { ascending: "descending", descending: "ascending" };
    const now = heading.getAttribute("aria-sort");
    const direction = now ? turned[now] : heading.dataset.first;
    for (const other of headings) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", direction);
    const rows = [...body.rows].map((row) => [value(row, column), row]);
    const sign = direction === "ascending" ? 1 : -1;
    // What was not measured stays below, whichever way the rest is turned.
    rows.sort(([a], [b]) => (a === null) - (b === null) || (a === null ? 0 : sign * order(a, b)));
    body.append(...rows.map(([, row]) => row));
  };
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    const arrow = document.createElement("span");
    button.type = "button";
    arrow.className = "arrow";
    arrow.setAttribute("aria-hidden", "true");
    button.append(...heading.childNodes);
    button.insertBefore(arrow, button.querySelector("small"));
    button.addEventListener("click", () => sort(column));
    heading.append(button);
  });
}
