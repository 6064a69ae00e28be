"use strict";
// The reader's script: theme and size of text, the step under the pointer lit on
// all sides, the kernel column folded, unchanged lines shown. It loads nothing.
(() => {
  const root = document.documentElement;
  const keep = (key, value) => { try { localStorage.setItem("reader-" + key, value); } catch { /* not kept */ } };
  const kept = (key) => { try { return localStorage.getItem("reader-" + key); } catch { return null; } };

  // Theme and size first, before anything is drawn.
  const theme = kept("theme");
  if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  let scale = Math.min(Math.max(Number(kept("scale")) || 1, 0.7), 1.6);
  const applyScale = () => root.style.setProperty("--scale", String(scale));
  applyScale();

  const toggleTheme = () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    keep("theme", root.dataset.theme);
  };
  const resize = (by) => {
    scale = Math.min(Math.max(Math.round((scale + by) * 10) / 10, 0.7), 1.6);
    applyScale();
    keep("scale", String(scale));
  };

  // Side by side: a row is lit on all sides.
  const cells = () => Array.from(document.querySelectorAll(".cell[data-rows]"));
  const rowsOf = (cell) => cell.dataset.rows.split(" ");
  let order = [];
  let current = -1;
  const light = (rows) => {
    for (const cell of cells()) cell.classList.toggle("lit", rowsOf(cell).some((r) => rows.includes(r)));
    if (rows.length) current = order.findIndex((r) => r.split(" ").includes(rows[0]));
  };
  // When a key scrolls the page, another row comes under the pointer: until the pointer itself
  // moves, or the wheel does, the row that the key chose stays lit.
  let pinned = false;
  let pointer = [NaN, NaN];
  const enter = (event, cell) => {
    if (pinned && event.screenX === pointer[0] && event.screenY === pointer[1]) return;
    light(rowsOf(cell));
  };
  const move = (event) => {
    if (event.screenX !== pointer[0] || event.screenY !== pointer[1]) pinned = false;
    pointer = [event.screenX, event.screenY];
  };
  const go = (index) => {
    if (!order.length) return;
    pinned = true;
    current = Math.min(Math.max(index, 0), order.length - 1);
    const rows = order[current].split(" "); // several, where Go stands beside Go
    const target = document.getElementById("step-" + rows[0]);
    target.focus({ preventScroll: true });
    light(rows);
    target.scrollIntoView({ block: "start" });
    history.replaceState(null, "", "#" + target.id); // Back returns to this step
  };
  const goHash = () => {
    const index = order.findIndex((rows) => rows.split(" ")[0] === location.hash.replace("#step-", ""));
    if (index >= 0) go(index);
  };

  const setFold = (folded) => {
    const side = document.getElementById("side");
    if (!side) return;
    const lit = side.querySelector(".cell.c.lit");
    const before = lit && lit.getBoundingClientRect().top;
    side.classList.toggle("folded", folded);
    if (lit) scrollBy(0, lit.getBoundingClientRect().top - before); // the lit step stays where it is
    const button = document.getElementById("fold");
    button.setAttribute("aria-expanded", String(!folded));
    button.textContent = folded ? "⇤ kernel" : "fold ⇥";
    keep("fold", folded ? "yes" : "no");
  };
  const folded = () => document.getElementById("side").classList.contains("folded");

  const turn = (rel) => {
    const link = document.querySelector(`.turn a[rel="${rel}"]`);
    if (link) link.click();
  };

  const onKey = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) return;
    const side = document.getElementById("side");
    const step = side && /^[0-9]$/.test(event.key) ? order.findIndex((rows) => rows.split(" ").includes(event.key === "0" ? "10" : event.key)) : -1;
    if (step >= 0) go(step);
    else if (side && (event.key === "j" || event.key === "ArrowDown")) go(current + 1);
    else if (side && (event.key === "k" || event.key === "ArrowUp")) go(current - 1);
    else if (side && event.key === "x") setFold(!folded());
    else if (side && event.key === "Escape") light([]);
    else if (event.key === "t") toggleTheme();
    else if (event.key === "+" || event.key === "=") resize(0.1);
    else if (event.key === "-") resize(-0.1);
    else if (event.key === "[") turn("prev");
    else if (event.key === "]") turn("next");
    else return;
    event.preventDefault();
  };

  document.addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme").addEventListener("click", toggleTheme);
    document.getElementById("smaller").addEventListener("click", () => resize(-0.1));
    document.getElementById("larger").addEventListener("click", () => resize(0.1));
    document.addEventListener("keydown", onKey);
    const side = document.getElementById("side");
    if (side) {
      order = Array.from(side.querySelectorAll(".cell.c[data-rows]"), (cell) => cell.dataset.rows);
      for (const cell of cells()) {
        cell.addEventListener("pointerenter", (event) => enter(event, cell));
        cell.addEventListener("focus", () => light(rowsOf(cell)));
      }
      document.addEventListener("pointermove", move);
      document.addEventListener("wheel", () => { pinned = false; }, { passive: true });
      document.getElementById("fold").addEventListener("click", () => setFold(!folded()));
      if (kept("fold") === "yes") setFold(true);
      goHash();
      addEventListener("hashchange", goHash);
    }
    const all = document.getElementById("all");
    if (all) {
      all.addEventListener("click", () => {
        const on = document.getElementById("diff").classList.toggle("all");
        all.setAttribute("aria-pressed", String(on));
        all.textContent = on ? "changes only" : "all lines";
      });
    }
  });
})();
