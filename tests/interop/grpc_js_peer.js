// Calls the access service with grpc-js and the messages of protos/. What is expected stands in
// test_node_and_tonic.py; tonic/src/main.rs does the same.
//
//     node grpc_js_peer.js FOLDER
//
// FOLDER is .peers/node. Each line of standard input is SCENARIO ADDRESS [ARGUMENT...]; what it found is printed as
// `found` and JSON, when its connections are closed.
"use strict";

const http2 = require("http2");
const path = require("path");

const folder = process.argv[2];
const load = (name) => require(require.resolve(name, { paths: [folder] }));
const grpc = load("@grpc/grpc-js");
const proto = load("@grpc/proto-loader").loadSync(
  [
    "access.proto", "grpc_service.proto", "proto/prediction.proto", "grpc/health/v1/health.proto",
    "tensorflow_serving/apis/prediction_service.proto",
  ],
  { includeDirs: [path.join(__dirname, "../../protos")], keepCase: true, longs: Number, enums: String });
const services = grpc.loadPackageDefinition(proto);
const Inference = services.inference.GRPCInferenceService;
const LIMITS = { "grpc.max_receive_message_length": -1, "grpc.max_send_message_length": -1 };

// --- means

// Of the scenario that runs.
let [address, words, clients] = ["", [], []];

const lines = require("readline").createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const told = async () => (await lines.next()).value;

// Each has a connection of its own.
const open = (Service, options = {}, target = address, credentials = grpc.credentials.createInsecure()) => {
  const client = new Service(target, credentials, { ...LIMITS, "grpc.use_local_subchannel_pool": 1, ...options });
  clients.push(client);
  return client;
};

const failed = (error) => ({ failed: [error.code, error.details], metadata: error.metadata });

// Resolves to the answer, or to {failed: [code, text]}; `then` gets the running call.
const call = (client, method, request, { metadata, options, then } = {}) =>
  new Promise((resolve) => {
    const running = client[method](request, metadata || new grpc.Metadata(), options || {}, (error, answer) =>
      resolve(error ? failed(error) : answer));
    if (then) then(running);
  });

// Byte i is i * 31 + i / 256 * 7; the tests know it, too.
const content = (size) => {
  const data = Buffer.alloc(size);
  for (let at = 0; at < size; at++) data[at] = at * 31 + (at >> 8) * 7;
  return data;
};

const infer = (data = Buffer.from([1, 2]), more = {}) => ({
  model_name: "m",
  id: "7",
  inputs: [{ name: "x", datatype: "UINT8", shape: [data.length] }],
  raw_input_contents: [data],
  ...more,
});

const bytes = (answer) => (answer.failed ? answer.failed : [...answer.raw_output_contents[0]]);
const isSame = (answer, data) => !answer.failed && answer.raw_output_contents[0].equals(data);

// --- scenarios

const found = {
  async protocols() {
    const tfs = open(services.tensorflow.serving.PredictionService);
    const own = open(services.com.bj58.ailab.dlpredictonline.grpc.WpaiDLPredictOnlineService);
    const seldon = open(services.seldon.protos.Seldon);
    const inference = open(Inference);
    const x = { dtype: "DT_FLOAT", tensor_shape: { dim: [{ size: 2 }] }, float_val: [1.5, 2.5] };
    const predict = (name) => ({ model_spec: { name }, inputs: { x } });
    const message = (tags) => ({ meta: { tags }, data: { tensor: { shape: [2], values: [1.5, 2.5] } } });
    const doubled = (answer) => [answer.outputs.y.float_val, answer.model_spec.name];
    const metadata = new grpc.Metadata();
    metadata.set("x-request-id", "from-here");
    const stranger = await call(tfs, "Predict", predict("stranger"), { metadata });
    const about = { model_spec: { name: "m" }, metadata_field: ["signature_def"] };
    const signatures = (await call(tfs, "GetModelMetadata", about)).metadata.signature_def;
    const health = open(services.grpc.health.v1.Health);
    return {
      tfs: doubled(await call(tfs, "Predict", predict("m"))),
      "dl_inference tfs": doubled(await call(own, "Predict", predict("m"))),
      signatures: [signatures.type_url, signatures.value.includes("tensorflow/serving/predict")],
      seldon: (await call(seldon, "Predict", message({ model: { stringValue: "m" } }))).data.tensor.values,
      "dl_inference seldon":
        (await call(own, "PytorchPredict", message({ taskId: { numberValue: 39 } }))).data.tensor.values,
      oip: bytes(await call(inference, "ModelInfer", infer())),
      "dl_inference oip": bytes(await call(own, "TisPredict", infer())),
      health: (await call(health, "Check", { service: "m" })).status,
      stranger: [
        ...stranger.failed, stranger.metadata.get("access-error")[0], stranger.metadata.get("x-request-id")[0],
      ],
      broken: (await call(tfs, "Predict", predict("broken"))).failed,
      failing: (await call(inference, "ModelInfer", infer(undefined, { model_name: "broken" }))).failed,
    };
  },

  // Sends the next message when the last one is answered.
  async streams() {
    const client = open(Inference);
    const talk = (names) =>
      new Promise((resolve) => {
        const [ids, stream] = [[], client.ModelStreamInfer()];
        const next = (name) => stream.write(infer(undefined, { model_name: name, id: String(ids.length) }));
        stream.on("data", (answer) => {
          ids.push(answer.infer_response.id);
          if (ids.length < names.length) next(names[ids.length]);
          else stream.end();
        });
        stream.on("error", () => {});
        stream.on("status", (status) => resolve([ids, status.code, status.details]));
        next(names[0]);
      });
    return { whole: await talk(Array(50).fill("m")), failing: await talk(["m", "m", "broken"]) };
  },

  async watch() {
    const stream = open(services.grpc.health.v1.Health).Watch({ service: words[0] });
    stream.on("error", () => {});
    const states = [];
    for await (const { status } of stream) {
      states.push(status);
      console.log("state", status);
      if (status === "SERVING") break;
    }
    stream.cancel();
    return states;
  },

  async slow_reader() {
    const stream = open(Inference).ModelStreamInfer();
    const answers = [];
    const ended = new Promise((resolve) => stream.on("status", ({ code }) => resolve(code)));
    let first;
    const started = new Promise((resolve) => (first = resolve));
    stream.on("data", ({ infer_response: { raw_output_contents: [data] } }) => {
      answers.push([data.length, data.equals(Buffer.alloc(data.length, data[0])) ? data[0] : null]);
      if (answers.length === 1) {
        stream.pause();
        first();
      }
    });
    stream.write(infer(undefined, { model_name: "many" }));
    stream.end();
    await started;
    console.log("paused");
    await told();
    stream.resume();
    return { code: await ended, answers };
  },

  async cancels() {
    const client = open(Inference);
    let running;
    const waiting = call(client, "ModelInfer", infer(undefined, { model_name: "dropped" }), {
      then: (it) => (running = it),
    });
    console.log("called");
    await told();
    running.cancel();
    const unary = (await waiting).failed[0];
    const stream = client.ModelStreamInfer();
    const ended = new Promise((resolve) => stream.on("status", ({ code }) => resolve(code)));
    stream.on("error", () => {});
    stream.on("data", () => stream.cancel());
    stream.write(infer(undefined, { model_name: "cut" }));
    return { unary, stream: await ended, after: bytes(await call(client, "ModelInfer", infer())) };
  },

  async deadlines() {
    const client = open(Inference);
    const within = (ms, model_name) =>
      call(client, "ModelInfer", infer(undefined, { model_name }), { options: { deadline: Date.now() + ms } });
    return {
      passed: (await within(300, "slow")).failed[0],
      service: (await within(20000, "short")).failed,
      after: bytes(await within(30000, "m")),
    };
  },

  async sizes() {
    const client = open(Inference);
    const same = [];
    for (const size of words.map(Number)) {
      const data = content(size);
      same.push([size, isSame(await call(client, "ModelInfer", infer(data)), data)]);
    }
    return {
      same,
      request: (await call(client, "ModelInfer", infer(Buffer.alloc(17000000)))).failed,
      answer: (await call(client, "ModelInfer", infer(undefined, { model_name: "wide" }))).failed,
      after: bytes(await call(client, "ModelInfer", infer())),
    };
  },

  async metadata() {
    const client = open(Inference);
    const given = new grpc.Metadata();
    const binary = Buffer.from(Array.from({ length: 256 }, (_, at) => at));
    given.add("x-say-text", "t".repeat(4000));
    given.add("x-say-twice", "one");
    given.add("x-say-twice", "two");
    given.add("x-say-raw-bin", binary);
    const fields = new grpc.Metadata();
    for (let number = 0; number < 200; number++) fields.add(`x-${number}`, "v");
    const seen = (metadata) => ({
      text: metadata.get("x-say-text").map((each) => each.length),
      twice: metadata.get("x-say-twice"),
      binary: metadata.get("x-say-raw-bin").map((each) => each.equals(binary)),
    });
    const heads = {};
    const answer = await call(client, "ModelInfer", infer(), {
      metadata: given,
      then: (running) => {
        running.on("metadata", (metadata) => (heads.first = seen(metadata)));
        running.on("status", ({ metadata }) => (heads.last = seen(metadata)));
      },
    });
    return {
      answer: bytes(answer),
      ...heads,
      fields: (await call(client, "ModelInfer", infer(), { metadata: fields })).failed,
      after: bytes(await call(client, "ModelInfer", infer())),
    };
  },

  async long_metadata() {
    const client = open(Inference);
    const metadata = new grpc.Metadata();
    metadata.add("x-long", "l".repeat(20000));
    const long = (await call(client, "ModelInfer", infer(), { metadata })).failed;
    return { long, after: bytes(await call(client, "ModelInfer", infer())) };
  },

  // Each argument is a window, a header table's size, and a content's, with a colon between; by connections of their own.
  async settings() {
    const connect = http2.connect;
    const same = [];
    for (const [window, table, size] of words.map((word) => word.split(":").map(Number))) {
      // grpc-js has an option for windows alone; node's HTTP/2 below it takes the rest.
      http2.connect = (url, options) =>
        connect(url, { ...options, settings: { ...options.settings, headerTableSize: table } });
      const client = open(Inference, { "grpc-node.flow_control_window": window });
      const data = content(size);
      let good = 0;
      for (let number = 0; number < 3; number++) {
        const metadata = new grpc.Metadata();
        // One that stays, and one that pushes the others out of the table.
        metadata.add("x-say-same", "s".repeat(40));
        metadata.add("x-say-other", String(number).repeat(3000));
        let last;
        const answer = await call(client, "ModelInfer", infer(data), {
          metadata,
          then: (running) => running.on("status", (status) => (last = status.metadata)),
        });
        const said = ["same", "other"].every((key) => last.get(`x-say-${key}`)[0] === metadata.get(`x-say-${key}`)[0]);
        good += isSame(answer, data) && said ? 1 : 0;
      }
      same.push(good);
    }
    http2.connect = connect;
    return same;
  },

  async concurrent() {
    const client = open(Inference);
    const numbers = Array.from({ length: Number(words[0]) }, (_, at) => at);
    const answers = await Promise.all(numbers.map((number) => {
      const data = content(1000 + number);
      const request = infer(data, { model_name: "together", id: String(number) });
      return call(client, "ModelInfer", request).then((answer) => answer.id === String(number) && isSame(answer, data));
    }));
    return answers.filter(Boolean).length;
  },

  // Sends and takes compressed messages; the other way round they pass as they are.
  async gzip() {
    const data = Buffer.alloc(1000000, "abc");
    const packed = open(Inference, { "grpc.default_compression_algorithm": 2 });
    const plain = open(Inference);
    const sent = await call(packed, "ModelInfer", infer(data, { model_name: "sent" }));
    const taken = await call(plain, "ModelInfer", infer(data, { model_name: "taken" }));
    return [sent, taken].map((answer) => isSame(answer, data));
  },

  // Every argument is one more target.
  async targets() {
    const answers = [];
    for (const target of [address, ...words]) {
      answers.push(bytes(await call(open(Inference, {}, target), "ModelInfer", infer())));
    }
    return answers;
  },

  async tls() {
    const root = require("fs").readFileSync(words[0]);
    const client = open(Inference, {}, address, grpc.credentials.createSsl(root));
    const data = content(1000000);
    const stranger = open(Inference, {}, address, grpc.credentials.createSsl());
    return {
      same: isSame(await call(client, "ModelInfer", infer(data)), data),
      untrusted: (await call(stranger, "ModelInfer", infer())).failed[0],
    };
  },

  // Calls, four at a time, for that many milliseconds, while the service closes aged connections.
  async ages() {
    const client = open(Inference);
    const end = Date.now() + Number(words[0]);
    const bad = [];
    let count = 0;
    const caller = async () => {
      while (Date.now() < end) {
        const answer = await call(client, "ModelInfer", infer());
        count++;
        if (answer.failed) bad.push(answer.failed);
      }
    };
    await Promise.all(Array.from({ length: 4 }, caller));
    return { count, bad };
  },
};

(async () => {
  for (let line = await told(); line !== undefined; line = await told()) {
    let scenario;
    [scenario, address, ...words] = line.split(" ");
    const it = await found[scenario]();
    clients.splice(0).forEach((client) => client.close());
    console.log("found", JSON.stringify(it));
  }
  process.exit(0);
})();
