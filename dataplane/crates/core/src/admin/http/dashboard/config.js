// The effective configuration: each value, and where it came from.

import { live } from "./live.js";
import { count, fetched, h, named, plain, say } from "./parts.js";
import { table } from "./table.js";

const LIMIT = 400;

export function config() {
  let values = null, applied = null;
  const rows = table({ label: "Configuration", key: (it) => it.name, limit: LIMIT, columns: COLUMNS, empty: "no value fits" });
  const search = h("input", { type: "search", placeholder: "Search names, values, places", "aria-label": "Search the configuration", input: () => show() });
  const changed = h("input", { type: "checkbox", id: "changed", change: () => show() });
  const note = h("span", { class: "soft small end", role: "status" });

  async function ask() {
    try {
      values = (await fetched("/config")).values;
      show();
    } catch (error) {
      note.textContent = "The configuration cannot be read: " + error.message;
    }
  }

  function show() {
    const wanted = search.value.trim().toLowerCase();
    const fit = (values || []).filter((it) => (!changed.checked || it.from !== "default") && (it.name + " " + text(it.value) + " " + it.from).toLowerCase().includes(wanted));
    const left = rows.draw(fit);
    say(note, left > 0 ? "the first " + LIMIT + " of " + fit.length : count(fit.length) + " values");
  }

  // A new configuration is seen by when it was read.
  function draw() {
    const now = JSON.stringify([live.status?.control?.config?.last_good_unix_s, live.status?.uptime_s === undefined]);
    if (now !== applied) { applied = now; ask(); }
  }

  const element = h("div", null, h("h1", { text: "Effective configuration" }),
    h("section", { class: "card" }, h("div", { class: "head" }, search, h("label", { for: "changed" }, changed, " only what is not the default"), note), rows.element));
  return { element, title: "Configuration", draw };
}

const text = (value) => (typeof value === "string" ? value : JSON.stringify(value));

const COLUMNS = [
  { name: "name", label: "Name", class: "long", make: (it) => named(it.name) },
  { name: "value", label: "Value", class: "name wrap", update: (cell, it) => say(cell, plain(text(it.value))) },
  { name: "from", label: "From", update: (cell, it) => { say(cell, plain(it.from)); cell.className = it.from === "default" ? "soft" : "strong"; } },
];
