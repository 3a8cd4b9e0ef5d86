// Loss curves of the same small training at many settings: what the reader chooses and sees.
// The runs were made by scripts/make_loss_grid.py; the curve doctor of chapter 6 named them.
(() => {
  "use strict";
  const { element, load } = globalThis.course;
  const AXES = [
    ["learning_rate", "learning rate (peak)"],
    ["warmup_steps", "warm-up (steps)"],
    ["batch_size", "batch size (windows)"],
  ];
  const HIGHEST = 8; // of the loss axis, in nats; what lies above is cut off, and said
  let widgets = 0;

  globalThis.course.widget("loss", (root, { text }) => {
    const name = `course-loss-${++widgets}`;

    // What the page holds

    const choices = element("div", { class: "course-loss-choices" });
    const status = element("div", { class: "course-loss-said", role: "status" });
    const plot = element("div", { class: "course-loss-plot" });
    const key = element("ul", { class: "course-loss-key", "aria-hidden": "true" },
      ...[
        ["training", "training loss, one batch"],
        ["validation", "validation loss"],
        ["beside", "validation loss one choice away"],
      ].map(([kind, label]) => element("li", { class: kind, text: label })));
    root.append(choices, plot, key, status);

    // The state

    let grid = null;
    const chosen = {}; // axis -> the number of the chosen value on it

    async function begin() {
      status.textContent = "Loading the runs …";
      try {
        grid = await load("loss-grid");
      } catch (error) {
        status.textContent = error.message;
        return;
      }
      const wanted = (text ?? "").split(",").map(Number);
      AXES.forEach(([axis], n) => {
        chosen[axis] = Math.max(0, grid[axis].indexOf(wanted[n]));
      });
      choices.replaceChildren(...AXES.map(([axis, label]) =>
        element("fieldset", {}, element("legend", { text: label }),
          ...grid[axis].map((value, n) => stop(axis, value, n)))));
      new ResizeObserver(draw).observe(plot);
      show();
    }

    // A radio button: arrow keys go through those of one name.
    function stop(axis, value, n) {
      const input = element("input", {
        type: "radio", name: `${name}-${axis}`, value: n, checked: n === chosen[axis],
        onchange: () => {
          chosen[axis] = n;
          show();
        },
      });
      return element("label", {}, input, element("span", { text: value }));
    }

    // The runs stand in the order of the axes, the last of them fastest.
    const runAt = (place) =>
      grid.runs[AXES.reduce((n, [axis]) => n * grid[axis].length + place[axis], 0)];

    // The runs that differ by one choice on one axis.
    function beside() {
      return AXES.flatMap(([axis]) => [-1, 1]
        .map((change) => ({ ...chosen, [axis]: chosen[axis] + change }))
        .filter((place) => place[axis] >= 0 && place[axis] < grid[axis].length)
        .map(runAt));
    }

    function show() {
      const run = runAt(chosen);
      const { ill, title, advice, section } = grid.diseases[run.disease];
      const last = run.validation_loss.at(-1);
      const best = Math.min(...grid.runs.map((other) => other.validation_loss.at(-1)));
      const steps = grid.steps.at(-1);
      const tokens = steps * run.batch_size * grid.context_length;
      const compared = last === best
        ? `the lowest of all ${grid.runs.length} runs`
        : `the best of all ${grid.runs.length} runs has ${best.toFixed(2)}`;
      status.replaceChildren(
        element("p", { class: "loss" },
          element("b", { text: last.toFixed(2) }),
          ` nats per token on validation text after ${steps} steps, which read `
          + `${tokens.toLocaleString("en")} tokens; ${compared}.`),
        element("p", {},
          element("b", { text: `${title}.` }),
          ` ${run.signs.join(" ")}`
          + (ill ? ` What to do: ${advice} Section ${section} says more.` : "")),
      );
      draw();
    }

    // Drawing, in the pixels that there are

    function draw() {
      if (!grid) return;
      const run = runAt(chosen);
      const width = Math.max(260, plot.clientWidth), height = 280;
      const left = 40, right = width - 8, top = 10, bottom = height - 42;
      const lowest = Math.floor(Math.min(...grid.runs.flatMap((r) => r.train_loss)));
      const steps = grid.steps.at(-1);
      const x = (step) => left + (step / steps) * (right - left);
      const y = (loss) => bottom - ((loss - lowest) / (HIGHEST - lowest)) * (bottom - top);
      const line = (kind, at, losses) => svg("polyline", {
        class: kind, "clip-path": `url(#${name}-clip)`,
        points: losses.map((loss, n) => `${x(at[n]).toFixed(1)},${y(loss).toFixed(1)}`).join(" "),
      });
      const word = (text, at, height, anchor) =>
        svg("text", { x: at, y: height, "text-anchor": anchor }, text);

      const parts = [svg("clipPath", { id: `${name}-clip` },
        svg("rect", { x: left, y: top, width: right - left, height: bottom - top }))];
      for (let loss = lowest; loss <= HIGHEST; loss++) {
        parts.push(svg("line", { class: "grid", x1: left, x2: right, y1: y(loss), y2: y(loss) }));
        parts.push(word(loss, left - 6, y(loss) + 4, "end"));
      }
      for (const step of [0, steps / 3, (2 * steps) / 3, steps]) {
        const anchor = step === 0 ? "start" : step === steps ? "end" : "middle";
        parts.push(word(step, x(step), bottom + 17, anchor));
      }
      parts.push(word("step", (left + right) / 2, height - 6, "middle"));
      parts.push(svg("text", {
        transform: `translate(12 ${(top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle",
      }, "loss (nats per token)"));
      const labels = []; // over the curves
      for (const [loss, label] of [
        [Math.log(grid.vocab_size), "knowing nothing"],
        [grid.frequency_loss, "frequencies only"],
      ]) {
        parts.push(svg("line", { class: "level", x1: left, x2: right, y1: y(loss), y2: y(loss) }));
        labels.push(word(`${label}: ${loss.toFixed(2)}`, right, y(loss) - 4, "end"));
      }
      for (const other of beside()) {
        parts.push(line("beside", grid.evaluation_steps, other.validation_loss));
      }
      parts.push(line("training", grid.steps, run.train_loss));
      parts.push(line("validation", grid.evaluation_steps, run.validation_loss));
      const highest = Math.max(...run.train_loss);
      if (highest > HIGHEST) {
        const step = grid.steps[run.train_loss.indexOf(highest)];
        const said = `↑ up to ${highest.toFixed(1)} at step ${step}`;
        labels.push(word(said, Math.min(x(step) + 8, right - 140), top + 12, "start"));
      }
      plot.replaceChildren(svg("svg", {
        role: "img", width, height, viewBox: `0 0 ${width} ${height}`, "aria-label": described(run),
      }, ...parts, ...labels));
    }

    // What the picture shows, in words.
    function described(run) {
      const [first, last] = [run.train_loss[0], run.train_loss.at(-1)].map((l) => l.toFixed(2));
      return `Training loss by step: from ${first} to ${last}, at most `
        + `${Math.max(...run.train_loss).toFixed(2)}. Validation loss: from `
        + `${run.validation_loss[0].toFixed(2)} to ${run.validation_loss.at(-1).toFixed(2)}.`;
    }

    begin();
  });

  function svg(tag, attributes, ...children) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }
})();
