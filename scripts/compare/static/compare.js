// Two live pages side by side. A key that is pressed here, or in one of them, is
// pressed in both, and both have the same time axis.

const frames = [...document.querySelectorAll("iframe")];

// press presses a key in the given frames.
function press(where, key, shiftKey = false) {
  for (const { contentDocument: page } of where)
    page.body.dispatchEvent(new KeyboardEvent("keydown", { key, shiftKey, bubbles: true }));
}

// listen takes keys that people press in a page, on their way to the given frames.
const heard = new WeakSet();
function listen(page, where) {
  if (heard.has(page)) return;
  heard.add(page);
  page.addEventListener("keydown", (e) => {
    if (!e.isTrusted || e.ctrlKey || e.metaKey || e.altKey || e.key === "Tab") return;
    if (e.target.matches("button") && (e.key === " " || e.key === "Enter")) return; // presses it
    press(where, e.key, e.shiftKey);
    if (page === document) e.preventDefault();
  });
}

listen(document, frames);
for (const button of document.querySelectorAll("button"))
  button.addEventListener("click", () => press(frames, button.dataset.key));

// each frame: both pages are listened to, and get the wider of the axes that they want.
function tie() {
  requestAnimationFrame(tie);
  const pages = frames.map((f) => f.contentDocument);
  if (!pages.every((page) => page?.documentElement)) return; // one is being loaded
  const { theme } = pages[0].documentElement.dataset;
  document.documentElement.style.colorScheme = theme === "auto" ? "" : theme;
  pages.forEach((page, i) => listen(page, [frames[1 - i]]));
  const wanted = pages.map((page) => Number(page.querySelector("#lanes")?.dataset.wanted ?? 0));
  for (const page of pages) page.documentElement.dataset.least = Math.max(...wanted);
}
tie();
