// A GPT that reads and writes in the page: the model of chapter 5, by hand, without a library.
//
// Everything is a row-major array of numbers; a comment gives the shape. The letters are the
// book's: T tokens, D = d_model, H heads of Dh features each, V = vocab_size. There is one text
// at a time, so there is no axis B. Nothing here touches the page: story.js does.
(() => {
  "use strict";
  const course = (globalThis.course ??= {});

  // The weights

  // Base64 text -> float16 numbers -> Float32Array. JavaScript has no float16 of its own
  // everywhere, but there are only 65,536 of them: a table of all is quicker than arithmetic.
  function decodeFloat16(base64) {
    const bytes = atob(base64); // one character per byte
    const numbers = new Float32Array(bytes.length / 2);
    for (let i = 0; i < numbers.length; i++) {
      numbers[i] = FLOAT16[bytes.charCodeAt(2 * i) | (bytes.charCodeAt(2 * i + 1) << 8)];
    }
    return numbers;
  }

  // Sign (1 bit), exponent (5 bits), fraction (10 bits). Exponent 0 holds the numbers next to 0,
  // which have no leading 1; exponent 31 is infinity and what is no number.
  const FLOAT16 = Float32Array.from({ length: 65536 }, (_, bits) => {
    const sign = bits >> 15 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = (bits & 1023) / 1024;
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return exponent ? sign * 2 ** (exponent - 15) * (1 + fraction) : sign * 2 ** -14 * fraction;
  });

  // The layers

  // x Wᵀ + b: (T, in), (out, in), (out) -> (T, out).
  //
  // A sum has to wait for its last addition, and a product for the two numbers from memory that it
  // needs. So several sums that do not depend on each other are computed side by side, and each
  // number is used for more than one of them: four features of a token, or three of three.
  function linear(x, weight, bias) {
    const [outSize, inSize] = weight.shape;
    const T = x.length / inSize;
    const y = new Float64Array(T * outSize);
    if (T === 1) oneToken(x, weight.numbers, y);
    else manyTokens(x, weight.numbers, y, T);
    if (bias) {
      for (let t = 0; t < T; t++) {
        for (let o = 0; o < outSize; o++) y[t * outSize + o] += bias.numbers[o];
      }
    }
    return y;
  }

  // x Wᵀ: (in), (out, in) -> (out). Past the last row it is computed again.
  function oneToken(x, w, y) {
    const size = x.length, last = y.length - 1;
    for (let o = 0; o <= last; o += 4) {
      const o1 = Math.min(o + 1, last), o2 = Math.min(o + 2, last), o3 = Math.min(o + 3, last);
      const w0 = o * size, w1 = o1 * size, w2 = o2 * size, w3 = o3 * size;
      let s0 = 0, s1 = 0, s2 = 0, s3 = 0;
      for (let i = 0; i < size; i++) {
        const a = x[i];
        s0 += a * w[w0 + i]; s1 += a * w[w1 + i]; s2 += a * w[w2 + i]; s3 += a * w[w3 + i];
      }
      y[o] = s0; y[o1] = s1; y[o2] = s2; y[o3] = s3;
    }
  }

  // x Wᵀ: (T, in), (out, in) -> (T, out). A row of W is read once for three tokens.
  function manyTokens(x, w, y, T) {
    const inSize = x.length / T, outSize = y.length / T;
    for (let o = 0; o < outSize; o += 3) {
      const o1 = Math.min(o + 1, outSize - 1), o2 = Math.min(o + 2, outSize - 1);
      const w0 = o * inSize, w1 = o1 * inSize, w2 = o2 * inSize;
      for (let t = 0; t < T; t += 3) {
        const t1 = Math.min(t + 1, T - 1), t2 = Math.min(t + 2, T - 1);
        const x0 = t * inSize, x1 = t1 * inSize, x2 = t2 * inSize;
        let a0 = 0, a1 = 0, a2 = 0, b0 = 0, b1 = 0, b2 = 0, c0 = 0, c1 = 0, c2 = 0;
        for (let i = 0; i < inSize; i++) {
          const a = x[x0 + i], b = x[x1 + i], c = x[x2 + i];
          const p = w[w0 + i], q = w[w1 + i], r = w[w2 + i];
          a0 += a * p; a1 += a * q; a2 += a * r;
          b0 += b * p; b1 += b * q; b2 += b * r;
          c0 += c * p; c1 += c * q; c2 += c * r;
        }
        const y0 = t * outSize, y1 = t1 * outSize, y2 = t2 * outSize;
        y[y0 + o] = a0; y[y0 + o1] = a1; y[y0 + o2] = a2;
        y[y1 + o] = b0; y[y1 + o1] = b1; y[y1 + o2] = b2;
        y[y2 + o] = c0; y[y2 + o1] = c1; y[y2 + o2] = c2;
      }
    }
  }

  // (T, D) -> (T, D): each token's vector gets mean 0 and variance 1, then a scale and a shift.
  function layerNorm(x, scale, shift) {
    const D = scale.shape[0];
    const y = new Float64Array(x.length);
    for (let start = 0; start < x.length; start += D) {
      let mean = 0, variance = 0;
      for (let i = start; i < start + D; i++) mean += x[i] / D;
      for (let i = start; i < start + D; i++) variance += (x[i] - mean) * (x[i] - mean) / D;
      const factor = 1 / Math.sqrt(variance + 1e-5);
      for (let i = 0; i < D; i++) {
        y[start + i] = (x[start + i] - mean) * factor * scale.numbers[i] + shift.numbers[i];
      }
    }
    return y;
  }

  // In place, any shape: GPT-2's form of GELU.
  function gelu(x) {
    const c = Math.sqrt(2 / Math.PI);
    for (let i = 0; i < x.length; i++) {
      const z = c * x[i] * (1 + 0.044715 * x[i] * x[i]);
      x[i] *= 1 - 1 / (Math.exp(2 * z) + 1); // = 0.5 · (1 + tanh z), and much quicker
    }
    return x;
  }

  // In place, any shape: x + y, the residual connection.
  function add(x, y) {
    for (let i = 0; i < x.length; i++) x[i] += y[i];
    return x;
  }

  // In place: the first `length` scores become weights with a sum of 1.
  function softmax(scores, length) {
    let maximum = -Infinity, sum = 0;
    for (let i = 0; i < length; i++) maximum = Math.max(maximum, scores[i]);
    for (let i = 0; i < length; i++) sum += scores[i] = Math.exp(scores[i] - maximum);
    for (let i = 0; i < length; i++) scores[i] /= sum;
    return scores;
  }

  // The model

  // It keeps the keys and values of the tokens that it has read (the cache): they depend on no
  // later token, so a new token needs only its own.
  class GPT {
    // data: {config, tensors: {name: [shape, where it starts]}, weights: base64}
    constructor(data) {
      const numbers = decodeFloat16(data.weights);
      this.config = data.config;
      this.ids = []; // the tokens that are read
      this.tensors = {};
      for (const [name, [shape, start]] of Object.entries(data.tensors)) {
        const size = shape.reduce((product, axis) => product * axis, 1);
        this.tensors[name] = { shape, numbers: numbers.subarray(start, start + size) };
      }
      const { num_layers: L, context_length: C, d_model: D } = this.config;
      // L times (C, D), and room for the rows with which the last group of four is filled up.
      this.keys = Array.from({ length: L }, () => new Float64Array((C + 3) * D));
      this.values = Array.from({ length: L }, () => new Float64Array((C + 3) * D));
    }

    get length() {
      return this.ids.length;
    }

    // Read on: T ids -> (V), the score of each token to come next; or with `every` (T, V), the
    // scores after each of the T tokens.
    read(ids, every = false) {
      const { context_length: C, d_model: D, num_layers: L, vocab_size: V } = this.config;
      const start = this.length;
      if (!ids.length) throw new RangeError("ids is empty: there must be a token to read.");
      if (start + ids.length > C) {
        throw new RangeError(`ids: ${start + ids.length} tokens are more than the ${C} allowed.`);
      }
      const tokens = this.tensors["token_embedding.weight"].numbers; // (V, D)
      const positions = this.tensors["position_embedding.weight"].numbers; // (C, D)
      let x = new Float64Array(ids.length * D); // (T, D)
      ids.forEach((id, t) => {
        if (!(id >= 0 && id < V)) throw new RangeError(`ids holds ${id}: ids are below ${V}.`);
        for (let i = 0; i < D; i++) {
          x[t * D + i] = tokens[id * D + i] + positions[(start + t) * D + i];
        }
      });
      for (let layer = 0; layer < L; layer++) {
        const part = (name) => this.tensors[`blocks.${layer}.${name}`];
        const apply = (name, x) => linear(x, part(`${name}.weight`), part(`${name}.bias`));
        let y = layerNorm(x, part("norm1.scale"), part("norm1.shift"));
        this.keys[layer].set(apply("attention.W_key", y), start * D); // rows start to start + T
        this.values[layer].set(apply("attention.W_value", y), start * D);
        if (layer === L - 1 && !every) {
          x = x.subarray(-D); // only the last token's scores are asked for, and from here on no
          y = y.subarray(-D); // token needs another one's vector: (T, D) -> (1, D)
        }
        const queries = apply("attention.W_query", y); // (T, D)
        x = add(x, apply("attention.out_proj", this.attend(queries, layer, start + ids.length)));
        y = layerNorm(x, part("norm2.scale"), part("norm2.shift"));
        y = gelu(apply("feed_forward.layers.0", y)); // (T, D) -> (T, 4D)
        x = add(x, apply("feed_forward.layers.2", y)); // (T, 4D) -> (T, D)
      }
      this.ids.push(...ids);
      x = layerNorm(x, this.tensors["final_norm.scale"], this.tensors["final_norm.shift"]);
      // GPT-2's head is the token table itself; a model with a head of its own brings it along.
      const head = this.tensors["output_head.weight"] ?? this.tensors["token_embedding.weight"];
      return linear(x, head); // (1 or T, D) -> (1 or T, V)
    }

    // (T, D) queries of the last T of `length` tokens -> (T, D): each head of each token mixes the
    // values of all tokens up to its own. That the loop over j ends there is the causal mask.
    //
    // Four tokens j are looked at side by side, as in linear. What fills up the last four are
    // later tokens or rows not in use: their weight is 0.
    attend(queries, layer, length) {
      const { context_length: C, d_model: D, num_heads: H } = this.config;
      const Dh = D / H, scale = 1 / Math.sqrt(D / H);
      const T = queries.length / D;
      const keys = this.keys[layer], values = this.values[layer];
      const mixed = new Float64Array(queries.length);
      const weights = new Float64Array(C + 3);
      for (let t = 0; t < T; t++) {
        const seen = length - T + t + 1;
        for (let head = 0; head < H; head++) {
          const q = t * D + head * Dh; // where this head's part of the row begins
          for (let j = 0; j < seen; j += 4) {
            const k0 = j * D + head * Dh, k1 = k0 + D, k2 = k1 + D, k3 = k2 + D;
            let s0 = 0, s1 = 0, s2 = 0, s3 = 0;
            for (let i = 0; i < Dh; i++) {
              const a = queries[q + i];
              s0 += a * keys[k0 + i]; s1 += a * keys[k1 + i];
              s2 += a * keys[k2 + i]; s3 += a * keys[k3 + i];
            }
            weights[j] = s0 * scale; weights[j + 1] = s1 * scale;
            weights[j + 2] = s2 * scale; weights[j + 3] = s3 * scale;
          }
          softmax(weights, seen);
          weights.fill(0, seen, seen + 3);
          for (let j = 0; j < seen; j += 4) {
            const v0 = j * D + head * Dh, v1 = v0 + D, v2 = v1 + D, v3 = v2 + D;
            const w0 = weights[j], w1 = weights[j + 1], w2 = weights[j + 2], w3 = weights[j + 3];
            for (let i = 0; i < Dh; i++) {
              mixed[q + i] += w0 * values[v0 + i] + w1 * values[v1 + i]
                + w2 * values[v2 + i] + w3 * values[v3 + i];
            }
          }
        }
      }
      return mixed;
    }

    // The place at which the model begins to see a text of so many tokens. When a text outgrows
    // the context, its tokens move to other positions, so that nothing kept fits and all has to be
    // read again. That is why several tokens are left behind at once: then it is done for one new
    // token in 16. (`generate` in the package leaves one behind at a time, and reads every time.)
    begins(length) {
      const { context_length: C } = this.config;
      const steps = Math.max(1, C >> 4);
      return Math.max(0, Math.ceil((length - C) / steps) * steps);
    }

    // (V): the scores after the last of the ids. What was kept of the tokens with which the text
    // read last began as well is still right; the rest is read.
    next(ids) {
      const seen = ids.slice(this.begins(ids.length));
      let same = 0;
      while (same < seen.length - 1 && this.ids[same] === seen[same]) same++;
      this.ids.length = Math.min(same, this.length);
      return this.read(seen.slice(same));
    }
  }

  // Choosing

  // (V) scores -> (V) probabilities, in the package's order: divide by the temperature, softmax,
  // keep the topK most probable, of those the shortest list that holds topP of what they have
  // together, and scale the rest to a sum of 1. null is no limit.
  function nextTokenProbabilities(logits, { temperature = 1, topK = null, topP = null } = {}) {
    const order = ranked(logits);
    const probabilities = new Float64Array(logits.length);
    if (temperature === 0) {
      probabilities[order[0]] = 1;
      return probabilities;
    }
    const best = logits[order[0]];
    const scaled = logits.map((logit) => (logit - best) / temperature);
    const full = softmax(scaled, scaled.length);
    const kept = order.slice(0, topK ?? order.length);
    const total = kept.reduce((sum, id) => sum + full[id], 0);
    let held = 0; // by the more probable tokens together
    let sum = 0;
    for (const id of kept) {
      if (topP !== null && topP < 1 && held && held >= topP * total) break;
      held += full[id];
      sum += probabilities[id] = full[id];
    }
    return probabilities.map((p) => p / sum);
  }

  // The ids, highest score first; of equal scores the lower id first.
  function ranked(logits) {
    return Array.from(logits.keys()).sort((a, b) => logits[b] - logits[a] || a - b);
  }

  // The id at which the running sum of the probabilities passes u, a number in [0, 1).
  function draw(probabilities, u) {
    let sum = 0, last = 0;
    for (let id = 0; id < probabilities.length; id++) {
      if (!probabilities[id]) continue;
      last = id; // rounding may keep the sum just below 1
      sum += probabilities[id];
      if (u < sum) break;
    }
    return last;
  }

  // Numbers in [0, 1) that look random and follow from the seed (Tommy Ettinger's mulberry32).
  // PyTorch's come from another generator: the same seed writes another text there.
  function randomFrom(seed) {
    let state = seed >>> 0;
    return () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let z = state;
      z = Math.imul(z ^ (z >>> 15), z | 1);
      z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
      return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32;
    };
  }

  // One step of writing: {id, candidates}. The candidates are the `count` highest scores, each
  // with its probability under these settings: 0 if they rule it out. Every step takes one
  // random number, also at temperature 0.
  function step(model, ids, settings, random, count = 8) {
    const logits = model.next(ids);
    const probabilities = nextTokenProbabilities(logits, settings);
    const candidates = ranked(logits)
      .slice(0, count)
      .map((id) => ({ id, probability: probabilities[id] }));
    return { id: draw(probabilities, random()), candidates };
  }

  course.gpt = {
    GPT, decodeFloat16, softmax, nextTokenProbabilities, ranked, draw, randomFrom, step,
  };
})();
