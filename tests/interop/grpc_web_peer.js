// Runs with .peers/grpc-web: Google's grpc-web as pages use it, on node's stand-in for XMLHttpRequest. Arguments,
// requests and output are those of grpc_web_peer.py; a third argument more is the form, `text` or `binary`.
"use strict";

const [folder, url, unary, stream, format] = process.argv.slice(2);
const load = (name) => require(require.resolve(name, { paths: [folder] }));
global.XMLHttpRequest = load("xhr2").XMLHttpRequest;
const web = load("grpc-web");

const requests = require("fs").readFileSync(0, "utf8").split("\n").filter(Boolean);
const bytes = (hex) => Uint8Array.from(Buffer.from(hex, "hex"));
const hex = (data) => Buffer.from(data).toString("hex");
const same = (data) => data;
const client = new web.GrpcWebClientBase({ format });
const method = (path, type) => new web.MethodDescriptor(path, type, Uint8Array, Uint8Array, same, same);

const call = (request) =>
  new Promise((resolve) => {
    const descriptor = method(unary, web.MethodType.UNARY);
    client.rpcCall(url + unary, bytes(request), {}, descriptor, (error, answer) =>
      resolve(error ? [error.code, error.message] : hex(answer)));
  });

const calls = (request) =>
  new Promise((resolve) => {
    const answers = [];
    const running = client.serverStreaming(
      url + stream, bytes(request), {}, method(stream, web.MethodType.SERVER_STREAMING));
    running.on("data", (answer) => answers.push(hex(answer)));
    running.on("error", (error) => resolve({ answers, error: [error.code, error.message] }));
    running.on("end", () => resolve({ answers }));
  });

(async () => {
  const found = { call: await call(requests[0]), "failed call": await call(requests[2]) };
  // The binary form has no streams in a page: XMLHttpRequest gives binary data at the end only.
  if (format === "text") {
    found.stream = await calls(requests[1]);
    found["failed stream"] = await calls(requests[3]);
  }
  console.log(JSON.stringify(found));
  process.exit(0);
})();
