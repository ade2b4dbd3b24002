// A decoder of masks and of quantised updates, written from codecs/README.md alone: no package, nothing of ours.
// `node decode.mjs FOLDER NAME...` decodes NAME.bin and compares it with NAME.json of the golden vectors.
import { readFileSync } from "node:fs";

const SIZES = { bool: 1, u8: 1, u16: 2, f32: 4 };
const product = (shape) => shape.reduce((a, b) => a * b, 1);
const largest = (shape) => product(shape.map((d) => d.max ?? d));
const refuse = (what) => { throw new Error(what); };

class Reader {
  constructor(data) { this.data = data; this.at = 0; }
  take(n) { if (this.at + n > this.data.length) refuse("cut short"); return this.data.subarray(this.at, (this.at += n)); }
  byte() { return this.take(1)[0]; }
  rest() { return this.take(this.data.length - this.at); }
  varint() { let v = 0, scale = 1, b; do { b = this.byte(); v += (b & 127) * scale; scale *= 128; } while (b > 127); return v; }
  msgpack() { // what a container's header may hold
    const b = this.byte(), big = (n) => this.take(n).reduce((v, x) => v * 256 + x, 0);
    if (b < 128) return b;
    if (b >= 0x90 && b < 0xa0) return Array.from({ length: b & 15 }, () => this.msgpack());
    if (b === 0xc0) return null;
    if (b >= 0xcc && b <= 0xce) return big(1 << (b - 0xcc));
    return refuse("not a header");
  }
}

function container(data, spec) { // spec: [[name, dtype, shape, optional]]
  const reader = new Reader(data), found = [];
  for (const entry of reader.msgpack() ?? spec.keys()) {
    const [index, ...sizes] = [entry].flat(), [name, dtype, shape] = spec[index];
    found.push([name, dtype, shape.map((d) => (typeof d === "number" ? d : sizes.shift()))]);
  }
  return Object.fromEntries(found.map(([name, dtype, shape]) => [name, { shape, data: reader.take(product(shape) * SIZES[dtype]) }]));
}

const bitsOf = (bytes) => Array.from({ length: bytes.length * 8 }, (_, i) => (bytes[i >> 3] >> (i & 7)) & 1);

class Rans { // runs: [[256 frequencies, number of symbols]]
  constructor(data) {
    this.view = new DataView(data.buffer, data.byteOffset, data.length);
    this.states = Array.from({ length: 1 << data[0] }, (_, i) => this.view.getUint32(1 + 4 * i, true));
    this.at = 1 + 4 * this.states.length;
  }
  take(runs) {
    const states = this.states, symbols = [];
    for (const [table, count] of runs) {
      const symbolOf = table.flatMap((f, s) => Array(f).fill(s)), starts = table.map(((sum) => (f) => (sum += f) - f)(0));
      for (let i = 0; i < count; i++) {
        const lane = symbols.length % states.length, slot = states[lane] % 32768, s = symbolOf[slot];
        let x = table[s] * Math.floor(states[lane] / 32768) + slot - starts[s];
        if (x < 65536) { x = x * 65536 + this.view.getUint16(this.at, true); this.at += 2; }
        states[lane] = x;
        symbols.push(s);
      }
    }
    return symbols;
  }
  end() { if (this.at !== this.view.byteLength || this.states.some((x) => x !== 65536)) refuse("the stream does not end"); }
}

function rans(data, runs) {
  const stream = new Rans(data), symbols = stream.take(runs);
  stream.end();
  return symbols;
}

function shared(weights) {
  const sum = weights.reduce((x, y) => x + y), table = weights.map((w) => w && Math.max(1, Math.floor((32768 * w) / sum)));
  table[table.indexOf(Math.max(...table))] += 32768 - table.reduce((x, y) => x + y);
  return table;
}

function bitTable(level) {
  const t = 2 * level + 9, p = (Math.floor((131072 * (420 * t * t - 2 * t ** 3)) / 140 ** 3) + 1) >> 1;
  const ones = (s) => bitsOf([s]).reduce((a, b) => a + b), weight = (k) => BigInt(p) ** BigInt(k) * BigInt(65536 - p) ** BigInt(8 - k);
  const table = Array.from({ length: 256 }, (_, s) => Math.max(1, Number(((weight(ones(s)) >> 112n) + 1n) >> 1n)));
  table[p < 32768 ? 0 : 255] += 32768 - table.reduce((a, b) => a + b);
  return table;
}

function gaps(reader, count, size, M) {
  const b = Math.ceil(Math.log2(M)), c = 2 ** b - M, width = c ? b - 1 : b, bits = bitsOf(reader.data.subarray(reader.at));
  let at = 0;
  let r = Array.from({ length: count }, () => { let v = 0; for (let i = 0; i < width; i++) v += bits[at++] * 2 ** i; return v; });
  if (c) r = r.map((v) => (v >= c ? 2 * v + bits[at++] - c : v));
  let position = -1;
  const found = r.map((v) => { let q = 0; while (bits[at++]) q++; return (position += q * M + v + 1); });
  reader.take(Math.ceil(at / 8));
  return position < size ? found : refuse("beyond the end");
}

function codedBits(reader, contexts) { // contexts: of every bit
  const present = [...new Set(contexts)].sort((a, b) => a - b), runs = [];
  while (runs.length < present.length) {
    const n = reader.byte();
    runs.push(...(n < 128 ? reader.take(n + 1) : Array(n - 126).fill(reader.byte())));
  }
  const descriptor = new Map(present.map((context, i) => [context, runs[i]])), places = Array.from({ length: 256 }, () => []);
  contexts.forEach((context, i) => places[descriptor.get(context)].push(i));
  const bits = contexts.map((context) => Number(descriptor.get(context) === 1 || descriptor.get(context) >= 160));
  for (let d = 64; d < 256; d++) if (places[d].length) {
    const code = (d - 64) % 96;
    for (const i of gaps(reader, reader.varint(), places[d].length, (8 + (code % 8)) * 2 ** (code >> 3))) bits[places[d][i]] ^= 1;
  }
  const levels = [...Array(64).keys()].filter((d) => d > 1 && places[d].length);
  const bytes = levels.length ? rans(reader.rest(), levels.map((d) => [bitTable(d - 2), Math.ceil(places[d].length / 8)])) : [];
  for (const d of levels) {
    const plain = bitsOf(bytes.splice(0, Math.ceil(places[d].length / 8)));
    places[d].forEach((place, i) => (bits[place] = plain[i]));
  }
  return bits;
}

function codedSymbols(reader, sizes) {
  const tables = [], runs = [];
  for (const size of sizes.filter(Boolean)) {
    const back = reader.byte();
    if (!back) {
      const low = reader.byte(), high = reader.byte(), s = reader.byte(), knots = reader.take(1 + Math.ceil((high - low) / 2 ** s));
      const weights = Array(256).fill(0);
      for (let i = 0; i <= high - low; i++) {
        const a = knots[i >> s], b = knots[(i >> s) + 1] ?? a, v = a + (((b - a) * (i % 2 ** s) + (2 ** s >> 1)) >> s);
        weights[low + i] = v && (16 + (v % 16)) * 2 ** (v >> 4);
      }
      tables.push(shared(weights));
    }
    runs.push([tables.at(-(back || 1)), size]);
  }
  return runs.length ? rans(reader.rest(), runs) : [];
}

const bitLength = (v) => { let n = 0; while (v >= 1) { v /= 2; n++; } return n; };
const least = (v) => Math.max(1, Math.floor(v));

function adaptiveSymbols(reader, shapes) {
  const [zero, low, high] = reader.take(3), stream = new Rans(reader.rest()), elements = [], weights = new Map();
  const line = () => ({ S: 0, N: 0 }), all = line();
  const prior = (level) => {
    const m = Math.floor((3 * 2 ** level) / 4), R = Math.floor((65536 * m) / (m + 65536 + Math.floor(2 ** 32 / (65536 + m)))), p = [2 ** 24];
    while (p.length < 256) p.push(Math.floor((p.at(-1) * R) / 65536));
    return shared(Array.from({ length: 256 }, (_, q) => (q < low || q > high ? 0 : Math.max(1, p[Math.abs(q - zero)]))));
  };
  for (const shape of shapes) {
    const [rows, columns] = shape.length > 1 ? shape : [1, 1], depth = product(shape) / (rows * columns || 1), array = line();
    const row = Array.from({ length: rows }, line), column = Array.from({ length: columns }, line);
    for (let i = 0; i < product(shape); i++) {
      let m = Math.imul(i, 0x9e3779b1);
      m = Math.imul(m ^ (m >>> 15), 0x85ebca77);
      m = (m ^ (m >>> 13)) >>> 0;
      const b = bitLength(m), at = Math.floor(i / depth);
      elements.push({ stage: b <= 22 ? 0 : 2 * (b - 22) + ((m >>> (b - 2)) & 1) - 1, array, row: row[Math.floor(at / columns)], column: column[at % columns] });
    }
  }
  for (let stage = 0; stage < 21; stage++) {
    const here = elements.filter((e) => e.stage === stage), g = least((65536 * (all.S + 1)) / (all.N + 4));
    for (const e of here) {
      const a = least((65536 * e.array.S + 8 * g) / (e.array.N + 8)), of = (l) => least((65536 * l.S + 6 * a) / (l.N + 6));
      e.level = bitLength(least((of(e.row) * of(e.column)) / a));
    }
    here.sort((x, y) => x.level - y.level);
    const levels = [...new Set(here.map((e) => e.level))];
    for (const l of levels) if (!weights.has(l)) weights.set(l, prior(l).map((w) => 16 * w));
    const symbols = stream.take(levels.map((l) => [shared(weights.get(l)), here.filter((e) => e.level === l).length]));
    here.forEach((e, i) => {
      e.symbol = symbols[i];
      weights.get(e.level)[e.symbol] += 32768;
      for (const l of [all, e.array, e.row, e.column]) { l.S += Math.abs(e.symbol - zero); l.N++; }
    });
  }
  stream.end();
  return elements.map((e) => e.symbol);
}

const DECODERS = {
  entropy: {
    spec(spec) {
      const rest = spec.filter(([, dtype]) => !["bool", "u8"].includes(dtype));
      const total = (dtype) => spec.filter((s) => s[1] === dtype).reduce((n, s) => n + largest(s[2]), 0), n = Math.ceil(total("bool") / 8);
      if (spec.some((s) => s[1] === "bool")) rest.push(["entropy/bits", "u8", [n], true], ["entropy/masks", "u8", [{ max: n + 1 }], true]);
      if (spec.some((s) => s[1] === "u8")) rest.push(["entropy/symbols", "u8", [{ max: total("u8") + 2 }]]);
      return rest;
    },
    decode(arrays, spec, vector) {
      const out = { ...arrays };
      const give = (dtype, elements) => {
        for (const [name, , shape] of spec.filter((s) => s[1] === dtype)) out[name] = { shape, data: Buffer.from(elements.splice(0, product(shape))) };
      };
      const contexts = (mode) => spec.filter((s) => s[1] === "bool").flatMap(([name, , shape], i) =>
        mode === 1 ? Array(product(shape)).fill(i) : [...Buffer.from(vector.reference[name].hex, "hex")]);
      if (arrays["entropy/bits"]) give("bool", bitsOf(arrays["entropy/bits"].data));
      if (arrays["entropy/masks"]) {
        const reader = new Reader(arrays["entropy/masks"].data), mode = reader.byte();
        give("bool", mode < 3 ? codedBits(reader, contexts(mode)) : refuse("sampling is not decoded here"));
      }
      if (arrays["entropy/symbols"]) {
        const reader = new Reader(arrays["entropy/symbols"].data), mode = reader.byte(), shapes = spec.filter((s) => s[1] === "u8").map((s) => s[2]);
        give("u8", mode === 1 ? codedSymbols(reader, shapes.map(product)) : mode === 3 ? adaptiveSymbols(reader, shapes) : refuse("not decoded here"));
      }
      return out;
    },
  },
  quantise: {
    spec: (spec, { per }) => spec.flatMap((s) => (s[1] !== "f32" ? [s] : per === "bundle" ? [[s[0], "u8", s[2]]] : [[s[0], "u8", s[2]], [`${s[0]}/step`, "f32", []]]))
      .concat(per === "bundle" ? [["quantise/step", "f32", []]] : []),
    decode(arrays, spec, vector, { bits = 8, per }) {
      return Object.fromEntries(spec.map(([name, dtype, shape]) => {
        if (dtype !== "f32") return [name, arrays[name]];
        const step = arrays[per === "bundle" ? "quantise/step" : `${name}/step`].data.readFloatLE(0), half = 2 ** (bits - 1) - 1, data = Buffer.alloc(4 * product(shape));
        arrays[name].data.forEach((q, i) => data.writeFloatLE(Math.fround((q - half) * step), 4 * i));
        return [name, { shape, data }];
      }));
    },
  },
};

const [folder, ...names] = process.argv.slice(2);
for (const name of names) {
  const vector = JSON.parse(readFileSync(`${folder}/${name}.json`)), specs = [Object.entries(vector.spec).map(([key, item]) => [key, ...item])];
  for (const codec of vector.chain) specs.push(DECODERS[codec.name].spec(specs.at(-1), codec.configuration));
  let arrays = container(readFileSync(`${folder}/${name}.bin`), specs.pop());
  for (const codec of vector.chain.toReversed()) arrays = DECODERS[codec.name].decode(arrays, specs.pop(), vector, codec.configuration);
  for (const [key, wanted] of Object.entries(vector.decoded)) if (arrays[key].data.toString("hex") !== wanted.hex) refuse(`${name}: ${key} differs`);
  console.log(name);
}
