/* The page: its state, and the elements that show it. */

const PAGE_ROWS = 50;
const RANKED = "How often an anomalous one scores higher than a normal one: the area under the ROC curve";
const BEST = "The greatest F1, the harmonic mean of precision and recall, of all thresholds";
const PRECISE = "Average precision over recall, from the highest score down; by chance it is the share of anomalous ones";
const MEASURES = { // their titles, and what they mean
  auroc_px: ["Pixel AUROC", RANKED], f1_px: ["Pixel F1-max", BEST], ap_px: ["Pixel AP", PRECISE],
  aupro: ["PRO", "Mean share of an anomalous region that is found, over false-positive rates of pixels up to 0.3"],
  aupro_200: ["PRO (200)", "PRO by 200 thresholds and on a rescaled axis, as older tables have it"],
  auroc_sp: ["Image AUROC", RANKED], f1_sp: ["Image F1-max", BEST], ap_sp: ["Image AP", PRECISE],
  images: ["Images", "How many images are of this kind"],
};
const RATES = {
  Precision: "Share of anomalous images among those predicted anomalous: TP / (TP + FP)",
  Recall: "Share of the anomalous images that are found: TP / (TP + FN)",
  "False-positive rate": "Share of the normal images that are predicted anomalous: FP / (FP + TN)",
  F1: "Harmonic mean of precision and recall: 2 TP / (2 TP + FP + FN)",
};
const LABELS = new Map([[0, "normal"], [1, "anomalous"], [null, "unlabelled"]]);
const at = (id) => document.getElementById(id);

const data = JSON.parse(at("data").textContent);
const { images } = data;
const labelled = images.some((image) => image.label !== null);
const several = data.classes.length > 1;
const range = scoreRange(images);
const none = "No calibrated threshold: the slider starts";
const start = [
  { value: data.threshold, why: `Calibrated threshold: ${number(data.threshold)}` },
  { value: bestThreshold(images), why: `${none} at the best F1 on these very labels.` },
  { value: (range[0] + range[1]) / 2, why: `${none} in the middle of the scores.` },
].find(({ value }) => value !== null);
// How far on the wrong side of the first threshold; without a label, how anomalous. Equal rows keep this order.
const margin = (image) => (image.label === 1 ? -1 : 1) * (image.score - start.value);
images.sort((a, b) => margin(b) - margin(a));
const sort = { key: labelled ? "misranked" : "score", down: true };
const state = { threshold: start.value, page: 0, viewed: null, sort };
const truthBoxes = document.querySelectorAll(".truth"); // which say the same
let rows = []; // the images that the filters leave, in the table's order

const chosenClass = () => data.classes[at("class").value]; // undefined while all are shown
const inClass = (one = chosenClass()) => images.filter((image) => !one || image.class_name === one.name);
const byLabel = (some) => [...LABELS]
  .map(([key, label]) => ({ label, scores: some.filter((image) => image.label === key).map(({ score }) => score) }))
  .filter(({ scores }) => scores.length);
const exceeds = data.threshold !== null;
const outcome = (image) => outcomeAt(state.threshold, exceeds, image);
const link = (text, onclick) => make("button", { className: "link", onclick }, text);

/** An image's outcome in a pill, coloured if it is wrong. */
function chip(image) {
  const key = outcome(image);
  return make("span", { className: key[0] === "F" ? "chip wrong" : "chip" }, OUTCOMES[key].replace("predicted ", ""));
}

/* ---- scores, counts, curves ---- */

function showHistogram() {
  const groups = byLabel(inClass());
  const lines = [{ kind: "threshold-line", value: state.threshold, label: "threshold" },
    { kind: "calibrated-line", value: data.threshold, label: "calibrated threshold" }];
  at("histogram").replaceChildren(histogram(groups, range, lines, setThreshold));
  at("legend").replaceChildren(...groups.map(({ label, scores }) =>
    make("span", { className: "key", style: `--colour: var(--${label})` }, `${label} (${scores.length})`)));
}

function showCounts(counts, rates) {
  const rows = { anomalous: ["TP", "FN"], normal: ["FP", "TN"], unlabelled: ["+", "-"] };
  const cell = (key) => make("td", { title: OUTCOMES[key] }, `${counts[key]} `,
    make("small", {}, key.length > 1 ? key : ""));
  at("counts").replaceChildren(...Object.entries(rows).filter(([, [one, other]]) => counts[one] + counts[other])
    .map(([label, keys]) => make("tr", {}, make("th", { scope: "row" }, label), ...keys.map(cell))));
  at("rates").replaceChildren(...Object.entries(labelled ? rates : {}).map(([name, value]) =>
    make("span", { title: RATES[name] }, `${name} `, make("b", {}, withSign(value)))));
}

const meaning = (key) => MEASURES[key]?.[1] ?? "";
const measureHead = (key) => make("th", { className: "number", scope: "col", title: `${meaning(key)} (${key})` },
  MEASURES[key]?.[0] ?? key);

/** Fills a table of measures in percent. rows, totals: [{names, of each of the titles, measures, intervals, notes}]. */
function fillTable(id, titles, rows, totals = []) {
  const keys = Object.keys(rows[0]?.measures ?? {});
  const heads = titles.map((title) => make("th", { scope: "col" }, title));
  const toRow = ({ names, measures, intervals = {}, notes = [] }) => {
    const cells = keys.map((key) => {
      const title = [meaning(key), ...(measures[key] == null ? notes : [])].join("; ");
      const interval = intervals[key] ? [make("small", {}, ` [${intervals[key].map(percent).join(", ")}]`)] : [];
      const text = key === "images" ? String(measures[key]) : percent(measures[key]);
      return make("td", { className: "number", title }, text, ...interval);
    });
    return make("tr", {}, ...names.map((name) => make("td", {}, name)), ...cells);
  };
  at(id).append(make("thead", {}, make("tr", {}, ...heads, ...keys.map(measureHead))),
    make("tbody", {}, ...rows.map(toRow)), make("tfoot", {}, ...totals.map(toRow)));
  at(`${id}-section`).hidden = !keys.length;
}

function fillTables() {
  const choose = (index) => {
    at("class").value = index;
    set({ page: 0 });
  };
  const classes = data.classes.map((each, index) => ({ ...each, names: [link(each.name, () => choose(index))] }));
  const mean = { names: ["Mean"], measures: data.mean, intervals: data.intervals, notes: ["undefined for every class"] };
  fillTable("measures", ["Class"], classes, several ? [mean] : []);
  fillTable("kinds", ["Class", "Kind"], data.classes.flatMap(({ name, kinds = {} }) =>
    Object.entries(kinds).map(([kind, measures]) => ({ names: [name, kind], measures }))));
  const notes = data.classes.flatMap((each) => each.notes.map((note) => `${each.name}: ${note}`));
  at("notes").append(...[...data.notes, ...notes].map((note) => make("li", {}, note)));
}

function showCurves({ Recall: recall, Precision: precision, "False-positive rate": falsePositive }) {
  const one = chosenClass();
  const measures = one?.measures ?? data.mean;
  const here = (x, y) => (one && x !== null && y !== null ? [x, y] : null);
  const roc = { curve: "roc", name: "AUROC", xLabel: "false-positive rate", yLabel: "recall", xMax: 1 };
  const pr = { curve: "pr", name: "AP", xLabel: "recall", yLabel: "precision", xMax: 1, steps: true };
  const pro = { ...roc, curve: "pro", name: "area to 0.3", yLabel: "overlap", xMax: 0.3 };
  const plots = [
    { ...roc, of: "image_curves", title: "Image ROC", key: "auroc_sp", point: here(falsePositive, recall) },
    { ...pr, of: "image_curves", title: "Image PR", key: "ap_sp", point: here(recall, precision) },
    { ...roc, of: "pixel_curves", title: "Pixel ROC", key: "auroc_px" },
    { ...pr, of: "pixel_curves", title: "Pixel PR", key: "ap_px" },
    { ...pro, of: "pixel_curves", title: "PRO", key: "aupro" },
  ];
  at("curves").replaceChildren(...plots.flatMap((plot) => {
    const drawn = data.classes
      .map((each) => ({ points: each[plot.of]?.[plot.curve], name: each.name, chosen: each === one }))
      .filter(({ points }) => points);
    if (!drawn.length) return [];
    const value = measures[plot.key];
    const text = value == null ? "- (not defined)" : `${one ? "" : "mean "}${plot.name} ${withSign(value)}`;
    return make("figure", {}, make("figcaption", { title: meaning(plot.key) }, plot.title, make("span", {}, text)),
      curves(drawn, { ...plot, label: `${plot.title}, ${text}` }),
      make("p", {}, `${plot.yLabel} over ${plot.xLabel}`));
  }));
  document.querySelectorAll("#measures tbody tr").forEach((row, index) =>
    row.classList.toggle("chosen", data.classes[index] === one));
}

/* ---- the table of images ---- */

/** What the colours of the shown class's maps mean. */
function showColours() {
  const one = several ? chosenClass() : data.classes[0];
  const [low, high] = one ? one.scale.map(number) : ["its class's median", "its class's highest score"];
  const outlined = images.some((image) => image.picture?.outline);
  for (const line of document.querySelectorAll(".colours")) {
    line.replaceChildren(make("span", {}, `Colours of a map: ${low} `,
      make("img", { src: `data:image/png;base64,${data.colours}`, alt: "uncoloured, green, yellow, red, dark red" }),
      ` ${high}`), ...(outlined ? [make("span", { className: "truth-key" }, data.outlines.toLowerCase())] : []));
  }
}

function thumb(image) {
  const none = "The page holds the pictures of the images that are ranked worst";
  if (!image.picture) return make("span", { className: "quiet", title: none }, "no picture");
  const label = `Enlarge ${image.image_path}`;
  return make("button", { className: "thumb", ariaLabel: label, onclick: () => view(image) },
    picture(image.picture, false), picture(image.picture, true));
}

/** An image's name, which enlarges it, and a link to its file if there is one. */
function named(image) {
  const name = link(image.image_path, () => view(image));
  return image.href ? make("span", {}, name, " ", make("a", { href: image.href, target: "_blank", rel: "noopener",
    title: "Open the file" }, "file")) : name;
}

const figure = (key, title, hint, format = number) => ({ key, title, hint, className: "number", down: true,
  value: (image) => image[key] ?? -Infinity, cell: (image) => format(image[key]) });
const some = (key) => images.some((image) => image[key] != null);
const COLUMNS = [
  { title: "Picture and map", hint: "The image, and with its map laid over: click to enlarge",
    cell: (image) => (image.thumb ??= thumb(image)) }, // kept, as decoding it again flickers
  { key: "name", title: "Name", className: "name",
    value: (image) => image.image_path, cell: (image) => named(image) },
  several && { key: "class", title: "Class", value: (image) => image.class_name, cell: (image) => image.class_name },
  labelled && { key: "label", title: "Label", down: true,
    value: (image) => image.label ?? -1, cell: (image) => LABELS.get(image.label) },
  { key: "outcome", title: "Outcome", hint: exceeds ? "Whether the score is above the threshold"
    : "Whether the score reaches the threshold, and whether that is right",
    value: (image) => Object.keys(OUTCOMES).indexOf(outcome(image)), cell: chip },
  labelled && figure("misranked", "Misranked", "Share of the class's images with the other label that the score "
    + "ranks on the wrong side; the worst misses first", withSign),
  figure("score", "Score", exceeds ? "By how much the image exceeds its thresholds, in standard deviations of the "
    + "normal images" : "The image score, which the threshold is on"),
  some("text_prob") && figure("text_prob", "Text probability", "How well the image fits the anomalous text, from 0 to 1"),
  figure("map_max", "Map maximum", "Greatest score in the map"),
  some("p_value") && figure("p_value", "p-value", "At most this share of normal images look as anomalous", small),
].filter(Boolean);

const heads = COLUMNS.map(({ key, title, hint, className, down }) => {
  const turned = () => (key === state.sort.key ? !state.sort.down : Boolean(down));
  const onclick = () => set({ sort: { key, down: turned() }, page: 0 });
  return make("th", { scope: "col", className: className === "number" ? "number" : "", title: hint ?? "" },
    key ? make("button", { onclick }, title) : title);
});

function showRows() {
  const query = at("query").value.toLowerCase();
  const wanted = at("outcome").value;
  const [sign, direction] = state.sort.down ? [-1, "descending"] : [1, "ascending"];
  const sorted = COLUMNS.findIndex((column) => column.key === state.sort.key);
  heads.forEach((head, index) => { head.ariaSort = index === sorted ? direction : null; });
  rows = inClass().filter((image) => image.image_path.toLowerCase().includes(query)
    && (!wanted || outcome(image) === wanted || (wanted === "wrong" && outcome(image)[0] === "F")));
  const { value } = COLUMNS[sorted];
  rows.sort((a, b) => sign * ((value(a) > value(b)) - (value(a) < value(b))));

  const pages = Math.max(1, Math.ceil(rows.length / PAGE_ROWS));
  state.page = Math.min(state.page, pages - 1);
  const shown = rows.slice(state.page * PAGE_ROWS, (state.page + 1) * PAGE_ROWS).map((image) => make("tr", {},
    ...COLUMNS.map(({ title, hint, className, cell }) => {
      const shown = make("td", { className: className ?? "", title: hint ?? "" }, cell(image));
      shown.dataset.title = title;
      return shown;
    })));
  document.querySelector("#images tbody").replaceChildren(...shown);
  at("found").textContent = `${rows.length} of ${images.length} images`;
  at("page").textContent = `${state.page + 1} of ${pages}`;
  at("previous").disabled = state.page === 0;
  at("next").disabled = state.page === pages - 1;
}

/* ---- one image, large ---- */

function view(image) {
  state.viewed = image;
  at("viewer-picture").replaceChildren(image.picture ? picture(image.picture, true)
    : make("p", { className: "quiet" }, "The page holds no picture of this image."));
  at("viewer-name").textContent = image.image_path;
  at("viewer-file").hidden = !image.href;
  at("viewer-file").href = image.href ?? "";
  at("viewer-facts").replaceChildren(...COLUMNS.slice(2) // all but the picture and the name
    .flatMap(({ title, hint, cell }) => [make("dt", { title: hint ?? "" }, title), make("dd", {}, cell(image))]));
  const place = rows.indexOf(image);
  at("viewer-previous").disabled = place <= 0;
  at("viewer-next").disabled = place === rows.length - 1;
  if (!at("viewer").open) at("viewer").showModal();
}

function step(by) {
  const next = rows[rows.indexOf(state.viewed) + by];
  if (next) view(next);
}

/** Keys of the whole page, as a button that is disabled takes the focus, and the keys, out of the viewer. */
function press(event) {
  const { target, key } = event;
  if (target.matches("input, select") || event.ctrlKey || event.altKey || event.metaKey) return; // which have their own
  if (at("viewer").open) {
    const place = rows.indexOf(state.viewed);
    const by = { ArrowLeft: -1, ArrowRight: 1, Home: -place, End: rows.length - 1 - place }[key];
    if (by) step(by);
  } else if (key === "/") {
    event.preventDefault(); // or it would be typed
    at("query").focus();
  }
}

/* ---- what the user does ---- */

function showAll() {
  at("threshold").value = state.threshold;
  const typed = at("threshold-value");
  if (document.activeElement !== typed) typed.value = Number(state.threshold.toPrecision(5));
  at("best").disabled = bestThreshold(inClass()) === null;
  const counts = countOutcomes(inClass(), state.threshold, exceeds);
  const rates = ratesOf(counts);
  showHistogram();
  showCounts(counts, rates);
  showCurves(rates);
  showColours();
  showRows();
}

function set(changes) {
  Object.assign(state, changes);
  showAll();
}

let waiting = 0;
function setThreshold(value) {
  if (!Number.isFinite(value)) return;
  state.threshold = value;
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(showAll); // a slider fires more often than the screen is drawn
}

function setOpacity(value) {
  at("opacity").value = at("viewer-opacity").value = value;
  document.documentElement.style.setProperty("--opacity", value / 100);
}

function turn(pages) {
  set({ page: state.page + pages });
  at("images-title").scrollIntoView();
}

function fillControls() {
  const plural = (count, one, many) => `${count} ${count === 1 ? one : many}`;
  const counted = byLabel(images).map(({ label, scores }) => `${scores.length} ${label}`);
  const totals = [plural(images.length, "image", "images"), plural(data.classes.length, "class", "classes")];
  const unread = Object.keys(data.unread).length;
  const below = unread ? `; ${unread} not predicted, see below` : "";
  at("summary").textContent = `${totals.join(" of ")}: ${counted.join(", ")}${below}`;
  at("start").textContent = start.why;
  at("best").hidden = !labelled;
  at("class-label").hidden = !several;
  at("calibrated").hidden = data.threshold === null;
  for (const box of truthBoxes) box.parentElement.hidden = !images.some((image) => image.picture?.outline);
  for (const text of document.querySelectorAll(".outlines")) text.textContent = data.outlines;
  at("unread-section").hidden = !unread;
  document.querySelector("#unread tbody").append(...Object.entries(data.unread).map((row) =>
    make("tr", {}, ...row.map((text) => make("td", {}, text)))));
  const options = (pairs) => pairs.map(([value, text]) => new Option(text, value));
  const classes = data.classes.map(({ name }, index) => [index, name]);
  at("class").append(...options(several ? [["", "all"], ...classes] : classes));
  const possible = Object.entries(OUTCOMES)
    .filter(([key]) => images.some((image) => (image.label === null) === (key.length === 1)))
    .map(([key, text]) => [key, key.length === 1 && labelled ? `unlabelled, ${text}` : text]);
  at("outcome").append(...options([["", "all"], ...(labelled ? [["wrong", "all errors"]] : []), ...possible]));
  const slider = at("threshold");
  [slider.min, slider.max] = [Math.min(range[0], start.value), Math.max(range[1], start.value)];
  slider.step = (slider.max - slider.min) / 1000;
}

const on = (id, event, react) => at(id).addEventListener(event, ({ target }) => react(target));
for (const id of ["threshold", "threshold-value"]) on(id, "input", (input) => setThreshold(input.valueAsNumber));
for (const id of ["opacity", "viewer-opacity"]) on(id, "input", (slider) => setOpacity(slider.value));
for (const box of truthBoxes) {
  box.addEventListener("change", () => truthBoxes.forEach((each) => { each.checked = box.checked; }));
}
for (const [id, event] of [["class", "change"], ["outcome", "change"], ["query", "input"]]) {
  on(id, event, () => set({ page: 0 }));
}
on("best", "click", () => setThreshold(bestThreshold(inClass())));
on("calibrated", "click", () => setThreshold(data.threshold));
on("previous", "click", () => turn(-1));
on("next", "click", () => turn(1));
on("viewer-previous", "click", () => step(-1));
on("viewer-next", "click", () => step(1));
on("viewer", "click", (target) => { if (target === at("viewer")) at("viewer").close(); });
document.addEventListener("keydown", press);

document.querySelector("#images thead tr").append(...heads);
fillControls();
fillTables();
setOpacity(100);
showAll();
