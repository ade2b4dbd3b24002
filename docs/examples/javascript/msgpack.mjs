// The part of msgpack (https://msgpack.org) that the wire uses: nil, booleans, numbers, text, bytes, lists, maps.

export function encode(value) {
  const pieces = [];
  write(value, (bytes) => pieces.push(Buffer.from(bytes)));
  return Buffer.concat(pieces);
}

function write(value, put) {
  if (value === null) put([0xc0]);
  else if (typeof value === "boolean") put([value ? 0xc3 : 0xc2]);
  else if (typeof value === "number" && Number.isInteger(value)) writeInteger(value, put);
  else if (typeof value === "number") put(sized(9, (view) => (view.setUint8(0, 0xcb), view.setFloat64(1, value))));
  else if (typeof value === "string") writeText(Buffer.from(value), put);
  else if (value instanceof Uint8Array) writeHead(value.length, [null, 0xc4, 0xc5, 0xc6], put), put(value);
  else if (Array.isArray(value)) {
    writeHead(value.length, [0x90, null, 0xdc, 0xdd], put);
    value.forEach((item) => write(item, put));
  } else {
    const entries = Object.entries(value).filter(([, item]) => item !== undefined);
    writeHead(entries.length, [0x80, null, 0xde, 0xdf], put);
    entries.forEach(([key, item]) => (write(key, put), write(item, put)));
  }
}

function writeInteger(value, put) {
  if (value >= 0 && value < 128) put([value]);
  else if (value < 0 && value >= -32) put([256 + value]);
  else if (value >= 0 && value < 256) put([0xcc, value]);
  else if (value >= 0 && value < 65536) put([0xcd, value >> 8, value & 255]);
  else if (value >= 0 && value < 2 ** 32) put(sized(5, (view) => (view.setUint8(0, 0xce), view.setUint32(1, value))));
  else put(sized(9, (view) => (view.setUint8(0, value < 0 ? 0xd3 : 0xcf), view.setBigInt64(1, BigInt(value)))));
}

function writeText(bytes, put) {
  if (bytes.length < 32) put([0xa0 | bytes.length]);
  else writeHead(bytes.length, [null, 0xd9, 0xda, 0xdb], put);
  put(bytes);
}

// Heads of something of this length: with up to 15 entries in the first byte, or with a length of 1, 2 or 4 bytes.
function writeHead(length, [short, one, two, four], put) {
  if (short !== null && length < 16) put([short | length]);
  else if (one !== null && length < 256) put([one, length]);
  else if (length < 65536) put([two, length >> 8, length & 255]);
  else put(sized(5, (view) => (view.setUint8(0, four), view.setUint32(1, length))));
}

function sized(size, fill) {
  const bytes = new Uint8Array(size);
  fill(new DataView(bytes.buffer));
  return bytes;
}

export function decode(bytes) {
  const reader = { bytes, view: new DataView(bytes.buffer, bytes.byteOffset, bytes.length), at: 0 };
  return read(reader);
}

function read(reader) {
  const first = reader.view.getUint8(reader.at++);
  if (first < 0x80) return first;
  if (first < 0x90) return readMap(reader, first & 15);
  if (first < 0xa0) return readList(reader, first & 15);
  if (first < 0xc0) return take(reader, first & 31).toString();
  if (first >= 0xe0) return first - 256;
  const view = reader.view;
  const integer = (size, get) => ((reader.at += size), plain(get.call(view, reader.at - size)));
  const length = (size) => integer(size, [view.getUint8, view.getUint16, , view.getUint32][size - 1]);
  switch (first) {
    case 0xc0: return null;
    case 0xc2: return false;
    case 0xc3: return true;
    case 0xc4: return take(reader, length(1));
    case 0xc5: return take(reader, length(2));
    case 0xc6: return take(reader, length(4));
    case 0xca: return integer(4, view.getFloat32);
    case 0xcb: return integer(8, view.getFloat64);
    case 0xcc: return integer(1, view.getUint8);
    case 0xcd: return integer(2, view.getUint16);
    case 0xce: return integer(4, view.getUint32);
    case 0xcf: return integer(8, view.getBigUint64);
    case 0xd0: return integer(1, view.getInt8);
    case 0xd1: return integer(2, view.getInt16);
    case 0xd2: return integer(4, view.getInt32);
    case 0xd3: return integer(8, view.getBigInt64);
    case 0xd9: return take(reader, length(1)).toString();
    case 0xda: return take(reader, length(2)).toString();
    case 0xdb: return take(reader, length(4)).toString();
    case 0xdc: return readList(reader, length(2));
    case 0xdd: return readList(reader, length(4));
    case 0xde: return readMap(reader, length(2));
    case 0xdf: return readMap(reader, length(4));
    default: throw new Error(`msgpack: a byte ${first.toString(16)} has no place on this wire`);
  }
}

// A BigInt only where a number would lose the last bits: seeds.
const plain = (value) => (Number.isSafeInteger(Number(value)) || typeof value === "number" ? Number(value) : value);

function take(reader, size) {
  reader.at += size;
  return Buffer.from(reader.bytes.subarray(reader.at - size, reader.at));
}

const readList = (reader, length) => Array.from({ length }, () => read(reader));

function readMap(reader, length) {
  const found = {};
  for (let index = 0; index < length; index++) {
    const key = read(reader);
    found[key] = read(reader);
  }
  return found;
}
