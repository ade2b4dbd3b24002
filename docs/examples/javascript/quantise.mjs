// The codec `quantise` (codecs/README.md), without rotation.
import { shared } from "./random.mjs";

const FLOATS = { f32: Float32Array, f64: Float64Array };
const isFloating = ([kind]) => kind in FLOATS;

function settings({ bits = 8, per = "tensor", block = 1024, rounding = "stochastic", rotate = false, spread = 0 }) {
  if (rotate || bits > 8) throw new Error(`this client does not know quantise with ${rotate ? "rotation" : `${bits} bits`}`);
  const half = Math.max(1, 2 ** (bits - 1) - 1);
  return { bits, per, block, rounding, spread, half, largest: bits === 1 ? 1 : 2 * half };
}

export function spec(items, configuration) {
  const { per, block } = settings(configuration), found = {};
  for (const [name, item] of Object.entries(items)) {
    const [, shape, ...rest] = item;
    if (!isFloating(item)) { found[name] = item; continue; }
    if (shape.some((size) => typeof size === "object")) throw new Error(`this client does not quantise ${name}, whose shape is open`);
    found[name] = ["u8", shape, ...rest];
    if (per !== "bundle") found[`${name}/step`] = ["f32", grid(shape, per, block)[1], ...rest];
  }
  if (per === "bundle" && Object.values(items).some(isFloating)) found["quantise/step"] = ["f32", []];
  return found;
}

// How many elements in a row share a step, and the shape of the steps.
function grid(shape, per, block) {
  const size = shape.reduce((a, b) => a * b, 1);
  if (per === "block") return [block, [Math.ceil(size / block)]];
  if (per === "channel" && shape.length) return [Math.max(1, Math.floor(size / Math.max(1, shape[0]))), shape.slice(0, 1)];
  return [Math.max(1, size), []];
}

export function encode(arrays, items, configuration, { seed }) {
  const wanted = settings(configuration), found = {};
  const floating = Object.keys(arrays).filter((name) => isFloating(items[name]));
  const common = wanted.per === "bundle" ? [stepOf(floating.map((name) => arrays[name].data), wanted)] : null;
  for (const [name, { shape, data }] of Object.entries(arrays)) {
    if (!floating.includes(name)) { found[name] = { shape, data }; continue; }
    const [run, dimensions] = grid(shape, wanted.per, wanted.block), count = dimensions.reduce((a, b) => a * b, 1);
    const steps = common ?? Array.from({ length: count }, (_, index) => stepOf([data.subarray(run * index, run * (index + 1))], wanted));
    found[name] = { shape, data: rounded(name, data, steps, common ? Math.max(1, data.length) : run, wanted, seed) };
    if (!common) found[`${name}/step`] = { shape: dimensions, data: Float32Array.from(steps) };
  }
  if (common && floating.length) found["quantise/step"] = { shape: [], data: Float32Array.from(common) };
  return found;
}

// The step of these values, rounded up to a float32.
function stepOf(parts, { half, spread }) {
  let most = 0, squares = 0, count = 0;
  for (const part of parts)
    for (const value of part) (most = Math.max(most, Math.abs(value))), (squares += value * value), count++;
  const exact = spread ? elevenBits(spread * Math.sqrt(squares / Math.max(1, count))) : most / half, step = Math.fround(exact);
  if (!Number.isFinite(Math.fround(step * half))) throw new Error("a value beyond float32");
  return step < exact ? nextUp(step) : step;
}

const nextUp = (value) => {
  const bits = new Uint32Array(Float32Array.of(value).buffer);
  bits[0]++;
  return new Float32Array(bits.buffer)[0];
};

function elevenBits(value) {
  if (!value) return 0;
  const unit = 2 ** (Math.floor(Math.log2(value)) - 10);
  return nearest(value / unit) * unit;
}

const nearest = (value) => {
  const floor = Math.floor(value), rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
};

function rounded(name, data, steps, run, { bits, rounding, half, largest }, seed) {
  const inverse = steps.map((step) => (step > 0 ? 1 / step : 0)), random = rounding === "stochastic" ? shared(seed, name, data.length) : null;
  return Uint8Array.from(data, (value, index) => {
    let scaled = value * inverse[Math.floor(index / run)];
    if (bits === 1) scaled = scaled * 0.5 + 0.5;
    else if (rounding === "deadzone") scaled = Math.trunc(scaled + Math.sign(scaled) * (1 - 0.65)) + half;
    else scaled += half;
    const whole = random ? Math.floor(scaled + random[index] * 2 ** -32) : nearest(scaled);
    return Math.min(largest, Math.max(0, whole));
  });
}

export function decode(arrays, items, configuration) {
  const { bits, per, block, half, largest } = settings(configuration), found = {};
  for (const [name, item] of Object.entries(items)) {
    if (!(name in arrays)) continue;
    if (!isFloating(item)) { found[name] = arrays[name]; continue; }
    const { shape, data } = arrays[name], steps = arrays[per === "bundle" ? "quantise/step" : `${name}/step`].data;
    const run = steps.length > 1 ? grid(shape, per, block)[0] : Math.max(1, data.length);
    if (data.some((q) => q > largest)) throw new Error(`${name} holds a symbol above ${largest}`);
    const level = (q) => (bits === 1 ? 2 * q - 1 : q - half);
    found[name] = { shape, data: FLOATS[item[0]].from(data, (q, index) => Math.fround(level(q) * steps[Math.floor(index / run)])) };
  }
  return found;
}
