// The search cuts its excerpts out of whole pages. They must show no hint and no solution: what is
// folded under an exercise is taken out first, and a page of solutions is listed without an excerpt.
"use strict";

(function () {
  if (typeof Search === "undefined" || !Search.htmlToText) {
    return;
  }
  const htmlToText = Search.htmlToText;
  Search.htmlToText = function (html, anchor) {
    const page = new DOMParser().parseFromString(html, "text/html");
    const title = page.querySelector("h1");
    if (title && title.textContent.trim().startsWith("Solutions:")) {
      return "";
    }
    page.querySelectorAll(".exercise-aside").forEach(function (aside) {
      aside.remove();
    });
    return htmlToText(page.documentElement.outerHTML, anchor);
  };
})();
