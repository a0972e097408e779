/* Drawings as SVG: a histogram of the scores, and curves. They know nothing of the page's state. */
const Plots = (() => {
  function svg(tag, attributes = {}, ...children) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  const plot = (width, height, label) =>
    svg("svg", { class: "plot", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  const text = (x, y, anchor, content) => svg("text", { x, y, "text-anchor": anchor }, String(content));

  /** About `count` round numbers from `low` to `high`. */
  function ticks(low, high, count) {
    const rough = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
    const digits = Math.max(0, -Math.floor(Math.log10(step)));
    const found = [];
    for (let i = Math.ceil(low / step); i * step <= high + step * 1e-9; i++) {
      found.push({ value: i * step, label: (i * step).toFixed(digits) });
    }
    return found;
  }

  /**
   * Bars of how many scores of each kind lie where.
   * groups: [{kind, label, scores}], range: [low, high], lines: [{kind, value, label}].
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
    const y = (value) => height - bottom - (value / most) * (height - top - bottom);
    const numbers = groups.map(({ scores, label }) => `${scores.length} ${label}`).join(", ");
    const drawing = plot(width, height, `Histogram of the image scores: ${numbers}`);
    drawing.append(svg("path", { class: "axis", d: `M${left} ${top}V${height - bottom}H${width - right}` }),
      text(left - 5, top + 8, "end", most), text(left - 5, height - bottom, "end", 0),
      ...ticks(low, high, width / 80).map(({ value, label }) => text(x(value), height - 7, "middle", label)));
    groups.forEach(({ kind }, number) => counts[number].forEach((count, bin) => {
      const place = { x: left + bin * barWidth + 0.5, y: y(count) };
      const size = { width: barWidth - 1, height: height - bottom - y(count) };
      if (count) drawing.append(svg("rect", { class: `bar ${kind}`, ...place, ...size }));
    }));
    for (const { kind, value, label } of lines.filter(({ value }) => value >= low && value <= high)) {
      const [x1, x2, y1, y2] = [x(value), x(value), top - 4, height - bottom];
      drawing.append(svg("line", { class: kind, x1, x2, y1, y2 }, svg("title", {}, label)));
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
    const drawing = plot(width, height, label);
    drawing.append(svg("path", { class: "axis", d: `M${left} ${top}H${width - right}V${height - bottom}H${left}Z` }));
    for (const share of [0, 0.5, 1]) {
      drawing.append(text(left - 4, y(share) + 4, "end", share),
        text(x(share * xMax), height - bottom + 13, "middle", share * xMax));
    }
    drawing.append(text((left + width - right) / 2, height - 5, "middle", `${yLabel} over ${xLabel}`));
    for (const { points: [xs, ys], name, chosen } of [...drawn].sort((a, b) => a.chosen - b.chosen)) {
      const parts = xs.map((value, i) => {
        const [px, py] = [x(value).toFixed(1), y(ys[i]).toFixed(1)];
        if (steps) return i ? `V${py}H${px}` : `M${x(0)} ${py}H${px}`;
        return `${i ? "L" : "M"}${px} ${py}`;
      });
      const path = svg("path", { class: chosen ? "curve chosen" : "curve", d: parts.join("") }, svg("title", {}, name));
      drawing.append(path);
    }
    if (point) drawing.append(svg("circle", { class: "here", cx: x(point[0]), cy: y(point[1]), r: 4 }));
    return drawing;
  }

  return { svg, histogram, curves };
})();
