// Loading the widgets' data, also when the book is opened from a disk: there a page may not
// fetch a file, but it may run a script. So each data file is a script that puts one entry into
// `course.data`, and a widget asks for it when it needs it. data/index.js lists what there is.
(() => {
  "use strict";
  const course = (globalThis.course ??= {});
  const here = document.currentScript.src;
  const loading = {}; // name -> promise

  course.data = {};
  course.files = {}; // name -> bytes, filled by data/index.js

  // The data of this name, from data/NAME.js beside this script.
  course.load = (name) => {
    loading[name] ??= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = new URL(`data/${name}.js`, here).href;
      script.onload = () => resolve(course.data[name]);
      script.onerror = () => {
        delete loading[name]; // the reader may try again
        reject(new Error(`data/${name}.js could not be loaded.`));
      };
      document.head.append(script);
    });
    return loading[name];
  };

  // The model and the tokenizer of this name; `say` gets a sentence while they load.
  course.loadModel = async (name, Model, say) => {
    say(`Loading the model (${((course.files[name] ?? 0) / 1e6).toFixed(1)} MB) …`);
    const parts = [course.load(name), course.load(`${name}-tokenizer`)];
    const [weights, vocabulary] = await Promise.all(parts);
    await new Promise((resolve) => setTimeout(resolve)); // let the page draw before the work
    return [new Model(weights), new course.bpe.Tokenizer(vocabulary)];
  };

  // Build every widget of a kind in this page: `build` gets the element and returns nothing.
  // What stands in it is the fallback; it stays for print.
  course.widget = (kind, build) => {
    const start = () => {
      for (const root of document.querySelectorAll(`.course-widget[data-widget="${kind}"]`)) {
        if (root.dataset.ready) continue;
        const fallback = document.createElement("div");
        fallback.className = "course-widget-fallback";
        fallback.append(...root.childNodes);
        const live = document.createElement("div");
        live.className = "course-widget-live";
        root.append(fallback, live);
        build(live, root.dataset);
        root.dataset.ready = "yes";
      }
    };
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
    else start();
  };

  // Call `start` once, as soon as the element is on the screen or near it: who does not scroll that
  // far loads nothing.
  course.whenNear = (element, start) => {
    const observer = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      observer.disconnect();
      start();
    }, { rootMargin: "400px" });
    observer.observe(element);
  };

  // <tag name=value ...>children</tag>. `class`, `text` and `on...` are what they are called.
  course.element = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (name === "text") element.textContent = value;
      else if (value === true) element.setAttribute(name, "");
      else if (value !== false && value !== null) element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  };
})();
