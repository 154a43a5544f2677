"use strict";
// Elements are made with textContent and attributes only: no text of a result is ever parsed as HTML.

function addChildren(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined) node.append(child);
  }
  return node;
}

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  return addChildren(node, children);
}

function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) node.setAttribute(name, value);
  }
  return addChildren(node, children);
}

const parsedBlocks = new Map();

function readBlock(id) {
  if (!parsedBlocks.has(id)) {
    const node = document.getElementById(id);
    parsedBlocks.set(id, JSON.parse(node.textContent));
    node.remove(); // the text is no longer needed
  }
  return parsedBlocks.get(id);
}

const DATA = readBlock("data");
const FIELD = Object.fromEntries(DATA.row_names.map((name, at) => [name, at]));

const shortened = (text, most) => (text.length <= most ? text : `${text.slice(0, most / 2)}…${text.slice(text.length - most / 2 + 1)}`);
const plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
const percent = (value) => (value === null ? "–" : (100 * value).toFixed(1));
const interval = (low, high) => (low === null ? "" : `${percent(low)}–${percent(high)}`);
const signedInterval = (row) => `${percent(row.value)} [${percent(row.low)} to ${percent(row.high)}]`;
const seconds = (value) => (value === null ? "–" : value < 100 ? value.toPrecision(2) : value.toFixed(0));
const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));
const pValue = (p) => (p === null || p === undefined ? "–" : p < 0.001 ? "<.001" : p.toFixed(3));

function columnName(column, { withTask = true, withShare = true, withMetric = true } = {}) {
  const parts = withTask ? [`${column.task}:${column.protocol}`] : [column.protocol];
  parts.push(column.data);
  if (withShare) parts.push(column.share === "zero" ? "zero-shot" : column.share);
  if (column.limit !== null) parts.push(`limited to ${column.limit} images`);
  if (column.precision !== "fp32") parts.push(column.precision);
  if (withMetric) parts.push(column.metric);
  return parts.join(" · ");
}

// ---- filters: one set for the whole page ----

const FILTERS = { task: "", data: "", protocol: "", share: "", model: "" };
const LABELS = { task: "Task", data: "Data", protocol: "Protocol", share: "Train share", model: "Model" };
const listeners = [];

function columnPasses(column) {
  return ["task", "data", "protocol", "share"].every((name) => !FILTERS[name] || column[name] === FILTERS[name]);
}

function modelPasses(model) {
  return model.toLowerCase().includes(FILTERS.model.toLowerCase());
}

function onFilter(draw) {
  listeners.push(draw);
  draw();
}

function setFilter(name, value) {
  FILTERS[name] = value;
  for (const draw of listeners) draw();
}

function makeFilters(form) {
  form.addEventListener("submit", (event) => event.preventDefault());
  for (const name of ["task", "data", "protocol", "share"]) {
    const values = [...new Set(DATA.columns.map((column) => column[name]))];
    if (values.length < 2) continue;
    const select = el("select", { name, "aria-label": LABELS[name], onchange: () => setFilter(name, select.value) });
    select.append(el("option", { value: "" }, "all"), ...values.map((value) => el("option", { value }, value)));
    form.append(el("label", {}, `${LABELS[name]} `, select));
  }
  let timer = 0;
  const input = el("input", { name: "model", "aria-label": LABELS.model, type: "search", placeholder: "part of a name", autocomplete: "off" });
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => setFilter("model", input.value), 120);
  });
  form.append(el("label", {}, `${LABELS.model} `, input));
}

function choice(label, options, draw) {
  // A labeled select over [value, text]; keeps its value when the options change.
  const select = el("select", { "aria-label": label, onchange: () => draw(select.value) });
  const update = (wanted) => {
    const before = select.value;
    select.replaceChildren(...wanted.map(([value, text]) => el("option", { value }, text)));
    if (wanted.some(([value]) => value === before)) select.value = before;
    return select.value;
  };
  update(options);
  return { node: el("label", {}, `${label} `, select), update, value: () => select.value };
}

function addSection(id, title, explanation) {
  const body = el("div", { class: "body" });
  const section = el("section", { id, "aria-labelledby": `${id}-title` }, el("h2", { id: `${id}-title` }, title), el("p", { class: "hint" }, explanation), body);
  document.getElementById("main").append(section);
  document.getElementById("sections").append(el("li", {}, el("a", { href: `#${id}` }, title)));
  return body;
}

// ---- dialog ----

function openDialog(title, ...content) {
  const dialog = document.getElementById("dialog");
  const close = el("button", { type: "button", class: "close", "aria-label": "Close", onclick: () => dialog.close() }, "×");
  const shown = content.filter((each) => each !== null);
  dialog.replaceChildren(el("div", { class: "bar" }, el("h2", { id: "dialog-title" }, title), close), ...shown);
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
}
