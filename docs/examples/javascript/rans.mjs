// The rANS stream of codecs/README.md, and tables of 256 frequencies that sum to 2**15.
const TOTAL = 32768;
const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);

// 2**15 by these weights.
export function table(weights) {
  const all = sum(weights), found = weights.map((w) => w && Math.max(1, Math.floor((TOTAL * w) / all)));
  found[found.indexOf(Math.max(...found))] += TOTAL - sum(found);
  return found;
}

// What each symbol of a table costs, in 2**-16 bits.
const MANTISSAS = Array.from({ length: 4096 }, (_, index) => Math.round(65536 * Math.log2(1 + index / 4096)));
export function costs(frequencies) {
  return frequencies.map((frequency) => {
    if (!frequency) return 2 ** 22;
    const exponent = 31 - Math.clz32(frequency);
    const mantissa = exponent > 12 ? frequency >> (exponent - 12) : frequency << (12 - exponent);
    return 65536 * (15 - exponent) - MANTISSAS[mantissa - 4096];
  });
}

const startsOf = (frequencies) => frequencies.map(((end) => (frequency) => (end += frequency) - frequency)(0));

// Pieces are [[symbols, frequencies], ...] each; every piece begins at the first lane. `bits`: about how many there are.
export function encode(pieces, bits) {
  const logLanes = Math.min(10, Math.max(0, 31 - Math.clz32(Math.floor(bits / 7000))));
  const states = Array(1 << logLanes).fill(65536), words = [];
  for (const runs of pieces.toReversed()) {
    let at = sum(runs.map(([symbols]) => symbols.length));
    for (const [symbols, frequencies] of runs.toReversed()) {
      const starts = startsOf(frequencies);
      for (const symbol of symbols.toReversed()) {
        const lane = --at % states.length, frequency = frequencies[symbol];
        let x = states[lane];
        if (x >= frequency * 131072) (words.push(x & 65535), (x = Math.floor(x / 65536)));
        states[lane] = Math.floor(x / frequency) * TOTAL + (x % frequency) + starts[symbol];
      }
    }
  }
  const stream = Buffer.alloc(1 + 4 * states.length + 2 * words.length);
  stream[0] = logLanes;
  states.forEach((x, lane) => stream.writeUInt32LE(x, 1 + 4 * lane));
  words.reverse().forEach((word, index) => stream.writeUInt16LE(word, 1 + 4 * states.length + 2 * index));
  return stream;
}

export class Decoder {
  constructor(stream) {
    this.stream = stream;
    if (stream[0] > 10) throw new Error("a stream of too many lanes");
    this.states = Array.from({ length: 1 << stream[0] }, (_, lane) => stream.readUInt32LE(1 + 4 * lane));
    this.at = 1 + 4 * this.states.length;
  }

  // The symbols of one piece; its runs are [[how many, frequencies], ...].
  take(runs) {
    const { states, stream } = this, found = [];
    for (const [count, frequencies] of runs) {
      const starts = startsOf(frequencies), symbolOf = new Uint8Array(TOTAL);
      frequencies.forEach((frequency, symbol) => symbolOf.fill(symbol, starts[symbol], starts[symbol] + frequency));
      for (let index = 0; index < count; index++) {
        const lane = found.length % states.length, slot = states[lane] % TOTAL, symbol = symbolOf[slot];
        let x = frequencies[symbol] * Math.floor(states[lane] / TOTAL) + slot - starts[symbol];
        if (x < 65536) (x = x * 65536 + stream.readUInt16LE(this.at), (this.at += 2));
        states[lane] = x;
        found.push(symbol);
      }
    }
    return found;
  }

  end() {
    if (this.at !== this.stream.length || this.states.some((x) => x !== 65536)) throw new Error("a stream that does not end where it should");
  }
}
