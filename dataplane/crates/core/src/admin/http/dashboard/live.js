// What the page knows, kept up to date: /status, the last ten minutes, and each second as it comes.

import { fetched } from "./parts.js";

const SECONDS = 600;
const BUCKETS = 60;
const BUCKET_S = 10;
const RECENT_S = 10;
const MINUTE = 6;
// Without a second for this long what is shown is stale.
const STALE_MS = 4000;
const STATUS_EVERY_MS = 10000;

export const live = {
  status: null,
  errors: {},
  ready: true,
  inFlight: 0,
  end: 0, // second of the last number of `total`
  total: empty(),
  models: new Map(), // name -> {requests, errors, p99_ms: by 10 s, recent: [second, requests, errors, p50, p99]}
  heardAt: 0,
  openedAt: Date.now() / 1000,
  isStale: false,
  staleSince: 0,
};

const listeners = new Set();
let stream = null;
let wait = 500;
let statusAt = 0;
let statusHash = null;
let asking = null;
let bucketEnd = 0;
let loadedEnd = 0;

export function empty() {
  return { requests: [], errors: [], kinds: {}, p50_ms: [], p90_ms: [], p99_ms: [] };
}

// Call `listener` now and after each second; returns how to end that.
export function follow(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function tell() {
  if (document.hidden) return;
  for (const listener of [...listeners]) listener();
}

document.addEventListener("visibilitychange", tell);

// Add a second to a series, and none for each one that was missed.
export function append(series, end, second, values) {
  for (let missed = Math.min(Math.round(second - end) - 1, SECONDS); missed > 0; missed--) push(series, {});
  push(series, values);
}

function push(series, values) {
  const before = series.requests.length;
  for (const name of ["requests", "errors"]) series[name].push(values[name] || 0);
  for (const name of ["p50_ms", "p90_ms", "p99_ms"]) series[name].push(values[name] ?? null);
  for (const kind of Object.keys(values.kinds || {})) series.kinds[kind] ||= new Array(before).fill(0);
  for (const [kind, numbers] of Object.entries(series.kinds)) numbers.push((values.kinds || {})[kind] || 0);
  for (const numbers of [series.requests, series.errors, series.p50_ms, series.p90_ms, series.p99_ms, ...Object.values(series.kinds)]) {
    if (numbers.length > SECONDS) numbers.splice(0, numbers.length - SECONDS);
  }
}

function model(name) {
  let found = live.models.get(name);
  if (!found) {
    const none = (value) => new Array(BUCKETS).fill(value);
    found = { requests: none(0), errors: none(0), p99_ms: none(null), recent: [], before: 0 };
    live.models.set(name, found);
  }
  return found;
}

function second(data) {
  if (data.unix_s > live.end) {
    append(live.total, live.end || data.unix_s - 1, data.unix_s, data.total);
    live.end = data.unix_s;
  }
  live.ready = data.ready;
  live.inFlight = data.in_flight;
  while (data.unix_s > bucketEnd) {
    bucketEnd += BUCKET_S;
    for (const each of live.models.values()) {
      for (const [name, value] of [["requests", 0], ["errors", 0], ["p99_ms", null]]) {
        each[name].push(value);
        each[name].splice(0, each[name].length - BUCKETS);
      }
    }
  }
  for (const [name, [requests, errors, p50, p99]] of Object.entries(data.models)) {
    const each = model(name);
    each.recent.push([data.unix_s, requests, errors, p50, p99]);
    each.requests[BUCKETS - 1] += requests;
    each.errors[BUCKETS - 1] += errors;
    if (p99 !== null) each.p99_ms[BUCKETS - 1] = Math.max(p99, each.p99_ms[BUCKETS - 1] || 0);
  }
  for (const each of live.models.values()) {
    while (each.recent.length && each.recent[0][0] <= data.unix_s - RECENT_S) each.recent.shift();
  }
}

// What a row says of a model: calls a second and latencies of the last 10 s, the share of errors of the last minute.
export function figures(name) {
  const each = live.models.get(name);
  if (!each) return { rate: 0, requests: 0, errors: 0, p50: null, p99: null, each: null };
  // Of the seconds before the page heard of single ones, what the last ten of them were like.
  const unheard = Math.max(0, RECENT_S - (live.end - loadedEnd)) / RECENT_S;
  let calls = each.before * unheard, p50 = 0, weight = 0, p99 = null;
  for (const [, requests, , middle, high] of each.recent) {
    calls += requests;
    if (middle !== null) { p50 += middle * requests; weight += requests; }
    if (high !== null) p99 = Math.max(p99 || 0, high);
  }
  if (unheard && p99 === null) p99 = each.p99_ms.at(-1);
  const sum = (numbers) => numbers.slice(-MINUTE).reduce((a, b) => a + b, 0);
  return { rate: calls / RECENT_S, requests: sum(each.requests), errors: sum(each.errors), p50: weight ? p50 / weight : null, p99, each };
}

async function history() {
  const found = await fetched("/history");
  live.total = found.total;
  live.end = found.end_unix_s;
  bucketEnd = loadedEnd = live.end;
  live.models = new Map();
  for (const [name, each] of Object.entries(found.models)) {
    live.models.set(name, { ...each, recent: [], before: each.requests.at(-1) || 0 });
  }
}

async function status() {
  statusAt = Date.now();
  live.status = await fetched("/status");
  live.ready = live.status.ready;
}

// At most one /status is asked for at a time, and one in a second.
function askStatus(hash) {
  const due = Date.now() - statusAt;
  if (asking || due < 1000 || (hash === statusHash && due < STATUS_EVERY_MS)) return;
  statusHash = hash;
  asking = status().then(tell, () => {}).finally(() => { asking = null; });
}

function heard(event) {
  const data = JSON.parse(event.data);
  live.heardAt = Date.now();
  wait = 500;
  second(data);
  askStatus(data.status);
  fresh(false);
  tell();
}

function fresh(isStale) {
  if (isStale === live.isStale) return;
  live.isStale = isStale;
  if (isStale) live.staleSince = live.heardAt / 1000 || live.openedAt;
  tell();
}

async function connect() {
  try {
    const errors = fetched("/errors").catch(() => ({}));
    await Promise.all([status(), history()]);
    live.errors = await errors;
    live.heardAt = Date.now();
    tell();
    stream = new EventSource("/events");
    stream.addEventListener("second", heard);
    stream.addEventListener("error", again);
  } catch {
    again();
  }
}

function again() {
  stream?.close();
  stream = null;
  setTimeout(connect, wait);
  wait = Math.min(2 * wait, 5000);
}

export function start() {
  setInterval(() => fresh(Date.now() - live.heardAt > STALE_MS), 500);
  connect();
}
