// Named arrays <-> payloads (codecs/README.md): the container, and the codecs byte_shuffle, zstd, cast(f16), pack_bits.
import * as zlib from "node:zlib";
import * as msgpack from "./msgpack.mjs";

const KINDS = {
  bool: Uint8Array, u8: Uint8Array, u16: Uint16Array, u32: Uint32Array, i8: Int8Array, i16: Int16Array,
  i32: Int32Array, f16: Uint16Array, f32: Float32Array, f64: Float64Array,
};

// An array is {shape, data}; f16 travels as its 16 bits. A spec is {name: [dtype, [dimension, ...], optional?]}.
const count = (shape) => shape.reduce((product, size) => product * size, 1);
const isOpen = (size) => typeof size === "object";

// What each array codec makes of one entry of a spec, and of one array, there and back.
const ARRAY_CODECS = {
  cast: {
    spec: ([kind, shape, ...rest]) => [kind === "f32" || kind === "f64" ? "f16" : kind, shape, ...rest],
    encode: (array, [kind]) =>
      kind === "f32" || kind === "f64" ? { ...array, data: Uint16Array.from(array.data, toHalf) } : array,
    decode: (array, [kind]) =>
      kind === "f32" || kind === "f64" ? { ...array, data: KINDS[kind].from(array.data, fromHalf) } : array,
  },
  pack_bits: {
    spec: ([kind, shape, ...rest]) => (kind === "bool" ? ["u8", [Math.ceil(count(shape) / 8)], ...rest] : [kind, shape, ...rest]),
    encode(array, [kind]) {
      if (kind !== "bool") return array;
      const packed = new Uint8Array(Math.ceil(array.data.length / 8));
      array.data.forEach((bit, index) => (packed[index >> 3] |= bit << (index & 7)));
      return { shape: [packed.length], data: packed };
    },
    decode: (array, [kind, shape]) =>
      kind === "bool" ? { shape, data: Uint8Array.from({ length: count(shape) }, (_, i) => (array.data[i >> 3] >> (i & 7)) & 1) } : array,
  },
};

const BYTES_CODECS = {
  byte_shuffle: {
    encode: (bytes, { width = 4 }) => shuffled(bytes, width, (group, byte, groups) => [byte * groups + group, group * width + byte]),
    decode: (bytes, { width = 4 }) => shuffled(bytes, width, (group, byte, groups) => [group * width + byte, byte * groups + group]),
  },
  zstd: {
    encode(bytes, { level = 3 }) {
      const plain = Buffer.concat([Buffer.of(0), bytes]);
      if (!zlib.zstdCompressSync) return plain;
      const parameters = { [zlib.constants.ZSTD_c_compressionLevel]: level, [zlib.constants.ZSTD_c_contentSizeFlag]: 1 };
      const packed = zlib.zstdCompressSync(bytes, { params: parameters, pledgedSrcSize: bytes.length });
      return packed.length < bytes.length ? Buffer.concat([Buffer.of(1), packed]) : plain;
    },
    decode(bytes) {
      if (bytes[0] === 0) return bytes.subarray(1);
      if (!zlib.zstdDecompressSync) throw new Error("zstd is not in this Node; 22.15 and newer have it");
      return zlib.zstdDecompressSync(bytes.subarray(1));
    },
  },
};

function shuffled(bytes, width, places) {
  const moved = Buffer.from(bytes), groups = Math.floor(bytes.length / width);
  for (let group = 0; group < groups; group++)
    for (let byte = 0; byte < width; byte++) {
      const [to, from] = places(group, byte, groups);
      moved[to] = bytes[from];
    }
  return moved;
}

function steps(chain) {
  for (const { name } of chain)
    if (!(name in ARRAY_CODECS) && !(name in BYTES_CODECS)) throw new Error(`this client does not know the codec ${name}`);
  return [chain.filter(({ name }) => name in ARRAY_CODECS), chain.filter(({ name }) => name in BYTES_CODECS)];
}

export function encode(arrays, spec, chain) {
  const [ofArrays, ofBytes] = steps(chain);
  let now = { ...spec }, found = { ...arrays };
  for (const { name } of ofArrays) {
    for (const key of Object.keys(found)) if (!key.startsWith("buffers/")) found[key] = ARRAY_CODECS[name].encode(found[key], now[key]);
    now = specAfter(now, name);
  }
  return ofBytes.reduce((bytes, { name, configuration }) => BYTES_CODECS[name].encode(bytes, configuration ?? {}), pack(found, now));
}

export function decode(payload, spec, chain) {
  const [ofArrays, ofBytes] = steps(chain);
  const specs = ofArrays.reduce((all, { name }) => [...all, specAfter(all.at(-1), name)], [{ ...spec }]);
  const bytes = ofBytes.reduceRight((data, { name, configuration }) => BYTES_CODECS[name].decode(data, configuration ?? {}), payload);
  let found = unpack(bytes, specs.at(-1));
  for (let index = ofArrays.length - 1; index >= 0; index--)
    for (const key of Object.keys(found))
      if (!key.startsWith("buffers/")) found[key] = ARRAY_CODECS[ofArrays[index].name].decode(found[key], specs[index][key]);
  return found;
}

const specAfter = (spec, codec) =>
  Object.fromEntries(Object.entries(spec).map(([key, item]) => [key, key.startsWith("buffers/") ? item : ARRAY_CODECS[codec].spec(item)]));

// Buffers stand behind all other arrays.
const inOrder = (spec) => [...Object.keys(spec).filter((key) => !key.startsWith("buffers/")), ...Object.keys(spec).filter((key) => key.startsWith("buffers/"))];

function pack(arrays, spec) {
  const names = inOrder(spec), present = names.filter((name) => name in arrays);
  const open = (name) => spec[name][1].flatMap((size, axis) => (isOpen(size) ? [arrays[name].shape[axis]] : []));
  const plain = present.length === names.length && names.every((name) => open(name).length === 0);
  const header = plain ? null : present.map((name) => (open(name).length ? [names.indexOf(name), ...open(name)] : names.indexOf(name)));
  const segments = present.map((name) => Buffer.from(arrays[name].data.buffer, arrays[name].data.byteOffset, arrays[name].data.byteLength));
  return Buffer.concat([msgpack.encode(header), ...segments]);
}

function unpack(bytes, spec) {
  const names = inOrder(spec), header = msgpack.decode(bytes), found = {};
  let at = msgpack.encode(header).length;
  for (const entry of header ?? names.keys()) {
    const [index, ...sizes] = [entry].flat(), name = names[index], [kind, dimensions] = spec[name];
    const shape = dimensions.map((size) => (isOpen(size) ? sizes.shift() : size));
    const size = count(shape) * KINDS[kind].BYTES_PER_ELEMENT;
    if (at + size > bytes.length) throw new Error(`a payload of ${bytes.length} bytes ends within ${name}`);
    found[name] = { shape, data: new KINDS[kind](Uint8Array.from(bytes.subarray(at, at + size)).buffer) };
    at += size;
  }
  if (at !== bytes.length) throw new Error(`${bytes.length - at} bytes behind the last array`);
  return found;
}

// IEEE binary16, nearest, ties to even. Scaling makes a float64 addition round at the right bit.
export function toHalf(value) {
  const size = Math.abs(value), sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  if (!(size < 65520)) throw new Error(`${value} does not fit into 16 bits`);
  const exponent = Math.max(-14, size === 0 ? -14 : Math.floor(Math.log2(size)));
  const step = 2 ** (exponent - 10), units = size / step, floor = Math.floor(units), rest = units - floor;
  const rounded = rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
  return sign | (rounded + ((exponent + 14) << 10));
}

export function fromHalf(bits) {
  const exponent = (bits >> 10) & 31, fraction = bits & 1023, sign = bits & 0x8000 ? -1 : 1;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
}
