"use strict";
// Draws the data of the page; a live page fetches them again each second. No library is needed.
const $ = (id) => document.getElementById(id);
const player = $("player"), rows = $("rows");
const colours = { rgb: "--rgb", flow: "--flow", audio: "--audio" };
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(colours[name] || name || "--other").trim() || getComputedStyle(document.documentElement).getPropertyValue("--other");
const FIRST = 8; // classes that are shown at first
let data = JSON.parse($("data").textContent);
let view = [0, 1], now = 0, playable = Boolean(data.source), every = false, images = {};

function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text; // never as HTML: names come from files
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const seconds = (value) => {
  const minutes = Math.floor(value / 60);
  return minutes ? `${minutes}:${(value % 60).toFixed(1).padStart(4, "0")}` : `${value.toFixed(2)} s`;
};

function picture(name, url) {
  if (!url) return null;
  if (!images[name] || images[name].from !== url) {
    const made = new Image();
    made.from = url;
    made.onload = () => { cursor(); if (name === "mel") draw(); };
    made.src = url;
    images[name] = made;
  }
  return images[name].complete && images[name].naturalWidth ? images[name] : null;
}

// ---- time

function seek(time) {
  now = clamp(time, 0, data.seconds);
  if (playable && !data.live) player.currentTime = now;
  cursor();
}
function windowAt(time) { // the last window whose middle is not after the time
  const times = data.timeline.times;
  let low = 0, high = times.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((times[middle][0] + times[middle][1]) / 2 <= time) low = middle; else high = middle - 1;
  }
  return low;
}
const place = (time) => 100 * (time - view[0]) / (view[1] - view[0]);

function zoom(factor, around = now) {
  const length = clamp((view[1] - view[0]) * factor, Math.min(2, data.seconds), data.seconds);
  const share = clamp((around - view[0]) / (view[1] - view[0]), 0, 1);
  const begin = clamp(around - share * length, 0, data.seconds - length);
  view = [begin, begin + length];
  draw();
}

// ---- the timeline

function track(label, kind = "") {
  const row = element("div", undefined, { class: "row" });
  const made = element("div", undefined, { class: `track ${kind}` });
  const name = element("span", label);
  name.title = label;
  row.append(name, made);
  rows.append(row);
  return made;
}
function canvas(on) {
  const made = element("canvas"), ratio = window.devicePixelRatio || 1;
  on.append(made);
  made.width = Math.max(1, on.clientWidth * ratio);
  made.height = Math.max(1, on.clientHeight * ratio);
  return [made.getContext("2d"), made.width, made.height];
}
function visible() { // numbers of the windows in view, and a little more
  const from = Math.max(0, windowAt(view[0]) - 1), until = Math.min(data.timeline.times.length - 1, windowAt(view[1]) + 1);
  return Array.from({ length: Math.max(0, until - from + 1) }, (_, k) => from + k);
}
const middle = (k) => (data.timeline.times[k][0] + data.timeline.times[k][1]) / 2;

function area(on, lower, upper, fill) { // between two functions of the window's number, each from 0 to 1
  const [context, width, height] = canvas(on), shown = visible();
  if (!shown.length) return;
  const x = (k) => (middle(k) - view[0]) / (view[1] - view[0]) * width;
  context.beginPath();
  const ends = [0, width];
  context.moveTo(Math.min(ends[0], x(shown[0])), height * (1 - upper(shown[0])));
  for (const k of shown) context.lineTo(x(k), height * (1 - upper(k)));
  const last = shown[shown.length - 1];
  context.lineTo(Math.max(ends[1], x(last)), height * (1 - upper(last)));
  context.lineTo(Math.max(ends[1], x(last)), height * (1 - lower(last)));
  for (const k of [...shown].reverse()) context.lineTo(x(k), height * (1 - lower(k)));
  context.lineTo(Math.min(ends[0], x(shown[0])), height * (1 - lower(shown[0])));
  context.closePath();
  context.fillStyle = fill;
  context.fill();
}

function lanes(events) { // the first row in which each event, in the order of time, has room
  const ends = [];
  return events.map((one) => {
    const free = ends.findIndex((end) => end <= one.start);
    const lane = free < 0 ? ends.length : free;
    ends[lane] = one.end;
    return lane;
  });
}
function eventButtons(on, events, kind) {
  const lane = lanes(events), height = 22;
  on.style.height = `${4 + height * (1 + Math.max(...lane))}px`;
  events.forEach((one, row) => {
    if (one.end < view[0] || one.start > view[1]) return;
    const words = `${one.label}${kind ? "" : ` ${Math.round(100 * one.score)} %`}`;
    const made = element("button", words, { class: `event ${kind}`, title: `${words}, ${seconds(one.start)} to ${seconds(one.end)}` });
    made.style.left = `${place(one.start)}%`;
    made.style.width = `${place(one.end) - place(one.start)}%`;
    made.style.top = `${2 + height * lane[row]}px`;
    if (!kind) made.style.opacity = 0.35 + 0.65 * one.score;
    made.addEventListener("click", (happened) => { happened.stopPropagation(); seek(one.start); });
    on.append(made);
  });
}

function draw() {
  rows.replaceChildren(element("div", undefined, { id: "cursor" }));
  const line = data.timeline, names = Object.keys(line.streams);
  if (data.events.length) eventButtons(track("events"), data.events, "");
  if (data.known.length) eventButtons(track("known events"), data.known, "known");
  const count = every ? line.classes.length : Math.min(FIRST, line.classes.length);
  for (let row = 0; row < count; row += 1) area(track(line.classes[row]), () => 0, (k) => line.curves[row][k], colour("--curve"));
  $("more").hidden = line.classes.length <= FIRST;
  $("more").textContent = every ? "fewer classes" : `all ${line.classes.length} classes`;
  if (names.length > 1) { // those that speak for the likeliest class; with none at work, nothing is drawn
    const on = track("shares", "tall");
    const part = (name, k) => Math.max(0, line.streams[name].share[k]);
    const sum = (k, until) => Math.min(1, names.slice(0, until).reduce((all, name) => all + part(name, k), 0));
    names.forEach((name, row) => area(on, (k) => sum(k, row), (k) => sum(k, row + 1), colour(name)));
  }
  for (const name of names) {
    const on = track(name, "thin");
    area(on, () => 0, (k) => line.streams[name].present[k], colour(name));
  }
  const mel = picture("mel", data.stills.mel);
  if (mel) {
    const [context, width, height] = canvas(track("log-mel", "tall"));
    const scale = mel.naturalWidth / data.seconds;
    context.drawImage(mel, view[0] * scale, 0, (view[1] - view[0]) * scale, mel.naturalHeight, 0, 0, width, height);
  }
  $("range").textContent = `${seconds(view[0])} to ${seconds(view[1])}`;
  cursor();
}

// ---- at the cursor

function still(id, sheet, number) {
  const on = $(id), image = sheet && picture(id, sheet.url);
  on.parentElement.hidden = !sheet;
  if (!image) return;
  [on.width, on.height] = [sheet.width, sheet.height];
  on.style.aspectRatio = `${sheet.width} / ${sheet.height}`;
  const x = number % sheet.columns * sheet.width, y = Math.floor(number / sheet.columns) * sheet.height;
  on.getContext("2d").drawImage(image, x, y, sheet.width, sheet.height, 0, 0, sheet.width, sheet.height);
}
function cursor() {
  const line = data.timeline, k = windowAt(now);
  $("clock").textContent = seconds(now);
  rows.setAttribute("aria-valuenow", now.toFixed(2));
  rows.setAttribute("aria-valuetext", seconds(now));
  const first = rows.querySelector(".track"), mark = $("cursor");
  if (first && mark) {
    const share = place(now) / 100;
    mark.style.left = `${first.offsetLeft + share * first.clientWidth}px`;
    mark.hidden = share < 0 || share > 1;
  }
  const times = data.stills.times;
  if (times.length) {
    const number = clamp(Math.round(now / data.seconds * times.length - 0.5), 0, times.length - 1);
    still("frame", data.stills.frames, number);
    still("flow", data.stills.flow, number);
    if (!playable) standIn(number);
  }
  const mel = picture("mel", data.stills.mel), on = $("mel");
  on.parentElement.hidden = !data.stills.mel;
  if (mel) {
    [on.width, on.height] = [320, 240];
    const scale = mel.naturalWidth / data.seconds;
    const context = on.getContext("2d");
    context.fillStyle = "#000";
    context.fillRect(0, 0, on.width, on.height);
    context.drawImage(mel, (now - 2) * scale, 0, 4 * scale, mel.naturalHeight, 0, 0, on.width, on.height);
  }
  const body = $("opinions").tBodies[0];
  body.replaceChildren();
  if (line.times.length) {
    opinion(body, "all streams", line.fused[k], "--curve", undefined);
    for (const [name, one] of Object.entries(line.streams)) {
      opinion(body, name, one.present[k] ? one.best[k] : [], name, one.present[k] ? one.share[k] : undefined);
    }
  }
  document.querySelectorAll("#list button").forEach((one) => {
    one.classList.toggle("now", Number(one.dataset.start) <= now && now < Number(one.dataset.end));
  });
}
function standIn(number) {
  const sheet = data.stills.frames, image = sheet && picture("frame", sheet.url), on = $("stand-in");
  if (!image) return;
  [on.width, on.height] = [sheet.width, sheet.height];
  const x = number % sheet.columns * sheet.width, y = Math.floor(number / sheet.columns) * sheet.height;
  on.getContext("2d").drawImage(image, x, y, sheet.width, sheet.height, 0, 0, sheet.width, sheet.height);
}
function opinion(body, from, best, tint, share) {
  const row = element("tr"), bar = element("td", undefined, { class: "bar" }), fill = element("span");
  const [label, probability] = best.length ? best : ["nothing: it is not there", 0];
  fill.style.width = `${100 * probability}%`;
  fill.style.background = colour(tint);
  fill.title = `${Math.round(100 * probability)} %`;
  bar.append(fill);
  const sure = element("td", best.length ? `${Math.round(100 * probability)} %` : "", { class: "number" });
  const points = share === undefined ? "" : `${share < 0 ? "−" : "+"}${Math.abs(100 * share).toFixed(0)}`;
  row.append(element("td", from), element("td", label), bar, sure, element("td", points, { class: "number" }));
  body.append(row);
}

// ---- the whole page

function list() {
  $("list").replaceChildren();
  for (const one of data.events) {
    const item = element("li"), button = element("button", `${one.label} `, { "data-start": one.start, "data-end": one.end });
    button.append(element("small", `${seconds(one.start)} – ${seconds(one.end)} · ${Math.round(100 * one.score)} %`));
    button.addEventListener("click", () => seek(one.start));
    item.append(button);
    $("list").append(item);
  }
}
function about() {
  $("name").textContent = data.name.split("/").pop();
  $("name").title = data.name;
  const missing = Object.entries(data.why || {}).map(([name, why]) => `no ${name}: ${why}`);
  const count = data.timeline.times.length;
  $("about").textContent = [seconds(data.seconds), `${count} windows`, ...missing].join(" · ");
  rows.setAttribute("aria-valuemax", data.seconds);
}
function without() { // the browser cannot play it, or there is no file
  playable = false;
  player.hidden = true;
  $("stand-in").hidden = data.live;
  $("live").hidden = !data.live;
  $("unplayable").hidden = !data.source;
  cursor();
}
async function follow() {
  try {
    const answer = await fetch(`data.json${location.search}`, { cache: "no-store" });
    if (answer.ok) {
      data = await answer.json();
      now = data.seconds;
      view = [Math.max(0, data.seconds - data.length), Math.max(1, data.seconds)];
      about();
      draw();
      $("live").src = `frame.jpg?${new URLSearchParams([...new URLSearchParams(location.search), ["at", data.seconds]])}`;
    }
  } catch (lost) {
    $("about").textContent = "the program that serves this page has ended";
  }
  setTimeout(follow, 1000);
}

rows.addEventListener("click", (happened) => {
  const first = rows.querySelector(".track");
  if (!first) return;
  const box = first.getBoundingClientRect();
  const share = (happened.clientX - box.left) / box.width;
  if (share >= 0 && share <= 1) seek(view[0] + share * (view[1] - view[0]));
});
rows.addEventListener("wheel", (happened) => {
  if (!happened.ctrlKey) return;
  happened.preventDefault();
  const box = rows.querySelector(".track").getBoundingClientRect();
  zoom(happened.deltaY > 0 ? 1.25 : 0.8, view[0] + (happened.clientX - box.left) / box.width * (view[1] - view[0]));
}, { passive: false });
rows.addEventListener("keydown", (happened) => {
  const times = data.timeline.times, hop = times.length > 1 ? times[1][0] - times[0][0] : 1;
  const steps = { ArrowLeft: -hop, ArrowRight: hop, PageUp: -10 * hop, PageDown: 10 * hop };
  if (happened.target !== rows) return;
  if (happened.key in steps) seek(now + steps[happened.key]);
  else if (happened.key === "Home") seek(0);
  else if (happened.key === "End") seek(data.seconds);
  else if (happened.key === "+") zoom(0.5);
  else if (happened.key === "-") zoom(2);
  else return;
  happened.preventDefault();
});
$("in").addEventListener("click", () => zoom(0.5));
$("out").addEventListener("click", () => zoom(2));
$("whole").addEventListener("click", () => zoom(Infinity));
$("more").addEventListener("click", () => { every = !every; draw(); });
for (const name of ["timeupdate", "seeked"]) player.addEventListener(name, () => { now = player.currentTime; cursor(); });
player.addEventListener("error", without);
window.addEventListener("resize", draw);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
view = [0, Math.max(0.01, data.seconds)];
about();
list();
if (data.source) player.src = data.source; else without();
draw();
if (data.live) follow();
