// A client of Thinwire in JavaScript, from the documents alone: protocol/README.md and codecs/README.md.
//   THINWIRE_INVITE=CODE node client.mjs URL --name NAME --data FILE.json [--record FILE.json]
// FILE.json: {"inputs": [[number, ...], ...], "targets": [class, ...], "classes": number}. It ends with the run.
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import * as msgpack from "./msgpack.mjs";
import { decode, encode } from "./payload.mjs";
import { Learner } from "./learner.mjs";
import { METHODS, check } from "./methods.mjs";
import { seedOf } from "./random.mjs";

const WIRE = 1, MSGPACK = "application/msgpack", MAX_INLINE = 65536, TUS = { "tus-resumable": "1.0.0" };
const NEED_A_BASE = ["delta", "append"];
const sha256 = (bytes) => createHash("sha256").update(bytes).digest();
const sleep = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

class Problem extends Error {
  constructor(problem) {
    super(`${problem.reason}: ${problem.detail}`);
    Object.assign(this, problem);
  }
}

class Client {
  constructor(url, name, learner, recorded) {
    Object.assign(this, { url, name, learner, recorded, plans: new Map(), token: null, held: null });
  }

  // One request, again and again while the coordinator is away or says that it may work later.
  async call(method, path, { message, body, headers = {} } = {}) {
    const sent = { accept: MSGPACK, ...headers };
    if (this.token) sent.authorization = `Bearer ${this.token}`;
    if (message) sent["content-type"] = MSGPACK;
    for (let attempt = 0; ; attempt++) {
      let pause = Math.min(60, 2 ** attempt);
      try {
        const response = await fetch(new URL(path, this.url), { method, headers: sent, body: message ? msgpack.encode(message) : body, redirect: "error" });
        const bytes = Buffer.from(await response.arrayBuffer());
        if (response.ok) return { response, bytes };
        const problem = new Problem(msgpack.decode(bytes));
        if (!problem.retry) throw problem;
        pause = Number(response.headers.get("retry-after") ?? pause);
      } catch (error) {
        if (error instanceof Problem || attempt >= 8) throw error;
      }
      await sleep(pause);
    }
  }

  async enrol(invite) {
    const { bytes } = await this.call("POST", "/v1/clients", { message: { invite, name: this.name } });
    this.token = msgpack.decode(bytes).token;
  }

  // The next task; null where the runs are over.
  async next() {
    for (;;) {
      try {
        const holds = this.held ? { [this.held.run]: this.held.exchange } : undefined;
        const message = { wire: WIRE, spec: this.specDigest(), holds };
        const { response, bytes } = await this.call("POST", "/v1/registrations?wait_s=60", { message });
        if (response.status !== 204) return msgpack.decode(bytes);
        await sleep(Number(response.headers.get("retry-after") ?? 1));
      } catch (error) {
        if (error instanceof Problem && error.reason === "run-finished") return null;
        throw error;
      }
    }
  }

  // Names sorted by code point, the first 8 bytes of the SHA-256 of the msgpack form.
  specDigest() {
    const names = Object.keys(this.learner.spec).sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    return sha256(msgpack.encode(Object.fromEntries(names.map((name) => [name, this.learner.spec[name]])))).subarray(0, 8);
  }

  async fetched(path, digest) {
    const { bytes } = await this.call("GET", `${path}/${digest.toString("hex")}`);
    if (!sha256(bytes).equals(digest)) throw new Error(`${path}: what came is not what was named`);
    return bytes;
  }

  async plan(digest) {
    const key = digest.toString("hex");
    if (!this.plans.has(key)) this.plans.set(key, msgpack.decode(await this.fetched("/v1/plans", digest)));
    return this.plans.get(key);
  }

  // A part that has changed a little comes as a delta to the one that this client holds; all stay at hand for the next.
  async parts(task, plan) {
    const { down, full } = plan.chains, seed = seedOf(plan.seed, task.round, task.step), parts = {};
    const whole = down.some(({ name }) => NEED_A_BASE.includes(name)) ? full : down;
    for (const [index, name] of Object.keys(plan.parts).entries()) {
      const { form = "full", inline, digest } = task.parts[index];
      const reference = this.held?.run === task.run ? this.held.parts[name] : undefined;
      if (form === "held") parts[name] = reference;
      else {
        const payload = inline ?? (await this.fetched("/v1/payloads", digest));
        parts[name] = decode(payload, plan.parts[name], form === "delta" ? down : whole, { seed, reference });
      }
    }
    this.held = { run: task.run, exchange: task.exchange, parts };
    return parts;
  }

  async perform(task) {
    const plan = await this.plan(task.plan), { up } = plan.chains, parts = await this.parts(task, plan);
    if (plan.kind === "evaluate") {
      if (parts.model) this.learner.load(parts.model);
      return { answer: { examples: this.learner.inputs.length, metrics: this.learner.metrics() } };
    }
    const method = METHODS[plan.method];
    if (!method) throw new Error(`this client does not know the method ${plan.method}`);
    check(plan.settings);
    const { reply, metrics } = method({ settings: plan.settings, options: task.options ?? {}, round: task.round, parts }, this.learner);
    const seed = seedOf(plan.seed, task.round, task.step, this.name);
    const context = { seed, reference: Object.assign({}, ...Object.values(parts)) };
    const payload = encode(reply, plan.reply, up, context), forms = task.parts.map(({ form = "full" }) => form);
    this.recorded.push({ round: task.round, step: task.step, forms, arrays: plain(reply), payload: payload.toString("hex"), reply: plan.reply, up });
    const answer = { examples: Math.min(this.learner.inputs.length, plan.max_examples), metrics };
    const counted = { round: task.round, reply: decode(payload, plan.reply, up, context) };
    return { counted, answer: payload.length <= MAX_INLINE ? { ...answer, payload } : { ...answer, upload: await this.upload(task.task, payload) } };
  }

  async upload(task, payload) {
    const metadata = `task ${Buffer.from(task).toString("base64")},digest ${sha256(payload).toString("base64")}`;
    const created = await this.call("POST", "/v1/uploads", { headers: { ...TUS, "upload-length": String(payload.length), "upload-metadata": metadata } });
    const location = created.response.headers.get("location");
    const stands = await this.call("HEAD", location, { headers: TUS });
    const offset = Number(stands.response.headers.get("upload-offset"));
    const headers = { ...TUS, "content-type": "application/offset+octet-stream", "upload-offset": String(offset) };
    await this.call("PATCH", location, { headers, body: payload.subarray(offset) });
    return location.split("/").at(-1);
  }

  // The verdict, and the next task where it rides on it.
  async send(task, answer) {
    let message = answer;
    for (;;) {
      const { response, bytes } = await this.call("POST", `/v1/tasks/${task}/answer`, { message });
      if (response.status !== 202) return msgpack.decode(bytes);
      await sleep(Number(response.headers.get("retry-after") ?? 1));
      if (answer.payload) message = { ...answer, payload: undefined, received: sha256(answer.payload) };
    }
  }

  async work() {
    let task = await this.next();
    while (task) {
      let verdict = null;
      try {
        const { answer, counted } = await this.perform(task);
        verdict = await this.send(task.task, answer);
        if (counted && ["accepted", "duplicate"].includes(verdict.verdict)) this.learner.counted = counted;
        console.log(`round ${task.round}: ${verdict.verdict}`);
      } catch (error) {
        if (error instanceof Problem) throw error;
        console.error(`declined: ${error.message}`);
        await this.call("POST", `/v1/tasks/${task.task}/decline`, { message: { detail: error.message.slice(0, 300) } });
      }
      task = verdict?.next ?? (await this.next());
    }
  }
}

const plain = (arrays) => Object.fromEntries(Object.entries(arrays).map(([name, { shape, data }]) => [name, { shape, data: [...data] }]));

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { name: { type: "string" }, data: { type: "string" }, record: { type: "string" } },
});
if (positionals.length !== 1 || !values.name || !values.data || !process.env.THINWIRE_INVITE) {
  console.error("usage: THINWIRE_INVITE=CODE node client.mjs URL --name NAME --data FILE.json [--record FILE.json]");
  process.exit(2);
}
const recorded = [];
const client = new Client(positionals[0], values.name, new Learner(JSON.parse(readFileSync(values.data))), recorded);
await client.enrol(process.env.THINWIRE_INVITE);
await client.work();
if (values.record) writeFileSync(values.record, JSON.stringify(recorded));
