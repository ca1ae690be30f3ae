// Is anything wrong, since when, and what is to be done: everything that /status and the last minute tell of it.

import { live } from "./live.js";
import { ago, clock, count, h, modelPath, named, plain, share, span } from "./parts.js";

const MINUTE = 60;
// Seconds without an error that end a run of them.
const PAUSE = 30;
// From this share of a minute's calls on errors are no single mishaps.
const MANY = 0.01;
const SHOWN = 6;
// From this weight on calls fail, or a change has no effect.
const BAD = 75;

// A name in what a problem is called; it becomes an element when it is shown.
const name = (text) => ({ name: text });

// What helps where an endpoint answers an error of its own, by its code. Those of CALLERS are the callers' to correct.
const CALLERS = new Set(["INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "OUT_OF_RANGE", "UNAUTHENTICATED", "PERMISSION_DENIED", "ALREADY_EXISTS"]);
const REMEDIES = {
  RESOURCE_EXHAUSTED: "the endpoints are full: add some, or send them less",
  UNIMPLEMENTED: "callers ask for a method that the endpoints do not have: see which one in the failed calls",
  CANCELLED: "callers give up: see whether the model has become slow",
  DEADLINE_EXCEEDED: "callers wait no longer: see whether the model has become slow, or raise their deadline",
};

// When the page saw a problem first, by its key.
const seen = new Map();

// Every problem, the worst first: {key, weight, isBad, what, why, since: {at, isAtLeast}, remedy, href}.
export function problems() {
  const status = live.status;
  if (!status) return [];
  const control = status.control || {};
  const clusters = new Map((status.clusters || []).map((it) => [it.name, it]));
  const dead = models(status, control, clusters);
  const found = [
    ...process(status),
    ...dead,
    ...errors(),
    ...configuration(control),
    ...folders(control),
    ...endpoints(clusters, new Set(dead.flatMap((it) => it.clusters))),
    ...sources(control),
    ...(control.warnings || []).map((it) => ({ key: "warning " + it, weight: 30, what: "Warning", why: it, remedy: "the text says what; see also the log" })),
  ];
  found.sort((a, b) => b.weight - a.weight || (a.key < b.key ? -1 : 1));
  return remembered(found);
}

function remembered(found) {
  const keys = new Set(found.map((it) => it.key));
  for (const key of seen.keys()) if (!keys.has(key)) seen.delete(key);
  for (const each of found) {
    if (!seen.has(each.key)) seen.set(each.key, Date.now() / 1000);
    const at = seen.get(each.key);
    each.isBad = each.weight >= BAD;
    each.since ||= { at, isAtLeast: at - live.openedAt < 3 };
  }
  return found;
}

// Since when the service says that it is so; none where it does not say.
const told = (at) => (at ? { at } : null);

function process(status) {
  if (status.draining) {
    return [{ key: "draining", weight: 95, since: told(status.draining_since_unix_s), what: "The service is draining", why: "it takes no new connections and ends when its calls have ended", remedy: "nothing, if it was stopped on purpose; else see the log for who sent SIGTERM" }];
  }
  if (!status.ready) {
    return [{ key: "not ready", weight: 99, what: "The service is not ready", why: "no routing state has been applied yet", remedy: "see the log; `dl-inference check` shows what is wrong with the configuration" }];
  }
  return [];
}

const clustersOf = (model) => [...(model.split || []), ...Object.values(model.versions || {}).flat()].map((it) => it.cluster);

// Models of which some route leads to no endpoint that is live. Of one that is served here the folder tells why.
function models(status, control, clusters) {
  const folders = new Map((control.folders || []).map((it) => [it.name, it]));
  const found = [];
  for (const model of status.models || []) {
    const folder = folders.get(model.name);
    if (folder && ["failed", "unloaded", "loading"].includes(folder.state)) continue;
    const dead = [...new Set(clustersOf(model))].map((it) => clusters.get(it)).filter((it) => it && !it.endpoints.some((one) => one.live && one.health !== "not_serving"));
    if (!dead.length) continue;
    const ends = dead.flatMap((it) => it.endpoints);
    const times = ends.map((it) => it.down_since_unix_s).filter(Boolean);
    const why = ends.length
      ? ends.slice(0, 3).map((it) => it.address + ": " + (it.live ? "says that it does not serve" : it.down_reason || "no connection")).join("\n") + (ends.length > 3 ? "\nand " + (ends.length - 3) + " more" : "")
      : "there is no endpoint in " + dead.map((it) => it.name).join(", ");
    found.push({
      key: "dead " + model.name, clusters: dead.map((it) => it.name), weight: 100, what: ["No live endpoint for ", name(model.name)], why, href: modelPath(model.name),
      since: times.length ? { at: Math.max(...times) } : null,
      remedy: ends.length ? "start the model server at the address, or correct the address" : "add endpoints in access.yaml or in the source that names them",
    });
  }
  return found;
}

// Errors of the last minute by kind, and since when there are such.
function errors() {
  const { requests, kinds } = live.total;
  const sum = (numbers) => numbers.slice(-MINUTE).reduce((a, b) => a + (b || 0), 0);
  const calls = sum(requests);
  const found = [];
  for (const [kind, numbers] of Object.entries(kinds)) {
    const failed = sum(numbers);
    if (!failed) continue;
    let first = numbers.length - 1, quiet = 0;
    for (let index = first; index >= 0 && quiet <= PAUSE; index--) {
      if (numbers[index]) { first = index; quiet = 0; } else quiet += 1;
    }
    const at = live.end - (numbers.length - 1 - first);
    const isMany = failed >= MANY * calls;
    found.push({
      key: "error " + kind, weight: !isMany ? 35 : CALLERS.has(kind) ? 55 : 90, href: "#/calls?failed",
      what: [share(failed, calls), " of the last minute's calls failed: ", name(kind)],
      why: count(failed) + " of " + count(calls) + " calls" + (live.errors[kind] ? ", answered " + live.errors[kind].code : ""),
      since: { at, isAtLeast: first === 0 },
      remedy: live.errors[kind]?.remedy || REMEDIES[kind] || (CALLERS.has(kind)
        ? "the endpoints refuse what callers send: see who sends it in the failed calls, and why in the answer"
        : "the endpoints answer it: look at the failed calls, and at the model server's log"),
    });
  }
  return found;
}

function configuration(control) {
  const found = [];
  const config = control.config;
  if (config?.error) {
    found.push({
      key: "config", weight: 80, what: "The configuration is refused; the former one holds", why: config.error, href: "#/config",
      since: told(config.failed_since_unix_s),
      remedy: "correct it; `dl-inference check` shows every problem at once",
    });
  }
  if (control.refused) {
    found.push({ key: "refused", weight: 85, since: told(control.refused_since_unix_s), what: "The data plane refused the new routes; the former ones hold", why: control.refused, remedy: "correct what the text names; it is tried again with the next change" });
  }
  if (control.needs_restart?.length) {
    found.push({ key: "restart " + control.needs_restart, weight: 45, since: told(control.needs_restart_since_unix_s), what: ["A restart is needed for ", control.needs_restart.join(", ")], why: "the old values hold until then", href: "#/config", remedy: "restart the access service when it suits; calls in flight end first" });
  }
  return found;
}

function folders(control) {
  const found = [];
  for (const folder of control.folders || []) {
    const href = modelPath(folder.name);
    for (const each of folder.quarantined || []) {
      const what = each.version === null || each.version === undefined ? "The folder " : "Version " + each.version + " of ";
      const isServed = !["failed", "unloaded"].includes(folder.state);
      found.push({
        key: "quarantine " + folder.name + " " + each.version, weight: isServed ? 70 : 98, href,
        what: [what, name(folder.name), " is kept from calls: it failed at the step " + each.step],
        why: each.reason + "\n" + (isServed ? "The former version serves on. " : "Nothing of this model serves. ") + "It is tried again " + each.next_try + ".",
        since: { at: each.since_unix_s }, remedy: each.remedy,
      });
    }
    if (folder.state === "failed" && !folder.quarantined?.length) {
      found.push({ key: "failed " + folder.name, weight: 98, href, what: [name(folder.name), " cannot be served"], why: folder.reason, remedy: "see the log, and `dl-inference check` on its folder" });
    }
    if (folder.refusal) {
      found.push({ key: "refusal " + folder.name, weight: 65, href, what: [name(folder.name), " could not be loaded"], why: folder.refusal, remedy: "free memory: unload another model, or raise --memory-budget" });
    }
  }
  return found;
}

// Endpoints that get no calls or few: one problem for all of a cluster that have the same. Those of a model without any
// live endpoint are named there.
function endpoints(clusters, dead) {
  const found = [];
  const now = Date.now() / 1000;
  for (const cluster of clusters.values()) {
    if (dead.has(cluster.name)) continue;
    const down = [], ejected = [], idle = [];
    for (const each of cluster.endpoints) {
      if (!each.live) {
        if (each.down_since_unix_s || each.requests) down.push([each, each.down_reason || "the connection was lost", each.down_since_unix_s]);
      } else if (each.state !== "warm") {
        const last = each.last_ejection;
        const why = each.state + ": " + (last?.reason || "its calls failed") + (each.ejections > 1 ? ", for the " + each.ejections + ". time" : "");
        ejected.push([each, why, last ? now - last.seconds_ago : null]);
      } else if (each.health === "not_serving") idle.push([each, "it answers NOT_SERVING", null]);
    }
    const many = (group) => (group.length === 1 ? [name(group[0][0].address)] : [group.length + " of " + cluster.endpoints.length + " endpoints"]);
    const add = (kind, group, before, after, remedy) => {
      if (!group.length) return;
      const times = group.map((it) => it[2]).filter(Boolean);
      const lines = group.slice(0, 3).map(([each, why]) => (group.length > 1 ? each.address + ": " : "") + why);
      if (group.length > 3) lines.push("and " + (group.length - 3) + " more");
      found.push({
        key: kind + " " + cluster.name, cluster: cluster.name, weight: 60, href: "#/sources", what: [before, ...many(group), after, " in ", name(cluster.name)],
        why: lines.join("\n"), since: times.length ? { at: Math.min(...times) } : null, remedy,
      });
    };
    add("down", down, "No connection to ", "", "see whether the server runs and listens there; its share goes to the others meanwhile");
    add("ejected", ejected, "Calls are kept from ", "", "look at its log; a call now and then finds out whether it has healed, then it gets its share again");
    add("idle", idle, "NOT_SERVING is what ", " says", "it drains or loads, or its model failed: see its log");
  }
  return found;
}

function sources(control) {
  return (control.sources || []).filter((it) => !it.ok).map((it) => ({
    key: "source " + it.name, weight: 50, href: "#/sources",
    what: ["The source ", name(it.name), " cannot be read"],
    why: it.error + (it.last_good_unix_s ? "\nIn use: its state of " + ago(it.last_good_unix_s) : "\nIt was never read: its fallback is in use."),
    since: told(it.failed_since_unix_s),
    remedy: "calls go on with the last good state; bring the source back, or correct it, before the endpoints change",
  }));
}

// A list of problems, drawn anew only when it reads otherwise. `about`: which of them; `what` they would be wrong with;
// `isWell`: whether nothing else is wrong.
export function list(about = () => true, what = "", isWell = () => true) {
  const items = h("ul", { class: "problems" });
  const more = h("button", { type: "button", class: "button", hidden: true, click: () => { isOpen = true; draw(); } });
  const well = h("p", { class: "well" });
  const element = h("div", { "aria-live": "polite" }, well, items, more);
  let drawn = "", isOpen = false;

  function draw() {
    const every = problems().filter(about);
    const shown = isOpen ? every : every.slice(0, SHOWN);
    const texts = JSON.stringify(shown.map((it) => [it.key, it.what, it.why, it.since, isOpen]));
    items.hidden = !every.length;
    more.hidden = shown.length === every.length;
    more.textContent = "Show " + (every.length - shown.length) + " more";
    well.hidden = every.length > 0 || !isWell() || !live.end || live.isStale;
    if (!well.hidden) {
      const up = live.status.uptime_s;
      well.replaceChildren("Nothing is wrong" + what + ". ", h("span", { text: "Up for " + span(up) + ", since " + clock(Date.now() / 1000 - up, false) + "." }));
    }
    if (texts === drawn) {
      shown.forEach((it, index) => { items.children[index].querySelector(".since").textContent = since(it); });
      return every;
    }
    drawn = texts;
    items.replaceChildren(...shown.map(item));
    return every;
  }
  return { element, draw };
}

function since(problem) {
  const { at, isAtLeast } = problem.since;
  return (isAtLeast ? "since before " : "since ") + ago(at);
}

const shown = (part) => (typeof part === "string" ? part : named(part.name));

function item(problem) {
  const what = [problem.what].flat().map(shown);
  return h("li", { class: "problem " + (problem.isBad ? "bad" : "warn") },
    h("div", { class: "what" }, problem.href ? h("a", { href: problem.href, class: problem.isBad ? "bad" : "warn" }, what) : what),
    h("div", { class: "since", text: since(problem) }),
    h("div", { class: "why", text: String(problem.why || "").split("\n").map(plain).join("\n") }),
    h("div", { class: "do" }, h("b", { text: "What to do: " }), plain(problem.remedy || "see the log")));
}
