// Which page is shown, and what is on all of them: the state in a word, whether it is stale, where one is.

import { attempt } from "./try.js";
import { call, calls } from "./calls.js";
import { config } from "./config.js";
import { follow, live, start } from "./live.js";
import { model } from "./model.js";
import { overview } from "./overview.js";
import { ago, dress, say, span } from "./parts.js";
import { problems } from "./problems.js";
import { sources } from "./sources.js";

const main = document.getElementById("main");
const pill = document.getElementById("pill");
const stale = document.getElementById("stale");
const about = document.getElementById("about");
let page = null;

function pageAt(hash) {
  const [, first = "", rest = ""] = /^#\/([a-z]*)(?:[/?](.*))?$/s.exec(hash) || [];
  let name = rest;
  try { name = decodeURIComponent(rest); } catch { /* taken as it is */ }
  if (first === "models" && name) return model(name);
  if (first === "calls") return name === "failed" ? calls("failed") : name ? call(name) : calls("slow");
  if (first === "sources") return sources();
  if (first === "config") return config();
  if (first === "try" && name) return attempt(name);
  return overview();
}

function go() {
  const isFirst = page === null;
  page = pageAt(location.hash);
  main.replaceChildren(page.element);
  for (const link of document.querySelectorAll("nav a")) {
    const here = link.getAttribute("href");
    const isHere = here === "#/" ? /^(#\/?)?$|^#\/(models|try)/.test(location.hash) : location.hash.startsWith(here);
    if (isHere) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (!isFirst) {
    main.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
  draw();
}

function draw() {
  const found = problems();
  const bad = found.filter((it) => it.isBad).length;
  const [words, kind] = !live.end ? ["no data yet", "none"]
    : live.isStale ? ["stale", "warn"]
    : bad ? [bad + (bad === 1 ? " problem" : " problems"), "bad"]
    : found.length ? [found.length + (found.length === 1 ? " warning" : " warnings"), "warn"] : ["all well", "good"];
  say(pill, words);
  dress(pill, "pill " + kind);
  document.title = (live.isStale ? "stale: " : bad ? "(" + bad + ") " : "") + page.title + " – dl-inference";
  stale.hidden = !live.isStale;
  if (live.isStale) {
    const words = live.heardAt ? "Stale since " + ago(live.staleSince) + ": nothing was heard from the service since." : "No answer from the service since " + ago(live.openedAt) + ".";
    say(stale, words + " Trying again …");
  }
  document.body.classList.toggle("is-stale", live.isStale);
  if (live.status) say(about, "dl-inference " + live.status.version + ", up for " + span(live.status.uptime_s));
  page.draw();
}

addEventListener("hashchange", go);
document.querySelector("a.skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
go();
follow(draw);
start();
setInterval(() => { if (live.isStale) draw(); }, 1000);

