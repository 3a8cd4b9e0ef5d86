// What temperature, top-k and top-p do to the model's choice: what the reader sees and presses.
// gpt.js computes and draws.
(() => {
  "use strict";
  const { element, loadModel, whenNear, bpe, gpt } = globalThis.course;
  const MODEL = "story-1m";
  const SHOWN = 10; // tokens with a row of their own
  const NAMED = 6; // other tokens whose draws are named
  // What the slider of top-k goes through; null is all.
  const TOP_K = [
    1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 40, 50, 70, 100, 150, 200, 300, 500, 700, 1000, null,
  ];
  let widgets = 0;

  globalThis.course.widget("sampling", (root, { text }) => {
    const name = `course-sampling-${++widgets}`;

    // What the page holds

    const input = element("textarea", { id: name, rows: 2, maxlength: 2000, spellcheck: "false" });
    input.value = text ?? "";
    const fields = element("div", { class: "course-widget-fields course-sampling-sliders" });
    const slider = (label, limits, write) => {
      const id = `${name}-${label}`;
      const range = element("input", { id, type: "range", ...limits });
      const value = element("span", { class: "value" });
      const showValue = () => {
        value.textContent = write(range.valueAsNumber);
        range.setAttribute("aria-valuetext", value.textContent);
      };
      range.addEventListener("input", () => {
        showValue();
        choose();
      });
      showValue();
      fields.append(element("div", {}, element("label", { for: id, text: label }), value, range));
      return { range, reset: () => { range.value = limits.value; showValue(); } };
    };
    const temperature = slider("temperature", { min: 0, max: 2, step: 0.05, value: 1 },
      (value) => value.toFixed(2));
    const topK = slider("top-k", { min: 0, max: TOP_K.length - 1, value: TOP_K.length - 1 },
      (value) => `${TOP_K[value] ?? "all"}`);
    const topP = slider("top-p", { min: 0.01, max: 1, step: 0.01, value: 1 },
      (value) => (value < 1 ? value.toFixed(2) : "1.00 (all)"));
    const reset = element("button", { type: "button", text: "As the model says" });
    const status = element("p", { class: "course-widget-status", role: "status" });
    const caption = element("caption");
    const rows = element("tbody");
    const others = element("tfoot");
    const heading = (text) => element("th", { scope: "col", text });
    const table = element("table", { class: "course-sampling-table" }, caption,
      element("thead", {}, element("tr", {},
        heading("token"), heading("before"), heading("after"), heading("drawn"))),
      rows, others);
    const one = element("button", { type: "button", class: "main", text: "Draw" });
    const hundred = element("button", { type: "button", text: "Draw 100" });
    const again = element("button", { type: "button", text: "Start again" });
    const seed = element("input", {
      id: `${name}-seed`, type: "number", inputmode: "numeric", min: 0, step: 1, value: 1,
    });
    const drawn = element("p", { class: "course-widget-status", role: "status" });
    const results = element("div", { hidden: true },
      table,
      element("div", { class: "course-widget-row course-sampling-draw" }, one, hundred, again,
        element("span", {}, element("label", { for: seed.id, text: "seed" }), seed)),
      drawn,
      element("p", { class: "course-widget-note", text:
        "The same seed draws the same tokens again. Another text, setting or seed starts again." }));
    root.append(
      element("label", { for: name, class: "course-widget-title", text: "A text" }),
      input, fields, element("div", { class: "course-widget-row" }, reset), status, results,
    );

    // The state

    let model, tokenizer;
    let logits = null; // (V)
    let ranked = []; // the ids, most probable first
    let before, after; // (V) each
    let settings = {}; // those of `after`
    let about = ""; // what there is to say about the text
    let random = null;
    let tally = new Map(); // id -> how often it was drawn
    let waiting = null, loading = false;

    async function getReady() {
      if (loading) return;
      loading = true;
      try {
        [model, tokenizer] = await loadModel(MODEL, gpt.GPT, (what) => say(status, what));
      } catch (error) {
        say(status, error.message);
        return;
      } finally {
        loading = false;
      }
      read();
    }

    // From the text to the table

    // What failed to load is tried again with the next change.
    const readOrLoad = () => (model ? read() : getReady());

    function read() {
      let ids;
      try {
        ids = tokenizer.encode(input.value);
      } catch (error) {
        logits = null;
        results.hidden = true;
        status.textContent = error.message;
        return;
      }
      const context = model.config.context_length;
      about = "";
      if (ids.length > context) {
        about = ` The text has ${ids.length} tokens, the context ${context}: the model sees the `
          + `last ${context}.`;
        ids = ids.slice(-context);
      } else if (!ids.length) {
        // In training every story followed the end of another one.
        ids = [tokenizer.specialTokens["<|endoftext|>"]];
        about = " Without a text a story begins.";
      }
      logits = model.next(ids);
      ranked = gpt.ranked(logits);
      before = gpt.nextTokenProbabilities(logits);
      results.hidden = false;
      choose();
    }

    function choose() {
      if (!logits) return;
      settings = {
        temperature: temperature.range.valueAsNumber,
        topK: TOP_K[topK.range.valueAsNumber],
        topP: topP.range.valueAsNumber,
      };
      after = gpt.nextTokenProbabilities(logits, settings);
      startAgain();
    }

    function startAgain() {
      random = gpt.randomFrom(Number.isNaN(seed.valueAsNumber) ? 0 : Math.floor(seed.valueAsNumber));
      tally = new Map();
      drawn.textContent = "";
      show();
    }

    // What ruled out the token at this rank, or null. A low temperature leaves some probabilities
    // too small for a number: these are 0 without being cut.
    function cutBy(rank) {
      const { temperature, topK, topP } = settings;
      if (temperature === 0) return rank ? "temp. 0" : null;
      if (topK !== null && rank >= topK) return "top-k";
      return topP < 1 && after[ranked[rank]] === 0 ? "top-p" : null;
    }

    // Showing

    const percent = (probability) => `${(100 * probability).toFixed(1)} %`;
    const label = (id) => bpe.visible(tokenizer.bytesOf(id));
    const sum = (ids, of) => ids.reduce((total, id) => total + of(id), 0);
    const times = (id) => tally.get(id) ?? 0;
    const grouped = (count) => count.toLocaleString("en");

    function show() {
      const shown = ranked.slice(0, SHOWN), rest = ranked.slice(SHOWN);
      const most = Math.max(before[ranked[0]], after[ranked[0]]); // bars of both columns compare
      const count = sum(ranked, times);
      const cell = (text, share) => {
        const bar = element("span", { class: "bar" });
        bar.style.setProperty("--share", Math.min(1, share / most));
        return element("td", {}, element("span", { class: "percent", text }), bar);
      };
      const drawnCell = (number) => cell(count ? `${number}` : "–", count ? number / count : 0);
      rows.replaceChildren(...shown.map((id, rank) => {
        const reason = cutBy(rank);
        return element("tr", { class: reason ? "cut" : null },
          element("th", { scope: "row" }, element(reason ? "s" : "span", { text: label(id) })),
          cell(percent(before[id]), before[id]),
          reason ? element("td", { class: "reason", text: `cut: ${reason}` }) : cell(percent(after[id]), after[id]),
          drawnCell(times(id)));
      }));
      const cut = ranked.filter((_, rank) => cutBy(rank));
      const cutOthers = rest.filter((_, n) => cutBy(SHOWN + n)).length;
      others.replaceChildren(element("tr", {},
        element("th", { scope: "row", text: `${grouped(rest.length)} others`
          + (cutOthers ? `, ${cutOthers === rest.length ? "all" : grouped(cutOthers)} cut` : "") }),
        // Without bars: that of a sum could be longer than the scale.
        ...[
          percent(sum(rest, (id) => before[id])), percent(sum(rest, (id) => after[id])),
          count ? `${sum(rest, times)}` : "–",
        ].map((text) => element("td", {}, element("span", { class: "percent", text })))));
      caption.textContent = `The ${SHOWN} most probable next tokens, before and after the settings`;
      const kept = ranked.length - cut.length;
      say(status, `${grouped(kept)} of ${grouped(ranked.length)} tokens can be drawn.`
        + (cut.length ? ` Before, those cut held ${percent(sum(cut, (id) => before[id]))}.` : "")
        + about);
    }

    // Said again, the same sentence would be read out again.
    function say(where, sentence) {
      if (where.textContent !== sentence) where.textContent = sentence;
    }

    // Drawing

    function draw(many) {
      if (!logits) return;
      let id;
      for (let i = 0; i < many; i++) {
        id = gpt.draw(after, random());
        tally.set(id, times(id) + 1);
      }
      show();
      const count = sum(ranked, times);
      const named = ranked.slice(SHOWN).filter((other) => times(other));
      named.sort((a, b) => times(b) - times(a));
      const names = named.slice(0, NAMED).map((other) => `“${label(other)}” ${times(other)}`);
      if (named.length > NAMED) names.push("…");
      drawn.textContent = `${grouped(count)} drawn, the last one “${label(id)}”.`
        + (names.length ? ` Of the others: ${names.join(", ")}.` : "");
    }

    // Keys and buttons

    input.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => readOrLoad(), 120); // not at every letter of a quick writer
    });
    reset.addEventListener("click", () => {
      for (const { reset } of [temperature, topK, topP]) reset();
      choose();
    });
    one.addEventListener("click", () => draw(1));
    hundred.addEventListener("click", () => draw(100));
    again.addEventListener("click", startAgain);
    seed.addEventListener("input", () => logits && startAgain());
    whenNear(root, getReady);
  });
})();
