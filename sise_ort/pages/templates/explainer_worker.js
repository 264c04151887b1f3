// Runs explain.onnx beside the page, so that the page stays alive meanwhile.
let ort, session, facts;
const big = (value) => new ort.Tensor("int64", BigInt64Array.of(BigInt(value)), []);
async function open(message) {
  facts = message.facts;
  ort = await import(URL.createObjectURL(new Blob([message.module], { type: "text/javascript" })));
  ort.env.wasm.wasmBinary = message.wasm;
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
  ort.env.logLevel = "error";
  const wanted = facts.webgpu && navigator.gpu ? ["webgpu", "wasm"] : ["wasm"];
  try {
    session = await ort.InferenceSession.create(message.model, { executionProviders: wanted });
  } catch (error) {
    if (wanted.length === 1) throw error;
    wanted.shift();
    session = await ort.InferenceSession.create(message.model, { executionProviders: wanted });
  }
  return { kind: "ready", provider: wanted[0] };
}
async function explain({ pixels, height, width, target, passes, asked }) {
  const type = facts.frame_dtype, data = type === "uint8" ? pixels : Float32Array.from(pixels);
  const began = performance.now();
  const found = await session.run({
    image: new ort.Tensor(type, data, [height, width, facts.channels]),
    target: big(target), passes: big(passes), mu: new ort.Tensor("float32", Float32Array.of(0), []),
  });
  const seconds = (performance.now() - began) / 1000;
  return {
    kind: "explained", asked, passes, seconds, height, width, heat: found.frame_heatmap.data, heatmap: found.heatmap.data,
    confidence: found.confidence.data, scores: found.scores.data, index: Number(found.class.data[0]), masks: Array.from(found.masks.data, Number),
  };
}
self.onmessage = async ({ data }) => {
  try {
    self.postMessage(await (data.kind === "open" ? open(data) : explain(data)));
  } catch (error) {
    self.postMessage({ kind: "failed", asked: data.asked, words: String(error && error.message || error) });
  }
};
