// What every page is put together from: elements whose texts are texts, and numbers as people read them.

// Characters that would hide or reorder what stands beside them are shown by their number.
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

export function plain(text) {
  return String(text).replace(UNSEEN, (it) => "\\u" + it.charCodeAt(0).toString(16).padStart(4, "0"));
}

const SVG = new Set(["svg", "path", "line", "text", "g", "rect"]);

// Make an element. `given`: attributes, `class`, `text`, and functions as on-listeners. Children are elements or texts.
export function h(tag, given, ...children) {
  const element = SVG.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(given || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") element.textContent = value;
    else if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat()) if (child !== null && child !== undefined) element.append(child);
  return element;
}

// A name from outside, kept apart from the text around it.
export const named = (name, given) => h("bdi", { ...given, text: plain(name) });

// Set a text or a class only where it changes: what is selected or read aloud stays so.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
export function dress(element, name) {
  if (element.getAttribute("class") !== name) element.setAttribute("class", name);
}

export const modelPath = (name) => "#/models/" + encodeURIComponent(name);
export const callPath = (id) => "#/calls/" + encodeURIComponent(id);
export const tryPath = (name) => "#/try/" + encodeURIComponent(name);
export const modelLink = (name) => h("a", { href: modelPath(name) }, named(name));

const NONE = "–";
const isNumber = (value) => typeof value === "number" && isFinite(value);

export function count(value) {
  if (!isNumber(value)) return NONE;
  return Math.round(value).toLocaleString("en-US");
}

// 0.4, 12, 1,234, 56.7k
export function rate(value) {
  if (!isNumber(value)) return NONE;
  if (value >= 100000) return (value / 1000).toFixed(0) + "k";
  if (value >= 100 || value === 0) return count(value);
  return value >= 10 ? value.toFixed(0) : value >= 1 ? trimmed(value.toFixed(1)) : trimmed(value.toFixed(2));
}

const trimmed = (text) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);

export function milliseconds(value) {
  if (!isNumber(value)) return NONE;
  if (value >= 10000) return (value / 1000).toFixed(1) + " s";
  if (value >= 1000) return (value / 1000).toFixed(2) + " s";
  return (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)) + " ms";
}

export function share(part, whole) {
  if (!whole) return NONE;
  const percent = (100 * part) / whole;
  if (percent === 0) return "0 %";
  return (percent >= 10 ? percent.toFixed(0) : percent >= 1 ? percent.toFixed(1) : percent < 0.01 ? "<0.01" : percent.toFixed(2)) + " %";
}

export function bytes(value) {
  if (!isNumber(value)) return NONE;
  for (const [size, unit] of [[2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]]) {
    if (value >= size) return trimmed((value / size).toFixed(1)) + " " + unit;
  }
  return value + " B";
}

export function clock(unix_s, hasSeconds = true) {
  const at = new Date(unix_s * 1000);
  const day = at.toDateString() === new Date().toDateString() ? "" : at.toISOString().slice(0, 10) + " ";
  return day + at.toTimeString().slice(0, hasSeconds ? 8 : 5);
}

export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 100) return s + " s";
  if (s < 6000) return Math.round(s / 60) + " min";
  if (s < 172800) return Math.round(s / 3600) + " h";
  return Math.round(s / 86400) + " days";
}

export const ago = (unix_s) => clock(unix_s) + ", " + span(Date.now() / 1000 - unix_s) + " ago";

// What a small question needs as an answer: a word with a coloured dot.
export const state = (text, kind) => h("span", { class: "dot " + kind, text });

export function card(title, ...children) {
  return h("section", { class: "card" }, title ? h("div", { class: "head" }, h("h2", { text: title })) : null, ...children);
}

export async function fetched(path, options) {
  const answer = await fetch(path, { cache: "no-store", ...options });
  if (!answer.ok) throw new Error(path + ": " + answer.status + " " + (await answer.text()).slice(0, 300));
  return answer.json();
}
