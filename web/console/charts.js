// Small charts in plain SVG. Each has its figures in text beside it or in its name: nothing is told by shape or colour alone.

import { h, svg } from "./dom.js";

const WIDTH = 240;
const HEIGHT = 48;

/**
 * A line of values over time, oldest first; null is a gap. `series`: arrays of equal length; the second is dashed.
 * `floor` is the least the top of the scale stands for, so that noise does not look like an event.
 */
export function sparkline(series, { label, floor = 1 }) {
  const top = Math.max(floor, ...series.flat().filter((value) => value !== null));
  const lines = series.flatMap((values, index) => runs(values).map((run) => line(run, values.length, top, index)));
  return svg("svg", { class: "sparkline", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": label }, lines);
}

function runs(values) {
  const found = [];
  values.forEach((value, index) => {
    if (value === null) return;
    if (index === 0 || values[index - 1] === null) found.push([]);
    found.at(-1).push([index, value]);
  });
  return found;
}

function line(run, length, top, index) {
  const step = WIDTH / Math.max(1, length - 1);
  const points = run.map(([at, value]) => `${(at * step).toFixed(1)},${(HEIGHT - 2 - (value / top) * (HEIGHT - 6)).toFixed(1)}`);
  const stroke = svg("polyline", { class: "stroke", points: points.join(" "), data: { series: index } });
  if (index > 0) return [stroke];
  const [first, last] = [(run[0][0] * step).toFixed(1), (run.at(-1)[0] * step).toFixed(1)];
  return [svg("polygon", { class: "area", points: `${first},${HEIGHT} ${points.join(" ")} ${last},${HEIGHT}` }), stroke];
}

/** A bar filled to a ratio of 0 to 1; the figure stands beside it. */
export function bar(ratio, tone = "accent") {
  const filled = `${(Math.min(1, Math.max(0, ratio || 0)) * 100).toFixed(2)}%`;
  return svg(
    "svg",
    { class: "bar", "aria-hidden": "true", data: { tone } },
    svg("rect", { class: "bar-back", width: "100%", height: "100%", rx: 4 }),
    svg("rect", { class: "bar-fill", width: filled, height: "100%", rx: 4 }),
  );
}

/** Three bars like those of a telephone, so many of them filled. */
export function signalBars(level) {
  const heights = [5, 9, 13];
  return svg(
    "svg",
    { class: "signal", viewBox: "0 0 17 14", "aria-hidden": "true", data: { level } },
    heights.map((height, index) =>
      svg("rect", { x: index * 6, y: 13 - height, width: 4, height, rx: 1, class: index < level ? "on" : "off" })),
  );
}

/** A span on a time axis of `total` seconds. */
export function span(from, to, total, leg) {
  const x = total > 0 ? (from / total) * 100 : 0;
  const width = total > 0 ? Math.max(0.6, ((to - from) / total) * 100) : 0;
  return svg(
    "svg",
    { class: "span", "aria-hidden": "true", data: { leg } },
    svg("rect", { class: "span-fill", x: `${x.toFixed(2)}%`, y: "20%", width: `${width.toFixed(2)}%`, height: "60%", rx: 3 }),
  );
}

/** Columns of values with names under them; the same figures stand in a table elsewhere. */
export function columnChart(values, names, label) {
  const top = Math.max(...values, 0) || 1;
  const width = 100 / Math.max(1, values.length);
  const columns = values.map((value, index) =>
    svg("rect", {
      class: "column",
      x: `${(index * width + width * 0.15).toFixed(2)}%`,
      width: `${(width * 0.7).toFixed(2)}%`,
      y: `${(100 - (value / top) * 96).toFixed(2)}%`,
      height: `${((value / top) * 96).toFixed(2)}%`,
      rx: 2,
    }));
  const every = Math.ceil(names.length / 8);
  return h(
    "div",
    { class: "column-chart" },
    svg("svg", { class: "columns", role: "img", "aria-label": label }, columns),
    h("div", { class: "axis", "aria-hidden": "true" }, names.map((name, index) => h("span", {}, (names.length - 1 - index) % every === 0 ? name : ""))),
  );
}
