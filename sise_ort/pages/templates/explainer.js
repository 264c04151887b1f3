"use strict";
const $ = (id) => document.getElementById(id);
const facts = JSON.parse($("facts").dataset.facts);
const labels = Array.from($("target").options).slice(1).map((option) => option.text);
const state = { picture: null, asked: 0, steps: [], last: null, ready: false };
window.siseOrt = state; // what was found last, for scripts and tests

async function unpacked(id) {
  const text = atob($(id).textContent.trim()), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  $(id).remove();
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

function say(words, failed = false) {
  $("status").textContent = words;
  $("status").classList.toggle("failed", failed);
}

const worker = new Worker(URL.createObjectURL(new Blob([$("worker").textContent], { type: "text/javascript" })));
worker.onerror = (event) => say("This browser cannot run the network: " + (event.message || "module workers are missing"), true);
worker.onmessage = ({ data }) => {
  if (data.kind === "ready") {
    state.ready = true; state.provider = data.provider;
    say("Ready. Choose a picture.");
    if (state.picture) ask();
  } else if (data.asked !== undefined && data.asked !== state.asked) {
    return; // of a question that was taken back
  } else if (data.kind === "failed") {
    $("progress").hidden = true;
    say("The network could not be run: " + data.words, true);
  } else show(data);
};

async function open() {
  try {
    const [module, wasm, model] = [await unpacked("module"), await unpacked("wasm"), new Uint8Array(await unpacked("model"))];
    worker.postMessage({ kind: "open", facts, module: new TextDecoder().decode(module), wasm, model }, [wasm, model.buffer]);
  } catch (error) {
    say("This browser cannot unpack the network: " + error.message, true);
  }
}

async function take(source, name) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(source);
  } catch {
    return say("“" + name + "” is no picture that this browser can read.", true);
  }
  const scale = Math.min(1, facts.largest / Math.max(bitmap.width, bitmap.height));
  const width = Math.max(1, Math.round(bitmap.width * scale)), height = Math.max(1, Math.round(bitmap.height * scale));
  const canvas = new OffscreenCanvas(width, height), context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0, width, height);
  const rgba = context.getImageData(0, 0, width, height).data, gray = facts.channels === 1;
  const pixels = new Uint8Array(width * height * facts.channels);
  for (let i = 0, j = 0; i < rgba.length; i += 4) {
    if (gray) pixels[j++] = Math.round(0.299 * rgba[i] + 0.587 * rgba[i + 1] + 0.114 * rgba[i + 2]);
    else { pixels[j++] = rgba[i]; pixels[j++] = rgba[i + 1]; pixels[j++] = rgba[i + 2]; }
  }
  state.picture = { pixels, rgba, width, height, name };
  state.last = null;
  draw();
  if (state.ready) ask();
  else say("Loading the network …");
}

function ask() {
  const wanted = Number($("passes").value), first = [0, 8, 32, 128].filter((n) => wanted < 0 || n < wanted);
  state.steps = [...first, wanted];
  state.asked += 1; state.done = false; state.seconds = 0; state.all = state.steps.length;
  say("Explaining “" + state.picture.name + "” …");
  $("progress").hidden = false;
  next();
}

function next() {
  const passes = state.steps.shift(), { pixels, width, height } = state.picture;
  $("progress").value = (state.all - state.steps.length - 1) / state.all;
  worker.postMessage({ kind: "explain", asked: state.asked, passes, pixels, width, height, target: Number($("target").value) });
}

const named = (index) => labels[index] || "class " + index;
const percent = (value) => facts.bounded ? (100 * value).toFixed(1) + " %" : value.toPrecision(4);

function show(found) {
  state.last = found;
  state.seconds += found.seconds;
  const scored = found.masks.reduce((sum, n) => sum + n, 0), enough = found.passes > 0 && scored < found.passes;
  draw();
  const order = Array.from(found.confidence.keys()).sort((a, b) => found.confidence[b] - found.confidence[a]).slice(0, 5);
  $("classes").replaceChildren(...order.map((index) => {
    const item = document.createElement("li");
    item.textContent = named(index) + ": " + percent(found.confidence[index]);
    return item;
  }));
  if (state.steps.length && !enough) {
    say(named(found.index) + ", " + percent(found.confidence[found.index]) + ". " + scored + " masks so far …");
    return next();
  }
  $("progress").hidden = true;
  state.done = true;
  const blank = !found.heatmap.some((value) => value > 0);
  say(named(found.index) + ", " + percent(found.confidence[found.index]) + ". " + (blank ? "There is no evidence for it in any block. " : "")
    + scored + " masks scored, " + state.seconds.toFixed(1) + " s.");
}

const stops = facts.heat.map((color) => [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16)));
const ramp = Array.from({ length: 256 }, (_, level) => {
  const place = (level / 255) * (stops.length - 1), low = Math.min(Math.floor(place), stops.length - 2);
  return stops[low].map((value, c) => value + (stops[low + 1][c] - value) * (place - low));
});

function draw() {
  const { rgba, width, height, name } = state.picture, canvas = $("view"), mix = Number($("mix").value) / 100;
  canvas.width = width; canvas.height = height;
  const mixed = new ImageData(new Uint8ClampedArray(rgba), width, height), heat = state.last && state.last.heat;
  for (let i = 0; heat && i < heat.length; i++) {
    const color = ramp[Math.round(255 * heat[i])], weight = mix < 1 ? mix * Math.min(1, 1.6 * heat[i]) : 1;
    for (let c = 0; c < 3; c++) mixed.data[4 * i + c] += (color[c] - mixed.data[4 * i + c]) * weight;
  }
  canvas.getContext("2d").putImageData(mixed, 0, 0);
  canvas.setAttribute("aria-label", heat ? "“" + name + "” with the heat map of " + named(state.last.index) + "; " + where(heat, width, height) : "“" + name + "”");
}

function where(heat, width, height) {
  let sum = 0, x = 0, y = 0;
  heat.forEach((value, i) => { sum += value; x += value * (i % width); y += value * Math.floor(i / width); });
  if (!sum) return "it is empty";
  const part = (value, words) => words[Math.min(2, Math.floor(3 * value))];
  const across = part(x / sum / width, ["on the left", "in the middle", "on the right"]), down = part(y / sum / height, ["at the top", "at half height", "at the bottom"]);
  return "most evidence lies " + across + ", " + down;
}

$("file").addEventListener("change", ({ target }) => target.files[0] && take(target.files[0], target.files[0].name));
$("mix").addEventListener("input", () => state.picture && draw());
for (const id of ["target", "passes"]) $(id).addEventListener("change", () => state.picture && state.ready && ask());
for (const button of document.querySelectorAll(".sample"))
  button.addEventListener("click", () => take(button.firstElementChild, button.firstElementChild.alt));
for (const kind of ["dragenter", "dragover", "dragleave", "drop"])
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragenter" || kind === "dragover");
    const [file] = kind === "drop" ? event.dataTransfer.files : [];
    if (file) take(file, file.name);
  });
open();
