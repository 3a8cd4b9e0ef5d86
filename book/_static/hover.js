/* Says what a symbol of a formula means and what a name of the package is, when a reader points at
   it, taps it or moves to it with the keyboard. What it says comes from hover-data.js, which is made
   from the notation page and the API page when the book is built. */
(function () {
  "use strict";

  const data = window.courseHover;
  if (!data) return;

  const FORMULA = "span.math, div.formula";
  const SYMBOL = "math [class*='sym-']";
  const NAME = "a.course-name";
  const DELAY = 120; // milliseconds: a pointer on its way across a formula opens nothing
  const GRACE = 250; // milliseconds to reach the box

  const box = document.createElement("div");
  box.id = "course-hover";
  box.className = "course-hover";
  box.setAttribute("role", "tooltip");
  box.hidden = true;

  let owner = null; // what the box describes to a screen reader
  let shown = null; // what it stands beside
  let step = -1; // which symbol of a focused formula is shown; -1: all
  let timer = 0;
  let touched = false; // whether the last press was a finger's

  /* What is said */

  function meaningOf(element) {
    const key = /(?:^| )sym-(\w+)/.exec(element.getAttribute("class") || "");
    return key && data.symbols[key[1]];
  }

  function symbolLine([symbol, code, text]) {
    const line = document.createElement("p");
    line.innerHTML =
      `<span class="course-hover-symbol">${symbol}</span>: ` +
      (code ? `<code>${code}</code>, ` : "") + text;
    return line;
  }

  function symbolsOf(formula) {
    const seen = new Set();
    return [...formula.querySelectorAll("[class*='sym-']")].filter((element) => {
      const meaning = meaningOf(element);
      if (!meaning || seen.has(meaning)) return false;
      return seen.add(meaning);
    });
  }

  function nameLines(anchor) {
    const module = Object.keys(data.names).find(
      (name) => anchor.startsWith(name + ".") && data.names[name][anchor.slice(name.length + 1)]
    );
    if (!module) return [];
    const short = anchor.slice(module.length + 1);
    const [kind, signature, text] = data.names[module][short];
    const head = document.createElement("p");
    const code = head.appendChild(document.createElement("code"));
    code.textContent = (kind ? kind + " " : "") + short + signature;
    const from = document.createElement("p");
    from.className = "course-hover-hint";
    from.textContent = "in " + module + (touched ? "; tap again for its page" : "");
    const lines = [head, from];
    if (text) {
      const what = document.createElement("p");
      what.textContent = text;
      lines.splice(1, 0, what);
    }
    return lines;
  }

  /* Showing and hiding */

  function show(beside, lines, described) {
    hide();
    if (!lines.length) return;
    box.replaceChildren(...lines);
    document.body.append(box);
    box.hidden = false;
    const around = beside.getBoundingClientRect();
    const own = box.getBoundingClientRect();
    const width = document.documentElement.clientWidth;
    const left = Math.max(8, Math.min(around.left, width - own.width - 8));
    const below = around.bottom + 6 + own.height <= window.innerHeight || around.top < own.height + 6;
    const top = below ? around.bottom + 6 : around.top - own.height - 6;
    box.style.left = `${left + window.scrollX}px`;
    box.style.top = `${top + window.scrollY}px`;
    beside.classList.add("course-hover-on");
    described.setAttribute("aria-describedby", box.id);
    [shown, owner] = [beside, described];
  }

  function hide() {
    clearTimeout(timer);
    if (owner) owner.removeAttribute("aria-describedby");
    if (shown) shown.classList.remove("course-hover-on");
    [shown, owner] = [null, null];
    box.hidden = true;
  }

  function target(element) {
    if (!(element instanceof Element)) return null;
    const symbol = element.closest(SYMBOL);
    if (symbol && meaningOf(symbol)) return symbol;
    return element.closest(NAME);
  }

  function point(at) {
    if (at.matches(NAME)) show(at, nameLines(at.hash.slice(1)), at);
    else show(at, [symbolLine(meaningOf(at))], at.closest(FORMULA));
  }

  /* The keyboard: a formula that has the focus lists its symbols; arrows go through them. */

  function list(formula) {
    const symbols = symbolsOf(formula);
    if (step >= symbols.length || step < -1) step = -1;
    if (step < 0) show(formula, symbols.map((one) => symbolLine(meaningOf(one))), formula);
    else show(symbols[step], [symbolLine(meaningOf(symbols[step]))], formula);
    formula.classList.remove("course-hover-on");
  }

  function makeReachable() {
    for (const formula of document.querySelectorAll(FORMULA)) {
      if (symbolsOf(formula).length) formula.tabIndex = 0;
    }
  }

  document.addEventListener("focusin", (event) => {
    step = -1;
    if (touched || !event.target.matches(":focus-visible")) return; // a press has its own answer
    if (event.target.matches(FORMULA)) list(event.target);
    else if (event.target.matches(NAME)) point(event.target);
  });

  document.addEventListener("focusout", hide);

  document.addEventListener("keydown", (event) => {
    touched = false;
    if (event.key === "Escape" && !box.hidden) {
      hide();
      event.stopPropagation();
    }
    const formula = document.activeElement;
    const way = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!way || !formula || !formula.matches(FORMULA)) return;
    const count = symbolsOf(formula).length;
    if (!count) return;
    step = ((step + 1 + way + count + 1) % (count + 1)) - 1; // all of them, then one by one
    list(formula);
    event.preventDefault();
  }, true);

  /* The mouse: the box may be reached and read, and goes when neither it nor its owner is under it. */

  document.addEventListener("pointerover", (event) => {
    if (event.pointerType === "touch") return;
    const at = target(event.target);
    if (at && at === shown) clearTimeout(timer);
    else if (at) {
      clearTimeout(timer);
      timer = setTimeout(() => point(at), DELAY);
    } else if (event.target instanceof Element && event.target.closest("#course-hover")) {
      clearTimeout(timer);
    }
  });

  document.addEventListener("pointerout", (event) => {
    if (event.pointerType === "touch") return;
    if (target(event.target) || (event.target instanceof Element && event.target.closest("#course-hover"))) {
      clearTimeout(timer);
      if (shown && document.activeElement !== owner) timer = setTimeout(hide, GRACE);
    }
  });

  /* A finger: the first tap says what it is; a second one follows a link. */

  document.addEventListener("pointerdown", (event) => {
    touched = event.pointerType === "touch";
  }, true);

  document.addEventListener("click", (event) => {
    if (!touched) return;
    const at = target(event.target);
    const formula = event.target instanceof Element && event.target.closest(FORMULA);
    if (at && at === shown) {
      if (!at.matches(NAME)) hide();
    } else if (at) {
      if (at.matches(NAME)) event.preventDefault();
      point(at);
    } else if (formula) {
      step = -1;
      list(formula);
    } else if (!(event.target instanceof Element && event.target.closest("#course-hover"))) {
      hide();
    }
  }, true);

  /* Names in code become links. A page that defines a simpler form under a name of the package means
     that one from there on, until a cell defines what the package holds. */

  function chain(token) {
    // GPT in GPT(...), GPT.from_pretrained in GPT.from_pretrained(...): what the name is read from
    const previous = token.previousSibling;
    if (!previous || previous.textContent !== ".") return token.textContent;
    const before = previous.previousSibling;
    if (!(before instanceof Element) || !before.matches(".n, .nn, .nc")) return "";
    const head = chain(before);
    return head && `${head}.${token.textContent}`;
  }

  function linkCode() {
    const known = new Map();
    for (const [module, names] of Object.entries(data.names)) {
      for (const short of Object.keys(names)) {
        known.set(short, `${module}.${short}`);
        known.set(`${module}.${short}`, `${module}.${short}`);
        known.set(`course_pkg.${short}`, `${module}.${short}`);
      }
    }
    const root = (document.documentElement.dataset.content_root || "") +
      (window.courseEnglish || "") + data.api;
    const own = new Set();
    for (const code of document.querySelectorAll(".bd-content div.highlight-ipython3, .bd-content div.highlight-python")) {
      const same = code.closest(".tag_reference");
      for (const token of code.querySelectorAll("pre .nc, pre .nf")) {
        if (same) own.delete(token.textContent);
        else own.add(token.textContent);
      }
      for (const token of code.querySelectorAll("pre .n")) {
        const text = chain(token);
        const anchor = known.get(text);
        if (!anchor || own.has(text.split(".")[0])) continue;
        // A function's name may be a variable's too: a call or an import is meant.
        const next = token.nextSibling;
        const line = token.previousSibling && lineBefore(token);
        const called = next && next.textContent.startsWith("(");
        const imported = /^\s*(from\s.*)?import\s/.test(line || "") || inImport(token);
        if (/^[a-z]/.test(text) && !called && !imported) continue;
        const link = document.createElement("a");
        link.className = "course-name";
        link.href = `${root}#${anchor}`;
        link.tabIndex = -1; // the text has the same links for the keyboard
        link.append(...token.childNodes);
        token.append(link);
      }
    }
  }

  function lineBefore(token) {
    let text = "";
    for (let node = token.previousSibling; node && !text.includes("\n"); node = node.previousSibling) {
      text = node.textContent + text;
    }
    return text.slice(text.lastIndexOf("\n") + 1);
  }

  function inImport(token) {
    // Inside the brackets of `from course_pkg import (...)`.
    for (let node = token.previousSibling; node; node = node.previousSibling) {
      const text = node.textContent;
      if (text.includes(")") || text.includes("=")) return false;
      if (text.trim() === "import") return true;
    }
    return false;
  }

  function start() {
    makeReachable();
    linkCode();
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
