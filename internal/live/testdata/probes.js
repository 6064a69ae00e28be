// What the browser tests ask of the page. They are put into it as they are;
// those that look for faults return a list of sentences.

const shown = (n) => n.getAttribute("display") !== "none";
const rows = () => [...document.querySelectorAll(".row")].filter(shown);
const rowsDone = () => rows().filter((r) => r.getAttribute("data-end")).length;
const results = () => rows().map((r) => r.querySelector(".result").textContent);
const counted = (name) => Number(document.querySelector(`[data-counter="${name}"]`).dataset.value);
const card = (i) => document.querySelector(`[data-index="${i}"]`).dataset;
const pooled = (name) =>
  [...document.querySelectorAll(".pool")].reduce((sum, n) => sum + Number(n.dataset[name]), 0);
const marks = (kind) => [...document.querySelectorAll(`.mark.${kind}`)].filter(shown).length;
const numbers = () =>
  [...document.querySelectorAll(".number-of")].filter(shown).map((n) => n.textContent).join(" ");
const tries = () =>
  [...document.querySelectorAll("#tries li")]
    .filter((n) => !n.hidden)
    .map((n) => n.textContent)
    .join("\n");
window.checks = { ok: 0, failed: 0 };
const checksSeen = () => {
  for (const n of [...document.querySelectorAll(".check")].filter(shown))
    window.checks[n.classList.contains("failed") ? "failed" : "ok"]++;
  return [];
};
const backendIs = (addr, want) => {
  const { dataset } = document.querySelector(`[data-backend="${addr}"]`);
  return Object.entries(want).every(([name, value]) => dataset[name] === value);
};
const pressNow = (key, shiftKey = false) =>
  document.body.dispatchEvent(new KeyboardEvent("keydown", { key, shiftKey, bubbles: true }));
const twoFrames = () =>
  new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))));

// axisSettles says whether twenty frames in a row show the same time axis.
async function axisSettles() {
  let last = "";
  for (let i = 0, same = 0; i < 600; i++) {
    await new Promise(requestAnimationFrame);
    const ticks = [...document.querySelectorAll(".axis text")].filter((n) => shown(n.parentNode));
    const axis = ticks.map((n) => `${n.textContent}@${n.getAttribute("x")}`).join(" ");
    same = axis === last ? same + 1 : 0;
    last = axis;
    if (same === 20) return true;
  }
  return false;
}

function lanes() {
  return rows().map((r) => {
    const d = (n) => r.getAttribute("data-" + n) ?? "";
    const child = r.querySelector(".child"),
      bars = [...r.querySelectorAll(".bar[data-phase]")].filter(shown);
    return {
      Conn: d("conn"),
      Worker: d("worker"),
      Backend: d("backend"),
      Status: d("status"),
      Failed: d("failed"),
      Start: d("start"),
      Accepted: d("accepted"),
      End: d("end"),
      Child: shown(child) ? [child.getAttribute("data-from"), child.getAttribute("data-to")] : null,
      Phases: bars.map((b) => b.getAttribute("data-phase")),
    };
  });
}

// eachFrame collects what probes find in each frame, until ended is called.
function eachFrame(...probes) {
  const watch = (window.watch = { faults: new Set(), frames: 0, ended: false });
  const look = () => {
    if (watch.ended) return;
    watch.frames++;
    for (const probe of probes) for (const fault of probe()) watch.faults.add(fault);
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}

function ended() {
  window.watch.ended = true;
  return { Faults: [...window.watch.faults].slice(0, 10) };
}

// sameConnection: the steps are those of the lane that is marked.
function sameConnection() {
  const conn = document.querySelector("#steps").dataset.conn;
  const marked = rows()
    .filter((r) => r.classList.contains("selected"))
    .map((r) => r.getAttribute("data-conn"));
  return conn && marked.join() !== conn ? [`the steps are of #${conn}, marked is #${marked}`] : [];
}

// dotsAndLanes: a dot stands where its lane says that the request is, and in a
// program that serves one client at a time at most one is being served.
function dotsAndLanes() {
  const places = {
    starting: ["proxy"],
    reading: ["proxy"],
    connecting: ["link"],
    forwarding: ["link"],
    waiting: ["backend"],
    sending: ["reply", "home"],
    closing: ["home"],
  };
  const faults = [];
  const dots = [...document.querySelectorAll(".dot")].filter(shown);
  for (const dot of dots) {
    const conn = dot.getAttribute("data-conn"),
      place = dot.getAttribute("data-place");
    const row = conn && rows().find((r) => r.getAttribute("data-conn") === conn);
    const bars = row ? [...row.querySelectorAll(".bar[data-phase]")].filter(shown) : [];
    const phase = bars.at(-1)?.getAttribute("data-phase");
    if (places[phase] && !places[phase].includes(place))
      faults.push(`a dot is at ${place}, its lane says ${phase}`);
  }
  const served = dots.filter((n) => n.getAttribute("data-place") !== "queue").length;
  if (document.querySelector("#model").textContent === "one client at a time" && served > 1)
    faults.push(`${served} dots are served at a time`);
  return faults;
}

// layoutFaults lists elements that stick out of the window, text that is cut
// off where it must not be, and buttons that overlap.
function layoutFaults() {
  const faults = [],
    name = (n) => n.id || n.textContent.trim().slice(0, 20) || n.className;
  const inside = (r, h) =>
    r.left > h.left - 1 && r.top > h.top - 1 && r.right < h.right + 1 && r.bottom < h.bottom + 1;
  const boxes = [
    ...document.querySelectorAll(
      "button, select, section, article, h1, h2, dd, dt, footer, #step-list li, .legend li",
    ),
  ].filter((n) => n.offsetParent !== null && !n.closest("dialog"));
  const screen = { left: 0, top: 0, right: innerWidth, bottom: innerHeight };
  for (const n of boxes) {
    const r = n.getBoundingClientRect(),
      home = n.closest("section");
    if (!inside(r, screen)) faults.push(`${name(n)} sticks out of the window`);
    if (
      n.matches("button, h1, h2, dd, dt, article, .legend li") &&
      n.scrollWidth > n.clientWidth + 1
    )
      faults.push(`${name(n)} is cut off`);
    if (home && home !== n && !inside(r, home.getBoundingClientRect()))
      faults.push(`${name(n)} sticks out of its panel`);
  }
  const alone = boxes.filter((n) => n.matches("button, select, dd, dt, h1"));
  alone.forEach((a, i) =>
    alone.slice(i + 1).forEach((b) => {
      if (meet(a.getBoundingClientRect(), b.getBoundingClientRect()))
        faults.push(`${name(a)} overlaps ${name(b)}`);
    }),
  );
  return faults;
}

const meet = (r, s) =>
  r.right > s.left + 1 && s.right > r.left + 1 && r.bottom > s.top + 1 && s.bottom > r.top + 1;

// linesOf counts the lines of an element's text.
function linesOf(n) {
  const all = document.createRange();
  all.selectNodeContents(n);
  return new Set([...all.getClientRects()].map((r) => Math.round(r.top))).size;
}

// covered lists texts that are cut off or broken and dots that lie on a text.
function covered() {
  const faults = [];
  const texts = [
    ...document.querySelectorAll(
      "#flow h2, #flow p, #workers li, .card .text, #model, #chapter, #steps-title, " +
        "#steps-request, #tries, .name, #step-list .time, .calls, #message, .legend li",
    ),
  ].filter((n) => n.offsetParent !== null && n.textContent);
  for (const n of texts) {
    const wide = n.scrollWidth > n.clientWidth + 1 && n.clientWidth > 0;
    if (
      wide ||
      (n.matches(".calls, #message") && n.scrollHeight > n.clientHeight + 1 && n.clientHeight > 0)
    )
      faults.push(`${n.id || n.className || n.tagName} is cut off: ${n.textContent.slice(0, 30)}`);
  }
  const workers = document.querySelector("#workers"),
    end = workers.getBoundingClientRect().bottom;
  for (const n of [...workers.children].filter((n) => n.offsetParent !== null)) {
    if (n.getBoundingClientRect().bottom > end + 1)
      faults.push(`a worker is cut off: ${n.textContent}`);
    if (linesOf(n) > 1) faults.push(`a worker takes two lines: ${n.textContent}`);
  }
  const proxy = document.querySelector("#proxy-name");
  if (linesOf(proxy) > 1) faults.push(`a name takes two lines: ${proxy.textContent}`);
  const boxes = texts
    .filter((n) => n.closest("#flow"))
    .map((n) => [n.textContent.slice(0, 20), n.getBoundingClientRect()]);
  for (const dot of [...document.querySelectorAll(".dot")].filter(shown)) {
    const r = dot.querySelector("circle").getBoundingClientRect();
    for (const [text, box] of boxes)
      if (meet(r, box)) faults.push(`a dot (${dot.getAttribute("data-place")}) lies on ${text}`);
  }
  return faults;
}

// crowded lists backends that are cut off, texts of the lanes that lie over one
// another, and numbers that stick out of their dots.
function crowded() {
  const faults = [];
  for (const n of document.querySelectorAll(".card")) {
    if (n.getClientRects().length === 0) continue;
    const panel = n.closest("section").getBoundingClientRect();
    if (n.getBoundingClientRect().bottom > panel.bottom)
      faults.push(`${n.dataset.backend} sticks out of its panel`);
  }
  const box = (n) => n.getBoundingClientRect();
  const ends = [...document.querySelectorAll(".link")].filter(shown).slice(1).map(box);
  [...document.querySelectorAll(".card .dock")].forEach((dock, i) => {
    const r = box(dock),
      end = ends[i];
    if (end && r.height && (end.bottom < r.top || end.top > r.bottom))
      faults.push(`the line to backend ${i} ends beside its card`);
  });
  for (const row of rows()) {
    const texts = [...row.querySelectorAll(".id, .worker, .result, .bar")].filter(
      (n) => shown(n) && box(n).width > 0,
    );
    texts.forEach((a, i) =>
      texts.slice(i + 1).forEach((b) => {
        if (a.matches("text") && meet(box(a), box(b)))
          faults.push(`${a.textContent} lies on ${b.textContent || "a bar"}`);
      }),
    );
  }
  for (const dot of [...document.querySelectorAll(".dot")].filter(shown)) {
    const wide = box(dot.querySelector("text")).width - box(dot.querySelector("circle")).width;
    if (wide > 1) faults.push(`${dot.textContent} is wider than its dot`);
  }
  return faults;
}

// contrast lists texts and coloured bars that have less contrast with what they
// stand on than WCAG's AA asks for.
function contrast() {
  const faults = [];
  const check = (what, ratio, least) => {
    if (ratio < least) faults.push(`${what}: ${ratio.toFixed(2)} of ${least}`);
  };
  for (const n of document.querySelectorAll("body *")) {
    const svg = n instanceof SVGElement;
    if (
      n.closest("dialog, option") ||
      (svg ? n.closest("[display=none]") : n.offsetParent === null)
    )
      continue;
    if (![...n.childNodes].some((c) => c.nodeType === 3 && c.data.trim())) continue;
    const style = getComputedStyle(n),
      size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.7 && style.fontWeight >= 700);
    const under =
      n.closest(".dot")?.querySelector("circle") ?? n.closest(".row")?.querySelector(".back");
    const fill = under && getComputedStyle(under).fill;
    const back = fill && rgba(fill)[3] > 200 ? fill : ground(svg ? n.closest("section") : n);
    const name = `${n.id || n.getAttribute("class") || n.tagName} “${n.textContent.slice(0, 12)}”`;
    check(name, ratio(svg ? style.fill : style.color, back), large ? 3 : 4.5);
  }
  const panel = ground(document.querySelector("#lanes"));
  for (const n of document.querySelectorAll(".bar:not(.closing), .dot circle, .legend i")) {
    const style = getComputedStyle(n),
      [edge, inner] = n.matches("i")
        ? [style.borderColor, style.backgroundColor]
        : [style.stroke, style.fill];
    const best = Math.max(ratio(edge, panel), rgba(inner)[3] > 200 ? ratio(inner, panel) : 0);
    check(n.getAttribute("class") ?? "dot", best, 3);
  }
  return faults;
}

const known = new Map();
const pixel = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext(
  "2d",
  { willReadFrequently: true },
);

function rgba(colour) {
  if (!known.has(colour)) {
    pixel.clearRect(0, 0, 1, 1);
    pixel.fillStyle = colour;
    pixel.fillRect(0, 0, 1, 1);
    known.set(colour, [...pixel.getImageData(0, 0, 1, 1).data]);
  }
  return known.get(colour);
}

function ratio(a, b) {
  const light = (colour) => {
    const [r, g, b] = rgba(colour).map((v) =>
      (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4,
    );
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
  return (x + 0.05) / (y + 0.05);
}

function ground(n) {
  for (; n; n = n.parentElement) {
    const colour = getComputedStyle(n).backgroundColor;
    if (rgba(colour)[3] > 200) return colour;
  }
  return "white";
}
