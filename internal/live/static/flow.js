// The flow: clients on the left, the proxy, the backends on the right. A dot
// is one real request; it stands where the proxy says that it is. What is too
// fast to be seen a faded ghost shows, which travels after it.

import { $, count, el, micros, plural, pool, say, sayInOneLine, set, svgEl } from "./dom.js";

const MAX_DOTS = 160;
const SQUARES = 8; // connections of a backend that are drawn
const CHECK = 7e5; // microseconds that a health check is seen, there and back
const REASONS = 2; // why others were closed, the most frequent ones
const MAX_GHOSTS = 40;
const MAX_CHIPS = 6;
const NUMBERED = 24; // up to so many dots carry their connection's number
const SETTLE = 70; // milliseconds in which a ghost covers most of its way
const REAPED_FOR = 1.5e6; // microseconds that an ended child stays visible

const still = matchMedia("(prefers-reduced-motion: reduce)");

export class Flow {
  constructor(root, store, act) {
    this.root = root;
    this.stage = $(".stage", root);
    this.proxy = $(".proxy", root);
    this.clients = $(".clients", root);
    this.list = $("#backends");
    this.act = act;
    this.cards = new Map(); // by address
    const layer = () => this.stage.appendChild(svgEl("g"));
    this.links = pool(layer(), () => svgEl("path", { class: "link" }));
    this.queueLabel = svgEl("text", { class: "queue-label", "text-anchor": "middle" });
    this.stage.append(this.queueLabel);
    this.ghosts = new Map(); // lane -> its ghost's {x, y}
    this.ghostNodes = pool(layer(), () => svgEl("circle"));
    this.checks = pool(layer(), () => svgEl("circle"));
    this.dots = pool(layer(), newDot);
    this.chips = pool($("#workers"), () => el("li"));
    this.budget = $("#budget");
    this.level = svgEl("rect", { height: 10 });
    $(".bucket", root).append(this.level, svgEl("path", { class: "half", d: "M50 0V10" }));
    this.last = performance.now();
    const resized = new ResizeObserver(() => (this.geometry = null));
    resized.observe(root);
    resized.observe(this.list); // cards grow with what they say
    this.reset(store);
  }

  reset(store) {
    this.store = store;
    this.ghosts.clear();
    this.list.replaceChildren();
    this.cards.clear();
    delete this.root.dataset.health;
    this.geometry = null;
  }

  draw(t) {
    const counts = this.store.snapshotAt(t);
    if (counts) this.drawBackends(counts);
    if (counts) this.drawBudget(counts);
    this.drawWorkers(t);
    this.geometry ??= this.measure();
    this.drawChecks(t);
    this.drawDots(t);
  }

  drawBackends(counts) {
    counts.backends.forEach((b, i) => {
      let card = this.cards.get(b.addr);
      if (!card) {
        card = this.newCard(b.addr, i);
        this.cards.set(b.addr, card);
        this.list.append(card.root);
        this.geometry = null;
      }
      set(card.root, "data-requests", b.requests);
      set(card.root, "data-in-flight", b.inFlight);
      set(card.root, "data-failures", b.failures);
      set(card.root, "data-running", b.running);
      say(card.requests, count(b.requests));
      say(card.requestsLabel, plural(b.requests, "request"));
      say(card.inFlight, count(b.inFlight));
      say(card.failures, count(b.failures));
      set(card.failures, "class", b.failures ? "bad" : null);
      say(card.p50, b.p50 ? micros(b.p50) : "–");
      say(card.p99, b.p99 ? micros(b.p99) : "–");
      this.drawHealth(card, b, counts.drains, i);
      this.drawPool(card, b.pool, b.health);
      if (card.button) {
        say(card.button, b.running ? "Stop" : "Start");
        set(card.button, "data-backend-action", b.running ? "stop" : "start");
      }
    });
  }

  // drawHealth says how a backend is, and has the button that drains it.
  drawHealth(card, { running, health }, drains, index) {
    if (health && !this.root.dataset.health) {
      this.root.dataset.health = "true"; // cards are wider then
      this.geometry = null;
    }
    if (health && !card.root.dataset.health) $(".figures", card.root).append(card.state);
    // Until something else is known of it, it counts as up, also if it is stopped.
    const state = health && (health.state || "up");
    set(card.root, "data-health", state);
    say(card.state, state ?? (running ? "" : "stopped"));
    set(card.state, "title", health?.why ? `since ${health.why}` : null);
    if (!drains || !this.act) return;
    if (!card.drain) {
      card.drain = el("button", { type: "button", "data-drain": index });
      card.drain.addEventListener("click", () =>
        this.act("drain", { what: card.drain.textContent.toLowerCase(), backend: index }),
      );
      card.title.append(card.drain);
    }
    say(card.drain, health?.state === "draining" ? "Resume" : "Drain");
  }

  // drawChecks draws each health check as a dot that goes to its backend and back.
  // Most take too little time to be seen; the dot is slow enough.
  drawChecks(t) {
    const { proxy, cards, unit } = this.geometry;
    let n = 0;
    for (const e of this.store.checks) {
      const dock = cards.get(e.peer),
        done = (t - e.t + e.us) / Math.max(CHECK, e.us);
      if (!dock || done < 0 || done > 1) continue;
      const there = still.matches ? 1 : 1 - Math.abs(2 * done - 1);
      const dot = this.checks.at(n++);
      set(dot, "class", e.err && done > 0.5 ? "check failed" : "check");
      set(dot, "cx", (proxy.right + (dock.left - proxy.right) * there).toFixed(1));
      set(dot, "cy", (proxy.y + (dock.y - proxy.y) * there).toFixed(1));
      set(dot, "r", (0.5 * unit).toFixed(1));
    }
    this.checks.hideFrom(n);
  }

  // drawBudget draws the bucket of tokens for further tries, with a line at the
  // half, below which there are none; and says what else goes for all backends.
  drawBudget({ budget, retries, mode, waiting }) {
    const text = retries ? [`${count(retries)} tried again`] : [];
    const low = budget && budget.level <= budget.full / 2;
    set(this.budget, "data-low", low);
    set(this.budget, "data-level", budget?.level);
    if (budget) {
      const { level, full } = budget;
      set(this.level, "width", (100 * level) / full);
      text.unshift(`retry budget ${+level.toFixed(1)} of ${full}`);
      if (low) text.push("further tries withheld");
    }
    if (mode) text.push(mode);
    if (waiting) text.push(`${count(waiting)} ${waiting === 1 ? "waits" : "wait"} for a backend`);
    set(this.budget, "data-mode", mode);
    set(this.budget, "hidden", text.length ? null : "");
    set(this.level.parentNode, "hidden", budget ? null : "");
    say($("p", this.budget), text.join(" · "));
  }

  // drawPool draws a backend's connections: a full square for one in use, an empty
  // one for one that is idle; and says why others were closed.
  drawPool(card, p, health) {
    card.pool.hidden = card.ends.hidden = !p;
    if (!p) return;
    const both = p.inUse + p.idle,
      all = Math.min(both, SQUARES),
      part = Math.round((all * p.inUse) / Math.max(both, 1)); // at least one of each
    const busy = Math.min(Math.max(part, Math.min(p.inUse, 1)), all - Math.min(p.idle, 1));
    for (let i = 0; i < SQUARES; i++)
      set(card.squares[i], "class", i < busy ? "used" : i < all ? "free" : "none");
    set(card.pool, "data-idle", p.idle);
    set(card.pool, "data-in-use", p.inUse);
    set(card.pool, "data-made", p.made);
    set(card.pool, "data-reused", p.reused);
    say(card.inUse, count(p.inUse));
    say(card.idle, count(p.idle));
    const ends = [...p.ends].sort((a, b) => b.n - a.n);
    const lines = [
      `${count(p.made)} made, used again ${count(p.reused)} ${plural(p.reused, "time")}`,
      ...ends.map(
        (e) => `${count(e.n)} closed${e.state === "dropped" ? " while idle" : ""}: ${e.why}`,
      ),
    ];
    if (health) {
      const checks = `${count(health.failed)} of ${count(health.checks)} checks failed`;
      const why = health.why && `${health.state}: ${health.why}; `;
      lines.unshift((why || "") + checks);
    }
    set(card.pool, "title", lines.join("\n"));
    const more = ends.length - REASONS;
    if (more > 0) lines.splice(-more, more, `and for ${more} more ${plural(more, "reason")}`);
    lines.forEach((line, i) => say(card.lines.at(i), line));
    card.lines.hideFrom(lines.length);
  }

  newCard(addr, index) {
    const card = {};
    const figure = (name, label) => {
      card[name] = el("b", {}, "0");
      card[`${name}Label`] = el("span", {}, label);
      return el("span", { "data-figure": name }, card[name], " ", card[`${name}Label`]);
    };
    card.state = el("em", { class: "state" });
    card.dock = el("div", { class: "dock" });
    const title = (card.title = el("div", { class: "title" }, el("strong", {}, addr)));
    if (this.store.hello.demo && this.act) {
      card.button = el(
        "button",
        { type: "button", "data-backend-index": index, title: `Key ${index + 1}` },
        "Stop",
      );
      card.button.addEventListener("click", () =>
        this.act("backend", {
          what: card.button.getAttribute("data-backend-action"),
          backend: index,
        }),
      );
      title.append(card.button);
    }
    const figures = [
      el(
        "div",
        { class: "figures" },
        figure("requests", "requests"),
        figure("inFlight", "now"),
        figure("failures", "failed"),
      ),
      el("div", { class: "figures" }, figure("p50", "p50"), figure("p99", "p99"), card.state),
    ];
    card.squares = Array.from({ length: SQUARES }, () => el("i"));
    card.pool = el(
      "div",
      { class: "figures pool" },
      el("span", { class: "squares", "aria-hidden": "true" }, ...card.squares),
      figure("inUse", "in use"),
      figure("idle", "idle"),
    );
    card.ends = el("ul", { class: "ends" });
    card.lines = pool(card.ends, () => el("li"));
    figures.push(card.pool, card.ends);
    card.root = el(
      "article",
      { class: `card b${index % 6}`, "data-backend": addr, "data-index": index },
      card.dock,
      el("div", { class: "text" }, title, ...figures),
    );
    return card;
  }

  // drawWorkers lists who is at work in the proxy: goroutines, threads, or
  // child processes, which stay for a moment after they were reaped.
  drawWorkers(t) {
    const chips = new Map();
    for (const life of this.store.workers) {
      if (life.from <= t && t < life.to + REAPED_FOR)
        chips.set(life.worker, { text: "", gone: life.to <= t });
    }
    let busy = 0;
    for (const lane of this.store.lanes) {
      const worker = this.store.workerOf(lane);
      if (!worker || lane.accepted === null || lane.accepted > t || lane.end <= t) continue;
      const clients = (chips.get(worker)?.clients ?? 0) + 1;
      const text = clients > 1 ? `: ${clients} clients` : ` #${lane.conn}`; // one thread may serve all
      chips.set(worker, { text, clients, gone: false });
      busy++;
    }
    if (this.store.hello.single && chips.size === 0)
      chips.set("main goroutine", { text: ": accept", gone: false });
    set(this.proxy, "data-busy", busy);
    const shown = [...chips]
      .sort((a, b) => a[1].gone - b[1].gone)
      .slice(0, chips.size > MAX_CHIPS ? MAX_CHIPS - 1 : MAX_CHIPS);
    shown.forEach(([worker, { text, clients, gone }], i) => {
      const chip = this.chips.at(i);
      const words = worker + (gone ? " reaped" : text);
      const state = gone ? "gone" : clients ? "busy" : "";
      set(chip, "class", state);
      set(chip, "data-worker", worker);
      sayInOneLine(chip, words);
    });
    if (chips.size > shown.length) {
      const chip = this.chips.at(shown.length);
      set(chip, "class", "more");
      set(chip, "data-worker", null);
      sayInOneLine(chip, `and ${chips.size - shown.length} more`);
    }
    this.chips.hideFrom(shown.length + (chips.size > shown.length ? 1 : 0));
  }

  // measure finds the places that dots go to, and draws the links.
  measure() {
    const box = this.root.getBoundingClientRect();
    const of = (node) => {
      const r = node.getBoundingClientRect();
      return {
        left: r.left - box.left,
        right: r.right - box.left,
        top: r.top - box.top,
        bottom: r.bottom - box.top,
        x: r.left - box.left + r.width / 2,
        y: r.top - box.top + r.height / 2,
        width: r.width,
        height: r.height,
      };
    };
    set(this.stage, "viewBox", `0 0 ${box.width} ${box.height}`);
    const g = {
      clients: of($(".dock", this.clients)),
      proxy: of(this.proxy),
      dock: of($(".dock", this.proxy)),
      cards: new Map(),
      unit: 0.68 * parseFloat(getComputedStyle(this.root).fontSize),
    };
    // between returns a region in the middle of a gap between two boxes.
    const between = (left, right, y, height) => ({ left, right, width: right - left, y, height });
    const left = of(this.clients).right,
      door = left + (g.proxy.left - left) * 0.4,
      high = g.proxy.height - 5 * g.unit; // below it stands how many wait
    g.reply = between(left + 3, door, g.proxy.y, high);
    g.queue = between(door, g.proxy.left - 3, g.proxy.y, high);
    for (const [addr, card] of this.cards) {
      const dock = of(card.dock);
      dock.link = between(g.proxy.right, dock.left, (g.proxy.y + dock.y) / 2, high);
      g.cards.set(addr, dock);
    }
    let n = 0;
    const link = (x1, y1, x2, y2) =>
      set(
        this.links.at(n++),
        "d",
        `M${x1} ${y1}C${(x1 + x2) / 2} ${y1} ${(x1 + x2) / 2} ${y2} ${x2} ${y2}`,
      );
    link(left, g.proxy.y, g.proxy.left, g.proxy.y);
    for (const c of g.cards.values()) link(g.proxy.right, g.proxy.y, c.left, c.y);
    this.links.hideFrom(n);
    return g;
  }

  drawDots(t) {
    const g = this.geometry;
    const here = [],
      ghosts = [];
    for (const lane of this.store.lanes) {
      const at = lane.placeAt(t),
        ghost = lane.placeAt(t, "ghost");
      if (at) here.push([lane, at]);
      if (ghost && ghost !== at) ghosts.push([lane, ghost]);
    }
    const small = here.length > NUMBERED;
    this.drawGhosts(ghosts.slice(-MAX_GHOSTS));
    const places = this.spread(here.slice(-MAX_DOTS), (small ? 1.35 : 2.6) * g.unit);
    let n = 0;
    for (const [lane, { at, x, y }] of places) {
      const dot = this.dots.at(n++);
      set(dot.root, "class", `dot ${this.color(at)} ${small ? "small" : ""}`);
      set(dot.root, "data-conn", lane.conn);
      set(dot.root, "data-place", at.place);
      set(dot.root, "transform", `translate(${x.toFixed(1)} ${y.toFixed(1)})`);
      set(dot.circle, "r", (small ? 0.55 : 1.15) * g.unit);
      const label = small || at.place === "queue" ? "" : at.failed ? "✕" : String(lane.conn);
      set(dot.label, "class", label.length > 3 ? "long" : null);
      say(dot.label, label.length > 5 ? "" : label);
    }
    this.dots.hideFrom(n);
    const waiting = here.filter(([, at]) => at.place === "queue").length;
    set(this.stage, "data-dots", here.length);
    set(this.stage, "data-queue", waiting);
    say(this.queueLabel, waiting > 0 ? `${waiting} waiting` : "");
    set(this.queueLabel, "x", (g.reply.left + g.proxy.left) / 2);
    set(this.queueLabel, "y", g.proxy.bottom - 4);
  }

  drawGhosts(shown) {
    const now = performance.now();
    const step = 1 - Math.exp(-Math.min(now - this.last, 100) / SETTLE);
    this.last = now;
    const before = this.ghosts,
      gap = 1.5 * this.geometry.unit;
    this.ghosts = this.spread(still.matches ? [] : shown, gap);
    let n = 0;
    for (const [lane, ghost] of this.ghosts) {
      const { x, y } = before.get(lane) ?? this.geometry.clients;
      ghost.x = x + (ghost.x - x) * step;
      ghost.y = y + (ghost.y - y) * step;
      const node = this.ghostNodes.at(n++);
      set(node, "class", `ghost ${this.color(ghost.at)}`);
      set(node, "cx", ghost.x.toFixed(1));
      set(node, "cy", ghost.y.toFixed(1));
      set(node, "r", gap / 2);
    }
    this.ghostNodes.hideFrom(n);
  }

  color(at) {
    if (at.failed) return "failed";
    if (at.place === "queue") return "waiting";
    const index = this.cards.get(at.backend)?.root.dataset.index;
    return index === undefined ? "" : `b${index % 6}`;
  }

  // spread gives each dot, [lane, at], its own spot at its place: a Map from the
  // lane to {at, x, y}.
  spread(dots, gap) {
    const g = this.geometry,
      groups = new Map(),
      spots = new Map();
    for (const dot of dots) {
      const [, { place, backend }] = dot,
        dock = g.cards.get(backend);
      const region =
        { queue: g.queue, proxy: g.dock, reply: g.reply, backend: dock, link: dock?.link }[place] ??
        g.clients;
      if (!groups.has(region)) groups.set(region, []);
      groups.get(region).push(dot);
    }
    for (const [region, group] of groups)
      group.forEach(([lane, at], i) =>
        spots.set(lane, { at, ...pack(region, i, group.length, gap, region === g.queue) }),
      );
    return spots;
  }
}

function newDot() {
  const circle = svgEl("circle");
  const label = svgEl("text", { "text-anchor": "middle", dy: "0.35em" });
  return { root: svgEl("g", {}, circle, label), circle, label };
}

// pack puts the i-th of n dots into a region, column by column from its left or
// from its right. What does not fit lies over what is there.
function pack(region, i, n, gap, fromRight) {
  const rows = Math.min(n, Math.max(1, Math.floor(region.height / gap)));
  const columns = Math.max(1, Math.floor(region.width / gap));
  const column = Math.floor(i / rows) % columns;
  const x = Math.min(gap * (column + 0.55), region.width - gap / 2);
  return {
    x: fromRight ? region.right - x : region.left + x,
    y: region.y + ((i % rows) - (rows - 1) / 2) * gap,
  };
}
