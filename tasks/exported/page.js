// Runs the model: each stream once a clip, and fusion again for every choice of streams.
"use strict";

const TOLD = JSON.parse(document.getElementById("data").textContent);
const KINDS = { uint8: Uint8Array, float32: Float32Array, float16: Uint16Array };
const SHOWN = 12; // classes that are listed
const at = id => document.getElementById(id);
const sessions = {};
let clip = null; // what is shown: its inputs, outputs, and which streams are present

async function bytesOf(text) {
  return new Uint8Array(await (await fetch(`data:application/octet-stream;base64,${text}`)).arrayBuffer());
}

async function load() {
  ort.env.wasm.numThreads = 1; // more need a server that isolates the page
  ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(new Blob([RUNTIME.script], { type: "text/javascript" })) };
  ort.env.wasm.wasmBinary = await bytesOf(RUNTIME.program);
  for (const name of Object.keys(MODEL))
    sessions[name] = await ort.InferenceSession.create(await bytesOf(MODEL[name]), { executionProviders: ["wasm"] });
}

async function exampleInputs() {
  const inputs = {};
  for (const [name, parts] of Object.entries(EXAMPLE)) {
    inputs[name] = {};
    for (const [part, { type, shape, bytes }] of Object.entries(parts))
      inputs[name][part] = new ort.Tensor(type, new KINDS[type]((await bytesOf(bytes)).buffer), shape);
  }
  return inputs;
}

// Each stream's outputs; of an absent one, zeros of one time step, which fusion does not use
async function encode(inputs) {
  const outputs = {};
  for (const name of TOLD.streams) {
    if (inputs[name]) outputs[name] = await sessions[name].run(inputs[name]);
    else
      outputs[name] = Object.fromEntries(Object.entries(TOLD.empty[name]).map(([output, shape]) =>
        [output, new ort.Tensor("float32", new Float32Array(shape.reduce((a, b) => a * b)), shape)]));
  }
  return outputs;
}

async function fuse(outputs, chosen) {
  const there = Uint8Array.from(TOLD.streams, name => chosen.includes(name));
  const given = { present: new ort.Tensor("bool", there, [1, there.length]) };
  for (const name of TOLD.streams)
    for (const [output, tensor] of Object.entries(outputs[name])) given[`${name}.${output}`] = tensor;
  const taken = Object.fromEntries(sessions.fusion.inputNames.map(name => [name, given[name]]));
  return Array.from((await sessions.fusion.run(taken)).probabilities.data);
}

function softmax(logits) {
  const highest = Math.max(...logits), powers = Array.from(logits, one => Math.exp(one - highest));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map(one => one / sum);
}

const chosen = () => TOLD.streams.filter(name => clip.inputs[name] && at(`use-${name}`).checked);

async function show(inputs, { title, why, answers }) {
  const begin = performance.now();
  const outputs = await encode(inputs);
  clip = { inputs, outputs, answers, took: performance.now() - begin };
  at("source").textContent = title;
  at("switches").replaceChildren(...TOLD.streams.map(name => {
    const label = document.createElement("label"), box = document.createElement("input");
    Object.assign(box, { type: "checkbox", id: `use-${name}`, checked: Boolean(inputs[name]), disabled: !inputs[name] });
    box.addEventListener("change", answer);
    label.append(box, inputs[name] ? name : `${name} (absent: ${why[name] || "not in this clip"})`);
    return label;
  }));
  drawClip(at("stills"), inputs);
  await answer();
}

async function answer() {
  const streams = chosen(), found = await fuse(clip.outputs, streams);
  const order = found.map((_, row) => row).sort((a, b) => found[b] - found[a]).slice(0, SHOWN);
  at("classes").replaceChildren(...order.map((row, place) => {
    const line = row_(TOLD.classes[row], null, found[row].toFixed(4));
    const bar = document.createElement("span");
    Object.assign(bar.style, { width: `${100 * found[row]}%`, background: "var(--accent)" });
    line.children[1].className = "bar";
    line.children[1].append(bar);
    if (!place && streams.length) line.className = "best";
    return line;
  }));
  at("alone").replaceChildren(...streams.map(name => {
    const alone = softmax(clip.outputs[name].logits.data), best = alone.indexOf(Math.max(...alone));
    return row_(name, TOLD.classes[best], alone[best].toFixed(4));
  }));
  const known = clip.answers && clip.answers[streams.join("+")];
  clip.found = found;
  clip.difference = known ? Math.max(...found.map((one, row) => Math.abs(one - known[row]))) : null;
  const check = known ? ` The largest difference from Python's answer: ${clip.difference.toExponential(1)}.` : "";
  at("status").textContent = streams.length
    ? `The streams took ${clip.took.toFixed(0)} ms in this browser.${check}`
    : "Without any stream there is no answer.";
  at("status").classList.toggle("wrong", clip.difference > 1e-4);
}

function row_(...texts) {
  const line = document.createElement("tr");
  for (const text of texts) {
    const cell = document.createElement("td");
    cell.textContent = text;
    line.append(cell);
  }
  return line;
}

async function showExample() {
  const { name, times, why, answers } = TOLD.example;
  const title = `${name}, ${times.map(one => one.toFixed(2)).join(" to ")} s`;
  at("example").hidden = true;
  at("file").value = "";
  await show(await exampleInputs(), { title, why, answers });
}

async function showOwn() {
  const [file] = at("file").files;
  if (!file) return;
  at("status").textContent = `${file.name} is being read …`;
  try {
    const { inputs, why, begin, end } = await readVideo(file);
    at("example").hidden = false;
    await show(inputs, { title: `${file.name}, ${begin.toFixed(2)} to ${end.toFixed(2)} s`, why });
  } catch (error) {
    at("status").textContent = error.message;
    at("status").classList.add("wrong");
  }
}

at("about").textContent = `${TOLD.release}, ${TOLD.classes.length} classes. It runs in this browser by ${TOLD.runtime} ` +
  "(MIT, Microsoft); no video leaves this machine.";
at("own").hidden = !TOLD.streams.some(name => readable(name));
at("hint").textContent = at("own").hidden ? "" : hint();
at("file").addEventListener("change", showOwn);
at("example").addEventListener("click", showExample);
const ready = load().then(showExample).catch(error => {
  at("status").textContent = `The model cannot be run here: ${error.message}`;
  at("status").classList.add("wrong");
});
