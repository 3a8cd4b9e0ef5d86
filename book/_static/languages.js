// The switch between languages keeps the place: the sections of a page have the same ids in each,
// and a search the same query.
document.addEventListener("click", (event) => {
  const link = event.target.closest(".course-languages a");
  if (link) {
    link.hash = location.hash;
    link.search = location.search;
  }
}, true);
