// A part of the page that scrolls sideways can be reached with the Tab key and scrolled with arrows.
// The theme does this for code and outputs, but not when they are folded out.
(() => {
    const parts = {
        ".formula": "Formula",
        ".pst-scrollable-table-container": "Table",
    };

    function update() {
        for (const [selector, name] of Object.entries(parts)) {
            for (const part of document.querySelectorAll(selector)) {
                if (part.scrollWidth > part.clientWidth) {
                    part.tabIndex = 0;
                    part.setAttribute("role", "group");
                    part.setAttribute("aria-label", name);
                } else {
                    part.removeAttribute("role");
                    part.removeAttribute("aria-label");
                    // The keyboard still gets to a formula that says what its symbols are.
                    if (!part.querySelector("math [class*='sym-']")) part.removeAttribute("tabindex");
                }
            }
        }
    }

    function foldedOut(event) {
        for (const code of event.target.querySelectorAll("pre")) {
            const scrolls = code.scrollWidth > code.clientWidth || code.scrollHeight > code.clientHeight;
            code.tabIndex = scrolls ? 0 : -1;
        }
        update();
    }

    document.addEventListener("DOMContentLoaded", update);
    window.addEventListener("load", update); // fonts change widths
    window.addEventListener("resize", update);
    document.addEventListener("toggle", foldedOut, true); // what was folded away has a width now
})();

// Browsers print no grounds, so a dark page would be light letters on white paper.
(() => {
    const page = document.documentElement;
    let theme = null;

    window.addEventListener("beforeprint", () => {
        theme ??= page.dataset.theme;
        page.dataset.theme = "light";
    });
    window.addEventListener("afterprint", () => {
        page.dataset.theme = theme ?? page.dataset.theme;
        theme = null;
    });
})();

// The theme takes the focus from a button that was pressed; who goes by keyboard would start anew.
document.addEventListener("DOMContentLoaded", () => {
    for (const button of document.querySelectorAll(".bd-header-article .btn")) {
        button.addEventListener("click", () => setTimeout(() => button.focus()));
    }
});
