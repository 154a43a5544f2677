// Plots as SVG. Colors: Okabe & Ito 2008, distinguishable with every kind of color vision; markers
// and dashes differ as well, so that a plot can be read in gray.

const COLORS = Array.from({ length: 8 }, (_, at) => `var(--color-${at})`); // report.css
const DASHES = [null, "7 3", "2 3", "9 3 2 3", "12 4", "4 2 1 2", null, "1 2"];
const MARKERS = [
  (x, y) => svg("circle", { cx: x, cy: y, r: 4 }),
  (x, y) => svg("rect", { x: x - 3.5, y: y - 3.5, width: 7, height: 7 }),
  (x, y) => svg("path", { d: `M${x} ${y - 5}L${x + 5} ${y + 4}H${x - 5}Z` }),
  (x, y) => svg("path", { d: `M${x} ${y - 5}L${x + 5} ${y}L${x} ${y + 5}L${x - 5} ${y}Z` }),
];
const styleOf = (at) => ({ color: COLORS[at % COLORS.length], dash: DASHES[at % DASHES.length], marker: MARKERS[at % MARKERS.length] });
const MODEL_STYLE = new Map(DATA.models.map((model, at) => [model, styleOf(at)]));

function niceTicks(low, high, count = 5) {
  const span = high - low || 1;
  const power = 10 ** Math.floor(Math.log10(span / count));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => span / each <= count);
  const found = [];
  for (let tick = Math.ceil(low / step - 1e-9) * step; tick <= high + 1e-9 * step; tick += step) found.push(Number(tick.toPrecision(10)));
  return found;
}

function range(values, margin = 0.06) {
  const known = values.filter((value) => value !== null && Number.isFinite(value));
  const low = Math.min(...known);
  const high = Math.max(...known);
  const room = (high - low || Math.abs(high) || 1) * margin;
  return [low - room, high + room];
}

function logRange(values, room = 1.25) {
  const known = values.filter((value) => value > 0);
  return [Math.min(...known) / room, Math.max(...known) * room];
}

function axisScale([low, high], from, to, log) {
  const at = log ? Math.log10 : (value) => value;
  return (value) => from + ((at(value) - at(low)) / (at(high) - at(low) || 1)) * (to - from);
}

// spec: {title, x: {label, range, ticks, log, text}, y, series: [{name, style, points, line}],
// diagonal, apart}; a point is {x, y, low, high, text, open}.
function plot(spec) {
  const width = 420, height = 310, left = 64, right = 14, top = 12, bottom = 50;
  const x = axisScale(spec.x.range, left, width - right, spec.x.log);
  const y = axisScale(spec.y.range, height - bottom, top, spec.y.log);
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": spec.title, class: "plot" });
  for (const tick of spec.x.ticks) {
    root.append(svg("line", { x1: x(tick), x2: x(tick), y1: top, y2: height - bottom, class: "grid" }));
    root.append(svg("text", { x: x(tick), y: height - bottom + 18, "text-anchor": "middle" }, spec.x.text(tick)));
  }
  for (const tick of spec.y.ticks) {
    root.append(svg("line", { x1: left, x2: width - right, y1: y(tick), y2: y(tick), class: "grid" }));
    root.append(svg("text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, spec.y.text(tick)));
  }
  root.append(svg("text", { x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, spec.x.label));
  root.append(svg("text", { transform: `translate(13 ${(top + height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, spec.y.label));
  if (spec.diagonal) root.append(svg("line", { x1: x(0), y1: y(0), x2: x(1), y2: y(1), class: "diagonal" }));
  spec.series.forEach((series, at) => {
    const shift = spec.apart ? 5 * (at - (spec.series.length - 1) / 2) : 0; // intervals side by side
    root.append(seriesOf(series, (value) => x(value) + shift, y));
  });
  return el("figure", { class: "chart" }, el("figcaption", {}, spec.title), root, legendOf(spec.series));
}

function seriesOf({ name, style, points, line = true, markers = true }, x, y) {
  const group = svg("g");
  const color = style.color;
  if (line && points.length > 1) {
    const d = points.map((point, at) => `${at ? "L" : "M"}${x(point.x).toFixed(1)} ${y(point.y).toFixed(1)}`).join("");
    group.append(svg("path", { d, fill: "none", stroke: color, "stroke-width": 2, "stroke-dasharray": style.dash }));
  }
  for (const point of points) {
    if (point.low !== undefined && point.low !== null) {
      group.append(svg("line", { x1: x(point.x), x2: x(point.x), y1: y(point.low), y2: y(point.high), stroke: color, "stroke-width": 1.2, opacity: 0.7 }));
    }
    if (!markers) continue;
    const mark = style.marker(x(point.x), y(point.y));
    mark.setAttribute("fill", color);
    mark.append(svg("title", {}, `${name}: ${point.text}`));
    if (point.open) activate(mark, `${name}: ${point.text}`, point.open);
    group.append(mark);
  }
  return group;
}

function activate(node, label, open) {
  node.setAttribute("tabindex", "0");
  node.setAttribute("role", "button");
  node.setAttribute("aria-label", label);
  node.addEventListener("click", open);
  node.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); open(); }
  });
}

function legendOf(series) {
  return el("ul", { class: "legend" }, series.map(({ name, style, line = true, markers = true, note }) => el("li", {},
    svg("svg", { viewBox: "0 0 30 12", width: 30, height: 12, "aria-hidden": "true" },
      line ? svg("line", { x1: 1, x2: 29, y1: 6, y2: 6, stroke: style.color, "stroke-width": 2, "stroke-dasharray": style.dash }) : null,
      markers ? (() => { const mark = style.marker(15, 6); mark.setAttribute("fill", style.color); return mark; })() : null),
    ` ${name}`, note ? el("span", { class: "quiet" }, ` ${note}`) : null)));
}

// rows: {name, value, low, high, text, reason, style}; values in points of the metric.
function forest(title, rows, axis) {
  const line = 30, left = 12, right = 12, top = 6, width = 420;
  const height = top + rows.length * line + 44;
  const tested = rows.filter((row) => row.value !== undefined && row.value !== null);
  const limits = range([0, ...tested.flatMap((row) => [row.low ?? row.value, row.high ?? row.value])]);
  const x = axisScale(limits, left, width - right, false);
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title, class: "plot" });
  for (const tick of niceTicks(...limits)) {
    root.append(svg("line", { x1: x(tick), x2: x(tick), y1: top, y2: height - 38, class: tick === 0 ? "zero" : "grid" }));
    root.append(svg("text", { x: x(tick), y: height - 22, "text-anchor": "middle" }, (100 * tick).toFixed(Math.abs(limits[1] - limits[0]) < 0.05 ? 1 : 0)));
  }
  root.append(svg("text", { x: width / 2, y: height - 5, "text-anchor": "middle" }, axis));
  rows.forEach((row, at) => {
    const y = top + at * line + 21;
    root.append(svg("text", { x: left, y: y - 8, class: "row-name" }, shortened(row.name, 44), svg("title", {}, row.name)));
    if (row.value === undefined || row.value === null) {
      root.append(svg("text", { x: left, y: y + 5, class: "quiet" }, "not compared"));
      return;
    }
    if (row.low !== null) root.append(svg("line", { x1: x(row.low), x2: x(row.high), y1: y, y2: y, stroke: row.style.color, "stroke-width": 2.5 }));
    const mark = row.style.marker(x(row.value), y);
    mark.setAttribute("fill", row.style.color);
    mark.append(svg("title", {}, row.text));
    root.append(mark);
  });
  return root;
}
