// What the heads of the model attend to: the GPT of gpt.js, which here keeps the weights of its
// heads and can do without two parts of the formula. Nothing here touches the page: attention.js
// does.
(() => {
  "use strict";
  const { gpt } = globalThis.course;

  class OpenGPT extends gpt.GPT {
    // T ids -> weights[layer][head], each (T, T): row t is what token t attends to, with a sum
    // of 1. Without `causal` a token sees the later ones too, without `scaled` the scores are not
    // divided by √Dh, both in every layer: later layers then get other vectors as well.
    attention(ids, { causal = true, scaled = true } = {}) {
      this.ids = [];
      this.causal = causal;
      this.scaled = scaled;
      this.weights = [];
      this.read(ids, true); // every: the last layer, too, mixes for all tokens
      return this.weights;
    }

    // (T, D) queries -> (T, D), like GPT's, but one head after the other, with weights that stay.
    attend(queries, layer) {
      const { d_model: D, num_heads: H } = this.config;
      const Dh = D / H, T = queries.length / D;
      const keys = this.keys[layer], values = this.values[layer]; // (C, D), of which T rows are read
      const mixed = new Float64Array(queries.length);
      this.weights[layer] = [];
      for (let head = 0; head < H; head++) {
        const weights = new Float64Array(T * T); // of what is never set, a mask leaves 0
        for (let t = 0; t < T; t++) {
          const q = t * D + head * Dh;
          const seen = this.causal ? t + 1 : T;
          const row = weights.subarray(t * T, t * T + seen);
          for (let j = 0; j < seen; j++) {
            const k = j * D + head * Dh;
            for (let i = 0; i < Dh; i++) row[j] += queries[q + i] * keys[k + i];
            if (this.scaled) row[j] /= Math.sqrt(Dh);
          }
          gpt.softmax(row, seen);
          for (let j = 0; j < seen; j++) {
            const v = j * D + head * Dh;
            for (let i = 0; i < Dh; i++) mixed[q + i] += row[j] * values[v + i];
          }
        }
        this.weights[layer].push(weights);
      }
      return mixed;
    }
  }

  globalThis.course.heads = { OpenGPT };
})();
