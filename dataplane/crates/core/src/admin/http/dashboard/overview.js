// The first page: what is wrong, how much goes on, and every model.

import { charts, spark } from "./chart.js";
import { figures, live } from "./live.js";
import { count, dress, h, milliseconds, modelLink, plain, rate, say, share, state } from "./parts.js";
import { list } from "./problems.js";
import { table } from "./table.js";

const LIMIT = 50;

export function overview() {
  const wrong = list();
  const lines = charts(() => ({ end: live.end, series: live.total }));
  const search = h("input", { type: "search", "aria-label": "Search models", placeholder: "Search models", input: () => drawModels() });
  const about = h("span", { class: "soft small end" });
  const rows = table({
    label: "Models", key: (it) => it.name, sort: ["rate", -1], limit: LIMIT, columns: COLUMNS, empty: "no model fits",
  });

  function drawModels() {
    const wanted = search.value.trim().toLowerCase();
    const every = live.end ? modelRows() : [];
    const left = rows.draw(every.filter((it) => it.name.toLowerCase().includes(wanted)));
    say(about, left > 0 ? "the first " + LIMIT + " of " + (left + LIMIT) + "; search for others" : count(every.length) + (every.length === 1 ? " model" : " models"));
  }

  const element = h("div", null,
    h("h1", { class: "skip", text: "Overview" }),
    wrong.element, lines.element,
    h("section", { class: "card live" }, h("div", { class: "head" }, h("h2", { text: "Models" }), search, about), rows.element));
  return { element, title: "Overview", draw: () => { wrong.draw(); lines.draw(); drawModels(); } };
}

// A row for each model that is routed, and for each folder of which nothing serves yet.
function modelRows() {
  const status = live.status;
  if (!status) return [];
  const clusters = new Map((status.clusters || []).map((it) => [it.name, it]));
  const folders = new Map(((status.control || {}).folders || []).map((it) => [it.name, it]));
  const known = new Set((status.models || []).map((it) => it.name));
  const others = [...folders.keys()].filter((it) => !known.has(it)).map((name) => ({ name }));
  return [...(status.models || []), ...others].map((model) => {
    const folder = folders.get(model.name);
    return { name: model.name, model, folder, ...figures(model.name), state: stateOf(model, folder, clusters) };
  });
}

// What a model is like, in a word: [word, kind, order].
export function stateOf(model, folder, clusters) {
  if (folder?.quarantined?.length) return folder.state === "failed" ? ["quarantined", "bad", 0] : ["new one quarantined", "warn", 2];
  if (folder?.state === "failed") return ["failed", "bad", 0];
  if (folder && folder.state !== "serving") return [folder.state, "none", 4];
  const names = [...(model.split || []), ...Object.values(model.versions || {}).flat()].map((it) => it.cluster);
  const ends = [...new Set(names)].map((it) => clusters.get(it)).filter(Boolean);
  if (ends.some((it) => !it.endpoints.some((one) => one.live))) return ["no endpoint", "bad", 1];
  const weak = ends.some((it) => it.endpoints.some((one) => !one.live || one.state !== "warm" || one.health === "not_serving"));
  return weak ? ["degraded", "warn", 3] : ["serving", "good", 5];
}

function versions(row) {
  const served = row.folder?.versions?.filter((it) => it.serves).map((it) => it.version);
  return served?.length ? served.join(", ") : Object.keys(row.model.versions || {}).join(", ");
}

export function shares(split) {
  if (!split || split.length < 2) return "";
  const whole = split.reduce((sum, it) => sum + it.weight, 0);
  return split.map((it) => plain(it.cluster) + " " + share(it.weight, whole)).join(", ");
}

const COLUMNS = [
  { name: "name", label: "Model", class: "name", value: (it) => it.name, make: (it) => modelLink(it.name) },
  {
    name: "state", label: "State", value: (it) => it.state[2], make: () => state("", "none"),
    update: (cell, it) => { say(cell.firstChild, it.state[0]); dress(cell.firstChild, "dot " + it.state[1]); },
  },
  { name: "rate", label: "Req/s", class: "n", value: (it) => it.rate, update: (cell, it) => say(cell, rate(it.rate)) },
  {
    name: "errors", label: "Errors", class: "n", value: (it) => (it.requests ? it.errors / it.requests : -1),
    make: () => h("span"),
    update: (cell, it) => { say(cell.firstChild, share(it.errors, it.requests)); dress(cell.firstChild, it.errors ? "bad strong" : ""); },
  },
  { name: "p50", label: "p50", class: "n wide-only", value: (it) => it.p50, update: (cell, it) => say(cell, milliseconds(it.p50)) },
  { name: "p99", label: "p99", class: "n", value: (it) => it.p99, update: (cell, it) => say(cell, milliseconds(it.p99)) },
  {
    name: "spark", label: "10 minutes", class: "wide-only",
    make: (it) => { it.spark = spark(); return it.spark.element; },
    update: (cell, it) => { (cell.spark ||= it.spark).draw(it.each); },
  },
  { name: "versions", label: "Versions", class: "wide-only", value: versions, update: (cell, it) => say(cell, plain(versions(it))) },
  { name: "shares", label: "Shares", class: "wide-only", update: (cell, it) => say(cell, shares(it.model.split)) },
];
