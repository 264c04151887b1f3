// Explain a picture with explain.onnx (sise-ort compose BUNDLE -o explain.onnx --any-size) and write the heat map over it.
//   node explain.mjs explain.onnx picture.png out.png [PASSES] [LABELS.txt]
import { readFileSync, writeFileSync } from "node:fs";
import jpeg from "jpeg-js";
import ort from "onnxruntime-node";
import { PNG } from "pngjs";

const [model, input, output, passes = "64", names] = process.argv.slice(2);
if (!output) throw new Error("usage: node explain.mjs explain.onnx picture.png out.png [PASSES] [LABELS.txt]");

// 1. The picture as RGB bytes, one row after the other. Resizing and normalising happen inside of explain.onnx.
const bytes = readFileSync(input);
const picture = bytes[0] === 0xff ? jpeg.decode(bytes) : PNG.sync.read(bytes);
const { width, height } = picture;
const rgb = new Uint8Array(width * height * 3);
for (let i = 0; i < width * height; i++) for (let c = 0; c < 3; c++) rgb[3 * i + c] = picture.data[4 * i + c];

// 2. One run: the top class (-1), μ = 0, and as many masks as were asked for.
const session = await ort.InferenceSession.create(model);
const number = (value) => new ort.Tensor("int64", BigInt64Array.of(BigInt(value)), []);
const found = await session.run({
  image: new ort.Tensor("uint8", rgb, [height, width, 3]),
  target: number(-1),
  mu: new ort.Tensor("float32", Float32Array.of(0), []),
  passes: number(passes),
});

// 3. The answer, and the evidence for it as a red veil over the picture.
const index = Number(found.class.data[0]);
const label = names ? readFileSync(names, "utf8").split(/\r?\n/)[index] : `class ${index}`;
const heat = found.frame_heatmap.data;
const drawn = new PNG({ width, height });
for (let i = 0; i < width * height; i++) {
  [255, 40, 0].forEach((color, c) => (drawn.data[4 * i + c] = rgb[3 * i + c] + (color - rgb[3 * i + c]) * 0.7 * heat[i]));
  drawn.data[4 * i + 3] = 255;
}
writeFileSync(output, PNG.sync.write(drawn));
const masks = found.masks.data.reduce((sum, n) => sum + Number(n), 0);
console.log(JSON.stringify({ label, confidence: found.confidence.data[index], masks, output }));
