// Mixer-Nano_4 in plain JavaScript, in a worker of its own so that the page never waits for it.
// Tables of tokens are Float32Arrays, row by row: (S, C) is S tokens of C channels.
"use strict";

let sizes, weights, clean;  // clean: the tokens (S, C) after the stem and each block

function decode(buffer) {  // float16 -> Float32Array
  return Float32Array.from(new Uint16Array(buffer), half => {
    const exponent = (half >> 10) & 31, fraction = half & 1023;
    const size = exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : fraction * 2 ** -24;
    return half >> 15 ? -size : size;
  });
}

// (rows, inputs) -> (rows, outputs); the weight is (outputs, inputs), as PyTorch keeps it.
function linear(x, name, w = weights) {
  const weight = w[name + ".weight"], bias = w[name + ".bias"];
  const outputs = bias.length, inputs = weight.length / outputs, rows = x.length / inputs;
  const y = new Float32Array(rows * outputs);
  for (let row = 0; row < rows; row++)
    for (let out = 0; out < outputs; out++) {
      let sum = bias[out];
      for (let k = 0, a = row * inputs, b = out * inputs; k < inputs; k++) sum += x[a + k] * weight[b + k];
      y[row * outputs + out] = sum;
    }
  return y;
}

function gelu(x) {  // the tanh approximation, in place
  for (let i = 0; i < x.length; i++)
    x[i] *= 0.5 * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x[i] + 0.044715 * x[i] ** 3)));
  return x;
}

function layerNorm(x, name, w = weights) {
  const scale = w[name + ".weight"], shift = w[name + ".bias"], channels = scale.length;
  const y = new Float32Array(x.length);
  for (let start = 0; start < x.length; start += channels) {
    let mean = 0, variance = 0;
    for (let c = 0; c < channels; c++) mean += x[start + c] / channels;
    for (let c = 0; c < channels; c++) variance += (x[start + c] - mean) ** 2 / channels;
    const by = 1 / Math.sqrt(variance + 1e-6);
    for (let c = 0; c < channels; c++) y[start + c] = (x[start + c] - mean) * by * scale[c] + shift[c];
  }
  return y;
}

function transpose(x, rows) {  // (rows, columns) -> (columns, rows)
  const columns = x.length / rows, y = new Float32Array(x.length);
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) y[c * rows + r] = x[r * columns + c];
  return y;
}

const mlp = (x, name, w) => linear(gelu(linear(x, name + ".fc1", w)), name + ".fc2", w);
const add = (x, y) => x.map((value, i) => value + y[i]);

function block(x, index, w = weights) {  // (S, C) -> (S, C): the paper's equation 1
  const name = `blocks.${index}`;
  const columns = transpose(layerNorm(x, name + ".norm1", w), sizes.tokens);  // (C, S)
  x = add(x, transpose(mlp(columns, name + ".token_mixing", w), sizes.channels));
  return add(x, mlp(layerNorm(x, name + ".norm2", w), name + ".channel_mixing", w));
}

function patchify(image) {  // (3, side, side) -> (S, 3·P·P), tokens row by row
  const { side, patch } = sizes, across = side / patch, rows = [];
  for (let token = 0; token < sizes.tokens; token++)
    for (let color = 0; color < 3; color++)
      for (let y = 0; y < patch; y++)
        for (let x = 0; x < patch; x++) {
          const row = Math.floor(token / across) * patch + y, column = (token % across) * patch + x;
          rows.push(image[(color * side + row) * side + column]);
        }
  return Float32Array.from(rows);
}

function allBlocks(x, w = weights) {
  const after = [x];
  for (let index = 0; index < sizes.blocks; index++) after.push(block(after[index], index, w));
  return after;
}

function logits(x, w = weights) {  // tokens (S, C) after the last block -> (classes,)
  const normed = layerNorm(x, "pre_head_norm", w), mean = new Float32Array(sizes.channels);
  normed.forEach((value, i) => mean[i % sizes.channels] += value / sizes.tokens);
  return linear(mean, "head", w);
}

// The same network for tokens in another order: token i is what token order[i] used to be.
function reordered(order) {
  const moved = { ...weights }, count = sizes.tokens;
  for (let index = 0; index < sizes.blocks; index++) {
    const name = `blocks.${index}.token_mixing`;
    const [reads, writes, bias] = [".fc1.weight", ".fc2.weight", ".fc2.bias"].map(end => weights[name + end]);
    const hidden = reads.length / count;
    moved[name + ".fc1.weight"] = reads.map((_, i) => reads[i - i % count + order[i % count]]);
    moved[name + ".fc2.weight"] = writes.map((_, i) => writes[order[Math.floor(i / hidden)] * hidden + i % hidden]);
    moved[name + ".fc2.bias"] = bias.map((_, i) => bias[order[i]]);
  }
  return moved;
}

function normal() {
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}

// How much each token moves after each block when one is disturbed, for a disturbance of size 1:
// one random direction of what `analysis.influence_by_depth` measures (root mean square over C).
function touch(token) {
  const { channels } = sizes, x = clean[0].slice(), size = 0.01;
  for (let c = 0; c < channels; c++) x[token * channels + c] += size * normal();
  return allBlocks(x).slice(1).map((after, depth) => {
    const moved = new Float32Array(sizes.tokens);
    after.forEach((value, i) => moved[Math.floor(i / channels)] += (value - clean[depth + 1][i]) ** 2);
    return moved.map(sum => Math.sqrt(sum / channels) / size);
  });
}

const jobs = {
  // Returns the units of each block, ours and those of the network that Muon trained.
  start({ buffer, muon, names, sizes: given }) {
    sizes = given;
    weights = {};
    const all = decode(buffer);
    let end = 0;
    for (const [name, count] of names) weights[name] = all.subarray(end, end += count);
    const ours = Array.from({ length: sizes.blocks }, (_, i) => weights[`blocks.${i}.token_mixing.fc1.weight`]);
    const theirs = decode(muon), size = ours[0].length;
    return { units: { ours, muon: ours.map((_, i) => theirs.subarray(i * size, (i + 1) * size)) } };
  },
  see({ image }) {
    clean = allBlocks(linear(patchify(image), "stem"));
    return { logits: logits(clean[sizes.blocks]) };
  },
  touch({ token }) {
    return { maps: touch(token) };
  },
  // Patches in one order, the weights in the same, another or none.
  shuffle({ patches, order }) {
    const { channels } = sizes, x = new Float32Array(clean[0].length), w = order ? reordered(order) : weights;
    patches.forEach((from, to) => x.set(clean[0].subarray(from * channels, (from + 1) * channels), to * channels));
    return { logits: logits(allBlocks(x, w)[sizes.blocks], w) };
  },
};

onmessage = ({ data }) => postMessage({ id: data.id, ...jobs[data.job](data) });
