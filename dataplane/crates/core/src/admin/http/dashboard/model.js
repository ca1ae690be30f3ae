// One model: what is wrong with it, its last ten minutes, where its calls go, its folder, its endpoints.

import { charts } from "./chart.js";
import { append, empty, figures, live } from "./live.js";
import { stateOf } from "./overview.js";
import { ago, bytes, card, count, dress, fetched, h, milliseconds, named, plain, rate, say, share, state, tryPath } from "./parts.js";
import { list } from "./problems.js";
import { releases } from "./releases.js";
import { table } from "./table.js";

// Kinds of errors and p90 are not in what comes each second: they are asked for so often.
const EVERY_S = 10;

export function model(name) {
  let series = empty(), end = 0, askedAt = 0, fault = "";
  const lines = charts(() => ({ end, series }));
  const wrong = list((it) => it.key.endsWith(" " + name) || it.key.startsWith("quarantine " + name + " ") || about().clusters.some((one) => it.cluster === one.name), " with this model", () => about().found && !figures(name).errors);
  const word = state("", "none");
  const facts = h("p", { class: "soft live" });
  const places = h("div");
  const history = releases(name);
  const endpoints = h("div");
  const folder = h("div");
  let drawn = "";
  const tables = new Map();

  async function ask() {
    askedAt = live.end;
    try {
      const found = await fetched("/history/" + encodeURIComponent(name));
      [series, end, fault] = [found.series, found.end_unix_s, ""];
    } catch (error) {
      fault = String(error.message);
    }
    lines.draw();
  }

  function about() {
    const status = live.status || {};
    const found = (status.models || []).find((it) => it.name === name);
    const own = ((status.control || {}).folders || []).find((it) => it.name === name);
    const routes = found ? routesOf(found) : [];
    const used = new Set(routes.flatMap((it) => it.split.map((one) => one.cluster)));
    return { found, own, routes, clusters: (status.clusters || []).filter((it) => used.has(it.name)) };
  }

  function draw() {
    if (!live.status) return;
    const { found, own, routes, clusters } = about();
    lines.element.hidden = history.element.hidden = !found; // nothing is kept of what has no route
    if (found && (live.end - askedAt >= EVERY_S || !askedAt)) ask();
    else if (live.end > end + 0.5 && end) {
      const last = figures(name).each?.recent.at(-1);
      const [, requests, errors, p50_ms, p99_ms] = last && last[0] === live.end ? last : [0, 0, 0, null, null];
      append(series, end, live.end, { requests, errors, p50_ms, p99_ms });
      end = live.end;
    }
    lines.draw();
    if (found) history.draw();
    wrong.draw();
    if (!found && !own) {
      say(facts, "There is no such model" + (fault ? " (" + fault + ")" : "") + ".");
      return;
    }
    const [text, kind] = stateOf(found || {}, own, new Map(clusters.map((it) => [it.name, it])));
    say(word, text);
    dress(word, "dot " + kind);
    const now = figures(name);
    dress(facts, now.errors ? "bad strong" : "soft live");
    say(facts, rate(now.rate) + " requests/s, " + share(now.errors, now.requests) + " errors in the last minute, p50 " + milliseconds(now.p50) + ", p99 " + milliseconds(now.p99)
      + (found ? "; " + count(found.requests) + " calls and " + count(found.errors) + " errors since the start" : ""));
    const shape = JSON.stringify([routes, own, clusters.map((it) => it.name), found?.labels]);
    if (shape !== drawn) {
      drawn = shape;
      places.replaceChildren(...(found ? [routing(found, routes)] : []));
      folder.replaceChildren(...(own ? [ownFolder(own)] : []));
      endpoints.replaceChildren(...clusters.map((it) => cluster(it, tables)));
    }
    for (const each of clusters) tables.get(each.name)?.draw(each.endpoints);
  }

  const element = h("div", null,
    h("div", { class: "head" }, h("h1", null, named(name)), word, h("a", { class: "button end", href: tryPath(name) }, "Try a call")),
    facts, wrong.element, lines.element, places, history.element, folder, endpoints);
  return { element, title: plain(name), draw };
}

function routesOf(model) {
  const all = model.split ? [{ version: "", split: model.split }] : [];
  return [...all, ...Object.entries(model.versions || {}).map(([version, split]) => ({ version, split }))];
}

// Where calls go: of each version the clusters and their shares, as a bar and in numbers.
function routing(model, routes) {
  const labels = Object.entries(model.labels || {});
  const rows = routes.map(({ version, split }) => {
    const whole = split.reduce((sum, it) => sum + it.weight, 0);
    const bar = h("div", { class: "shares", "aria-hidden": "true" }, split.map((it, index) => {
      const part = h("i", { class: "c" + (index % 6) });
      part.style.flex = String(it.weight);
      return part;
    }));
    const words = split.map((it, index) => h("span", { class: "key c" + (index % 6) }, h("i"), h("b", { text: share(it.weight, whole) }), " ", named(it.cluster, { class: "soft" })));
    return h("tr", null,
      h("td", { class: "k least" }, version ? "version " + plain(version) : "no version named",
        labels.filter(([, to]) => String(to) === version).map(([label]) => h("span", { class: "soft" }, ", label ", named(label)))),
      h("td", null, bar, h("div", { class: "parts chart" }, words)));
  });
  return card("Releases and shares", h("div", { class: "scroll" }, h("table", { "aria-label": "Releases" },
    h("thead", null, h("tr", null, h("th", { scope: "col", text: "Calls that name" }), h("th", { scope: "col", text: "go to" }))),
    h("tbody", null, rows))), model.pass_through ? h("p", { class: "soft", text: "Versions that are not listed are passed on as they are." }) : null);
}

function cluster(each, tables) {
  const rows = table({ label: "Endpoints of " + each.name, key: (it) => it.address, sort: ["address", 1], limit: 50, columns: ENDPOINTS, empty: "no endpoint" });
  tables.set(each.name, rows);
  return h("section", { class: "card live" },
    h("div", { class: "head" }, h("h2", null, "Endpoints of ", named(each.name)), h("span", { class: "soft small end", text: "policy " + each.policy })), rows.element);
}

// What an endpoint is like, in words: [words, kind].
export function endpointState(it) {
  if (!it.live) return ["no connection" + (it.down_since_unix_s ? " since " + ago(it.down_since_unix_s) : "") + (it.down_reason ? ": " + it.down_reason : ""), "bad"];
  if (it.state !== "warm") return [it.state + (it.last_ejection ? ": " + it.last_ejection.reason : ""), "bad"];
  if (it.health === "not_serving") return ["says that it does not serve", "bad"];
  if (it.health === "loading") return ["loads or unloads a model", "warn"];
  if (it.effective_weight < 0.5 * it.weight) return ["weak: its calls fail or are slow", "warn"];
  return ["serving", "good"];
}

const number = (name, label, format, value = (it) => it[name], more = "") => ({ name, label, class: "n" + more, value, update: (cell, it) => say(cell, format(value(it))) });

export const ENDPOINTS = [
  { name: "address", label: "Endpoint", class: "k", value: (it) => it.address, make: (it) => named(it.address) },
  {
    name: "state", label: "State", class: "long", value: (it) => ["bad", "warn", "good"].indexOf(endpointState(it)[1]), make: () => state("", "none"),
    update: (cell, it) => { const [words, kind] = endpointState(it); say(cell.firstChild, plain(words)); dress(cell.firstChild, "dot " + kind); },
  },
  {
    name: "weight", label: "Effective weight", class: "k", value: (it) => it.effective_weight,
    make: () => [h("span", { class: "bar", "aria-hidden": "true" }, h("i")), h("span")],
    update: (cell, it) => {
      const part = it.weight ? it.effective_weight / it.weight : 0;
      const fill = cell.firstChild.firstChild;
      fill.style.width = Math.min(100, 100 * part) + "%";
      dress(fill, part < 0.5 ? "low" : "");
      say(cell.lastChild, +it.effective_weight.toPrecision(3) + " of " + it.weight);
    },
  },
  number("in_flight", "In flight", count),
  number("latency_ms", "Latency", milliseconds),
  number("p50_ms", "p50", milliseconds, undefined, " wide-only"),
  number("p99_ms", "p99", milliseconds, undefined, " wide-only"),
  number("requests", "Calls", count, undefined, " wide-only"),
  number("errors", "Errors", (it) => it, (it) => share(it.errors, it.requests), " wide-only"),
];

// The folder behind a model that is served here.
function ownFolder(own) {
  const versions = (own.versions || []).map((it) => h("tr", null,
    h("td", { text: it.version }),
    h("td", null, state(it.state + (it.serves ? ", takes calls" : ""), it.serves ? (it.healthy ? "good" : "bad") : "none")),
    h("td", { class: "n", text: it.ready + " of " + it.replicas }),
    h("td", { class: "n", text: it.restarts }),
    h("td", { text: it.pids.join(", ") || "–" }),
    h("td", { class: "wrap", text: plain(it.last_reason || "") })));
  const heads = ["Version", "State", "Ready", "Restarts", "Processes", "Last reason"];
  const bad = (own.quarantined || []).map((it) => h("dl", null,
    h("dt", { text: "Quarantined" }), h("dd", { class: "bad strong", text: (it.version === null ? "the folder" : "version " + it.version) + ", at the step " + it.step }),
    h("dt", { text: "Since" }), h("dd", { text: ago(it.since_unix_s) }),
    h("dt", { text: "Why" }), h("dd", { text: it.reason }),
    h("dt", { text: "What to do" }), h("dd", { text: it.remedy || "see the log" }),
    h("dt", { text: "Tried again" }), h("dd", { text: it.next_try })));
  return card("Model folder", h("dl", null,
    h("dt", { text: "State" }), h("dd", { text: own.state + (own.on_demand ? ", loaded on demand" : "") + (own.wanted === "unloaded" ? ", not wanted now" : "") }),
    h("dt", { text: "Kind" }), h("dd", { text: own.kind || "–" }),
    own.memory_bytes ? [h("dt", { text: "Memory" }), h("dd", { text: bytes(own.memory_bytes) })] : [],
    own.loads ? [h("dt", { text: "Loads" }), h("dd", { text: count(own.loads) + ", unloads " + count(own.unloads) })] : [],
    own.last_call_unix_s ? [h("dt", { text: "Last call" }), h("dd", { text: ago(own.last_call_unix_s) })] : []),
  bad, versions.length ? h("div", { class: "scroll" }, h("table", { "aria-label": "Versions" },
    h("thead", null, h("tr", null, heads.map((it) => h("th", { scope: "col", text: it, class: it === "Ready" || it === "Restarts" ? "n" : null })))),
    h("tbody", null, versions))) : null);
}
