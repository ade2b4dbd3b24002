// What this client learns with: softmax regression, outputs = weight x + bias, trained by SGD on {inputs, targets}.

export class Learner {
  constructor({ inputs, targets, classes }) {
    this.inputs = inputs.map((row) => Float64Array.from(row));
    this.targets = targets;
    this.spec = { weight: ["f32", [classes, inputs[0].length]], bias: ["f32", [classes]] };
    this.load({
      weight: { shape: this.spec.weight[1], data: new Float32Array(classes * inputs[0].length) },
      bias: { shape: [classes], data: new Float32Array(classes) },
    });
  }

  load({ weight, bias }) {
    this.classes = bias.data.length;
    this.weight = Float64Array.from(weight.data);
    this.bias = Float64Array.from(bias.data);
  }

  arrays() {
    return {
      weight: { shape: this.spec.weight[1], data: Float32Array.from(this.weight) },
      bias: { shape: this.spec.bias[1], data: Float32Array.from(this.bias) },
    };
  }

  logits(row) {
    const width = row.length;
    return Array.from(this.bias, (bias, c) => row.reduce((sum, x, i) => sum + this.weight[c * width + i] * x, bias));
  }

  // SGD over so many epochs, batch by batch in the order of the examples, with momentum and weight decay as torch
  // has them. `extra(outputs, target)`: what else goes into the gradient of the loss by the outputs.
  train(epochs, settings, lr, extra = () => null) {
    const [momentum, decay, size] = [settings.momentum, settings["weight-decay"], settings["batch-size"]];
    const velocity = new Float64Array(this.weight.length + this.bias.length);
    for (let epoch = 0; epoch < epochs; epoch++)
      for (let start = 0; start < this.inputs.length; start += size) {
        const gradient = this.gradient(start, Math.min(start + size, this.inputs.length), extra);
        gradient.forEach((g, at) => {
          const [values, place] = at < this.weight.length ? [this.weight, at] : [this.bias, at - this.weight.length];
          velocity[at] = momentum * velocity[at] + g + decay * values[place];
          values[place] -= lr * velocity[at];
        });
      }
  }

  gradient(start, end, extra) {
    const found = new Float64Array(this.weight.length + this.bias.length);
    for (let index = start; index < end; index++) {
      const row = this.inputs[index], outputs = this.logits(row), target = this.targets[index];
      const more = extra(outputs, target);
      softmax(outputs).forEach((share, c) => {
        const g = (share - (c === target ? 1 : 0) + (more ? more[c] : 0)) / (end - start);
        row.forEach((x, i) => (found[c * row.length + i] += g * x));
        found[this.weight.length + c] += g;
      });
    }
    return found;
  }

  metrics() {
    let loss = 0, right = 0;
    this.inputs.forEach((row, index) => {
      const shares = softmax(this.logits(row)), target = this.targets[index];
      loss -= Math.log(Math.max(shares[target], 1e-12));
      right += shares.indexOf(Math.max(...shares)) === target ? 1 : 0;
    });
    const examples = this.inputs.length;
    return { loss: loss / examples, accuracy: right / examples, examples };
  }
}

export function softmax(outputs) {
  const most = Math.max(...outputs), powers = outputs.map((value) => Math.exp(value - most));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}
