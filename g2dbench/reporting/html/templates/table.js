// A table with sortable columns, in pages. columns: {label, get, cell, numeric}; `get` gives the
// value to sort by, null last; `cell` gives the text or element to show, the value by default.

function sortRows(rows, get, descending) {
  const sign = descending ? -1 : 1;
  const keyed = rows.map((row, at) => [get(row), at, row]);
  keyed.sort(([a, i], [b, j]) => {
    if (a === null || b === null) return (a === null) - (b === null) || i - j;
    return sign * compare(a, b) || i - j;
  });
  return keyed.map(([, , row]) => row);
}

function makeTable({ columns, caption, perPage = 50, start = null }) {
  const state = { rows: [], sorted: [], by: start === null ? null : start.by, descending: start !== null && start.descending, page: 0 };
  const head = el("tr");
  const body = el("tbody");
  const status = el("span", { role: "status" });
  const move = (step) => () => { state.page += step; draw(); };
  const previous = el("button", { type: "button", onclick: move(-1) }, "Previous");
  const next = el("button", { type: "button", onclick: move(1) }, "Next");
  const pager = el("div", { class: "pager" }, previous, status, next);
  const table = el("table", {}, el("caption", {}, caption), el("thead", {}, head), body);
  const heads = columns.map((column, at) => {
    const button = el("button", { type: "button", onclick: () => sortBy(at) }, ...[].concat(column.label));
    return el("th", { scope: "col", class: column.numeric ? "number" : "", title: column.title || null }, button);
  });
  head.append(...heads);

  function sortBy(at) {
    state.descending = state.by === at ? !state.descending : Boolean(columns[at].numeric);
    state.by = at;
    arrange();
  }

  function arrange() {
    state.sorted = state.by === null ? state.rows : sortRows(state.rows, columns[state.by].get, state.descending);
    state.page = 0;
    heads.forEach((cell, at) => {
      if (at === state.by) cell.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    });
    draw();
  }

  function draw() {
    const pages = Math.max(1, Math.ceil(state.sorted.length / perPage));
    const shown = state.sorted.slice(state.page * perPage, (state.page + 1) * perPage);
    body.replaceChildren(...shown.map(rowOf));
    if (!shown.length) body.append(el("tr", {}, el("td", { colspan: columns.length }, "Nothing passes the filters.")));
    status.textContent = `${plural(state.sorted.length, "row")} · page ${state.page + 1} of ${pages}`;
    previous.disabled = state.page === 0;
    next.disabled = state.page >= pages - 1;
    pager.hidden = pages < 2;
  }

  function rowOf(row) {
    return el("tr", {}, columns.map((column, at) => {
      const content = column.cell ? column.cell(row) : column.get(row);
      const attributes = { class: [column.numeric && "number", column.short && "short"].filter(Boolean).join(" ") };
      return at === 0 ? el("th", { scope: "row" }, content) : el("td", attributes, content === null ? "–" : content);
    }));
  }

  return { node: el("div", {}, el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, table), pager), show(rows) { state.rows = rows; arrange(); } };
}
