// What two methods ask of a client (protocol/README.md, "What methods send"): task in, arrays of the reply out.
import { softmax } from "./learner.mjs";

// What this client cannot do, and how these settings are where nobody asks for it.
const AT_REST = {
  "local-optimizer": "sgd", "clip-norm": 0, precision: "float32", steps: null, accumulate: 1, "proximal-mu": 0,
  "error-feedback": false, "warmup-steps": 0, "local-state": "fresh", share: "",
};

export function check(settings) {
  for (const [name, rest] of Object.entries(AT_REST))
    if (name in settings && settings[name] !== rest) throw new Error(`this client does not know ${name} = ${settings[name]}`);
}

// The change of the model: trained less received, by the names it came under.
function fedavg({ settings, options, parts }, learner) {
  learner.load(parts.model);
  const metrics = learner.metrics();
  learner.train(settings.epochs, settings, options.lr ?? settings.lr);
  const trained = learner.arrays(), reply = {};
  for (const [name, { shape, data }] of Object.entries(trained))
    reply[name] = { shape, data: data.map((value, index) => value - parts.model[name].data[index]) };
  return { reply, metrics };
}

// Of each class with enough examples: how many there are, and their mean logits. The model stays here.
function fdAlu({ settings, round, parts }, learner) {
  if (settings.knowledge !== "class") throw new Error(`this client has no knowledge of kind ${settings.knowledge}`);
  const metrics = learner.metrics(), classes = parts.knowledge.numbers.data.length;
  const tau = settings["local-rounds-per-exchange"], first = Math.floor((round - 1) / tau) * tau + 1;
  const others = meansOfOthers(parts.knowledge, learner.counted?.round === first - 1 ? learner.counted.reply : null);
  const soft = settings.temperature ?? 1, beta = settings.beta;
  // Cross entropy of the softened outputs with the others' means of the same class; its gradient by the outputs.
  const taught = (outputs, target) => {
    if (!beta || !others[target]) return null;
    const wanted = softmax(others[target].map((x) => x / soft));
    return softmax(outputs.map((x) => x / soft)).map((share, c) => beta * soft * (share - wanted[c]));
  };
  for (let local = first; local <= round; local++) learner.train(1, settings, settings.lr, taught);
  const counts = Array(classes).fill(0), sums = Array.from({ length: classes }, () => Array(classes).fill(0));
  learner.inputs.forEach((row, index) => {
    counts[learner.targets[index]]++;
    learner.logits(row).forEach((value, c) => (sums[learner.targets[index]][c] += value));
  });
  const sent = counts.map((number, c) => [c, number]).filter(([, number]) => number >= Math.max(5, settings["min-count"]));
  const rows = sent.flatMap(([c, number]) => sums[c].map((value) => value / number));
  const reply = {
    owned: { shape: [classes], data: Uint8Array.from(counts, (_, c) => (sent.some(([one]) => one === c) ? 1 : 0)) },
    counts: { shape: [sent.length], data: Uint32Array.from(sent, ([, number]) => number) },
    rows: { shape: [sent.length, classes], data: Float32Array.from(rows) },
  };
  return { reply, metrics };
}

// Of each class the mean logits over the other clients' examples: what is broadcast, without this client's own part;
// null where the others have less than a hundredth of it.
function meansOfOthers({ means, numbers }, own) {
  const classes = numbers.data.length, rows = own ? [...own.owned.data.keys()].filter((c) => own.owned.data[c]) : [];
  return Array.from(numbers.data, (all, c) => {
    const at = rows.indexOf(c), mine = at < 0 ? 0 : own.counts.data[at], left = all - mine;
    if (left < 1 || left * 100 < all) return null;
    const part = (i) => (at < 0 ? 0 : mine * own.rows.data[at * classes + i]);
    return Array.from({ length: classes }, (_, i) => (all * means.data[c * classes + i] - part(i)) / left);
  });
}

export const METHODS = { fedavg, fd_alu: fdAlu };
