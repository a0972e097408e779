/* Drawings as SVG: a histogram of the scores, and curves. They know nothing of the page's state. */
const Plots = (() => {
  const NAMESPACE = "http://www.w3.org/2000/svg";

  function svg(tag, attributes = {}, ...children) {
    const element = document.createElementNS(NAMESPACE, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  /** About `count` round numbers from `low` to `high`. */
  function ticks(low, high, count) {
    const rough = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
    const digits = Math.max(0, -Math.floor(Math.log10(step)));
    const found = [];
    for (let i = Math.ceil(low / step); i * step <= high + step * 1e-9; i++) {
      found.push({ value: i * step, text: (i * step).toFixed(digits) });
    }
    return found;
  }

  /**
   * Bars of how many scores of each kind lie where.
   * groups: [{kind, label, scores}], range: [low, high], lines: [{kind, value, label}].
   * width: in pixels. onPick is called with the score at which the plot is clicked.
   */
  function histogram(groups, range, lines, width, onPick) {
    const [height, left, right, top, bottom, bins] = [260, 34, 8, 8, 22, 48];
    const [low, high] = range;
    const x = (value) => left + ((value - low) / (high - low)) * (width - left - right);
    const counts = groups.map(({ scores }) => {
      const count = new Array(bins).fill(0);
      for (const score of scores) count[Math.min(bins - 1, Math.floor(((score - low) / (high - low)) * bins))]++;
      return count;
    });
    const most = Math.max(1, ...counts.flat());
    const y = (value) => height - bottom - (value / most) * (height - top - bottom);
    const plot = svg("svg", { class: "plot", viewBox: `0 0 ${width} ${height}`, role: "img",
      "aria-label": `Histogram of the image scores: ${groups.map((g) => `${g.scores.length} ${g.label}`).join(", ")}` });
    plot.append(svg("path", { class: "axis", d: `M${left} ${top}V${height - bottom}H${width - right}` }));
    plot.append(svg("text", { x: left - 5, y: top + 8, "text-anchor": "end" }, String(most)));
    plot.append(svg("text", { x: left - 5, y: height - bottom, "text-anchor": "end" }, "0"));
    for (const { value, text } of ticks(low, high, width / 80)) {
      plot.append(svg("text", { x: x(value), y: height - 7, "text-anchor": "middle" }, text));
    }
    groups.forEach(({ kind }, number) => {
      const barWidth = (width - left - right) / bins;
      counts[number].forEach((count, bin) => {
        if (!count) return;
        plot.append(svg("rect", { class: `bar ${kind}`, x: left + bin * barWidth + 0.5, y: y(count),
          width: barWidth - 1, height: height - bottom - y(count) }));
      });
    });
    for (const { kind, value, label } of lines) {
      if (value < low || value > high) continue;
      plot.append(svg("line", { class: kind, x1: x(value), x2: x(value), y1: top - 4, y2: height - bottom },
        svg("title", {}, label)));
    }
    plot.addEventListener("click", (event) => {
      const box = plot.getBoundingClientRect();
      const at = ((event.clientX - box.left) / box.width) * width;
      const share = (at - left) / (width - left - right);
      onPick(low + Math.min(1, Math.max(0, share)) * (high - low));
    });
    return plot;
  }

  /**
   * Curves over [0, xMax] x [0, 1], the chosen ones on top.
   * curves: [{points: [xs, ys], name, chosen}], steps: whether each y holds back to the x before,
   * point: [x, y] to mark, or null.
   */
  function curves(drawn, { xMax, xLabel, yLabel, steps, point, label }) {
    const [width, height, left, right, top, bottom] = [240, 210, 28, 8, 8, 34];
    const x = (value) => left + (value / xMax) * (width - left - right);
    const y = (value) => height - bottom - value * (height - top - bottom);
    const plot = svg("svg", { class: "plot", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
    plot.append(svg("path", { class: "axis",
      d: `M${left} ${top}H${width - right}V${height - bottom}H${left}Z` }));
    for (const share of [0, 0.5, 1]) {
      plot.append(svg("text", { x: left - 4, y: y(share) + 4, "text-anchor": "end" }, String(share)));
      plot.append(svg("text", { x: x(share * xMax), y: height - bottom + 13, "text-anchor": "middle" },
        String(share * xMax)));
    }
    plot.append(svg("text", { x: (left + width - right) / 2, y: height - 5, "text-anchor": "middle" },
      `${yLabel} over ${xLabel}`));
    for (const { points: [xs, ys], name, chosen } of [...drawn].sort((a, b) => a.chosen - b.chosen)) {
      let path = "";
      xs.forEach((value, i) => {
        const [px, py] = [x(value).toFixed(1), y(ys[i]).toFixed(1)];
        if (i === 0) path = steps ? `M${x(0)} ${py}H${px}` : `M${px} ${py}`;
        else path += steps ? `V${py}H${px}` : `L${px} ${py}`;
      });
      plot.append(svg("path", { class: chosen ? "curve chosen" : "curve", d: path }, svg("title", {}, name)));
    }
    if (point) plot.append(svg("circle", { class: "here", cx: x(point[0]), cy: y(point[1]), r: 4 }));
    return plot;
  }

  return { svg, histogram, curves };
})();
