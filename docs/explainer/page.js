// The page around the network: pictures, buttons, and what is said of them.
"use strict";

const { sizes, names, classes, photos, weights, muon } = JSON.parse(document.getElementById("data").textContent);
const across = sizes.side / sizes.patch;
const $ = id => document.getElementById(id);
const signed = value => value.toFixed(2).replace("-", "−");
const percent = share => `${Math.round(100 * share)}\u00a0%`;
const state = { patch: 27, unit: 0, order: [...Array(sizes.tokens).keys()] };

// ------------------------------------------------------------------------------ the network

const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer;
const worker = new Worker(URL.createObjectURL(new Blob([$("network").textContent], { type: "text/javascript" })));
const waiting = new Map();
let asked = 0;
worker.onmessage = ({ data }) => { waiting.get(data.id)(data); waiting.delete(data.id); };
const ask = (job, values = {}) => new Promise(resolve => {
  waiting.set(++asked, resolve);
  worker.postMessage({ id: asked, job, ...values });
});

function likeliest(logits, count = 5) {
  const top = Math.max(...logits), powers = [...logits].map(x => Math.exp(x - top));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((p, i) => ({ name: classes[i], share: p / sum })).sort((a, b) => b.share - a.share).slice(0, count);
}

// ------------------------------------------------------------------------------ pictures

const VIRIDIS = ["#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725"];
const RED_BLUE = ["#053061", "#2166ac", "#4393c3", "#92c5de", "#d1e5f0", "#f7f7f7", "#fddbc7", "#f4a582", "#d6604d", "#b2182b", "#67001f"];

function color(scale, share) {  // share 0 to 1 -> [red, green, blue]
  const at = Math.min(Math.max(share, 0), 1) * (scale.length - 1), low = Math.min(Math.floor(at), scale.length - 2);
  const parts = [scale[low], scale[low + 1]].map(hex => [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16)));
  return parts[0].map((value, i) => value + (at - low) * (parts[1][i] - value));
}

function paint(canvas, columns, rgb) {  // rgb: a list of [red, green, blue], row by row
  const small = new OffscreenCanvas(columns, rgb.length / columns), context = canvas.getContext("2d");
  const pixels = new ImageData(columns, rgb.length / columns);
  rgb.forEach((values, i) => pixels.data.set([...values, 255], 4 * i));
  small.getContext("2d").putImageData(pixels, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
}

const paintImage = (canvas, image) => {
  const area = sizes.side ** 2;
  paint(canvas, sizes.side, Array.from({ length: area }, (_, i) => [0, 1, 2].map(c => image[c * area + i] * 127.5 + 127.5)));
};
const paintUnit = (canvas, unit) => {
  const largest = Math.max(...unit.map(Math.abs));
  paint(canvas, across, unit.map(weight => color(RED_BLUE, 0.5 + weight / largest / 2)));
};

// The middle square of a picture at `side` pixels: bilinear without antialiasing, as the network was tested.
async function toImage(source) {
  const picture = await createImageBitmap(source), edge = Math.min(picture.width, picture.height);
  const full = Math.min(edge, 160), canvas = new OffscreenCanvas(full, full);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, full, full);
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, (picture.width - edge) / 2, (picture.height - edge) / 2, edge, edge, 0, 0, full, full);
  const pixels = context.getImageData(0, 0, full, full).data, { side } = sizes, image = new Float32Array(3 * side ** 2);
  const places = Array.from({ length: side }, (_, i) => {
    const at = Math.max((i + 0.5) * full / side - 0.5, 0), low = Math.min(Math.floor(at), full - 1);
    return [low, Math.min(low + 1, full - 1), at - low];
  });
  for (let c = 0; c < 3; c++)
    places.forEach(([top, bottom, down], row) => places.forEach(([left, right, along], column) => {
      const pixel = (y, x) => pixels[4 * (y * full + x) + c];
      const upper = pixel(top, left) + along * (pixel(top, right) - pixel(top, left));
      const lower = pixel(bottom, left) + along * (pixel(bottom, right) - pixel(bottom, left));
      image[(c * side + row) * side + column] = (upper + down * (lower - upper) - 127.5) / 127.5;
    }));
  return image;
}

// ------------------------------------------------------------------------------ grids of buttons

// Buttons of which the arrow keys choose one, and Tab enters once.
function grid(place, count, label, choose) {
  const buttons = Array.from({ length: count }, (_, i) => {
    const button = document.createElement("button");
    button.setAttribute("aria-label", label(i));
    button.addEventListener("click", () => pick(i));
    return place.appendChild(button);
  });
  function pick(chosen) {
    buttons.forEach((button, i) => { button.tabIndex = i === chosen ? 0 : -1; button.setAttribute("aria-pressed", i === chosen); });
    choose(chosen);
  }
  place.addEventListener("keydown", event => {
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across }[event.key];
    const next = buttons.indexOf(document.activeElement) + step;
    if (!step || !buttons[next]) return;
    event.preventDefault();
    buttons[next].focus();
    pick(next);
  });
  return { buttons, pick };
}

function bars(list, found) {
  list.replaceChildren(...found.map(({ name, share }) => {
    const item = document.createElement("li");
    item.style.setProperty("--share", `${100 * share}%`);
    item.append(Object.assign(document.createElement("span"), { textContent: name }), percent(share));
    return item;
  }));
}

// ------------------------------------------------------------------------------ 1 · a photo

async function see(image, thumbnail) {
  state.image = image;
  [...$("photos").children].forEach(button => button.setAttribute("aria-pressed", button === thumbnail));
  paintImage($("seen"), image);
  const { logits } = await ask("see", { image });
  state.logits = logits;
  const found = likeliest(logits);
  bars($("classes"), found);
  const sure = found[0].share > 0.5 ? "It is sure" : "It is unsure";
  $("photo-reads").innerHTML = `${sure}: ${found[0].name}, ${percent(found[0].share)}. It gets 32 × 32 pixels and knows `
    + `${classes.length} classes. <a href="${document.body.dataset.one}">From pixels to tokens: notebook&nbsp;1</a>`;
  $("seen").setAttribute("aria-label", `The photo at 32 × 32 pixels; the network says ${found[0].name}`);
  patches.pick(state.patch);
  await shuffle();
}

// ------------------------------------------------------------------------------ 2 · touch a patch

const near = (a, b) => Math.max(Math.abs(a % across - b % across), Math.abs(Math.floor(a / across) - Math.floor(b / across)));

async function touch(patch) {
  state.patch = patch;
  const { maps } = await ask("touch", { token: patch });
  if (patch !== state.patch) return;
  // What has left the patch: the share of it that is in the patches around, of the squares.
  const shares = maps.map((map, depth) => {
    const energy = map.map(x => x ** 2), all = energy.reduce((a, b) => a + b);
    const others = all - energy[patch], around = energy.reduce((sum, e, i) => sum + (near(i, patch) === 1 ? e : 0), 0);
    const figure = $("maps").children[depth], canvas = figure.firstChild;
    const brightest = Math.max(...map.filter((_, i) => i !== patch));
    paint(canvas, across, [...map].map(x => color(VIRIDIS, x / brightest)));
    const context = canvas.getContext("2d"), cell = canvas.width / across;
    context.strokeStyle = "#d55e00";
    context.lineWidth = 3;
    context.strokeRect(patch % across * cell + 1.5, Math.floor(patch / across) * cell + 1.5, cell - 3, cell - 3);
    figure.lastChild.textContent = `block ${depth + 1}: ${percent(others / all)}`;
    canvas.setAttribute("aria-label", `After block ${depth + 1}, ${percent(others / all)} of the change has left the patch`);
    const neighbours = map.filter((_, i) => near(i, patch) === 1).length;
    return { left: others / all, around: around / others, even: neighbours / (map.length - 1) };
  });
  const [first, last] = [shares[0], shares.at(-1)];
  $("touch-reads").textContent = `The framed patch is changed a little, and the network runs again. After block 1, ${percent(first.left)} of the change lies in other `
    + `patches, after block 8, ${percent(last.left)}. Of that, the patches next to it hold ${percent(first.around)} at first and `
    + `${percent(last.around)} at the end (spread evenly: ${percent(first.even)}). Only token mixing connects patches.`;
}

// ------------------------------------------------------------------------------ 3 · the units

function shuffledCopy(list) {
  const copy = [...list];
  for (let i = copy.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [copy[i], copy[j]] = [copy[j], copy[i]];
  }
  return copy;
}

// The mean frequency of a unit's waves, the constant left out: smooth units have a low one.
function meanFrequency(unit) {
  let weighted = 0, total = 0;
  for (let v = 0; v < across; v++)
    for (let u = 0; u < across; u++) {
      if (!u && !v) continue;
      let real = 0, imaginary = 0;
      unit.forEach((weight, i) => {
        const angle = 2 * Math.PI * (u * (i % across) + v * Math.floor(i / across)) / across;
        real += weight * Math.cos(angle);
        imaginary += weight * Math.sin(angle);
      });
      const power = real ** 2 + imaginary ** 2, fold = k => Math.min(k, across - k) / across;
      weighted += power * Math.hypot(fold(u), fold(v));
      total += power;
    }
  return weighted / total;
}

// The correlation of weights that lie side by side, each unit's mean taken off: the mean over the units.
function neighboursAgree(list) {
  const agreement = list.map(unit => {
    const mean = unit.reduce((a, b) => a + b) / unit.length, w = unit.map(x => x - mean);
    let both = 0, here = 0, there = 0;
    w.forEach((x, i) => {
      for (const other of [i % across < across - 1 ? i + 1 : -1, i + across])
        if (w[other] !== undefined) { both += x * w[other]; here += x ** 2; there += w[other] ** 2; }
    });
    return both / Math.sqrt(here * there);
  });
  return agreement.reduce((a, b) => a + b) / agreement.length;
}

function drawUnits() {
  const block = Number($("block").value), name = $("muon").checked ? "muon" : "ours";
  $("block-number").textContent = block;
  const all = state.all[name][block - 1], count = all.length / sizes.tokens;
  let list = Array.from({ length: count }, (_, i) => [...all.slice(i * sizes.tokens, (i + 1) * sizes.tokens)]);
  if ($("shuffled").checked) list = list.map(shuffledCopy);
  const keyed = list.map(unit => [meanFrequency(unit), unit]).sort((a, b) => a[0] - b[0]);
  state.units = keyed.map(([, unit]) => unit);
  gallery.buttons.forEach((button, i) => paintUnit(button.firstChild, state.units[i]));
  gallery.pick(state.unit);
  const agree = neighboursAgree(list), reading = $("shuffled").checked ? "Here they are in random order: what chance looks like."
    : agree > 0.1 ? "Smooth spots and bands: training gave neighbouring patches similar weights." : "Rough: weights of neighbouring patches are unrelated.";
  const whose = $("muon").checked ? " of the same network, trained with the optimizer Muon (a picture only: the answers are our network's)," : "";
  $("units-reads").innerHTML = `A square holds the 64 weights by which a unit${whose} reads the patches. ${reading} `
    + `Correlation of neighbouring weights: <b>${signed(agree)}</b>. `
    + `<a href="${document.body.dataset.six}">Are they real? Notebook&nbsp;6</a>`;
}

function showUnit(index) {
  state.unit = index;
  paintUnit($("unit"), state.units[index]);
  $("unit-name").textContent = `Unit ${index + 1} of 64, smoothest first; click another. Red adds, blue subtracts.`;
}

// ------------------------------------------------------------------------------ 4 · shuffle

async function shuffle() {
  const moved = $("patches-too").checked, weightsToo = $("weights-too").checked;
  const same = [...Array(sizes.tokens).keys()], order = moved ? state.order : same;
  const { side, patch } = sizes, image = state.image, mixed = new Float32Array(image.length);
  for (let c = 0; c < 3; c++)
    for (let y = 0; y < side; y++)
      for (let x = 0; x < side; x++) {
        const from = order[Math.floor(y / patch) * across + Math.floor(x / patch)];
        const row = Math.floor(from / across) * patch + y % patch, column = from % across * patch + x % patch;
        mixed[(c * side + y) * side + x] = image[(c * side + row) * side + column];
      }
  paintImage($("mixed"), mixed);
  const { logits } = !moved && !weightsToo ? state : await ask("shuffle", { patches: order, order: weightsToo ? state.order : null });
  const before = likeliest(state.logits, 1)[0], now = likeliest(logits);
  bars($("mixed-classes"), now);
  const off = Math.max(...logits.map((x, i) => Math.abs(x - state.logits[i])));
  const share = likeliest(logits, classes.length).find(({ name }) => name === before.name).share;
  const answer = `${before.name} ${percent(before.share)} → ${percent(share)}`;
  const text = !moved && !weightsToo ? "Nothing is shuffled. The network is never told where a patch lies: does their order matter to it?"
    : moved && weightsToo ? `Patches and token-mixing weights in the same order: ${answer}. No score has moved by more than ${off.toFixed(7)}, which is rounding: positions are stored in the weights.`
    : `${moved ? "The patches are" : "The weights alone are"} in another order: ${answer}. Each weight expects its patch in a fixed place.`;
  $("mixed").setAttribute("aria-label", moved ? "The photo, its patches in another order" : "The photo, its patches in order");
  $("shuffle-reads").innerHTML = `${text} <a href="${document.body.dataset.seven}">Why: notebook&nbsp;7</a>`;
  document.body.dataset.off = off;
}

// ------------------------------------------------------------------------------ start

const patches = grid($("patches"), sizes.tokens, i => `Patch in row ${Math.floor(i / across) + 1}, column ${i % across + 1}`, touch);
const gallery = grid($("gallery"), 64, i => `Unit ${i + 1}, smoothest first`, showUnit);
for (const button of gallery.buttons) button.append(Object.assign(document.createElement("canvas"), { width: 32, height: 32 }));
for (let depth = 0; depth < sizes.blocks; depth++) {
  const figure = document.createElement("figure");
  const canvas = Object.assign(document.createElement("canvas"), { width: 120, height: 120 });
  canvas.setAttribute("role", "img");
  figure.append(canvas, document.createElement("figcaption"));
  $("maps").append(figure);
}
for (const id of ["seen", "unit", "mixed"]) $(id).setAttribute("role", "img");
for (const id of ["block", "shuffled", "muon"]) $(id).addEventListener("input", drawUnits);
for (const id of ["patches-too", "weights-too"]) $(id).addEventListener("input", shuffle);
$("order").addEventListener("click", () => { state.order = shuffledCopy(state.order); $("patches-too").checked = true; shuffle(); });

async function own(file) {
  try {
    await see(await toImage(file), null);
  } catch {
    $("photo-reads").textContent = `${file.name}: expected a picture that this browser can show, found another file.`;
  }
}
$("file").addEventListener("change", event => event.target.files[0] && own(event.target.files[0]));
addEventListener("dragover", event => event.preventDefault());
addEventListener("drop", event => { event.preventDefault(); if (event.dataTransfer.files[0]) own(event.dataTransfer.files[0]); });

(async () => {
  const buffers = { buffer: bytes(weights), muon: bytes(muon) };
  state.all = (await ask("start", { ...buffers, names, sizes })).units;
  state.order = shuffledCopy(state.order);
  const choices = [];
  for (const { name, png } of photos) {
    const image = await toImage(new Blob([bytes(png)], { type: "image/png" })), button = document.createElement("button");
    button.append(Object.assign(new Image(), { src: `data:image/png;base64,${png}`, alt: name }));
    button.addEventListener("click", () => see(image, button));
    $("photos").append(button);
    choices.push(() => see(image, button));
  }
  $("block").dispatchEvent(new Event("input"));
  await choices[0]();
  document.body.dataset.ready = "yes";
})();
