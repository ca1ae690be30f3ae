// Charts of the last ten minutes, second by second, and the small lines of tables.

import { clock, dress, h, plain, say } from "./parts.js";

const SECONDS = 600;
const LEFT = 52;
const BOTTOM = 18;
const TOP = 8;

// Levels of the axis for values up to `top`: three to five round steps.
function levels(top) {
  const power = 10 ** Math.floor(Math.log10(top / 4));
  const step = [1, 2, 2.5, 5, 10].map((it) => it * power).find((it) => it >= (top / 4) * 0.999);
  return Array.from({ length: Math.ceil((top / step) * 0.999) + 1 }, (_, index) => index * step);
}

// Chart of lines, or of areas on one another.
//
// title: what it shows; unit: behind the numbers of the axis; format: a value in words; read(): {end, series} where
// series are {name, values, class, isStacked}, the last value being of second `end`; null where there was none.
export function chart({ title, unit, format, read, minimum = 1 }) {
  const svg = h("svg", { "aria-hidden": "true" });
  const plot = h("div", {
    class: "plot", tabindex: "0", role: "slider", "aria-label": title + ", last 10 minutes; arrow keys read single seconds",
    "aria-valuemin": String(1 - SECONDS), "aria-valuemax": "0", "aria-valuenow": "0",
  }, svg);
  const legend = h("div", { class: "legend" });
  const element = h("section", { class: "card chart" }, h("div", { class: "head" }, h("h2", { text: title })), legend, plot);
  let at = null; // seconds before the end that are read; none: the last
  let width = 0, height = 0, keys = [];

  const choose = (offset) => { at = offset; draw(); };
  const pointed = (event) => {
    const box = plot.getBoundingClientRect();
    const x = (event.clientX - box.left - LEFT) / Math.max(1, box.width - LEFT);
    choose(Math.round(Math.min(1, Math.max(0, x)) * (SECONDS - 1)) - SECONDS + 1);
  };
  plot.addEventListener("pointermove", pointed);
  plot.addEventListener("pointerleave", () => choose(null));
  plot.addEventListener("blur", () => choose(null));
  plot.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: 60, PageDown: -60, Home: -SECONDS, End: SECONDS }[event.key];
    if (step) {
      event.preventDefault();
      choose(Math.min(0, Math.max(1 - SECONDS, (at || 0) + step)));
    } else if (event.key === "Escape") choose(null);
  });
  new ResizeObserver(() => {
    const box = plot.getBoundingClientRect();
    if (box.width !== width || box.height !== height) { [width, height] = [box.width, box.height]; draw(); }
  }).observe(plot);

  function value(values, offset) {
    return values[values.length - 1 + offset] ?? null;
  }

  function drawKeys(series, end) {
    const names = JSON.stringify(series.map((it) => [it.name, it.class]));
    if (names !== legend.dataset.names) {
      legend.dataset.names = names;
      keys = series.map((it) => h("b"));
      legend.replaceChildren(
        ...series.map((it, index) => h("span", { class: "key " + it.class }, h("i"), h("span", { text: plain(it.name) }), keys[index])),
        h("span", { class: "at" }),
      );
    }
    const words = series.map((it, index) => {
      const text = format(value(it.values, at || 0));
      say(keys[index], text);
      return it.name + " " + text;
    });
    say(legend.lastChild, at === null ? "" : clock(end + at));
    plot.setAttribute("aria-valuenow", String(at || 0));
    plot.setAttribute("aria-valuetext", clock(end + (at || 0)) + ": " + words.join(", "));
  }

  function draw() {
    const { end, series } = read();
    drawKeys(series, end);
    if (!width || !height || !end) return;
    const stacked = series.filter((it) => it.isStacked);
    let top = 0;
    for (const each of series) if (!each.isStacked) for (const it of each.values) if (it > top) top = it;
    const sums = [];
    for (const each of stacked) {
      const missing = SECONDS - each.values.length;
      each.values.forEach((it, index) => { sums[missing + index] = (sums[missing + index] || 0) + (it || 0); });
    }
    for (const it of sums) if (it > top) top = it;
    const axis = levels(Math.max(top, minimum));
    top = axis.at(-1);
    const x = (index) => LEFT + ((width - LEFT) * index) / (SECONDS - 1);
    const y = (it) => TOP + (height - TOP - BOTTOM) * (1 - it / top);
    const drawn = [];
    axis.forEach((level, index) => {
      const here = Math.round(y(level)) + 0.5;
      drawn.push(h("line", { class: index ? "grid" : "axis", x1: LEFT, x2: width, y1: here, y2: here }));
      const label = ticks(level) + (level === top && unit ? " " + unit : "");
      drawn.push(h("text", { x: LEFT - 6, y: here + 4, "text-anchor": "end", text: label }));
    });
    // A label each two minutes of the clock; beside the end there is no room for another.
    for (let moment = Math.ceil((end - SECONDS + 1) / 120) * 120; moment <= end; moment += 120) {
      const here = x(moment - end + SECONDS - 1);
      drawn.push(h("line", { class: "axis", x1: here, x2: here, y1: height - BOTTOM, y2: height - BOTTOM + 4 }));
      if (here > LEFT + 14 && here < width - 14) {
        drawn.push(h("text", { x: here, y: height - 2, "text-anchor": "middle", text: clock(moment, false).slice(-5) }));
      }
    }
    const floor = new Array(SECONDS).fill(0);
    for (const each of series) {
      drawn.push(...(each.isStacked ? area(each, floor, x, y) : line(each, x, y)));
    }
    if (at !== null) {
      const here = x(SECONDS - 1 + at);
      drawn.push(h("line", { class: "cursor", x1: here, x2: here, y1: TOP, y2: height - BOTTOM }));
    }
    svg.setAttribute("viewBox", "0 0 " + width + " " + height);
    svg.replaceChildren(...drawn);
  }

  return { element, draw };
}

function ticks(value) {
  if (value >= 10000) return value / 1000 + "k";
  return String(+value.toPrecision(3));
}

const short = (number) => number.toFixed(1);

function line(each, x, y) {
  const missing = SECONDS - each.values.length;
  let path = "", isOpen = false;
  each.values.forEach((value, index) => {
    if (value === null) { isOpen = false; return; }
    const here = short(x(missing + index)) + " " + short(y(value));
    // A second alone is a line of no length, which round caps make a point.
    path += (isOpen ? "L" : "M") + here + (isOpen ? "" : "h.1");
    isOpen = true;
  });
  return path ? [h("path", { class: "line " + each.class, d: path })] : [];
}

function area(each, floor, x, y) {
  const missing = SECONDS - each.values.length;
  const upper = [], lower = [];
  let any = false;
  each.values.forEach((value, index) => {
    const place = missing + index;
    const here = short(x(place));
    lower.push(here + " " + short(y(floor[place])));
    floor[place] += value || 0;
    any ||= value > 0;
    upper.push(here + " " + short(y(floor[place])));
  });
  return any ? [h("path", { class: "stack " + each.class, d: "M" + upper.join("L") + "L" + lower.reverse().join("L") + "Z" })] : [];
}

// The charts of a set of series: rate, errors by kind, latency. `read`: () => {end, series}.
export function charts(read) {
  const lines = [
    chart({
      title: "Requests", unit: "/s", format: amount,
      read: () => {
        const { end, series } = read();
        return { end, series: [{ name: "requests/s", values: series.requests, class: "c0" }] };
      },
    }),
    chart({ title: "Errors by kind", unit: "/s", format: amount, read: () => byKind(read()) }),
    chart({
      title: "Latency", unit: "ms", format: (it) => (it === null ? "–" : +it.toPrecision(3) + " ms"),
      read: () => {
        const { end, series } = read();
        return {
          end,
          series: [
            { name: "p99", values: series.p99_ms, class: "c1" },
            { name: "p90", values: series.p90_ms, class: "c2 dash" },
            { name: "p50", values: series.p50_ms, class: "c0" },
          ],
        };
      },
    }),
  ];
  return {
    element: h("div", { class: "charts live" }, lines.map((it) => it.element)),
    draw: () => lines.forEach((it) => it.draw()),
  };
}

const amount = (it) => (it === null ? "–" : Math.round(it).toLocaleString("en-US"));

// The five kinds of which there are the most, and all others together.
function byKind({ end, series }) {
  const total = (numbers) => numbers.reduce((a, b) => a + b, 0);
  const kinds = Object.entries(series.kinds).map(([name, values]) => ({ name, values, all: total(values) }));
  const found = kinds.filter((it) => it.all).sort((a, b) => b.all - a.all);
  const shown = found.length > 6 ? found.slice(0, 5) : found;
  const others = found.slice(shown.length);
  if (others.length) {
    const values = series.errors.map((_, index) => others.reduce((sum, it) => sum + (it.values[index] || 0), 0));
    shown.push({ name: "others", values });
  }
  const classes = ["c9", "c1", "c2", "c3", "c4", "c5"];
  const drawn = shown.map((it, index) => ({ name: it.name, values: it.values, class: classes[index], isStacked: true }));
  return { end, series: drawn.length ? drawn : [{ name: "errors/s", values: series.errors, class: "c9", isStacked: true }] };
}

const SPARK = { width: 120, height: 24 };

// A line of sixty numbers but the last, which is not whole yet, and the errors among them in red.
export function spark() {
  const calls = h("path", { class: "line c0" });
  const fails = h("path", { class: "line c9" });
  const element = h("svg", { class: "spark", viewBox: "0 0 120 24", preserveAspectRatio: "none", "aria-hidden": "true" }, calls, fails);
  const draw = (path, numbers, top, isShown) => {
    const points = isShown ? numbers.slice(0, -1).map((it, index) => short((index * SPARK.width) / 58) + " " + short(SPARK.height - 1 - ((SPARK.height - 3) * it) / top)) : [];
    const d = points.length ? "M" + points.join("L") : "";
    if (path.getAttribute("d") !== d) path.setAttribute("d", d);
  };
  return {
    element,
    draw(each) {
      const top = each ? Math.max(1, ...each.requests) : 1;
      draw(calls, each?.requests, top, Boolean(each));
      draw(fails, each?.errors, top, Boolean(each) && each.errors.some((it) => it > 0));
      dress(element, "spark");
    },
  };
}
