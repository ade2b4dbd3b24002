// The adaptive symbols of codecs/README.md: tables that nobody sends, since both ends count what was coded so far.
import * as rans from "./rans.mjs";

const product = (shape) => shape.reduce((a, b) => a * b, 1);
const bitLength = (value) => (value < 1 ? 0 : Math.floor(value) < 2 ** 32 ? 32 - Math.clz32(value) : 32 + bitLength(Math.floor(value / 2 ** 32)));
const least = (value) => Math.max(1, Math.floor(value));
const STAGES = 21;

// Mirrored around zero where the upper half was drawn; its own inverse.
const mirrored = (symbols, zero, drawn) => (drawn ? symbols.map((q, index) => (drawn[index] < 32768 ? q : (2 * zero - q) & 255)) : symbols);

// `drawn`: with sampling, of every symbol the upper 16 bits of the shared random number. Gives {bits, bytes()}.
export function encode(given, shapes, drawn) {
  const counts = Array(256).fill(0);
  given.forEach((q) => counts[q]++);
  const zero = counts.indexOf(Math.max(...counts)), symbols = mirrored(given, zero, drawn);
  const [lowest, highest] = symbols.reduce(([low, high], q) => [Math.min(low, q), Math.max(high, q)], [zero, zero]);
  const model = new Model(shapes, drawn, zero, lowest, highest), pieces = [];
  let length = 0;
  for (let stage = 0; stage < STAGES; stage++) {
    const { places, runs } = model.before(stage), piece = places.map((place) => symbols[place]);
    let begin = 0;
    pieces.push(runs.map(([count, table]) => [piece.slice(begin, (begin += count)), table]));
    for (const [part, table] of pieces.at(-1)) {
      const cost = rans.costs(table);
      part.forEach((q) => (length += cost[q]));
    }
    model.learn(places, piece);
  }
  const bits = Math.floor(length / 65536);
  return { bits: bits + 24, bytes: () => Buffer.concat([Buffer.of(zero, lowest, highest), rans.encode(pieces, bits)]) };
}

export function decode(bytes, shapes, drawn) {
  const [zero, lowest, highest] = bytes, stream = new rans.Decoder(bytes.subarray(3)), symbols = [];
  const model = new Model(shapes, drawn, zero, lowest, highest);
  for (let stage = 0; stage < STAGES; stage++) {
    const { places, runs } = model.before(stage), piece = stream.take(runs);
    places.forEach((place, index) => (symbols[place] = piece[index]));
    model.learn(places, piece);
  }
  stream.end();
  return mirrored(symbols, zero, drawn);
}

// What is known before each stage.
class Model {
  constructor(shapes, drawn, zero, lowest, highest) {
    Object.assign(this, { drawn, zero, lowest, highest, all: { S: 0, N: 0 }, weights: new Map() });
    this.elements = shapes.flatMap(elementsOf);
    this.stages = Array.from({ length: STAGES }, () => []);
    this.elements.forEach((element, place) => this.stages[element.stage].push(place));
  }

  // Where the symbols of a stage stand, in the order of the stream, and its runs: [[how many, frequencies], ...].
  before(stage) {
    const overall = least((65536 * (this.all.S + 1)) / (this.all.N + 4)), levels = new Map();
    for (const place of this.stages[stage]) {
      const element = this.elements[place];
      element.level = this.level(element, place, overall);
      if (!levels.has(element.level)) levels.set(element.level, []);
      levels.get(element.level).push(place);
    }
    const ascending = [...levels.keys()].sort((a, b) => a - b);
    for (const level of ascending) if (!this.weights.has(level)) this.weights.set(level, this.prior(level).map((w) => 16 * w));
    return {
      places: ascending.flatMap((level) => levels.get(level)),
      runs: ascending.map((level) => [levels.get(level).length, rans.table(this.weights.get(level))]),
    };
  }

  level({ array, row, column }, place, overall) {
    const a = least((65536 * array.S + 8 * overall) / (array.N + 8)), of = (line) => least((65536 * line.S + 6 * a) / (line.N + 6));
    const expected = least((of(row) * of(column)) / a);
    if (!this.drawn || expected >= 32768) return bitLength(expected);
    const far = Math.floor((2 ** 20 * (Math.min(this.drawn[place], 65535 - this.drawn[place]) + 1)) / expected), bits = bitLength(far);
    return Math.min(114, Math.max(98, 64 + 2 * bits + (bits < 2 ? 0 : Math.floor(far / 2 ** (bits - 2)) % 2)));
  }

  prior(level) {
    const octave = level < 64 ? level : Math.max(0, 15 - Math.floor(((2 + (level % 2)) * 2 ** (((level - 64) >> 1) - 2)) / 2 ** 20));
    const mean = Math.floor((3 * 2 ** octave) / 4), powers = [2 ** 24];
    const ratio = Math.floor((65536 * mean) / (mean + 65536 + Math.floor(2 ** 32 / (65536 + mean))));
    while (powers.length < 256) powers.push(Math.floor((powers.at(-1) * ratio) / 65536));
    return rans.table(powers.map((_, q) => (q < this.lowest || q > this.highest ? 0 : Math.max(1, powers[Math.abs(q - this.zero)]))));
  }

  learn(places, piece) {
    places.forEach((place, index) => {
      const { level, array, row, column } = this.elements[place], symbol = piece[index];
      this.weights.get(level)[symbol] += 32768;
      for (const line of [this.all, array, row, column]) (line.S += Math.abs(symbol - this.zero)), line.N++;
    });
  }
}

// Of every element of an array its stage, and the sums it belongs to: of the array, its row, its column.
function elementsOf(shape) {
  const line = () => ({ S: 0, N: 0 }), [rows, columns] = shape.length > 1 ? shape : [1, 1], size = product(shape);
  const array = line(), ofRow = Array.from({ length: rows }, line), ofColumn = Array.from({ length: columns }, line);
  const depth = size / (rows * columns || 1);
  return Array.from({ length: size }, (_, index) => {
    let m = Math.imul(index, 0x9e3779b1);
    m = Math.imul(m ^ (m >>> 15), 0x85ebca77);
    m = (m ^ (m >>> 13)) >>> 0;
    const bits = bitLength(m), at = Math.floor(index / depth);
    const stage = bits <= 22 ? 0 : 2 * (bits - 22) + ((m >>> (bits - 2)) & 1) - 1;
    return { stage, array, row: ofRow[Math.floor(at / columns)], column: ofColumn[at % columns], level: 0 };
  });
}
