// Leaderboard, all results, and the plots.

const ENTRIES = DATA.board.map(([model, column, mean, spread, low, high, seeds, n, best, reason]) => ({
  model: DATA.models[model], column, mean, spread, low, high, seeds, n, best, reason,
}));
const ENTRY = new Map(ENTRIES.map((entry) => [`${entry.column}/${entry.model}`, entry]));
const ROWS = DATA.rows.map((values, at) => ({
  at, model: DATA.models[values[FIELD.model]], column: DATA.columns[values[FIELD.column]], columnAt: values[FIELD.column],
  ...Object.fromEntries(["seeds", "status", "value", "low", "high", "n", "seconds", "created", "reason"].map((name) => [name, values[FIELD[name]]])),
}));

const MAX_COLUMNS = 8;
const MAX_CHARTS = 6;

function entryLabel(entry, column) {
  return `${entry.model}, ${columnName(column)}: ${percent(entry.mean)} [${interval(entry.low, entry.high)}]`;
}

function openEntry(model, column) {
  const rows = ROWS.filter((row) => row.model === model && row.columnAt === column);
  openDialog(`${model}: ${columnName(DATA.columns[column])}`, resultTable(rows, "Results of this cell").node);
}

function entryCell(model, column) {
  const entry = ENTRY.get(`${column}/${model}`);
  if (!entry) return el("span", { class: "quiet" }, "not run");
  const open = () => openEntry(model, column);
  if (entry.mean === null) return el("button", { type: "button", class: "cell quiet", title: entry.reason, onclick: open }, entry.reason.split(":")[0]);
  const spread = entry.spread === null ? "" : ` ±${percent(entry.spread)}`;
  return el("button", { type: "button", class: entry.best ? "cell best" : "cell", "aria-label": entryLabel(entry, DATA.columns[column]), onclick: open },
    el("span", { class: "mean" }, percent(entry.mean), el("span", { class: "quiet" }, spread)),
    el("span", { class: "limits" }, interval(entry.low, entry.high)));
}

function leaderboardSection() {
  const body = addSection("leaderboard", "Leaderboard", "Per cent: the mean over seeds, ± their standard deviation, and below it the 95 % confidence interval over patients. ★ marks the best of a column and all that are not significantly worse (paired test over patients, Holm within the column, 5 %); without stored predictions nothing is marked. Press a number to see the results behind it.");
  const holder = el("div");
  const picker = choice("Columns", [["0", ""]], draw);
  body.append(picker.node, holder);
  function draw() {
    const passing = DATA.columns.map((_, at) => at).filter((at) => columnPasses(DATA.columns[at]));
    const pages = Array.from({ length: Math.max(1, Math.ceil(passing.length / MAX_COLUMNS)) }, (_, page) => page * MAX_COLUMNS);
    const from = Number(picker.update(pages.map((page) => [String(page), `${page + 1}–${Math.min(page + MAX_COLUMNS, passing.length)} of ${passing.length}`])));
    picker.node.hidden = pages.length < 2;
    const chosen = passing.slice(from, from + MAX_COLUMNS);
    const table = makeTable({
      caption: "Leaderboard",
      columns: [
        { label: "Model", get: (model) => model },
        ...chosen.map((at) => ({ label: columnHead(DATA.columns[at]), numeric: true, get: (model) => ENTRY.get(`${at}/${model}`)?.mean ?? null, cell: (model) => entryCell(model, at) })),
      ],
    });
    const models = DATA.models.filter((model) => modelPasses(model) && chosen.some((at) => ENTRY.has(`${at}/${model}`)));
    table.show(models);
    holder.replaceChildren(table.node);
  }
  onFilter(draw);
}

function columnHead(column) {
  const share = column.share === "zero" ? "zero-shot" : column.share;
  const limited = column.limit === null ? null : el("span", { class: "warn" }, `≤${column.limit} images`);
  return [el("span", {}, `${column.task}:${column.protocol}`), el("span", {}, column.data), el("span", {}, share + (column.precision === "fp32" ? "" : ` ${column.precision}`)), el("span", { class: "quiet" }, column.metric), limited].filter(Boolean);
}

function resultTable(rows, caption) {
  const table = makeTable({
    caption, perPage: 50,
    columns: [
      { label: "Model", get: (row) => row.model },
      { label: "Task", get: (row) => `${row.column.task}:${row.column.protocol}` },
      { label: "Data", get: (row) => row.column.data },
      { label: "Share", numeric: true, short: true, get: (row) => row.column.fraction, cell: (row) => (row.column.share === "zero" ? "zero-shot" : row.column.share) },
      { label: "Seed", get: (row) => row.seeds },
      { label: "Score", numeric: true, get: (row) => row.value, cell: scoreButton },
      { label: "95 % interval", numeric: true, short: true, get: (row) => row.low, cell: (row) => interval(row.low, row.high) || "–" },
      { label: "Images", numeric: true, get: (row) => row.n },
      { label: "Seconds", numeric: true, get: (row) => row.seconds, cell: (row) => seconds(row.seconds) },
      { label: "Created", short: true, get: (row) => row.created, cell: (row) => row.created.slice(0, 10) },
    ],
  });
  table.show(rows);
  return table;
}

function scoreButton(row) {
  const text = row.status === "done" ? `${row.column.metric} ${percent(row.value)}` : row.status;
  return el("button", { type: "button", class: "cell provenance", onclick: () => openProvenance(row.at) }, text);
}

function resultsSection() {
  const body = addSection("results", "All results", "One row per evaluated cell. Press a score to see where it comes from: command, digests, versions and every metric.");
  const table = resultTable([], "All results");
  body.append(table.node);
  onFilter(() => table.show(ROWS.filter((row) => columnPasses(row.column) && modelPasses(row.model))));
}

function charts(holder, specs, make, nothing) {
  // The first charts at once, the others at the press of a button.
  let shown = 0;
  const more = el("button", { type: "button", onclick: add });
  const grid = el("div", { class: "charts" });
  function add() {
    grid.append(...specs.slice(shown, shown + MAX_CHARTS).map(make));
    shown = Math.min(shown + MAX_CHARTS, specs.length);
    more.textContent = `Show more (${specs.length - shown} left)`;
    more.hidden = shown === specs.length;
  }
  add();
  holder.replaceChildren(specs.length ? grid : el("p", { class: "quiet" }, nothing), more);
}

function groupColumns(key) {
  const groups = new Map();
  DATA.columns.forEach((column, at) => {
    if (!columnPasses(column)) return;
    const name = key(column);
    groups.set(name, [...(groups.get(name) || []), at]);
  });
  return groups;
}

function seriesOfColumns(columns, xOf) {
  const byModel = new Map();
  for (const at of columns) {
    for (const model of DATA.models) {
      const entry = modelPasses(model) ? ENTRY.get(`${at}/${model}`) : undefined;
      if (!entry || entry.mean === null) continue;
      const x = xOf(entry, at);
      if (x === null) continue;
      const text = `${percent(entry.mean)} [${interval(entry.low, entry.high)}], ${columnName(DATA.columns[at])}, ${plural(entry.seeds, "seed")}`;
      const point = { x, y: entry.mean, low: entry.low, high: entry.high, text, open: () => openEntry(model, at) };
      byModel.set(model, [...(byModel.get(model) || []), point]);
    }
  }
  return [...byModel].map(([name, points]) => ({ name, style: MODEL_STYLE.get(name), points: points.sort((a, b) => a.x - b.x) }));
}

function scoreAxis(series, label) {
  const limits = range(series.flatMap(({ points }) => points.flatMap((point) => [point.y, point.low, point.high])));
  return { label: `${label}, %`, range: limits, ticks: niceTicks(...limits), text: (tick) => (100 * tick).toFixed(limits[1] - limits[0] < 0.05 ? 1 : 0) };
}

function efficiencySection() {
  const body = addSection("efficiency", "Data efficiency", "Score against the share of the training patients, with the 95 % confidence interval.");
  onFilter(() => {
    const groups = [...groupColumns((column) => columnName(column, { withShare: false }))];
    const specs = groups.map(([title, columns]) => [title, columns.filter((at) => DATA.columns[at].fraction > 0)]).filter(([, columns]) => new Set(columns.map((at) => DATA.columns[at].fraction)).size > 1);
    charts(body, specs, ([title, columns]) => {
      const series = seriesOfColumns(columns, (_, at) => DATA.columns[at].fraction);
      if (!series.length) return el("p", { class: "quiet" }, `${title}: no score.`);
      const ticks = [...new Set(columns.map((at) => DATA.columns[at].fraction))].sort((a, b) => a - b);
      return plot({ title, series, apart: true, x: { label: "training patients", range: logRange(ticks), ticks, log: true, text: (tick) => `${+(100 * tick).toPrecision(3)}%` }, y: scoreAxis(series, DATA.columns[columns[0]].metric) });
    }, "No column was evaluated at two or more shares of the training patients.");
  });
}

function costSection() {
  const body = addSection("cost", "Cost and score", "Score against the mean duration of a cell on its machine (fitting and prediction; cached features count as no time). Compare durations only between cells of one machine.");
  const sums = new Map();
  for (const row of ROWS) {
    if (row.status !== "done" || !(row.seconds > 0)) continue;
    const key = `${row.columnAt}/${row.model}`;
    const [sum, count] = sums.get(key) || [0, 0];
    sums.set(key, [sum + row.seconds, count + 1]);
  }
  const cost = (entry) => { const found = sums.get(`${entry.column}/${entry.model}`); return found ? found[0] / found[1] : null; };
  onFilter(() => {
    const groups = [...groupColumns((column) => columnName(column, { withShare: false }))].filter(([, columns]) => seriesOfColumns(columns, cost).length);
    charts(body, groups, ([title, columns]) => {
      const series = seriesOfColumns(columns, cost).map((each) => ({ ...each, line: false }));
      const limits = logRange(series.flatMap(({ points }) => points.map((point) => point.x)), 2);
      const ticks = [0.001, 0.01, 0.1, 1, 10, 100, 1000, 1e4, 1e5, 1e6].flatMap((power) => [power, 2 * power, 5 * power]).filter((tick) => tick >= limits[0] && tick <= limits[1]);
      return plot({ title, series, x: { label: "seconds", range: limits, ticks: ticks.length > 7 ? ticks.filter((_, at) => at % 3 === 0) : ticks, log: true, text: String }, y: scoreAxis(series, DATA.columns[columns[0]].metric) });
    }, "No result has a duration.");
  });
}

function differencesSection() {
  if (!DATA.differences.length) return;
  const body = addSection("differences", "Differences", "Each model minus the best one of its column on the same images and seeds, in points, with the 95 % interval of the paired bootstrap over patients. p is that of the same test; Holm's p is adjusted for all comparisons of this report, intervals are not. The best model is chosen on these images, which favors it.");
  onFilter(() => {
    const specs = DATA.differences.filter(({ column, rows }) => columnPasses(DATA.columns[column]) && rows.some((row) => modelPasses(row.model)));
    charts(body, specs, ({ column, reference, rows }) => {
      const shown = rows.filter((row) => modelPasses(row.model));
      const title = columnName(DATA.columns[column]);
      const named = shown.map((row) => ({ ...row, name: row.model, style: MODEL_STYLE.get(row.model), text: row.reason || `${signedInterval(row)}, ${plural(row.seeds, "seed")}` }));
      const table = makeTable({ caption: `Differences: ${title}`, columns: [
        { label: "Model", get: (row) => row.model, cell: (row) => el("button", { type: "button", class: "cell", title: row.model, onclick: () => openEntry(row.model, column) }, shortened(row.model, 32), row.seeds ? el("span", { class: "limits" }, plural(row.seeds, "seed")) : null) },
        { label: "Difference", numeric: true, short: true, get: (row) => row.value ?? null, cell: (row) => (row.reason ? el("span", { class: "quiet reason" }, row.reason) : signedInterval(row)) },
        { label: "p", numeric: true, get: (row) => row.p ?? null, cell: (row) => pValue(row.p) },
        { label: "Holm", numeric: true, get: (row) => row.p_holm ?? null, cell: (row) => pValue(row.p_holm) },
      ] });
      table.show(shown);
      return el("figure", { class: "chart" }, el("figcaption", {}, title, el("span", { class: "quiet" }, ` minus ${reference}`)), forest(title, named, "difference in points; left of 0: worse"), table.node);
    }, "Nothing passes the filters.");
  });
}
