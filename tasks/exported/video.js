// A clip of a video file, as the browser decodes it, and pictures of a clip's inputs.
"use strict";

const FRAMES = "frames", MEL = "mel", FIELDS = "fields";

// TOLD, sessions and ort are those of page.js, which is read later
const parts = name => Object.keys(TOLD.clips[name].inputs);
const readable = name => parts(name).includes(FRAMES) || parts(name).includes(MEL);

function hint() {
  const left = TOLD.streams.filter(name => !readable(name));
  const without = left.length ? ` ${left.join(" and ")} cannot be made in a browser, and is absent.` : "";
  return `The clip is in the middle of the video, its pictures a square in the middle.${without} A browser decodes and ` +
    "scales otherwise than Python: answers differ a little.";
}

// As Python's: halves to the even number
const round = value => (Math.abs(value % 1) === 0.5 ? 2 * Math.round(value / 2) : Math.round(value));

// The first frame of each segment, in the middles of equal parts of the video: streams/clip.py
function startsOf(frames, { segments, span }) {
  const room = Math.max(0, frames - span);
  return Array.from({ length: segments }, (_, part) => {
    const first = Math.floor(frames * part / segments), last = Math.floor(frames * (part + 1) / segments) - span;
    if (last >= first) return first + round((last - first) / 2);
    return Math.min(Math.max(0, Math.floor((first + last) / 2)), room);
  });
}

function ownStart(start, { span }, own, frames) {
  const ownSpan = own.frames * own.stride;
  if (ownSpan === span) return start;
  return Math.max(0, Math.min(start + Math.floor((span - ownSpan) / 2), frames - ownSpan));
}

async function readVideo(file) {
  const video = document.createElement("video"), address = URL.createObjectURL(file);
  Object.assign(video, { muted: true, preload: "auto", src: address });
  try {
    await new Promise((done, failed) => {
      video.addEventListener("loadeddata", done, { once: true });
      video.addEventListener("error", () => failed(new Error(`This browser cannot play ${file.name}.`)), { once: true });
    });
    const frames = Math.max(1, round(video.duration * TOLD.fps)), starts = startsOf(frames, TOLD.clip);
    const inputs = {}, why = {};
    for (const name of TOLD.streams) {
      const own = TOLD.clips[name];
      const ours = starts.map(start => Math.floor(ownStart(start, TOLD.clip, own, frames) / own.begins) * own.begins);
      if (parts(name).includes(FRAMES)) inputs[name] = await pictures(video, name, ours, frames);
      else if (parts(name).includes(MEL)) {
        const sound = await samplesOf(file);
        if (sound) inputs[name] = await logMel(sound, name, ours, frames);
        else why[name] = "no sound that this browser decodes";
      } else why[name] = "not made in a browser";
    }
    const last = starts[starts.length - 1] + TOLD.clip.span;
    return { inputs, why, begin: starts[0] / TOLD.fps, end: Math.min(last, frames) / TOLD.fps };
  } finally {
    URL.revokeObjectURL(address);
  }
}

async function pictures(video, name, starts, frames) {
  const own = TOLD.clips[name], side = own.inputs[FRAMES].shape[1], square = Math.min(video.videoWidth, video.videoHeight);
  const canvas = new OffscreenCanvas(side, side), pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.imageSmoothingQuality = "high";
  const left = (video.videoWidth - square) / 2, top = (video.videoHeight - square) / 2;
  const whole = Math.ceil(frames / own.stride) * own.stride; // beyond the end a clip begins anew
  const values = new Uint8Array(starts.length * own.frames * side * side * 3);
  let place = 0;
  for (const start of starts)
    for (let step = 0; step < own.frames; step++) {
      const frame = Math.min((start + step * own.stride) % whole, frames - 1);
      await seek(video, (frame + 0.5) / TOLD.fps);
      pen.drawImage(video, left, top, square, square, 0, 0, side, side);
      const shown = pen.getImageData(0, 0, side, side).data;
      for (let pixel = 0; pixel < shown.length; pixel += 4) for (let k = 0; k < 3; k++) values[place++] = shown[pixel + k];
    }
  return {
    frames: new ort.Tensor("uint8", values, [1, starts.length * own.frames, side, side, 3]),
    map: new ort.Tensor("float32", Float32Array.from(own.square_map.flat()), [1, 2, 3]),
  };
}

function seek(video, seconds) {
  const reached = new Promise(done => video.addEventListener("seeked", done, { once: true }));
  video.currentTime = Math.min(seconds, video.duration);
  return reached;
}

// Mono samples at the model's rate; null where there is no sound, or none that the browser decodes, or only zeros
async function samplesOf(file) {
  const context = new OfflineAudioContext(1, 1, TOLD.sound.rate);
  let buffer;
  try {
    buffer = await context.decodeAudioData(await file.arrayBuffer());
  } catch {
    return null;
  }
  const mono = new Float32Array(buffer.length);
  for (let channel = 0; channel < buffer.numberOfChannels; channel++)
    buffer.getChannelData(channel).forEach((value, at) => (mono[at] += value / buffer.numberOfChannels));
  return mono.some(value => value !== 0) ? mono : null;
}

// The rows of log-mel around each segment: Audio.read of streams/audio.py
async function logMel(sound, name, starts, frames) {
  const own = TOLD.clips[name], { rate, hop, silence } = TOLD.sound, perSecond = rate / hop;
  const [bands, all] = own.inputs[MEL].shape, rows = all / starts.length;
  const total = round(frames / TOLD.fps * perSecond), values = new Float32Array(bands * all).fill(silence);
  for (const [segment, start] of starts.entries()) {
    const centred = round((start + own.frames * own.stride / 2) / TOLD.fps * perSecond - rows / 2);
    const inside = Math.min(Math.max(Math.floor(centred / own.step) * own.step, 0), total - rows);
    const first = Math.trunc((total >= rows ? inside : -Math.floor((rows - total) / 2)) / own.step) * own.step;
    const begin = Math.max(first, 0), end = Math.min(first + rows, total), made = await melRows(sound, begin, end);
    for (let row = 0; row < rows; row++) {
      const there = first + row - begin, count = end - begin;
      if (!own.repeats && (there < 0 || there >= count)) continue;
      const from = ((there % count) + count) % count;
      for (let band = 0; band < bands; band++)
        values[band * all + segment * rows + row] = made[band * count + from];
    }
  }
  return { mel: new ort.Tensor("float32", values, [1, bands, all]) };
}

async function melRows(sound, begin, end) {
  const { hop, reach } = TOLD.sound, samples = new Float32Array((end - begin - 1) * hop + 2 * reach);
  for (let at = 0; at < samples.length; at++) samples[at] = sound[begin * hop - reach + at] || 0;
  return (await sessions.log_mel.run({ samples: new ort.Tensor("float32", samples, [1, samples.length]) })).mel.data;
}

// A canvas for each stream that can be drawn: the middle picture, motion as hue, log-mel
function drawClip(place, inputs) {
  const drawn = Object.entries(inputs).map(([name, given]) => {
    const draw = given[FRAMES] ? drawFrame : given[FIELDS] ? drawMotion : given[MEL] ? drawMel : null;
    if (!draw) return null;
    const figure = document.createElement("figure"), canvas = document.createElement("canvas");
    const caption = document.createElement("figcaption");
    canvas.id = `still-${name}`;
    caption.textContent = name;
    figure.append(canvas, caption);
    draw(canvas, given[FRAMES] || given[FIELDS] || given[MEL]);
    return figure;
  });
  place.replaceChildren(...drawn.filter(Boolean));
}

function paint(canvas, width, height, colour) {
  Object.assign(canvas, { width, height });
  if (width === height) canvas.style.aspectRatio = 1; // sound's rows and bands are no pixels
  const image = new ImageData(width, height);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) image.data.set([...colour(x, y), 255], 4 * (y * width + x));
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function drawFrame(canvas, { data, dims: [, steps, height, width] }) {
  const begin = (steps >> 1) * height * width * 3;
  paint(canvas, width, height, (x, y) => data.subarray(begin + 3 * (y * width + x), begin + 3 * (y * width + x) + 3));
}

function drawMotion(canvas, { data, dims: [, steps, , height, width] }) {
  const begin = (steps >> 1) * 2 * height * width;
  paint(canvas, width, height, (x, y) => {
    const at = begin + y * width + x, right = data[at] - 128, down = data[at + height * width] - 128;
    const angle = Math.atan2(down, right), strength = Math.min(1, Math.hypot(right, down) / 24); // of 127 steps
    return [0, 1, 2].map(k => 255 * (1 - strength * (0.5 - 0.5 * Math.cos(angle - k * 2 * Math.PI / 3))));
  });
}

function drawMel(canvas, { data, dims: [, bands, rows] }) {
  paint(canvas, rows, bands, (x, y) => {
    const value = Math.min(1, Math.max(0, (data[(bands - 1 - y) * rows + x] + 16) / 20)); // nepers of power
    return [255 * value, 255 * value ** 2, 90 + 100 * value];
  });
}
