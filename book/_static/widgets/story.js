// The trained model writes in the page: what the reader sees and presses. gpt.js computes.
(() => {
  "use strict";
  const { element, loadModel, bpe, gpt } = globalThis.course;
  const MODEL = "story-1m";
  let widgets = 0; // built so far, so that names in the page stay unique

  globalThis.course.widget("story", (root, { text }) => {
    const name = `course-story-${++widgets}`;

    // What the page holds

    const beginning = element("textarea", {
      id: name, rows: 2, maxlength: 2000, spellcheck: "false",
    });
    beginning.value = text ?? "";
    const write = element("button", { type: "button", class: "main", text: "Write" });
    const one = element("button", { type: "button", text: "One token" });
    const goOn = element("button", { type: "button", text: "Go on" });
    const stop = element("button", { type: "button", text: "Stop", disabled: true });
    const fields = element("div", { class: "course-widget-fields" });
    const field = (label, limits) => {
      const id = `${name}-${label}`;
      const input = element("input", { id, type: "number", inputmode: "decimal", ...limits });
      fields.append(element("div", {}, element("label", { for: id, text: label }), input));
      return input;
    };
    const temperature = field("temperature", { min: 0, max: 5, step: 0.1, value: 0.8 });
    const topK = field("top-k", { min: 1, step: 1, placeholder: "all" });
    const topP = field("top-p", { min: 0.05, max: 1, step: 0.05, placeholder: "all" });
    const seed = field("seed", { min: 0, step: 1, value: 1 });
    const count = field("tokens", { min: 1, max: 1000, step: 1, value: 120 });
    const status = element("p", { class: "course-widget-status", role: "status" });
    const story = element("p", {
      class: "course-story-text", role: "region", "aria-label": "The text so far",
      "aria-live": "polite", tabindex: 0, // a keyboard scrolls a long text
    });
    const earlier = element("button", { type: "button", text: "← Earlier" });
    const later = element("button", { type: "button", text: "Later →" });
    const stepTitle = element("p", { class: "course-story-step", id: `${name}-step` });
    const list = element("ol", {
      class: "course-story-candidates", "aria-labelledby": stepTitle.id,
    });
    const steps = element("div", { class: "course-story-steps", hidden: true },
      element("div", { class: "course-widget-row" }, earlier, later),
      stepTitle, list,
      element("p", { class: "course-widget-note", text:
        "Press another candidate to put it there instead, then Go on." }));
    root.append(
      element("label", { for: name, class: "course-widget-title", text: "A beginning" }),
      beginning,
      element("div", { class: "course-widget-row" }, write, one, goOn, stop),
      fields, status, story, steps,
    );

    // The state

    let model, tokenizer;
    let begun = null; // the beginning that was used, as the reader typed it
    let prompt = []; // its ids
    let chosen = []; // what was written after it: {id, candidates}
    let shown = -1; // the step whose candidates are shown
    let random = null;
    let running = false;

    async function getReady() {
      if (model) return;
      [model, tokenizer] = await loadModel(MODEL, gpt.GPT, say);
      say("");
    }

    function begin() {
      begun = beginning.value;
      prompt = tokenizer.encode(begun);
      // In training every story followed the end of another one.
      if (!prompt.length) prompt = [endOfText()];
      chosen = [];
      shown = -1;
      random = gpt.randomFrom(whole(seed, 0) ?? 0);
      story.replaceChildren(element("b", { text: begun }));
    }

    const endOfText = () => tokenizer.specialTokens["<|endoftext|>"];
    const ids = () => [...prompt, ...chosen.map((step) => step.id)];

    // Reading the settings

    // The value of a field in its limits, which are then shown, or null if it is empty.
    function value(input) {
      if (input.value.trim() === "" || Number.isNaN(input.valueAsNumber)) return null;
      const low = input.min === "" ? -Infinity : Number(input.min);
      const high = input.max === "" ? Infinity : Number(input.max);
      const inside = Math.min(Math.max(input.valueAsNumber, low), high);
      if (inside !== input.valueAsNumber) input.value = inside;
      return inside;
    }

    function whole(input, least) {
      const given = value(input);
      return given === null ? null : Math.max(least, Math.floor(given));
    }

    const settings = () => ({
      temperature: value(temperature) ?? 1,
      topK: whole(topK, 1),
      topP: value(topP),
    });

    // Writing

    async function run(fromStart, most) {
      if (running) return;
      running = true;
      stop.disabled = false;
      story.setAttribute("aria-busy", "true"); // read it out when it is done, not token by token
      if (most > 1) {
        // A disabled button would lose the focus, and the keyboard's user with it.
        if ([write, one, goOn].includes(document.activeElement)) stop.focus();
        for (const button of [write, one, goOn]) button.disabled = true;
      }
      try {
        await getReady();
        if (fromStart || begun !== beginning.value) begin();
        let written = 0, seconds = 0, over = chosen.at(-1)?.id === endOfText();
        while (running && written < most && !over) {
          const start = performance.now();
          const step = gpt.step(model, ids(), settings(), random);
          seconds += (performance.now() - start) / 1000;
          chosen.push(step);
          written++;
          over = step.id === endOfText();
          shown = chosen.length - 1;
          append();
          show();
          if (written < most) await frame();
        }
        say(summary(written, seconds, over));
      } catch (error) {
        say(error.message);
      } finally {
        running = false;
        story.setAttribute("aria-busy", "false");
        for (const button of [write, one, goOn]) button.disabled = false;
        if (document.activeElement === stop) pressed.focus();
        stop.disabled = true;
      }
    }

    function summary(written, seconds, over) {
      const context = model.config.context_length;
      const length = prompt.length + chosen.length;
      const parts = [];
      if (written) {
        const noun = written > 1 ? "tokens" : "token";
        const speed = Math.round(written / seconds);
        parts.push(`${written} ${noun}; the model can write ${speed} a second.`);
      }
      if (over) parts.push("The story is over: the model wrote <|endoftext|>.");
      const before = model.begins(length); // none, until the text outgrows the context
      if (before) {
        parts.push(`The text has ${length} tokens, the context holds ${context}: the model no `
          + `longer sees the first ${before}.`);
      }
      return parts.join(" ");
    }

    // One token is written for each picture that the screen shows, so that it can be watched.
    // A page in the background shows none and waits.
    const frame = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));

    // Showing

    function say(sentence) {
      status.textContent = sentence;
    }

    // The tokens again, as what each adds to the text; only the last may have changed before it.
    function append() {
      const parts = tokenizer.decodeEach(ids()).slice(prompt.length);
      const spans = story.querySelectorAll("span");
      for (const number of parts.keys()) {
        const part = chosen[number].id === endOfText() ? "" : parts[number];
        if (spans[number]) {
          if (spans[number].textContent !== part) spans[number].textContent = part;
        } else {
          story.append(element("span", { text: part }));
        }
      }
      for (const extra of [...spans].slice(parts.length)) extra.remove();
    }

    function show() {
      steps.hidden = shown < 0;
      for (const [number, span] of story.querySelectorAll("span").entries()) {
        span.classList.toggle("shown", number === shown);
      }
      if (shown < 0) return;
      // A long text scrolls in itself, so that the page stays where it is.
      const { offsetTop: top, offsetHeight: height } = story.querySelectorAll("span")[shown];
      const lowest = top + height - story.clientHeight;
      story.scrollTop = Math.max(lowest, Math.min(story.scrollTop, top));
      const { id, candidates } = chosen[shown];
      stepTitle.textContent = `Token ${shown + 1} of ${chosen.length}: the candidates`;
      const rows = candidates.map((candidate) => row(candidate, candidate.id === id));
      if (!candidates.some((candidate) => candidate.id === id)) {
        rows.push(element("li", { text: `${label(id)} was drawn from the rest.` }));
      }
      list.replaceChildren(...rows);
      earlier.disabled = shown === 0;
      later.disabled = shown === chosen.length - 1;
    }

    function row({ id, probability }, taken) {
      const percent = probability ? `${(100 * probability).toFixed(1)} %` : "ruled out";
      const button = element("button", {
        type: "button", "aria-pressed": String(taken), onclick: () => put(id),
      }, element("span", { class: "token", text: label(id) }), element("span", { class: "bar" }),
      element("span", { class: "percent", text: percent }));
      button.querySelector(".bar").style.setProperty("--share", probability);
      return element("li", {}, button);
    }

    const label = (id) => bpe.visible(tokenizer.bytesOf(id));

    // Put another token where the shown one is; what came after it no longer follows.
    function put(id) {
      if (running) return;
      const rank = chosen[shown].candidates.findIndex((candidate) => candidate.id === id);
      chosen = [...chosen.slice(0, shown), { ...chosen[shown], id }];
      append();
      show();
      say(`${label(id)} is token ${shown + 1} now. Go on writes what follows.`);
      list.children[rank].querySelector("button").focus();
    }

    // Keys and buttons

    let pressed = write; // gets the focus back after Stop
    const press = (button, fromStart, most) => {
      pressed = button;
      run(fromStart, most());
    };
    const most = () => whole(count, 1) ?? 100;
    write.addEventListener("click", () => press(write, true, most));
    goOn.addEventListener("click", () => press(goOn, false, most));
    one.addEventListener("click", () => press(one, false, () => 1));
    stop.addEventListener("click", () => (running = false));
    beginning.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      press(beginning, true, most);
    });
    root.addEventListener("keydown", (event) => {
      if (event.key === "Escape") running = false;
    });
    for (const [button, change] of [[earlier, -1], [later, 1]]) {
      button.addEventListener("click", () => {
        if (running) return;
        shown += change;
        show();
        if (button.disabled) (button === earlier ? later : earlier).focus();
      });
    }
    story.addEventListener("click", (event) => {
      const number = [...story.querySelectorAll("span")].indexOf(event.target);
      if (running || number < 0) return;
      shown = number;
      show();
    });
  });
})();
