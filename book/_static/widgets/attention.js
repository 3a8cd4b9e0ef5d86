// What a head attends to: what the reader sees and presses. heads.js computes the weights.
(() => {
  "use strict";
  const { element, loadModel, whenNear, bpe, heads } = globalThis.course;
  const MODEL = "story-1m";
  const START = { layer: 0, head: 1 }; // in the course's model the head that looks at names
  const LISTED = 8;
  const INK = [60, 125, 225]; // of the small pictures: stands out on a light and a dark ground
  let widgets = 0;

  globalThis.course.widget("attention", (root, { text }) => {
    const name = `course-attention-${++widgets}`;

    // What the page holds

    const input = element("textarea", { id: name, rows: 2, maxlength: 2000, spellcheck: "false" });
    input.value = text ?? "";
    const toggle = (label) => {
      const box = element("input", { type: "checkbox", checked: true });
      toggles.append(element("label", {}, box, ` ${label}`));
      return box;
    };
    const toggles = element("div", { class: "course-widget-row" });
    const causal = toggle("causal mask");
    const scaled = toggle("scores divided by √Dₕ");
    const chips = element("div", {
      class: "course-attention-tokens", role: "listbox", "aria-label": "The tokens",
      "aria-orientation": "horizontal", "aria-describedby": `${name}-hint`,
    });
    const status = element("p", { class: "course-widget-status", role: "status" });
    const listTitle = element("p", { class: "course-attention-title", id: `${name}-list` });
    const list = element("ol", { class: "course-attention-list", "aria-labelledby": listTitle.id });
    const sums = element("p", { class: "course-widget-note" });
    const grid = element("div", { class: "course-attention-heads" });
    const results = element("div", { hidden: true },
      element("p", { class: "course-widget-note", id: `${name}-hint`, text:
        "Point at a token, tap it, or walk with the arrow keys, Home and End: the others show how "
        + "much it attends to each of them." }),
      chips,
      element("div", { class: "course-attention-halves" },
        element("div", {}, listTitle, list, sums),
        element("fieldset", {},
          element("legend", { text: "All heads: choose one" }),
          grid,
          element("p", { class: "course-widget-note", text:
            "In each picture a row is a token that looks, a column one that is looked at." }))));
    root.append(
      element("label", { for: name, class: "course-widget-title", text: "A sentence" }),
      input, toggles, status, results,
    );

    // The state

    let model, tokenizer;
    let radios = []; // [layer][head]
    let pictures = []; // [layer][head], a canvas each
    let tokens = []; // the names of the tokens that the model sees
    let left = 0; // how many it does not see, before them
    let weights = []; // [layer][head], (T, T)
    let { layer, head } = START;
    let chosen = 0; // the token that the keyboard or a tap is at
    let pointed = null; // the token under the mouse
    let waiting = null, loading = false;

    async function getReady() {
      if (loading) return;
      loading = true;
      try {
        [model, tokenizer] = await loadModel(MODEL, heads.OpenGPT, nothing);
      } catch (error) {
        nothing(error.message);
        return;
      } finally {
        loading = false;
      }
      buildGrid();
      read();
    }

    function buildGrid() {
      const { num_layers: L, num_heads: H } = model.config;
      grid.style.setProperty("--heads", H);
      grid.append(element("span"));
      for (let h = 0; h < H; h++) grid.append(element("span", { text: `head ${h}` }));
      for (let l = 0; l < L; l++) {
        grid.append(element("span", { text: `block ${l}` }));
        radios.push([]);
        pictures.push([]);
        for (let h = 0; h < H; h++) {
          const radio = element("input", {
            type: "radio", name: `${name}-head`, "aria-label": `block ${l}, head ${h}`,
            checked: l === layer && h === head,
            onchange: () => choose(l, h), onkeydown: (event) => climb(event, l, h),
          });
          radios[l].push(radio);
          pictures[l].push(element("canvas", { "aria-hidden": "true" }));
          grid.append(element("label", {}, radio, pictures[l][h]));
        }
      }
    }

    function choose(l, h) {
      [layer, head] = [l, h];
      show();
    }

    // Left and right are the browser's own; up and down go to the block above and below.
    function climb(event, l, h) {
      const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const { num_layers: L } = model.config;
      const radio = radios[(l + step + L) % L][h];
      radio.checked = true;
      radio.focus();
      choose((l + step + L) % L, h);
    }

    // Reading

    // What failed to load is tried again with the next change.
    const readOrLoad = () => (model ? read() : getReady());

    function read() {
      let ids;
      try {
        ids = tokenizer.encode(input.value);
      } catch (error) {
        nothing(error.message);
        return;
      }
      if (!ids.length) {
        nothing("Type something.");
        return;
      }
      left = Math.max(0, ids.length - model.config.context_length);
      ids = ids.slice(left);
      tokens = ids.map((id) => bpe.visible(tokenizer.bytesOf(id)));
      weights = model.attention(ids, { causal: causal.checked, scaled: scaled.checked });
      // What a head attends to is most telling where it has the most to choose from.
      if (tokens.length !== chips.childElementCount) chosen = tokens.length - 1;
      pointed = null;
      chips.replaceChildren(...tokens.map((token) =>
        element("div", { class: "chip", role: "option" },
          element("span", { class: "bytes", text: token }), element("span", { class: "id" }))));
      results.hidden = false;
      paint();
      show();
    }

    function nothing(sentence) {
      results.hidden = true;
      chips.replaceChildren();
      status.textContent = sentence;
    }

    // Showing

    const percent = (weight) => `${(100 * weight).toFixed(1)} %`;
    const quoted = (t) => `“${tokens[t]}”`;

    function show() {
      const T = tokens.length, t = pointed ?? chosen;
      const table = weights[layer][head];
      const row = table.subarray(t * T, (t + 1) * T);
      for (const [j, chip] of [...chips.children].entries()) {
        const masked = causal.checked && j > t;
        chip.classList.toggle("looks", j === t);
        chip.classList.toggle("masked", masked);
        chip.setAttribute("aria-selected", String(j === chosen));
        chip.tabIndex = j === chosen ? 0 : -1;
        chip.style.setProperty("--weight", row[j]);
        chip.lastChild.textContent = masked ? "masked" : percent(row[j]);
      }

      const ranked = [...row.keys()].filter((j) => j <= t || !causal.checked);
      ranked.sort((a, b) => row[b] - row[a] || a - b);
      listTitle.textContent = `Block ${layer}, head ${head}: token ${left + t + 1}, ${quoted(t)}, `
        + "attends to";
      list.replaceChildren(...ranked.slice(0, LISTED).map((j) => {
        const bar = element("span", { class: "bar" });
        bar.style.setProperty("--share", row[j]);
        return element("li", {},
          element("span", { class: "token", text: `${left + j + 1} ${tokens[j]}` }), bar,
          element("span", { class: "percent", text: percent(row[j]) }));
      }));
      const rest = ranked.slice(LISTED);
      if (rest.length) {
        const share = rest.reduce((sum, j) => sum + row[j], 0);
        const noun = rest.length > 1 ? "tokens" : "token";
        list.append(element("li", { text: `${rest.length} more ${noun}: ${percent(share)}` }));
      }

      let later = 0, largest = 0;
      for (let j = t + 1; j < T; j++) later += row[j];
      for (let i = 0; i < T; i++) largest += Math.max(...table.subarray(i * T, (i + 1) * T)) / T;
      sums.textContent = `To later tokens: ${percent(later)}. The largest weight in a row of this `
        + `head is ${percent(largest)} on average.`;
      status.textContent = `Token ${left + t + 1}, ${quoted(t)}, attends most to `
        + `${quoted(ranked[0])}: ${percent(row[ranked[0]])}.`
        + (left ? ` The text has ${left + T} tokens, the context ${T}: the model sees the last ${T}.`
          : "");
    }

    // A pixel for each weight, the stronger the larger. The root keeps small ones visible.
    function paint() {
      const T = tokens.length;
      for (const [l, row] of pictures.entries()) {
        for (const [h, picture] of row.entries()) {
          picture.width = picture.height = T;
          const image = new ImageData(T, T);
          const table = weights[l][h];
          for (let i = 0; i < table.length; i++) {
            for (let color = 0; color < 3; color++) image.data[4 * i + color] = INK[color];
            image.data[4 * i + 3] = 255 * Math.sqrt(table[i]);
          }
          picture.getContext("2d").putImageData(image, 0, 0);
        }
      }
    }

    // Keys and pointers

    input.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => readOrLoad(), 120); // not at every letter of a quick writer
    });
    for (const box of [causal, scaled]) box.addEventListener("change", () => readOrLoad());

    const numberOf = (event) => [...chips.children].indexOf(event.target.closest(".chip"));
    chips.addEventListener("pointerover", (event) => {
      const t = numberOf(event);
      if (event.pointerType !== "mouse" || t < 0) return;
      pointed = t;
      show();
    });
    chips.addEventListener("pointerleave", () => {
      if (pointed === null) return;
      pointed = null;
      show();
    });
    chips.addEventListener("click", (event) => {
      const t = numberOf(event);
      if (t >= 0) go(t);
    });
    chips.addEventListener("keydown", (event) => {
      const last = tokens.length - 1;
      const to = {
        ArrowLeft: chosen - 1, ArrowUp: chosen - 1, ArrowRight: chosen + 1, ArrowDown: chosen + 1,
        Home: 0, End: last,
      }[event.key];
      if (to === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      pointed = null; // the mouse may still rest on another token
      go(Math.min(Math.max(to, 0), last));
    });

    function go(t) {
      chosen = t;
      show();
      chips.children[t].focus();
    }

    whenNear(root, getReady);
  });
})();
