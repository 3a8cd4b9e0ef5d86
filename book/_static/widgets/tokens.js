// The merges of a text, one by one: what the reader sees and presses. bpe.js does the merging.
(() => {
  "use strict";
  const { element, load, files, bpe } = globalThis.course;
  const VOCABULARIES = [
    ["story-1m-tokenizer", "the course's (2,048 tokens)"],
    ["gpt2-tokenizer", "GPT-2's (50,257 tokens)"],
  ];
  const tokenizers = {}; // name -> Tokenizer, shared by all widgets of the page
  let widgets = 0;

  globalThis.course.widget("tokens", (root, { text }) => {
    const name = `course-tokens-${++widgets}`;

    // What the page holds

    const input = element("textarea", { id: name, rows: 2, maxlength: 1000, spellcheck: "false" });
    input.value = text ?? "";
    const vocabulary = element("select", { id: `${name}-vocabulary` },
      ...VOCABULARIES.map(([value, label]) => {
        const there = value in files;
        return element("option", {
          value, disabled: !there, text: there ? label : `${label}: not in this copy of the book`,
        });
      }));
    const back = element("button", { type: "button", text: "← Back" });
    const next = element("button", { type: "button", class: "main", text: "Next merge →" });
    const first = element("button", { type: "button", text: "Bytes" });
    const last = element("button", { type: "button", text: "All merges" });
    const slider = element("input", { id: `${name}-step`, type: "range", min: 0, step: 1 });
    const status = element("p", { class: "course-widget-status", role: "status" });
    const chips = element("div", {
      class: "course-tokens-chips", role: "region", "aria-label": "The tokens", tabindex: 0,
    });
    const counts = element("p", { class: "course-widget-note" });
    root.append(
      element("label", { for: name, class: "course-widget-title", text: "A text" }),
      input,
      element("div", { class: "course-widget-fields" },
        element("div", { class: "wide" },
          element("label", { for: vocabulary.id, text: "vocabulary" }), vocabulary),
        element("div", { class: "wide" },
          element("label", { for: slider.id, text: "merges done (arrow keys, Home, End)" }),
          slider)),
      element("div", { class: "course-widget-row" }, first, back, next, last),
      status, chips, counts,
    );

    // The state

    let tokenizer = null;
    let steps = []; // [{symbol, pieces}], see Tokenizer.steps
    let shown = 0;

    async function read(keepEnd) {
      const wanted = vocabulary.value;
      try {
        if (!tokenizers[wanted]) {
          status.textContent = `Loading the vocabulary (${(files[wanted] / 1e6).toFixed(1)} MB) …`;
          const data = await load(wanted);
          tokenizers[wanted] ??= new bpe.Tokenizer(data);
        }
        if (wanted !== vocabulary.value) return; // the reader chose another one meanwhile
        tokenizer = tokenizers[wanted];
        steps = tokenizer.steps(input.value);
      } catch (error) {
        status.textContent = error.message;
        return;
      }
      slider.max = steps.length - 1;
      go(keepEnd ? steps.length - 1 : 0);
    }

    function go(step) {
      shown = Math.min(Math.max(step, 0), steps.length - 1);
      slider.value = shown;
      slider.setAttribute("aria-valuetext", `${shown} of ${steps.length - 1}`);
      slider.disabled = steps.length < 2;
      const focused = document.activeElement;
      first.disabled = back.disabled = shown === 0;
      next.disabled = last.disabled = shown === steps.length - 1;
      if (focused.disabled && root.contains(focused)) {
        (focused === first || focused === back ? next : back).focus();
      }
      status.textContent = sentence();
      draw();
    }

    const nameOf = (symbol) => bpe.visible(tokenizer.bytes[symbol]);

    function sentence() {
      const { symbol } = steps[shown];
      if (!input.value) return "Type something.";
      if (symbol === null) {
        return steps.length > 1
          ? `The bytes of each piece. ${steps.length - 1} merges follow.`
          : "The bytes of each piece. No merge fits.";
      }
      const [left, right] = tokenizer.pairs[symbol - 256];
      const joined = length(steps[shown - 1].pieces) - length(steps[shown].pieces);
      return `Step ${shown} of ${steps.length - 1}: “${nameOf(left)}” + “${nameOf(right)}” become `
        + `“${nameOf(symbol)}”, merge number ${symbol - 256}`
        + (joined > 1 ? `, in ${joined} places.` : ".")
        + (shown === steps.length - 1 ? " No other pair has a merge." : "");
    }

    const length = (pieces) => pieces.reduce((sum, piece) => sum + piece.length, 0);

    function draw() {
      const { symbol: made, pieces } = steps[shown];
      const coming = steps[shown + 1]?.symbol; // what the next step makes
      chips.replaceChildren(...pieces.map((piece) => {
        const parts = piece.map((symbol) =>
          element("span", { class: symbol === made ? "chip made" : "chip" },
            element("span", { class: "bytes", text: nameOf(symbol) }),
            element("span", { class: "id", text: tokenizer.ids[symbol] })));
        for (let i = 0; coming && i + 1 < piece.length; i++) {
          const [left, right] = tokenizer.pairs[coming - 256];
          if (piece[i] !== left || piece[i + 1] !== right) continue;
          parts[i].classList.add("coming");
          parts[i + 1].classList.add("coming");
          i++;
        }
        return element("span", { class: "piece" }, ...parts);
      }));
      const bytes = length(steps[0].pieces), tokens = length(pieces);
      const characters = [...input.value].length;
      counts.textContent = `${plural(characters, "character")}, ${plural(bytes, "byte")}, `
        + `${plural(pieces.length, "piece")}, ${plural(tokens, "token")}`
        + (tokens ? `: ${(bytes / tokens).toFixed(2)} bytes a token.` : ".");
    }

    const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

    // Keys and buttons

    input.addEventListener("input", () => read(true));
    vocabulary.addEventListener("change", () => read(true));
    slider.addEventListener("input", () => go(slider.valueAsNumber));
    first.addEventListener("click", () => go(0));
    back.addEventListener("click", () => go(shown - 1));
    next.addEventListener("click", () => go(shown + 1));
    last.addEventListener("click", () => go(steps.length - 1));
    read(false);
  });
})();
