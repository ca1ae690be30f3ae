// The slowest and the failed calls of the last minutes, and the way of one: its attempts, and where its time went.

import { live } from "./live.js";
import { ago, callPath, card, clock, fetched, h, milliseconds, modelLink, named, plain, state } from "./parts.js";
import { table } from "./table.js";

const EVERY_MS = 5000;
const LIMIT = 50;
const held = new Map(); // the calls that were shown, by id

export function calls(which) {
  const rows = table({ label: "Calls", key: (it) => it.request_id + it.started_unix_s, limit: LIMIT, columns: COLUMNS, empty: which === "failed" ? "no call has failed" : "no calls yet" });
  const only = h("input", { type: "search", placeholder: "Model", "aria-label": "Only this model", list: "models", change: () => ask() });
  const names = h("datalist", { id: "models" });
  const note = h("p", { class: "soft small", role: "status" });
  let askedAt = 0;

  async function ask() {
    askedAt = Date.now();
    const model = only.value.trim();
    try {
      const found = await fetched("/calls?which=" + which + "&limit=" + LIMIT + (model ? "&model=" + encodeURIComponent(model) : ""));
      for (const each of found.calls) held.set(each.request_id, each);
      rows.draw(found.calls);
      note.textContent = which === "failed" ? "Newest first." : "The slowest of the last 10 minutes first.";
    } catch (error) {
      note.textContent = "The calls cannot be read: " + error.message;
    }
  }

  function draw() {
    if (Date.now() - askedAt >= EVERY_MS) ask();
    const known = (live.status?.models || []).slice(0, 500);
    if (names.children.length !== known.length) names.replaceChildren(...known.map((it) => h("option", { value: it.name })));
  }

  const choice = (name, label) => h("a", { class: "button", href: name === "slow" ? "#/calls" : "#/calls?failed", "aria-pressed": String(which === name), role: "button" }, label);
  const element = h("div", null, h("h1", { text: "Calls" }),
    h("section", { class: "card live" }, h("div", { class: "head" }, choice("slow", "Slowest"), choice("failed", "Failed"), only, names), note, rows.element));
  return { element, title: "Calls", draw };
}

const COLUMNS = [
  { name: "id", label: "Call", class: "name", make: (it) => h("a", { href: callPath(it.request_id) }, named(it.request_id)) },
  { name: "model", label: "Model", class: "name", make: (it) => (it.model ? modelLink(it.model) : "–") },
  { name: "method", label: "Method", class: "wide-only", make: (it) => plain(it.method.split("/").pop()) },
  { name: "when", label: "When", class: "k wide-only", make: (it) => clock(it.started_unix_s) },
  { name: "took", label: "Took", class: "n", make: (it) => milliseconds(it.duration_ms) },
  { name: "code", label: "Answer", make: (it) => (it.code === "OK" ? state("OK", "good") : state(plain(it.error || it.code), "bad")) },
  { name: "attempts", label: "Attempts", class: "n wide-only", make: (it) => String(it.attempts) },
  { name: "endpoint", label: "Endpoint", class: "wide-only", make: (it) => (it.legs.length ? named(it.legs.at(-1).endpoint) : "–") },
];

export function call(id) {
  const place = h("div", null, h("p", { class: "soft", text: "Looking for it …" }));
  const element = h("div", null, h("h1", null, "Call ", named(id)), place);
  let isAsked = false;

  async function draw() {
    if (isAsked) return;
    isAsked = true;
    try {
      const found = held.get(id) || (await fetched("/calls/" + encodeURIComponent(id)));
      place.replaceChildren(way(found));
    } catch {
      place.replaceChildren(h("p", { text: "This call is no longer remembered: only the last calls, the slowest and the failed ones are." }), h("p", null, h("a", { href: "#/calls", text: "All calls" })));
    }
  }
  return { element, title: "Call " + plain(id), draw };
}

const WHY = { first: "first attempt", retry: "retry", hedge: "hedge: the first took long" };

// A call as bars on one line of time.
export function way(found) {
  const whole = Math.max(found.duration_ms, ...found.legs.map((it) => it.started_ms + it.duration_ms), 0.001);
  const remedy = found.error && live.errors[found.error]?.remedy;
  const about = h("dl", null,
    h("dt", { text: "Answer" }), h("dd", null, found.code === "OK" ? state("OK", "good") : state(plain(found.code + (found.error ? ", " + found.error : "")), "bad")),
    remedy ? [h("dt", { text: "What to do" }), h("dd", { text: remedy })] : [],
    h("dt", { text: "Model" }), h("dd", null, found.model ? modelLink(found.model) : "–"),
    h("dt", { text: "Method" }), h("dd", { text: plain(found.method) }),
    h("dt", { text: "Began" }), h("dd", { text: ago(found.started_unix_s) }),
    h("dt", { text: "Took" }), h("dd", { text: milliseconds(found.duration_ms) }),
    h("dt", { text: "Attempts" }), h("dd", { text: found.attempts + (found.attempts > found.legs.length ? ", of which " + found.legs.length + " are remembered" : "") }));
  const legs = found.legs.map((it) => leg(it, whole));
  const before = found.legs.length ? found.legs[0].started_ms : found.duration_ms;
  return card("Its way", about, h("h3", { text: "Attempts, from 0 to " + milliseconds(whole) }), h("div", { class: "way" },
    legs.length ? legs : h("p", { class: "soft", text: "It was sent to no endpoint." }),
    h("p", { class: "soft small", text: milliseconds(before) + (found.legs.length ? " until the first attempt." : " in the access service.") })));
}

// Parts of an attempt in the order of time: those that the endpoint tells, the rest being the network and the server.
function parts(it) {
  const inner = it.model_ms === null || it.model_ms === undefined
    ? [["compute", it.compute_ms, "c0"]]
    : [["preprocess", it.preprocess_ms, "c3"], ["model", it.model_ms, "c0"], ["postprocess", it.postprocess_ms, "c2"]];
  const known = [["queue", it.queue_ms, "c1"], ...inner].filter(([, value]) => typeof value === "number");
  const rest = it.duration_ms - known.reduce((sum, [, value]) => sum + value, 0);
  return [...known, ["network and server", Math.max(0, rest), "other"]];
}

function leg(it, whole) {
  const found = parts(it);
  const percent = (value) => Math.min(100, (100 * value) / whole);
  // The rest lies half before and half after what the endpoint tells.
  const rest = found.at(-1)[1];
  const bar = (from, length, name) => {
    const piece = h("i", { class: name });
    piece.style.left = percent(from) + "%";
    piece.style.width = percent(length) + "%";
    return piece;
  };
  const bars = [bar(it.started_ms, it.duration_ms, "other")];
  let at = it.started_ms + rest / 2;
  for (const [, value, name] of found.slice(0, -1)) {
    bars.push(bar(at, value, name));
    at += value;
  }
  const bad = it.code !== "OK";
  return h("div", { class: "leg" },
    h("div", null, named(it.endpoint), h("div", { class: "small " + (bad ? "bad" : "soft"), text: (WHY[it.why] || it.why) + (it.cause ? ", " + it.cause : "") + ": " + it.code })),
    h("div", null, h("div", { class: "track", "aria-hidden": "true" }, bars),
      h("div", { class: "parts chart" }, h("span", null, "began at ", h("b", { text: milliseconds(it.started_ms) })), h("span", null, "took ", h("b", { text: milliseconds(it.duration_ms) })),
        found.map(([name, value, color]) => h("span", { class: "key " + color }, h("i"), h("span", { class: "soft", text: name }), h("b", { text: milliseconds(value) }))))));
}
