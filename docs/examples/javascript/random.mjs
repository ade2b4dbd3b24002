// Numbers that both ends draw alike: seeds of tasks (protocol/README.md, "Seeds and cohorts"), and the shared random
// numbers of payloads (codecs/README.md).
import { createHash } from "node:crypto";

const sha256 = (bytes) => createHash("sha256").update(bytes).digest();
const MASK = (1n << 64n) - 1n;

// The seed of a broadcast, or with a name that of one client for one task: a BigInt below 2**63.
export function seedOf(run, round, step, name = null) {
  const numbers = [run, round, step].map(BigInt);
  if (name !== null) numbers.push(sha256(name).readBigUInt64LE(0));
  return firstWord(numbers.flatMap(words)) >> 1n;
}

// 32 bits each, lowest first, as few as there are; one of 0.
function words(number) {
  const found = [Number(number & 0xffffffffn)];
  for (let rest = number >> 32n; rest; rest >>= 32n) found.push(Number(rest & 0xffffffffn));
  return found;
}

function firstWord(entropy) {
  const hash = (factor, multiplier) => (value) => {
    const mixed = value ^ factor;
    factor = Math.imul(factor, multiplier);
    const product = Math.imul(mixed, factor);
    return product ^ (product >>> 16);
  };
  const mix = (x, y) => {
    const mixed = (Math.imul(0xca01f9dd, x) - Math.imul(0x4973f715, y)) | 0;
    return mixed ^ (mixed >>> 16);
  };
  const into = hash(0x43b0d7e5, 0x931e8875), pool = [0, 1, 2, 3].map((index) => into(entropy[index] ?? 0));
  for (let from = 0; from < 4; from++) for (let to = 0; to < 4; to++) if (from !== to) pool[to] = mix(pool[to], into(pool[from]));
  for (const more of entropy.slice(4)) for (let to = 0; to < 4; to++) pool[to] = mix(pool[to], into(more));
  const out = hash(0x8b51f9dd, 0x58f38ded), [low, high] = [out(pool[0]) >>> 0, out(pool[1]) >>> 0];
  return (BigInt(high) << 32n) | BigInt(low);
}

// `count` numbers of 32 bits for a seed and the name of an array: Philox4x64-10.
export function shared(seed, name, count) {
  const head = Buffer.alloc(8);
  head.writeBigUInt64LE(BigInt(seed) & MASK);
  const digest = sha256(Buffer.concat([head, Buffer.from(name)]));
  const key = [digest.readBigUInt64LE(0), digest.readBigUInt64LE(8)], found = new Uint32Array(count);
  for (let block = 0; 8 * block < count; block++)
    philox(BigInt(block + 1), key).forEach((word, index) => {
      const at = 8 * block + 2 * index;
      if (at < count) found[at] = Number(word & 0xffffffffn);
      if (at + 1 < count) found[at + 1] = Number(word >> 32n);
    });
  return found;
}

function philox(counter, [first, second]) {
  let [a, b, c, d] = [counter, 0n, 0n, 0n];
  for (let round = 0; round < 10; round++) {
    const x = 0xd2e7470ee14c6c93n * a, y = 0xca5a826395121157n * c;
    [a, b, c, d] = [(y >> 64n) ^ b ^ first, y & MASK, (x >> 64n) ^ d ^ second, x & MASK];
    first = (first + 0x9e3779b97f4a7c15n) & MASK;
    second = (second + 0xbb67ae8584caa73bn) & MASK;
  }
  return [a, b, c, d];
}
