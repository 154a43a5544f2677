// Curves, galleries and provenance: what is read from its block only when it is opened.

function openProvenance(at) {
  const row = ROWS[at];
  const detail = readBlock(`details-${Math.floor(at / DATA.block)}`)[at % DATA.block];
  const facts = (object) => el("dl", {}, Object.entries(object).map(([name, value]) => [el("dt", {}, name.replaceAll("_", " ")), el("dd", {}, String(value))]));
  const scores = makeTable({ caption: "Scores", perPage: 25, columns: [
    { label: "Metric", get: ([name]) => name },
    { label: "Value", numeric: true, get: ([, score]) => score[0], cell: ([, score]) => (score[0] === null ? "undefined" : score[0].toPrecision(4)) },
    { label: "95 % interval", numeric: true, short: true, get: ([, score]) => score[1], cell: ([, score]) => (score[1] === null ? "–" : `${score[1].toPrecision(3)} to ${score[2].toPrecision(3)}`) },
    { label: "Images", numeric: true, get: ([, score]) => score[3] },
  ] });
  scores.show(Object.entries(detail.scores));
  openDialog(`${row.model}: ${columnName(row.column)}, ${row.seeds}`,
    row.reason ? el("p", { class: "warning" }, `${row.status}: ${row.reason}`) : null,
    el("h3", {}, "Command"), el("pre", { class: "command" }, detail.command),
    el("h3", {}, "Scores"), scores.node,
    detail.curve ? el("h3", {}, "Validation during training") : null, detail.curve ? trainingCurve(detail.curve) : null,
    el("h3", {}, "Provenance"), facts(detail.provenance),
    el("details", {}, el("summary", {}, "Cell and images"), facts({ ...detail.cell, ...detail.counts })),
    el("details", {}, el("summary", {}, "Settings"), el("pre", {}, detail.config)),
    el("details", {}, el("summary", {}, "Packages"), facts(detail.packages)));
}

function trainingCurve({ values, best }) {
  const points = values.map((y, x) => ({ x: x + 1, y, text: `epoch ${x + 1}: ${y}` })).filter((point) => point.y !== null);
  if (points.length < 2) return null;
  const limits = range(points.map((point) => point.y));
  const series = [{ name: "each epoch", style: styleOf(0), points, markers: false }];
  const chosen = points.find((point) => point.x === best);
  if (chosen) series.push({ name: "chosen epoch", style: styleOf(1), points: [chosen], line: false });
  const ticks = niceTicks(1, points.at(-1).x).filter(Number.isInteger);
  return plot({ title: "What the fit watches on the validation split", series, x: { label: "epoch", range: [1, points.at(-1).x], ticks, text: String }, y: { label: "value", range: limits, ticks: niceTicks(...limits), text: (tick) => String(+tick.toPrecision(4)) } });
}

function curvesSection() {
  if (!DATA.curves.length) return;
  const body = addSection("curves", "Curves", "ROC, precision-recall and reliability of one finding, for the smallest seed of each model. A reliability curve on the diagonal says that scores are probabilities; few images make it jump.");
  const holder = el("div", { class: "charts" });
  const column = choice("Column", [["", ""]], draw);
  const finding = choice("Finding", [["", ""]], draw);
  body.append(el("div", { class: "choices" }, column.node, finding.node), holder);
  function draw() {
    const passing = DATA.curves.filter(({ row }) => columnPasses(ROWS[row].column) && modelPasses(ROWS[row].model));
    const columns = [...new Set(passing.map(({ row }) => ROWS[row].columnAt))].sort((a, b) => a - b);
    const chosen = Number(column.update(columns.map((at) => [String(at), columnName(DATA.columns[at], { withMetric: false })])));
    const here = passing.filter(({ row }) => ROWS[row].columnAt === chosen);
    const names = [...new Set(here.flatMap(({ findings }) => Object.keys(findings)))].sort();
    const name = finding.update(names.map((each) => [each, each]));
    const shown = here.filter(({ findings }) => Object.hasOwn(findings, name)).map(({ row, findings }) => ({ row, curve: findings[name] }));
    holder.replaceChildren(...(shown.length ? curveCharts(shown) : [el("p", { class: "quiet" }, "Nothing passes the filters.")]));
  }
  onFilter(draw);
}

function curveCharts(shown) {
  const unit = (label) => ({ label, range: [0, 1], ticks: [0, 0.2, 0.4, 0.6, 0.8, 1], text: String });
  const series = (key, markers) => shown.filter(({ curve }) => curve[key]).map(({ row, curve }) => ({
    name: ROWS[row].model, style: MODEL_STYLE.get(ROWS[row].model), markers,
    points: curve[key].map(([x, y, n]) => ({ x, y, text: n === undefined ? `${x}, ${y}` : `mean score ${x}, ${(100 * y).toFixed(0)} % positive of ${plural(n, "image")}`, open: markers ? () => openProvenance(row) : null })),
  }));
  const { positives, images } = shown[0].curve;
  const counts = `${positives} of ${plural(images, "image")} positive`;
  return [
    plot({ title: `ROC · ${counts}`, x: unit("false-positive rate"), y: unit("recall (sensitivity)"), diagonal: true, series: series("roc", false) }),
    plot({ title: `Precision–recall · ${counts}`, x: unit("recall (sensitivity)"), y: unit("precision"), series: series("pr", false) }),
    plot({ title: `Reliability · ${counts}`, x: unit("mean score"), y: unit("share of positives"), diagonal: true, series: series("reliability", true) }),
  ];
}

// ---- galleries ----

const LAYERS = { truth: "ground truth", predicted: "prediction", heat: "heat map" };
const LAYER_PARTS = { truth: ["truth", "truth_outline"], predicted: ["predicted", "predicted_outline"], heat: ["heat"] };

function gallerySection() {
  if (!DATA.galleries.length) return;
  const body = addSection("gallery", "Images", "The surest hits, the most confident false positives and the worst misses of a result. Ground truth is blue and solid, the prediction orange and dashed.");
  const holder = el("div", { class: "gallery" });
  const result = choice("Result", [["", ""]], () => fill());
  const finding = choice("Finding", [["", "all"]], () => show());
  const kind = choice("Kind", ["", "true positive", "false positive", "miss"].map((each) => [each, each || "all"]), () => show());
  const opener = el("button", { type: "button", class: "primary", onclick: open }, "Show the images");
  const layers = Object.entries(LAYERS).map(([name, text]) => el("label", {}, el("input", { type: "checkbox", checked: true, onchange: (event) => holder.classList.toggle(`no-${name}`, !event.target.checked) }), ` ${text}`));
  body.append(el("div", { class: "choices" }, result.node, finding.node, kind.node, ...layers), opener, holder);
  let opened = false;
  let cards = [];
  function open() { opened = true; opener.hidden = true; fill(); }
  function fill() {
    const passing = DATA.galleries.map((each, at) => [each, at]).filter(([{ row }]) => columnPasses(ROWS[row].column) && modelPasses(ROWS[row].model));
    const chosen = result.update(passing.map(([{ row }, at]) => [String(at), `${ROWS[row].model} · ${columnName(ROWS[row].column, { withMetric: false })} · ${ROWS[row].seeds}`]));
    if (!opened) return;
    cards = chosen === "" ? [] : readBlock(`cards-${chosen}`);
    Object.keys(LAYERS).forEach((name, at) => { layers[at].hidden = !cards.some((card) => LAYER_PARTS[name].some((part) => part in card)); });
    finding.update([["", "all"], ...[...new Set(cards.map((card) => card.finding))].map((each) => [each, each])]);
    show();
  }
  function show() {
    if (!opened) return;
    const wanted = cards.filter((card) => (!finding.value() || card.finding === finding.value()) && (!kind.value() || card.kind === kind.value()));
    holder.replaceChildren(...wanted.map(cardOf));
    if (!wanted.length) holder.append(el("p", { class: "quiet" }, "No case of this kind."));
  }
  onFilter(fill);
}

function cardOf(card) {
  const picture = readBlock("pictures")[card.picture];
  const { width, height } = picture;
  const label = `${card.kind}: ${card.finding}, image ${card.id}, ${card.measure} ${card.value}`;
  const rects = (boxes, name) => (boxes || []).map(([x0, y0, x1, y1]) => svg("rect", { x: x0, y: y0, width: Math.max(0, x1 - x0), height: Math.max(0, y1 - y0), class: name }));
  const outline = (path, name) => (path ? svg("path", { d: path, class: name }) : null);
  const over = svg("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
    ...rects(card.truth, "truth"), outline(card.truth_outline, "truth"), ...rects(card.predicted, "predicted"), outline(card.predicted_outline, "predicted"));
  const heat = card.heat ? el("img", { src: card.heat, alt: "", class: "heat", loading: "lazy" }) : null;
  const scale = card.heat_range ? el("span", { class: "colorbar" }, String(+card.heat_range[0].toPrecision(2)), el("span", { class: "colors" }), String(+card.heat_range[1].toPrecision(2))) : null;
  return el("figure", { class: `card ${card.kind.replace(" ", "-")}` },
    el("div", { class: "film" }, el("img", { src: picture.src, width, height, alt: label, loading: "lazy", decoding: "async" }), heat, over),
    el("figcaption", {}, el("strong", {}, card.kind), ` ${card.finding}`, el("br"), `${card.measure} ${card.value === null ? "–" : +card.value.toPrecision(3)}`, el("span", { class: "quiet" }, ` ${card.id}`), scale));
}
