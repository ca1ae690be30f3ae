// Where endpoints come from, how old that is, and every endpoint there is.

import { live } from "./live.js";
import { ENDPOINTS } from "./model.js";
import { ago, card, count, dress, h, named, plain, say, span, state } from "./parts.js";
import { table } from "./table.js";

export function sources() {
  const rows = table({ label: "Sources", key: (it) => it.name, limit: 100, columns: SOURCES, empty: "no source beside the configuration" });
  const search = h("input", { type: "search", placeholder: "Search endpoints", "aria-label": "Search endpoints", input: () => draw() });
  const left = h("span", { class: "soft small end" });
  const ends = table({
    label: "Endpoints", key: (it) => it.cluster + " " + it.address, sort: ["state", 1], limit: 50, empty: "no endpoint fits",
    columns: [ENDPOINTS[0], { name: "cluster", label: "Cluster", class: "name wide-only", value: (it) => it.cluster, make: (it) => named(it.cluster) }, ...ENDPOINTS.slice(1)],
  });
  const process = h("dl");
  let drawn = "";

  function draw() {
    const status = live.status;
    if (!status) return;
    const control = status.control || {};
    rows.draw([...(control.config ? [{ ...control.config, kind: "configuration" }] : []), ...(control.sources || [])]);
    const wanted = search.value.trim().toLowerCase();
    const every = (status.clusters || []).flatMap((it) => it.endpoints.map((one) => ({ ...one, cluster: it.name })));
    const fit = every.filter((it) => (it.address + " " + it.cluster).toLowerCase().includes(wanted));
    const more = ends.draw(fit);
    say(left, more > 0 ? "the first 50 of " + fit.length + "; search for others" : count(fit.length) + " endpoints");
    const facts = [
      ["Serves at", (control.listen || []).join(", ")], ["Admin port", control.admin || ""], ["Version", status.version],
      ["Up for", span(status.uptime_s)], ["States applied", count(status.states_applied)],
      ["Connections", count(status.connections) + ", calls in flight " + count(status.in_flight)],
    ];
    if (JSON.stringify(facts) !== drawn) {
      drawn = JSON.stringify(facts);
      process.replaceChildren(...facts.flatMap(([name, value]) => [h("dt", { text: name }), h("dd", { text: plain(value) })]));
    }
  }

  const element = h("div", null, h("h1", { text: "Sources and endpoints" }),
    card("Sources", rows.element), card("This process", process),
    h("section", { class: "card live" }, h("div", { class: "head" }, h("h2", { text: "Endpoints" }), search, left), ends.element));
  return { element, title: "Sources", draw };
}

const SOURCES = [
  { name: "name", label: "Source", class: "name", make: (it) => named(it.name) },
  {
    name: "ok", label: "State", class: "long", make: () => state("", "none"),
    update: (cell, it) => { say(cell.firstChild, it.ok ? "read" : plain(it.error || "cannot be read")); dress(cell.firstChild, "dot " + (it.ok ? "good" : "bad")); },
  },
  { name: "age", label: "Last good state", update: (cell, it) => say(cell, it.last_good_unix_s ? ago(it.last_good_unix_s) : "never") },
  { name: "origin", label: "In use", class: "wide-only", update: (cell, it) => say(cell, it.kind || { saved: "saved state", fallback: "its fallback" }[it.origin] || "what was read") },
  { name: "skipped", label: "Skipped", class: "n wide-only", update: (cell, it) => say(cell, it.skipped === undefined ? "–" : count(it.skipped)) },
  { name: "reads", label: "Reads", class: "n wide-only", update: (cell, it) => say(cell, count(it.reloads_ok) + " good, " + count(it.reloads_failed) + " bad") },
];
