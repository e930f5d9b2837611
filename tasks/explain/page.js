"use strict";
// Draws an explanation. No library is needed; text from files is never taken as HTML.
const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const player = $("player"), rows = $("rows"), names = Object.keys(data.streams);
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const colour = (name) => style(`--${name}`) || style("--other");
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const signed = (value, digits) => (value > 0 ? "+" : "") + value.toFixed(digits);
const images = {}, stills = {};
let now = 0, cursor;

function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}
function image(url) {
  if (!images[url]) {
    images[url] = new Image();
    images[url].onload = () => seek(now, false);
    images[url].src = url;
  }
  return images[url];
}

// ---- what it says

$("name").textContent = `${data.label} ${(100 * data.probability).toFixed(1)} %`;
$("about").textContent = `${data.video} · ${data.seconds.toFixed(2)} s · ` + data.classes.map(([name, p]) => `${name} ${(100 * p).toFixed(1)} %`).join(", ");
if (data.source) player.src = data.source; else player.hidden = true;
player.onerror = () => { player.hidden = true; };
player.ontimeupdate = () => seek(player.currentTime, false);

const largest = Math.max(...Object.values(data.shares).map(Math.abs), 1e-9);
for (const name of names) {
  const row = element("tr", undefined, { tabindex: "0" }), bar = element("td", undefined, { class: "bar" }), fill = element("span");
  const peak = data.peaks[name];
  fill.style.width = `${100 * Math.abs(data.shares[name]) / largest}%`;
  fill.style.background = colour(name);
  bar.append(fill);
  const where = peak.x === null ? "" : `: ${Math.round(100 * peak.x)} %, ${Math.round(100 * peak.y)} %`;
  row.append(element("td", name), bar, element("td", signed(100 * data.shares[name], 1), { class: "number" }),
    element("td", `${(100 * data.alone[name]).toFixed(1)} %`, { class: "number" }),
    element("td", signed(data.totals[name], 2), { class: "number" }), element("td", `${peak.seconds.toFixed(2)} s${where}`));
  row.onclick = () => seek(peak.seconds);
  row.onkeydown = (event) => { if (event.key === "Enter") seek(peak.seconds); };
  $("shares").tBodies[0].append(row);
}
for (const [name, why] of Object.entries(data.missing)) {
  const row = element("tr");
  row.append(element("td", name), element("td", `missing: ${why}`, { colspan: "5" }));
  $("shares").tBodies[0].append(row);
}
if (data.check) {
  const random = Object.entries(Object.values(data.check.similarity).pop()).map(([name, alike]) => `${name} ${alike.toFixed(2)}`).join(", ");
  const areas = data.check.areas, two = (name) => `${areas[name].toFixed(3)} (at random ${areas[`${name}_at_random`].toFixed(3)})`;
  $("check").textContent = `Checked: rank correlation with maps of random weights ${random}; area under deletion ${two("deletion")}, under insertion ${two("insertion")}.`;
}

// ---- the streams at the cursor

for (const name of names) {
  const figure = element("figure");
  stills[name] = element("canvas", undefined, { id: `still-${name}` });
  figure.append(stills[name], element("figcaption", name));
  $("stills").append(figure);
}
function drawStill(name) {
  const stream = data.streams[name], from = $("heat").checked ? stream.heat : stream.plain, made = stills[name];
  const picture = image(stream.times ? from.url : from), brush = made.getContext("2d");
  if (!picture.naturalWidth) return;
  if (!stream.times) { // all of the sound, with a line at the cursor
    [made.width, made.height] = [320, 240];
    brush.drawImage(picture, 0, 0, 320, 240);
    brush.fillStyle = "#ffffff";
    brush.fillRect(320 * now / data.seconds - 1, 0, 2, 240);
    return;
  }
  const at = stream.times.reduce((best, time, k) => Math.abs(time - now) < Math.abs(stream.times[best] - now) ? k : best, 0);
  [made.width, made.height] = [from.width, from.height];
  brush.drawImage(picture, (at % from.columns) * from.width, Math.floor(at / from.columns) * from.height, from.width, from.height, 0, 0, from.width, from.height);
}
$("heat").onchange = () => seek(now, false);

// ---- the timeline

function curves(label, values, unit) {
  const row = element("div", undefined, { class: "row" }), track = element("div", undefined, { class: "track tall" });
  const largest = Math.max(1e-12, ...Object.values(values).flat().map(Math.abs));
  const canvas = element("canvas"), title = `${label}, up to ±${(unit * largest).toPrecision(2)}`, caption = element("span", title);
  caption.title = title;
  track.append(canvas);
  row.append(caption, track);
  rows.append(row);
  const ratio = window.devicePixelRatio || 1, width = canvas.width = track.clientWidth * ratio, height = canvas.height = track.clientHeight * ratio;
  const brush = canvas.getContext("2d"), y = (value) => height / 2 - 0.46 * height * value / largest;
  brush.strokeStyle = style("--line");
  brush.strokeRect(-1, height / 2, width + 2, 0);
  for (const name of names) {
    brush.strokeStyle = colour(name);
    brush.lineWidth = 1.5 * ratio;
    brush.beginPath();
    values[name].forEach((value, k) => [k, k + 1].forEach((edge) => brush.lineTo(width * data.edges[edge] / data.seconds, y(value))));
    brush.stroke();
  }
}
function layOut() {
  rows.replaceChildren();
  curves("lost, points", data.occlusion, 100);
  curves("map, nepers", data.relevance, 1);
  cursor = element("div", undefined, { id: "cursor" });
  rows.append(cursor);
  seek(now, false);
}
function seek(time, move = true) {
  now = clamp(time, 0, data.seconds);
  if (move && !player.hidden) player.currentTime = now;
  $("clock").textContent = `${now.toFixed(2)} s`;
  rows.setAttribute("aria-valuenow", now.toFixed(2));
  names.forEach(drawStill);
  const track = rows.querySelector(".track");
  if (track) cursor.style.left = `${track.offsetLeft + track.clientWidth * now / data.seconds}px`;
}
rows.onclick = (event) => {
  const box = rows.querySelector(".track").getBoundingClientRect();
  seek(data.seconds * (event.clientX - box.left) / box.width);
};
rows.onkeydown = (event) => {
  const step = { ArrowRight: 0.04, ArrowLeft: -0.04, PageDown: 1, PageUp: -1, Home: -1e9, End: 1e9 }[event.key];
  if (step === undefined) return;
  event.preventDefault();
  seek(now + step);
};
rows.setAttribute("aria-valuemax", data.seconds.toFixed(2));
window.onresize = layOut;
layOut();
const first = names.reduce((best, name) => Math.abs(data.shares[name]) > Math.abs(data.shares[best]) ? name : best, names[0]);
seek(data.peaks[first].seconds);
