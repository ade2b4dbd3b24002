// Named arrays <-> payloads (codecs/README.md): the container, and the codecs byte_shuffle, zstd, cast(f16), pack_bits,
// delta, quantise and entropy.
import * as zlib from "node:zlib";
import * as entropy from "./entropy.mjs";
import * as msgpack from "./msgpack.mjs";
import * as quantise from "./quantise.mjs";

const KINDS = {
  bool: Uint8Array, u8: Uint8Array, u16: Uint16Array, u32: Uint32Array, i8: Int8Array, i16: Int16Array,
  i32: Int32Array, f16: Uint16Array, f32: Float32Array, f64: Float64Array,
};

// An array is {shape, data}; f16 travels as its 16 bits. A spec is {name: [dtype, [dimension, ...], optional?]}.
const count = (shape) => shape.reduce((product, size) => product * size, 1);
const isOpen = (size) => typeof size === "object";

const isWide = ([kind]) => kind === "f32" || kind === "f64";

// An array codec that does the same to each array of some dtypes.
const each = (concerns, { spec, encode, decode }) => {
  const over = (change) => (arrays, items) =>
    Object.fromEntries(Object.entries(arrays).map(([name, array]) => [name, concerns(items[name]) ? change(array, items[name]) : array]));
  const after = (items) => Object.fromEntries(Object.entries(items).map(([name, item]) => [name, concerns(item) ? spec(item) : item]));
  return { spec: after, encode: over(encode), decode: over(decode) };
};

const difference = (sign) => (arrays, items, _, { reference }) =>
  Object.fromEntries(
    Object.entries(arrays).map(([name, { shape, data }]) => {
      if (!isWide(items[name])) return [name, { shape, data }];
      if (!reference?.[name]) throw new Error(`delta has nothing that ${name} could be against`);
      return [name, { shape, data: data.map((value, index) => value + sign * reference[name].data[index]) }];
    }),
  );

// Of each: the spec behind it, and arrays there and back, given the spec before it, its configuration and {seed, reference}.
const ARRAY_CODECS = {
  cast: each(isWide, {
    spec: ([, shape, ...rest]) => ["f16", shape, ...rest],
    encode: (array) => ({ ...array, data: Uint16Array.from(array.data, toHalf) }),
    decode: (array, [kind]) => ({ ...array, data: KINDS[kind].from(array.data, fromHalf) }),
  }),
  pack_bits: each(([kind]) => kind === "bool", {
    spec: ([, shape, ...rest]) => ["u8", [Math.ceil(count(shape) / 8)], ...rest],
    encode({ data }) {
      const packed = new Uint8Array(Math.ceil(data.length / 8));
      data.forEach((bit, index) => (packed[index >> 3] |= bit << (index & 7)));
      return { shape: [packed.length], data: packed };
    },
    decode: ({ data }, [, shape]) => ({ shape, data: Uint8Array.from({ length: count(shape) }, (_, i) => (data[i >> 3] >> (i & 7)) & 1) }),
  }),
  delta: { spec: (items) => items, encode: difference(-1), decode: difference(1) },
  quantise,
  entropy,
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

// `context`: {seed, reference}.
export function encode(arrays, spec, chain, context) {
  const [ofArrays, ofBytes] = steps(chain), [specs, buffers] = specsOf(spec, ofArrays);
  const [found, kept] = parted(arrays);
  const coded = ofArrays.reduce((now, { name, configuration }, index) => ARRAY_CODECS[name].encode(now, specs[index], configuration ?? {}, context), found);
  const packed = pack({ ...coded, ...kept }, { ...specs.at(-1), ...buffers });
  return ofBytes.reduce((bytes, { name, configuration }) => BYTES_CODECS[name].encode(bytes, configuration ?? {}), packed);
}

export function decode(payload, spec, chain, context) {
  const [ofArrays, ofBytes] = steps(chain), [specs, buffers] = specsOf(spec, ofArrays);
  const bytes = ofBytes.reduceRight((data, { name, configuration }) => BYTES_CODECS[name].decode(data, configuration ?? {}), payload);
  const [found, kept] = parted(unpack(bytes, { ...specs.at(-1), ...buffers }));
  const decoded = ofArrays.reduceRight((now, { name, configuration }, index) => ARRAY_CODECS[name].decode(now, specs[index], configuration ?? {}, context), found);
  return { ...decoded, ...kept };
}

// What array codecs see, and the buffers, which stand behind all other arrays.
function parted(named) {
  const of = (wanted) => Object.fromEntries(Object.entries(named).filter(([name]) => name.startsWith("buffers/") === wanted));
  return [of(false), of(true)];
}

// The specs before the first array codec and behind each, and the buffers.
function specsOf(spec, ofArrays) {
  const [first, buffers] = parted(spec), specs = [first];
  for (const { name, configuration } of ofArrays) specs.push(ARRAY_CODECS[name].spec(specs.at(-1), configuration ?? {}));
  return [specs, buffers];
}

function pack(arrays, spec) {
  const names = Object.keys(spec), present = names.filter((name) => name in arrays);
  const open = (name) => spec[name][1].flatMap((size, axis) => (isOpen(size) ? [arrays[name].shape[axis]] : []));
  const plain = present.length === names.length && names.every((name) => open(name).length === 0);
  const header = plain ? null : present.map((name) => (open(name).length ? [names.indexOf(name), ...open(name)] : names.indexOf(name)));
  const segments = present.map((name) => Buffer.from(arrays[name].data.buffer, arrays[name].data.byteOffset, arrays[name].data.byteLength));
  return Buffer.concat([msgpack.encode(header), ...segments]);
}

function unpack(bytes, spec) {
  const names = Object.keys(spec), header = msgpack.decode(bytes), found = {};
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
