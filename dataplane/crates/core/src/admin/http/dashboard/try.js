// Try a call: a sample of the model, or zeros of its shapes, edited as JSON and sent through the service's own port.

import { callPath, card, fetched, h, milliseconds, modelPath, named, plain } from "./parts.js";

const MOST_ZEROS = 4096;

export function attempt(name) {
  let samples = [];
  const choice = h("select", { "aria-label": "Sample", change: () => choose(samples[choice.selectedIndex]) });
  const path = h("input", { "aria-label": "Path", spellcheck: "false" });
  const body = h("textarea", { "aria-label": "Request in JSON", spellcheck: "false" });
  const image = h("img", { class: "preview", alt: "The image of the request", hidden: true });
  const note = h("p", { class: "soft small", role: "status" });
  const answer = h("div", { "aria-live": "polite" }, h("p", { class: "soft", text: "Nothing was sent yet. The call goes through the service's own port, as everybody's do, and counts." }));
  const button = h("button", { type: "submit", class: "button main", text: "Send" });
  let isBegun = false;

  function choose(sample) {
    if (!sample) return;
    path.value = sample.path;
    body.value = JSON.stringify(sample.body, null, 1).replace(/\n\s+(-?[\d.eE+-]+,?)(?=\n)/g, " $1");
    const isImage = /^data:image\/(png|jpeg);base64,[A-Za-z0-9+/=]+$/.test(sample.image || "");
    image.hidden = !isImage;
    if (isImage) image.src = sample.image;
    else image.removeAttribute("src");
  }

  async function begin() {
    try {
      samples = (await fetched("/samples/" + encodeURIComponent(name))).samples;
    } catch {
      samples = [];
    }
    if (!samples.length) {
      note.textContent = "The model has no samples. Asking for its metadata …";
      try {
        samples = [zeros(name, await sent("/v2/models/" + encodeURIComponent(name), "").then((it) => JSON.parse(it.text)))];
        note.textContent = "The model has no samples here: these are zeros in the shapes that it tells.";
      } catch (error) {
        samples = [{ name: "empty", path: "/v2/models/" + encodeURIComponent(name) + "/infer", body: { inputs: [] }, image: null }];
        note.textContent = "The model has no samples here, and does not tell its inputs (" + error.message.slice(0, 200) + "): write a request.";
      }
    }
    choice.replaceChildren(...samples.map((it) => h("option", { text: plain(it.name) })));
    choose(samples[0]);
  }

  async function send(event) {
    event.preventDefault();
    button.disabled = true;
    answer.replaceChildren(h("p", { class: "soft", text: "Waiting for the answer …" }));
    try {
      if (body.value.trim()) JSON.parse(body.value);
      answer.replaceChildren(shown(await sent(path.value, body.value.trim())));
    } catch (error) {
      const words = error instanceof SyntaxError ? "This is no JSON: " + error.message : error.message;
      answer.replaceChildren(h("p", { class: "bad strong wrap", text: words }));
    }
    button.disabled = false;
  }

  const element = h("div", null, h("h1", null, "Try ", h("a", { href: modelPath(name) }, named(name))),
    h("div", { class: "two" },
      h("form", { class: "card", submit: send },
        h("div", { class: "fields" }, h("label", null, "Sample", choice), h("label", { class: "wide" }, "Path", path)),
        note, image, body, h("p", null, button)),
      card("Answer", answer)));
  return { element, title: "Try " + plain(name), draw: () => { if (!isBegun) { isBegun = true; begin(); } } };
}

async function sent(path, body) {
  const begun = performance.now();
  const answered = await fetch("/try?path=" + encodeURIComponent(path), {
    method: "POST", body, cache: "no-store", headers: { "x-dl-inference": "dashboard", ...(body ? { "content-type": "application/json" } : {}) },
  });
  const text = await answered.text();
  if (!body && !answered.ok) throw new Error(text);
  return { status: answered.status, ok: answered.ok, text, took: performance.now() - begun, id: answered.headers.get("x-request-id") };
}

function shown({ status, ok, text, took, id }) {
  let words = text;
  try { words = JSON.stringify(JSON.parse(text), null, 1); } catch { /* shown as it is */ }
  return h("div", null,
    h("p", null, h("span", { class: "dot strong " + (ok ? "good" : "bad"), text: String(status) }), " in " + milliseconds(took), id ? [", call ", h("a", { href: callPath(id) }, named(id))] : null),
    h("pre", { tabindex: "0", text: words.slice(0, 200000) }));
}

// A request of zeros for a model's metadata of the Open Inference Protocol; open dimensions are 1.
function zeros(name, metadata) {
  const inputs = (metadata.inputs || []).map((it) => {
    const shape = it.shape.map((size) => (Number(size) > 0 ? Number(size) : 1));
    const size = shape.reduce((a, b) => a * b, 1);
    if (size > MOST_ZEROS) throw new Error("an input has " + size + " values");
    const zero = it.datatype === "BYTES" ? "" : it.datatype === "BOOL" ? false : 0;
    return { name: it.name, datatype: it.datatype, shape, data: new Array(size).fill(zero) };
  });
  return { name: "zeros", path: "/v2/models/" + encodeURIComponent(name) + "/infer", body: { inputs }, image: null };
}
