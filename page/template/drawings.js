/* Pieces of the page, which know nothing of its state. Names come from files, so they are only ever set as text. */

const orDash = (format) => (value) => (value == null ? "-" : format(value)); // undefined, too
const percent = orDash((value) => (100 * value).toFixed(1));
const withSign = orDash((value) => `${percent(value)} %`);
const small = orDash((value) => value.toPrecision(2));
const number = orDash((value) => {
  const size = Math.abs(value); // scores are on any scale
  if (size < 0.001) return size ? value.toExponential(1) : "0";
  return size < 0.1 ? value.toPrecision(3) : value.toFixed(size < 1000 ? 4 : 1);
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

/** The picture of an image with its outlines and, if wanted, its map. */
function picture({ image, heat, outline, aspect }, withMap) {
  const layer = (className, source) => make("img", { className, src: `data:${source}`, alt: "", decoding: "async" });
  const box = make("span", { className: "picture" }, layer("", `image/jpeg;base64,${image}`));
  box.style.setProperty("--aspect", aspect ?? 1);
  if (withMap) box.append(layer("heat", `image/png;base64,${heat}`));
  if (outline) {
    const lines = ["edge", "line"].map((kind) => svg("path", { class: kind, d: outline }));
    box.append(svg("svg", { class: "outline", viewBox: "0 0 512 512", preserveAspectRatio: "none", "aria-hidden": "true" }, ...lines));
  }
  return box;
}

/** What is drawn in a unit square, the origin at its lower left. ticks: [{x or y, text}], along that axis. */
function plot(label, drawn, ticks) {
  const square = { viewBox: "0 0 1 1", preserveAspectRatio: "none", role: "img", "aria-label": label };
  const texts = ticks.map(({ x, y, text }) => make("span", {
    className: y === undefined ? "x" : "y", style: y === undefined ? `left: ${100 * x}%` : `bottom: ${100 * y}%`,
  }, String(text)));
  return make("div", { className: "plot" },
    svg("svg", square, svg("g", { transform: "matrix(1 0 0 -1 0 1)" }, ...drawn)), ...texts);
}

/**
 * Bars of how many scores of each label lie where.
 * groups: [{label, scores}], range: [low, high], lines: [{kind, value or null, label}].
 * onPick is called with the score at which the plot is clicked.
 */
function histogram(groups, [low, high], lines, onPick) {
  const bins = 48;
  const place = (score) => (score - low) / (high - low);
  const counts = groups.map(({ scores }) => {
    const count = new Array(bins).fill(0);
    for (const score of scores) count[Math.min(bins - 1, Math.floor(place(score) * bins))]++;
    return count;
  });
  const most = Math.max(1, ...counts.flat());
  const bars = groups.flatMap(({ label }, index) => counts[index].map((count, bin) =>
    svg("rect", { fill: `var(--${label})`, x: (bin + 0.04) / bins, width: 0.92 / bins, height: count / most })));
  const marks = lines.filter(({ value }) => value !== null && value >= low && value <= high).map((line) =>
    svg("path", { class: line.kind, d: `M${place(line.value)} 0V1` }, svg("title", {}, line.label)));
  const step = Number(((high - low) / 6).toPrecision(1)); // of one digit, so that its multiples are short
  const [first, last] = [Math.ceil(low / step), Math.floor(high / step)];
  const multiples = Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
  const ticks = [{ y: 0, text: 0 }, { y: 1, text: most },
    ...multiples.map((value) => ({ x: place(value), text: Number(value.toPrecision(12)) }))];
  const numbers = groups.map(({ scores, label }) => `${scores.length} ${label}`).join(", ");
  const drawing = plot(`Histogram of the image scores: ${numbers}`, [...bars, ...marks], ticks);
  drawing.addEventListener("click", ({ clientX }) => {
    const { left, width } = drawing.getBoundingClientRect();
    onPick(low + Math.min(1, Math.max(0, (clientX - left) / width)) * (high - low));
  });
  return drawing;
}

/**
 * Curves over [0, xMax] x [0, 1], the chosen ones on top.
 * drawn: [{points: [xs, ys], name, chosen}], steps: whether each y holds back to the x before,
 * point: [x, y] to mark, or null.
 */
function curves(drawn, { xMax, steps, point, label }) {
  const lines = drawn.toSorted((a, b) => a.chosen - b.chosen).map(({ points: [xs, ys], name, chosen }) => {
    const corners = xs.flatMap((x, i) => (steps ? [xs[i - 1] ?? 0, x] : [x]).map((each) => [each / xMax, ys[i]]));
    return svg("polyline", { class: chosen ? "curve chosen" : "curve", points: corners.join(" ") },
      svg("title", {}, name));
  });
  if (point) lines.push(svg("path", { class: "here", d: `M${point[0] / xMax} ${point[1]}h0` }));
  const shares = [0, 0.5, 1];
  return plot(label, lines, [...shares.map((y) => ({ y, text: y })), ...shares.map((x) => ({ x, text: x * xMax }))]);
}
