// What a model's releases were before: the last revisions, as far as the service knows them.

import { ago, card, fetched, h, plain } from "./parts.js";

// The registry is read after a change, which takes a moment: it is asked for again.
const EVERY_MS = 5000;
const BEGINS = {
  registry: "All that the registry keeps of the last 20 revisions.",
  none: "None: no release document sets the shares of this model, so no revisions are kept.",
  start: "Seen since this service started: earlier revisions are not known here.",
};

export function releases(name) {
  const note = h("p", { class: "soft small", role: "status" });
  const body = h("tbody");
  const heads = ["Revision", "When", "By whom", "Reason", "What it changed"];
  const rows = h("div", { class: "scroll", hidden: true }, h("table", { "aria-label": "History of releases" },
    h("thead", null, h("tr", null, heads.map((it) => h("th", { scope: "col", text: it })))), body));
  const element = card("History of releases", rows, note);
  let askedAt = 0, drawn = "";

  async function ask() {
    askedAt = Date.now();
    let found = null, fault = "";
    try {
      found = await fetched("/releases/" + encodeURIComponent(name));
    } catch (error) {
      fault = error.message;
    }
    const text = JSON.stringify([found, fault]);
    if (text === drawn) return;
    drawn = text;
    rows.hidden = !found?.revisions.length;
    body.replaceChildren(...(found?.revisions || []).map(row));
    note.textContent = found ? BEGINS[found.begins] + (found.problem ? " " + plain(found.problem) : "")
      : "It cannot be read: " + plain(fault);
  }

  return { element, draw: () => { if (Date.now() - askedAt >= EVERY_MS) ask(); } };
}

function row(it) {
  const at = Date.parse(it.time) / 1000;
  return h("tr", null,
    h("td", { class: "k", text: it.revision ?? "?" }),
    h("td", { class: "k", text: isFinite(at) ? ago(at) : plain(it.time || "–") }),
    h("td", null, h("bdi", { text: plain(it.author || "–") })),
    h("td", { class: "wrap long" }, h("bdi", { text: plain(it.reason || "–") })),
    h("td", { class: "wrap long" }, it.problem ? h("span", { class: "bad", text: "cannot be read: " + plain(it.problem) })
      : it.changes.map((each) => h("div", null, h("bdi", { text: plain(each) })))));
}
