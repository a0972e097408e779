/* Pieces of the page. Names come from files, so they are only ever set as text, never as markup. */
const Elements = (() => {
  const DASH = "-";
  const absent = (value) => value === null || value === undefined;
  const orDash = (format) => (value) => (absent(value) ? DASH : format(value));
  const percent = orDash((value) => (100 * value).toFixed(1));
  const withSign = orDash((value) => `${percent(value)} %`);
  const small = orDash((value) => value.toPrecision(2));
  const number = orDash((value) => {
    const size = Math.abs(value); // scores are on any scale
    return size && size < 0.1 ? value.toPrecision(3) : value.toFixed(size < 1000 ? 4 : 1);
  });

  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  /** The picture of an image with its ground truth and, if wanted, its map. */
  function picture({ image, heat, outline }, withMap) {
    const layer = (className, source) => make("img", { className, src: `data:${source}`, alt: "", decoding: "async" });
    const box = make("span", { className: "picture" }, layer("", `image/jpeg;base64,${image}`));
    if (withMap) box.append(layer("heat", `image/png;base64,${heat}`));
    if (outline) {
      const lines = ["edge", "line"].map((kind) => Plots.svg("path", { class: kind, d: outline }));
      const square = { class: "outline", viewBox: "0 0 512 512", "aria-hidden": "true" };
      box.append(Plots.svg("svg", square, ...lines));
    }
    return box;
  }

  /** An outcome in a pill, coloured if it is wrong. */
  function chip(outcome) {
    const text = { "+": "anomalous", "-": "normal" }[outcome] ?? Scores.OUTCOMES[outcome];
    return make("span", { className: outcome[0] === "F" ? "chip wrong" : "chip" }, text);
  }

  /** Counts by label and prediction. rows: [[label, [key, key]]]; names: whether the keys are shown. */
  function matrix(counts, rows, names) {
    const row = (...cells) => make("tr", {}, ...cells);
    const cell = (key) =>
      make("td", { title: Scores.OUTCOMES[key] }, `${counts[key]} `, make("small", {}, names ? key : ""));
    const head = row(make("th"), make("th", {}, "predicted anomalous"), make("th", {}, "predicted normal"));
    const body = rows.map(([label, keys]) => row(make("th", { scope: "row" }, label), ...keys.map(cell)));
    return make("table", { className: "matrix" }, make("thead", {}, head), make("tbody", {}, ...body));
  }

  return { DASH, absent, percent, withSign, number, small, make, picture, chip, matrix };
})();
