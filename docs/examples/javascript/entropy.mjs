// The codec `entropy` for u8 arrays without and with adaptive tables (codecs/README.md): the shortest of what there is.
import * as adaptive from "./adaptive.mjs";
import * as rans from "./rans.mjs";
import { shared } from "./random.mjs";

export const SYMBOLS = "entropy/symbols";
const product = (shape) => shape.reduce((a, b) => a * b, 1);
const WEIGHTS = Array.from({ length: 256 }, (_, level) => level && (16 + (level % 16)) * 2 ** (level >> 4));

export function spec(items, configuration) {
  const { condition = "" } = configuration, rest = {}, coded = Object.entries(items).filter(([, [kind]]) => kind === "u8");
  if (!["", "adaptive"].includes(condition)) throw new Error(`this client does not know entropy with ${condition}`);
  for (const [name, [kind, shape, optional]] of Object.entries(items)) {
    const open = shape.some((size) => typeof size === "object") || optional;
    if (kind === "bool" || kind === "u16" || (kind === "u8" && open)) throw new Error(`this client does not know entropy of ${kind} such as ${name}`);
    if (kind !== "u8") rest[name] = items[name];
  }
  const most = coded.reduce((bytes, [, [, shape]]) => bytes + product(shape), 0);
  return coded.length ? { ...rest, [SYMBOLS]: ["u8", [{ max: most + 2 }]] } : rest;
}

// The upper halves of the random numbers by which symbols were rounded, where the chain says that they were.
const drawn = (names, items, { sampling }, seed) =>
  sampling ? names.flatMap((name) => Array.from(shared(seed, name, product(items[name][1])), (number) => number >>> 16)) : null;

export function encode(arrays, items, configuration, { seed }) {
  const names = Object.keys(items).filter((name) => items[name][0] === "u8"), rest = { ...arrays };
  if (!names.length) return rest;
  names.forEach((name) => delete rest[name]);
  const parts = names.map((name) => [...arrays[name].data]), symbols = parts.flat();
  const width = 32 - Math.clz32(symbols.reduce((a, b) => Math.max(a, b), 0)), bits = width * symbols.length;
  const tables = tablesOf(parts);
  let best = null;
  if (tables.bits < bits) best = Buffer.concat([Buffer.of(1), tables.bytes()]);
  if (configuration.condition === "adaptive") {
    const adapted = adaptive.encode(symbols, names.map((name) => items[name][1]), drawn(names, items, configuration, seed));
    if (adapted.bits < (best ? 8 * (best.length - 1) : bits)) best = Buffer.concat([Buffer.of(3), adapted.bytes()]);
  }
  if (!best || 8 * (best.length - 1) >= bits + 8) best = Buffer.concat([Buffer.of(0, width), fields(symbols, width)]);
  return { ...rest, [SYMBOLS]: { shape: [best.length], data: best } };
}

export function decode(arrays, items, configuration, { seed }) {
  const { [SYMBOLS]: coded, ...found } = arrays, names = Object.keys(items).filter((name) => items[name][0] === "u8");
  if (!names.length) return found;
  const shapes = names.map((name) => items[name][1]), sizes = shapes.map(product), bytes = Buffer.from(coded.data).subarray(1);
  let symbols;
  if (coded.data[0] === 0) symbols = unpacked(bytes.subarray(1), bytes[0], sizes.reduce((a, b) => a + b, 0));
  else if (coded.data[0] === 1) symbols = byArray(bytes, sizes);
  else if (coded.data[0] === 3) symbols = adaptive.decode(bytes, shapes, drawn(names, items, configuration, seed));
  else throw new Error(`entropy has no mode ${coded.data[0]} here`);
  names.forEach((name, index) => (found[name] = { shape: shapes[index], data: Uint8Array.from(symbols.splice(0, sizes[index])) }));
  return found;
}

function fields(symbols, width) {
  const packed = Buffer.alloc(Math.ceil((symbols.length * width) / 8));
  let at = 0;
  for (const symbol of symbols) for (let bit = 0; bit < width; bit++, at++) packed[at >> 3] |= ((symbol >> bit) & 1) << (at & 7);
  return packed;
}

const unpacked = (packed, width, count) =>
  Array.from({ length: count }, (_, index) => {
    let symbol = 0;
    for (let bit = 0, at = index * width; bit < width; bit++, at++) symbol |= ((packed[at >> 3] >> (at & 7)) & 1) << bit;
    return symbol;
  });

// Coded symbols, a context for each array.
function tablesOf(parts) {
  const tables = [], header = [], runs = [];
  let bits = 8 * parts.length;
  for (const part of parts.filter((symbols) => symbols.length)) {
    const counts = Array(256).fill(0);
    part.forEach((q) => counts[q]++);
    const costOf = ({ cost }) => counts.reduce((sum, count, q) => sum + count * cost[q], 0);
    const fits = tables.filter(({ frequencies }) => counts.every((count, q) => !count || frequencies[q]));
    const older = fits.reduce((best, one) => (best && costOf(best) <= costOf(one) ? best : one), null);
    const own = newTable(counts, costOf), chosen = older && costOf(older) <= own.bits ? older : own;
    header.push(...(chosen === own ? own.header : [tables.length - tables.indexOf(older)]));
    if (chosen === own && tables.push(own) > 254) throw new Error("this client writes no more than 254 tables");
    bits += Math.floor((chosen === own ? own.bits : costOf(chosen)) / 65536);
    runs.push([part, chosen.frequencies, Math.floor(costOf(chosen) / 65536)]);
  }
  const length = runs.reduce((sum, [, , bits]) => sum + bits, 0);
  return { bits, bytes: () => (runs.length ? Buffer.concat([Buffer.from(header), rans.encode([runs], length)]) : Buffer.alloc(0)) };
}

// The cheapest of the tables of all spacings of knots; of equal ones that of the closest.
function newTable(counts, costOf) {
  const lowest = counts.findIndex(Boolean), highest = counts.findLastIndex(Boolean), width = highest - lowest + 1;
  const held = counts.slice(lowest, highest + 1);
  let best = null;
  for (let s = 0; s <= 6; s++) {
    const knots = knotsOf(held, 2 ** s), frequencies = ofKnots(lowest, width, s, knots), cost = rans.costs(frequencies);
    const header = [0, lowest, highest, s, ...knots], bits = costOf({ cost }) + 8 * 65536 * header.length;
    if (!best || bits < best.bits) best = { header, frequencies, cost, bits };
    if (width <= 2 ** s) break;
  }
  return best;
}

// Levels of the mean counts around each knot.
function knotsOf(counts, spacing) {
  const half = Math.floor(spacing / 2), means = [];
  for (let knot = 0; knot < counts.length + spacing - 1; knot += spacing) {
    const begin = Math.min(counts.length - 1, Math.max(0, knot - half)), end = Math.max(begin + 1, Math.min(counts.length, knot + half + 1));
    means.push(Math.floor((2 ** 20 * counts.slice(begin, end).reduce((a, b) => a + b, 0)) / (end - begin)));
  }
  const scale = Math.max(1, Math.floor(Math.max(...means) / WEIGHTS[255]) + 1);
  return means.map((mean, index) => {
    if (spacing === 1 && !counts[index]) return 0;
    let level = 1;
    while (level < 255 && WEIGHTS[level] + WEIGHTS[level + 1] <= 2 * Math.floor(mean / scale)) level++;
    return level;
  });
}

function ofKnots(lowest, width, s, knots) {
  const weights = Array(256).fill(0);
  for (let index = 0; index < width; index++) {
    const a = knots[index >> s], b = knots[(index >> s) + 1] ?? a;
    weights[lowest + index] = WEIGHTS[a + (((b - a) * (index % 2 ** s) + (2 ** s >> 1)) >> s)];
  }
  return rans.table(weights);
}

function byArray(bytes, sizes) {
  const tables = [], runs = [];
  let at = 0;
  for (const size of sizes.filter(Boolean)) {
    const back = bytes[at++];
    if (!back) {
      const [lowest, highest, s] = bytes.subarray(at, at + 3), count = 1 + Math.ceil((highest - lowest) / 2 ** s);
      tables.push(ofKnots(lowest, highest - lowest + 1, s, bytes.subarray(at + 3, at + 3 + count)));
      at += 3 + count;
    }
    if (back > tables.length) throw new Error("a table that was never given");
    runs.push([size, tables.at(-(back || 1))]);
  }
  if (!runs.length) return [];
  const stream = new rans.Decoder(bytes.subarray(at)), symbols = stream.take(runs);
  stream.end();
  return symbols;
}
