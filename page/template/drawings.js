/* Pieces of the page, which know nothing of its state. Names come from files, so they are only ever set as text. */

const orDash = (format) => (value) => (value == null ? "-" : format(value)); // undefined, too
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

function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const svgText = (x, y, anchor, content) => svg("text", { x, y, "text-anchor": anchor }, String(content));
const svgPlot = (width, height, label, axis, ...children) =>
  svg("svg", { class: "plot", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label },
    svg("path", { class: "axis", d: axis }), ...children);

/** The picture of an image with its ground truth and, if wanted, its map. */
function picture({ image, heat, outline }, withMap) {
  const layer = (className, source) => make("img", { className, src: `data:${source}`, alt: "", decoding: "async" });
  const box = make("span", { className: "picture" }, layer("", `image/jpeg;base64,${image}`));
  if (withMap) box.append(layer("heat", `image/png;base64,${heat}`));
  if (outline) {
    const lines = ["edge", "line"].map((kind) => svg("path", { class: kind, d: outline }));
    box.append(svg("svg", { class: "outline", viewBox: "0 0 512 512", "aria-hidden": "true" }, ...lines));
  }
  return box;
}

/** Counts by label and prediction. rows: {label: [key, key]}; names: whether the keys are shown. */
function matrix(counts, rows, names) {
  const cell = (key) => make("td", { title: OUTCOMES[key] }, `${counts[key]} `, make("small", {}, names ? key : ""));
  const head = ["", "predicted anomalous", "predicted normal"].map((title) => make("th", {}, title));
  const body = Object.entries(rows).map(([label, keys]) =>
    make("tr", {}, make("th", { scope: "row" }, label), ...keys.map(cell)));
  return make("table", { className: "matrix" }, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body));
}

/** About `count` round numbers from `low` to `high`, with their labels. */
function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const digits = Math.max(0, -Math.floor(Math.log10(step)));
  const [first, last] = [Math.ceil(low / step), Math.floor(high / step + 1e-9)];
  const values = Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
  return values.map((value) => [value, value.toFixed(digits)]);
}

/**
 * Bars of how many scores of each label lie where.
 * groups: [{label, scores}], range: [low, high], lines: [{kind, value or null, label}].
 * width: in pixels. onPick is called with the score at which the plot is clicked.
 */
function histogram(groups, [low, high], lines, width, onPick) {
  const [height, left, right, top, bottom, bins] = [260, 34, 8, 8, 22, 48];
  const inner = width - left - right;
  const barWidth = inner / bins;
  const x = (value) => left + ((value - low) / (high - low)) * inner;
  const counts = groups.map(({ scores }) => {
    const count = new Array(bins).fill(0);
    for (const score of scores) count[Math.min(bins - 1, Math.floor(((score - low) / (high - low)) * bins))]++;
    return count;
  });
  const most = Math.max(1, ...counts.flat());
  const barHeight = (value) => (value / most) * (height - top - bottom);
  const numbers = groups.map(({ scores, label }) => `${scores.length} ${label}`).join(", ");
  const drawing = svgPlot(width, height, `Histogram of the image scores: ${numbers}`,
    `M${left} ${top}V${height - bottom}H${width - right}`,
    svgText(left - 5, top + 8, "end", most), svgText(left - 5, height - bottom, "end", 0),
    ...ticks(low, high, width / 80).map(([value, label]) => svgText(x(value), height - 7, "middle", label)));
  groups.forEach(({ label }, index) => counts[index].forEach((count, bin) => {
    const size = { width: barWidth - 1, height: barHeight(count) };
    const place = { x: left + bin * barWidth + 0.5, y: height - bottom - size.height };
    if (count) drawing.append(svg("rect", { class: `bar ${label}`, ...place, ...size }));
  }));
  for (const { kind, value, label } of lines.filter(({ value }) => value !== null && value >= low && value <= high)) {
    const ends = { x1: x(value), x2: x(value), y1: top - 4, y2: height - bottom };
    drawing.append(svg("line", { class: kind, ...ends }, svg("title", {}, label)));
  }
  drawing.addEventListener("click", (event) => {
    const box = drawing.getBoundingClientRect();
    const share = (((event.clientX - box.left) / box.width) * width - left) / inner;
    onPick(low + Math.min(1, Math.max(0, share)) * (high - low));
  });
  return drawing;
}

/**
 * Curves over [0, xMax] x [0, 1], the chosen ones on top.
 * drawn: [{points: [xs, ys], name, chosen}], steps: whether each y holds back to the x before,
 * point: [x, y] to mark, or null.
 */
function curves(drawn, { xMax, xLabel, yLabel, steps, point, label }) {
  const [width, height, left, right, top, bottom] = [240, 210, 28, 8, 8, 34];
  const x = (value) => left + (value / xMax) * (width - left - right);
  const y = (value) => height - bottom - value * (height - top - bottom);
  const drawing = svgPlot(width, height, label, `M${left} ${top}H${width - right}V${height - bottom}H${left}Z`,
    ...[0, 0.5, 1].flatMap((share) => [svgText(left - 4, y(share) + 4, "end", share),
      svgText(x(share * xMax), height - bottom + 13, "middle", share * xMax)]),
    svgText((left + width - right) / 2, height - 5, "middle", `${yLabel} over ${xLabel}`));
  for (const { points: [xs, ys], name, chosen } of [...drawn].sort((a, b) => a.chosen - b.chosen)) {
    const corners = xs.flatMap((value, i) => (steps ? [xs[i - 1] ?? 0, value] : [value]).map((each) => [each, ys[i]]));
    const points = corners.map((corner) => `${x(corner[0]).toFixed(1)},${y(corner[1]).toFixed(1)}`).join(" ");
    drawing.append(svg("polyline", { class: chosen ? "curve chosen" : "curve", points }, svg("title", {}, name)));
  }
  if (point) drawing.append(svg("circle", { class: "here", cx: x(point[0]), cy: y(point[1]), r: 4 }));
  return drawing;
}
