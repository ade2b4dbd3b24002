// `node write.mjs FILE` writes with the codecs of the example client what FILE.json asks for, reads its own payloads again,
// and gives the payloads and what was read, in JSON.
import { readFileSync } from "node:fs";
import { decode, encode } from "../../../docs/examples/javascript/payload.mjs";

const KINDS = { u8: Uint8Array, f32: Float32Array };
const found = JSON.parse(readFileSync(process.argv[2])).map(({ arrays, spec, chain, seed }) => {
  const typed = Object.fromEntries(Object.entries(arrays).map(([name, data]) => [name, { shape: spec[name][1], data: KINDS[spec[name][0]].from(data) }]));
  const payload = encode(typed, spec, chain, { seed: BigInt(seed) });
  const read = decode(payload, spec, chain, { seed: BigInt(seed) });
  const bytes = Object.entries(read).map(([name, { data }]) => [name, Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("hex")]);
  return { payload: payload.toString("hex"), read: Object.fromEntries(bytes) };
});
console.log(JSON.stringify(found));
