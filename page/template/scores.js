/*
 * What follows from scores and labels alone. An image is predicted anomalous if its score reaches the threshold, or,
 * as a calibration has it, exceeds it.
 */

const OUTCOMES = {
  TP: "true positive", FP: "false positive", FN: "false negative", TN: "true negative",
  "+": "predicted anomalous", "-": "predicted normal",
};

/** Its key in OUTCOMES: one of the first four for an image with a label. */
function outcomeAt(threshold, exceeds, { score, label }) {
  const positive = exceeds ? score > threshold : score >= threshold;
  if (label === null) return positive ? "+" : "-";
  return (positive === (label === 1) ? "T" : "F") + (positive ? "P" : "N");
}

/** How many images have each outcome. */
function countOutcomes(images, threshold, exceeds) {
  const counts = Object.fromEntries(Object.keys(OUTCOMES).map((key) => [key, 0]));
  for (const image of images) counts[outcomeAt(threshold, exceeds, image)]++;
  return counts;
}

/** Rates by their names, as fractions, null where undefined. */
function ratesOf({ TP, FP, FN, TN }) {
  const share = (part, whole) => (whole ? part / whole : null);
  return { Precision: share(TP, TP + FP), Recall: share(TP, TP + FN), "False-positive rate": share(FP, FP + TN),
    F1: TP + FN ? share(2 * TP, 2 * TP + FP + FN) : null };
}

/** Least and greatest score with some room, so that a threshold can lie above or below all of them. */
function scoreRange(images) {
  let [low, high] = [Infinity, -Infinity];
  for (const { score } of images) [low, high] = [Math.min(low, score), Math.max(high, score)];
  const room = (high - low) * 0.02 || Math.max(Math.abs(low), 1) * 0.02;
  return [low - room, high + room];
}

/** The greatest threshold with the greatest F1 on the labels, null without both kinds of label. */
function bestThreshold(images) {
  const labelled = images.filter(({ label }) => label !== null).sort((a, b) => b.score - a.score);
  const anomalous = labelled.filter(({ label }) => label === 1).length;
  if (!anomalous || anomalous === labelled.length) return null;
  let [hits, greatest, threshold] = [0, -1, null];
  labelled.forEach(({ score, label }, i) => {
    hits += label;
    if (labelled[i + 1]?.score === score) return; // equal scores are one threshold
    const f1 = (2 * hits) / (i + 1 + anomalous);
    if (f1 > greatest) [greatest, threshold] = [f1, score];
  });
  return threshold;
}
