"use strict";
const at = (id) => document.getElementById(id);
let picture = null;

function say(text, bad) {
  at("status").textContent = text;
  at("status").classList.toggle("bad", Boolean(bad));
}

function headers() {
  return at("token") && at("token").value ? { Authorization: "Bearer " + at("token").value } : {};
}

async function answer(address, options) {
  const response = await fetch(address, { ...options, headers: { ...headers(), ...(options && options.headers) } });
  const content = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(content.error || "the server answers with " + response.status);
  return content;
}

async function listModels() {
  try {
    const { models } = await answer("v1/models");
    at("model").replaceChildren(...models.map((name) => new Option(name, name)));
    say("");
  } catch (error) {
    say(error.message, true);
  }
  look();
}

function look() {
  at("go").disabled = !(picture && at("model").value);
}

function choose(file, dropped) {
  if (!file) return;
  picture = file;
  at("name").textContent = dropped ? file.name : "";
  if (dropped) at("file").value = "";
  at("result").hidden = true;
  say("");
  look();
}

function show(found) {
  at("caption").textContent = found.caption;
  URL.revokeObjectURL(at("given").src);
  at("given").src = URL.createObjectURL(picture);
  at("heat").src = "data:image/png;base64," + found.heatmap;
  at("heat").alt = "Heat map: where the evidence for " + found.label + " lies";
  at("price").textContent = found.forward_passes + " passes of the network, " + found.timings_s.total.toPrecision(2) + " s";
  at("notes").replaceChildren(...found.notes.map((note) => {
    const row = document.createElement("li");
    row.textContent = note;
    return row;
  }));
  at("result").hidden = false;
  at("caption").focus();
}

async function explain(event) {
  event.preventDefault();
  if (!picture) return;
  const fields = new URLSearchParams({ heatmap: "png", drawing: "overlay" });
  for (const name of ["target", "mu", "passes"]) {
    const value = at(name).value.trim();
    if (value) fields.set(name, value);
  }
  const address = "v1/models/" + encodeURIComponent(at("model").value) + ":explain?" + fields;
  at("go").disabled = true;
  say("Explaining …");
  try {
    const { explanations } = await answer(address, {
      method: "POST", body: picture, headers: { "Content-Type": "application/octet-stream", Accept: "application/json" },
    });
    const first = Array.isArray(explanations[0]) ? explanations[0][0] : explanations[0];
    if (!first) throw new Error("no class is over 0.5");
    say("");
    show(first);
  } catch (error) {
    say(error.message, true);
  }
  look();
}

at("file").addEventListener("change", () => choose(at("file").files[0]));
at("form").addEventListener("submit", explain);
if (at("token")) at("token").addEventListener("change", listModels);
for (const name of ["dragover", "dragenter"]) {
  document.addEventListener(name, (event) => { event.preventDefault(); at("drop").classList.add("over"); });
}
for (const name of ["dragleave", "drop"]) {
  document.addEventListener(name, (event) => { event.preventDefault(); at("drop").classList.remove("over"); });
}
document.addEventListener("drop", (event) => choose(event.dataTransfer.files[0], true));
if (!at("token")) listModels();
