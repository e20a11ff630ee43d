// Values under the pointer; the page is whole without it.
for (const svg of document.querySelectorAll("svg.plot")) {
  const series = JSON.parse(svg.dataset.values).filter((one) => one.points.length);
  const [left, top, right, bottom] = svg.dataset.frame.split(",").map(Number);
  const figure = svg.closest("figure");
  const cursor = document.createElementNS("http://www.w3.org/2000/svg", "line");
  const tip = document.createElement("div");
  cursor.setAttribute("class", "cursor");
  cursor.setAttribute("y1", top);
  cursor.setAttribute("y2", bottom);
  tip.className = "tip";

  const hide = () => { cursor.remove(); tip.remove(); };
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const scale = svg.viewBox.baseVal.width / box.width;
    const x = (event.clientX - box.left) * scale;
    if (!series.length || x < left - 8 || x > right + 8) return hide();
    const nearest = series.map((one) => [one, one.points.reduce((a, b) => (Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a))]);
    const at = nearest.reduce((a, b) => (Math.abs(b[1][0] - x) < Math.abs(a[1][0] - x) ? b : a))[1];
    cursor.setAttribute("x1", at[0]);
    cursor.setAttribute("x2", at[0]);
    svg.append(cursor);
    const lines = nearest.map(([one, point]) => `${one.name}: ${point[3]}` + (point[2] === at[2] ? "" : ` (step ${point[2]})`));
    tip.replaceChildren(...[`step ${at[2]}`, ...lines].flatMap((line) => [line, document.createElement("br")]).slice(0, -1));
    figure.append(tip);
    const place = figure.getBoundingClientRect();
    const middle = box.left - place.left + at[0] / scale;
    tip.style.top = `${box.top - place.top + top / scale + 4}px`;
    tip.style.left = `${middle + 12 + tip.offsetWidth > place.width ? middle - 12 - tip.offsetWidth : middle + 12}px`;
  });
}
