"use strict";
// The slides' script. It cuts what is too long for a slide into several, shows one, and
// goes from one to the next by keys. The number of the slide is the address's hash, so
// that a link leads to a slide, and Back to the one before. It loads nothing.
(() => {
  const root = document.documentElement;
  const keep = (key, value) => { try { localStorage.setItem("reader-" + key, value); } catch { /* not kept */ } };
  const kept = (key) => { try { return localStorage.getItem("reader-" + key); } catch { return null; } };
  const theme = kept("theme");
  if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  const toggleTheme = () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    keep("theme", root.dataset.theme);
  };

  // What may be cut between two of its children: code, lists, rows of a table.
  const divisible = "pre, pre code, ul, ol, tbody, table, .scroll, .lines, .part, .column, .columns";
  const least = 4; // lines or rows: fewer are not left behind

  // split moves what stands below a line on the screen from a box to an empty copy of it. It says
  // whether something stays behind.
  const split = (from, to, limit) => {
    if (from.matches(".columns")) {
      for (const column of Array.from(from.children)) {
        const rest = to.appendChild(column.cloneNode(false));
        if (column.getBoundingClientRect().bottom > limit) split(column, rest, limit);
        for (const e of [column, rest]) if (!e.children.length) e.remove();
      }
      return true;
    }
    const children = Array.from(from.children);
    const bottom = (e) => e.getBoundingClientRect().bottom;
    let cut = children.findIndex((e) => bottom(e) > limit);
    if (cut < 0) cut = children.length;
    const child = children[cut];
    const inside = child && limit - 12 - (parseFloat(getComputedStyle(child).paddingBottom) || 0);
    if (child && child.matches(divisible)) {
      const rows = child.querySelectorAll(".line, .ln, li, tbody tr");
      const fit = Array.from(rows).filter((e) => bottom(e) <= inside).length;
      if (fit >= Math.min(least, rows.length - 1) && fit > 0 || fit > 0 && (cut === 0 || from.matches("table, .part"))) {
        const rest = to.appendChild(child.cloneNode(false));
        rest.removeAttribute("id");
        if (child.tagName === "OL") rest.start = (child.start || 1) + Array.from(child.children).filter((e) => bottom(e) <= inside).length;
        if (child.tagName === "TABLE") for (const e of child.querySelectorAll("thead")) rest.append(e.cloneNode(true));
        split(child, rest, inside);
        cut++;
      }
    }
    // What leads to the next thing goes with it.
    const leads = (e) => e.matches("h3") || e.matches("p") && e.textContent.trim().endsWith(":") || e.matches("aside");
    let keepWith = cut;
    while (keepWith > 0 && cut < children.length && !to.children.length && leads(children[keepWith - 1])) keepWith--;
    if (keepWith > 0) cut = keepWith;
    to.append(...children.slice(cut));
    return cut > 0;
  };

  const pack = (slide) => {
    const body = slide.querySelector(".body");
    const fits = () => body.scrollHeight <= body.clientHeight + 1;
    if (fits()) return;
    slide.classList.add("tight");
    if (fits()) return;
    slide.classList.remove("tight");
    const next = slide.cloneNode(false);
    next.removeAttribute("id");
    const heading = slide.querySelector("h2, h1").cloneNode(true);
    if (!heading.querySelector(".more")) heading.insertAdjacentHTML("beforeend", ' <span class="more">continued</span>');
    const rest = document.createElement("div");
    rest.className = "body";
    const units = (box) => box.querySelectorAll("tbody tr, .line, .ln, li, p, img, svg").length;
    const whole = units(body);
    const stays = split(body, rest, body.getBoundingClientRect().bottom);
    if (!stays || units(rest) >= whole) { // one thing that is too high
      console.warn("too high: " + heading.textContent);
      body.replaceChildren(...rest.children);
      return;
    }
    for (const e of body.querySelectorAll(".part, .lines")) if (!e.children.length) e.remove();
    next.append(heading, rest);
    slide.after(next);
  };

  let all = [];
  let at = 0;
  const fit = () => {
    const [width, height] = [1024, 768];
    const zoom = Math.min(innerWidth / width, innerHeight / height);
    root.style.setProperty("--zoom", String(zoom));
    root.style.setProperty("--x", (innerWidth - width * zoom) / 2 + "px");
    root.style.setProperty("--y", (innerHeight - height * zoom) / 2 + "px");
  };
  const showNotes = (on) => {
    const panel = document.getElementById("notes");
    panel.replaceChildren(...Array.from(all[at].querySelectorAll("aside.note > *"), (e) => e.cloneNode(true)));
    if (!panel.children.length) panel.textContent = "No notes.";
    panel.hidden = !on;
    document.getElementById("say").setAttribute("aria-expanded", String(on));
  };
  const show = (index) => {
    at = Math.min(Math.max(index, 0), all.length - 1);
    all.forEach((slide, i) => { slide.hidden = i !== at; });
    document.getElementById("at").textContent = `${at + 1} / ${all.length}`;
    document.getElementById("back").disabled = at === 0;
    document.getElementById("on").disabled = at === all.length - 1;
    showNotes(!document.getElementById("notes").hidden);
    scrollTo(0, 0);
    if (document.activeElement === document.body || document.activeElement.closest(".slide")) all[at].focus({ preventScroll: true });
  };
  // go shows a slide and enters it in the tab's history.
  const go = (index) => {
    const to = Math.min(Math.max(index, 0), all.length - 1);
    if (to === at) return;
    history.pushState(null, "", "#" + (to + 1));
    show(to);
  };
  // goHash shows the slide that the hash names: by number, or by the name of its heading.
  const goHash = () => {
    const hash = decodeURIComponent(location.hash.slice(1));
    const named = all.findIndex((slide) => hash && slide.id === hash);
    if (named >= 0) history.replaceState(null, "", "#" + (named + 1));
    show(named >= 0 ? named : (Number.parseInt(hash, 10) || 1) - 1);
  };

  const onKey = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const button = event.target.closest("button, a");
    if (button && (event.key === " " || event.key === "Enter")) return; // it is pressed
    const panel = event.target.closest("#notes");
    if (panel && /^(Arrow|Page|Home|End)/.test(event.key)) return; // it scrolls
    const key = event.key === " " && event.shiftKey ? "PageUp" : event.key;
    if (["ArrowRight", "ArrowDown", "PageDown", " ", "Enter", "j"].includes(key)) go(at + 1);
    else if (["ArrowLeft", "ArrowUp", "PageUp", "Backspace", "k"].includes(key)) go(at - 1);
    else if (key === "Home") go(0);
    else if (key === "End") go(all.length - 1);
    else if (key === "n" || key === "N") showNotes(document.getElementById("notes").hidden);
    else if (key === "Escape") showNotes(false);
    else if (key === "t") toggleTheme();
    else if (key === "f" && document.fullscreenElement) document.exitFullscreen();
    else if (key === "f") root.requestFullscreen();
    else return;
    event.preventDefault();
  };

  addEventListener("load", () => { // when the pictures have their size
    const deck = document.getElementById("deck");
    if (!deck) return; // the list of them
    document.addEventListener("keydown", onKey);
    document.body.classList.add("packing");
    for (let slide = deck.firstElementChild; slide; slide = slide.nextElementSibling) pack(slide);
    document.body.classList.remove("packing");
    all = Array.from(deck.children);
    all.forEach((slide, i) => {
      slide.tabIndex = -1;
      slide.setAttribute("role", "group");
      slide.setAttribute("aria-label", `Slide ${i + 1} of ${all.length}`);
    });
    document.getElementById("back").addEventListener("click", () => go(at - 1));
    document.getElementById("on").addEventListener("click", () => go(at + 1));
    document.getElementById("say").addEventListener("click", () => showNotes(document.getElementById("notes").hidden));
    document.getElementById("theme").addEventListener("click", toggleTheme);
    fit();
    addEventListener("resize", fit);
    goHash();
    addEventListener("hashchange", goHash);
    addEventListener("popstate", goHash);
    // Paper is white.
    let before;
    addEventListener("beforeprint", () => { before = root.dataset.theme; root.dataset.theme = "light"; });
    addEventListener("afterprint", () => { if (before) root.dataset.theme = before; else delete root.dataset.theme; });
    root.dataset.ready = "yes";
  });
})();
