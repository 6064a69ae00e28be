// The flow: clients on the left, the proxy, the backends on the right. A dot
// is one real request; where it is, is what the proxy says about it.

import { $, count, el, micros, pool, say, set, svgEl } from "./dom.js";

const MAX_DOTS = 160;
const MAX_CHIPS = 6;
const NUMBERED = 24; // up to so many dots carry their connection's number
const SETTLE = 70; // milliseconds in which a dot covers most of its way
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
    this.links = pool(this.stage, () => svgEl("path", { class: "link" }));
    this.queueLabel = svgEl("text", { class: "queue-label", "text-anchor": "middle" });
    this.stage.append(this.queueLabel);
    this.dots = new Map(); // lane -> {node, x, y}
    this.spare = [];
    this.chips = pool($("#workers"), () => el("li"));
    this.last = performance.now();
    new ResizeObserver(() => (this.geometry = null)).observe(root);
    this.reset(store);
  }

  reset(store) {
    this.store = store;
    for (const lane of [...this.dots.keys()]) this.drop(lane);
    this.list.replaceChildren();
    this.cards.clear();
    this.geometry = null;
  }

  draw(t) {
    const counts = this.store.snapshotAt(t);
    if (counts) this.drawBackends(counts);
    this.drawWorkers(t);
    this.geometry ??= this.measure();
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
      say(card.inFlight, count(b.inFlight));
      say(card.failures, count(b.failures));
      set(card.failures, "class", b.failures ? "bad" : null);
      say(card.p50, b.p50 ? micros(b.p50) : "–");
      say(card.p99, b.p99 ? micros(b.p99) : "–");
      say(card.state, b.running ? "" : "stopped");
      if (card.button) {
        say(card.button, b.running ? "Stop" : "Start");
        set(card.button, "data-backend-action", b.running ? "stop" : "start");
      }
    });
  }

  newCard(addr, index) {
    const card = {};
    const figure = (name, label) => {
      card[name] = el("b", {}, "0");
      return el("span", { "data-figure": name }, card[name], ` ${label}`);
    };
    card.state = el("em");
    card.dock = el("div", { class: "dock" });
    const title = el("div", { class: "title" }, el("strong", {}, addr));
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
      chips.set(worker, { text: ` #${lane.conn}`, gone: false });
      busy++;
    }
    if (this.store.hello.single && chips.size === 0)
      chips.set("main goroutine", { text: ": accept", gone: false });
    set(this.proxy, "data-busy", busy);
    const shown = [...chips]
      .sort((a, b) => a[1].gone - b[1].gone)
      .slice(0, chips.size > MAX_CHIPS ? MAX_CHIPS - 1 : MAX_CHIPS);
    shown.forEach(([worker, { text, gone }], i) => {
      const chip = this.chips.at(i);
      set(chip, "class", gone ? "gone" : text.startsWith(" #") ? "busy" : null);
      set(chip, "data-worker", worker);
      say(chip, worker + (gone ? " reaped" : text));
    });
    if (chips.size > shown.length) {
      const chip = this.chips.at(shown.length);
      set(chip, "class", "more");
      set(chip, "data-worker", null);
      say(chip, `and ${chips.size - shown.length} more`);
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
      clients: of(this.clients),
      proxy: of(this.proxy),
      cards: new Map(),
      unit: 0.68 * parseFloat(getComputedStyle(this.root).fontSize),
    };
    for (const [addr, card] of this.cards) g.cards.set(addr, of(card.dock));
    let n = 0;
    const link = (x1, y1, x2, y2) =>
      set(
        this.links.at(n++),
        "d",
        `M${x1} ${y1}C${(x1 + x2) / 2} ${y1} ${(x1 + x2) / 2} ${y2} ${x2} ${y2}`,
      );
    link(g.clients.right, g.clients.y, g.proxy.left, g.proxy.y);
    for (const c of g.cards.values()) link(g.proxy.right, g.proxy.y, c.left, c.y);
    this.links.hideFrom(n);
    return g;
  }

  drawDots(t) {
    const g = this.geometry;
    const here = [];
    for (const lane of this.store.lanes) {
      const at = lane.placeAt(t);
      if (at) here.push([lane, at]);
    }
    const shown = here.slice(-MAX_DOTS);
    const slots = new Map(); // how many dots are at each place already
    const small = shown.length > NUMBERED;
    const now = performance.now();
    const step = still.matches ? 1 : 1 - Math.exp(-Math.min(now - this.last, 100) / SETTLE);
    this.last = now;
    const seen = new Set();
    for (const [lane, at] of shown) {
      seen.add(lane);
      const key =
        (at.place === "home" ? "client" : at.place) +
        (at.place === "backend" || at.place === "link" ? lane.backend : "");
      const slot = slots.get(key) ?? 0;
      slots.set(key, slot + 1);
      const to = this.target(g, at.place, lane.backend, slot, small);
      let dot = this.dots.get(lane);
      if (!dot) {
        dot = this.spare.pop() ?? this.newDot();
        Object.assign(dot, this.target(g, "client", "", slot, small));
        set(dot.node, "display", null);
        this.dots.set(lane, dot);
      }
      dot.x += (to.x - dot.x) * step;
      dot.y += (to.y - dot.y) * step;
      this.paint(dot, lane, at, small, g.unit);
    }
    for (const lane of [...this.dots.keys()]) if (!seen.has(lane)) this.drop(lane);
    const waiting = slots.get("queue") ?? 0;
    set(this.stage, "data-dots", shown.length);
    set(this.stage, "data-queue", waiting);
    say(this.queueLabel, waiting > 0 ? `${waiting} waiting` : "");
    set(this.queueLabel, "x", (g.clients.right + g.proxy.left) / 2);
    set(this.queueLabel, "y", g.proxy.bottom - 4);
  }

  newDot() {
    const node = svgEl("g", { class: "dot" });
    const circle = svgEl("circle");
    const label = svgEl("text", { "text-anchor": "middle", dy: "0.35em" });
    node.append(circle, label);
    this.stage.append(node);
    return { node, circle, label, x: 0, y: 0 };
  }

  drop(lane) {
    const dot = this.dots.get(lane);
    set(dot.node, "display", "none");
    this.dots.delete(lane);
    this.spare.push(dot);
  }

  paint(dot, lane, at, small, unit) {
    const index = this.cards.get(lane.backend)?.root.dataset.index;
    const color = at.failed
      ? "failed"
      : at.place === "queue"
        ? "waiting"
        : index !== undefined && lane.step(5)
          ? `b${index % 6}`
          : "";
    set(dot.node, "class", `dot ${color} ${small ? "small" : ""}`);
    set(dot.node, "data-conn", lane.conn);
    set(dot.node, "data-place", at.place);
    set(dot.node, "transform", `translate(${dot.x.toFixed(1)} ${dot.y.toFixed(1)})`);
    set(dot.circle, "r", (small ? 0.55 : 1.15) * unit);
    say(dot.label, small ? "" : at.failed ? "✕" : String(lane.conn ?? ""));
  }

  // target returns where the slot-th dot of a place belongs.
  target(g, place, backend, slot, small) {
    const gap = (small ? 1.35 : 2.6) * g.unit;
    const rows = small ? 9 : 5;
    const across = Math.floor(slot / rows) % 12,
      down = centered(slot % rows);
    const dock = g.cards.get(backend);
    const door = (g.clients.right + g.proxy.left) / 2;
    const low = g.unit; // leaves the boxes' titles free
    switch (place) {
      case "queue":
        return { x: g.proxy.left - gap * (across + 0.7), y: g.proxy.y + down * gap };
      case "proxy":
        return {
          x: g.proxy.right - gap * (across + 0.6),
          y: g.proxy.y + 3 * low + centered(slot % (rows - 1)) * gap,
        };
      case "link":
        return {
          x: (g.proxy.right + (dock?.left ?? g.proxy.right + 60)) / 2 - across * gap * 0.6,
          y: (g.proxy.y + (dock?.y ?? g.proxy.y)) / 2 + down * gap,
        };
      case "backend":
        if (!dock) return { x: g.proxy.right, y: g.proxy.y };
        return inDock(dock, slot, gap);
      case "reply":
        return { x: door + across * gap * 0.6, y: g.proxy.y + down * gap };
      default: // client, home
        return {
          x: g.clients.x + (across % 2 ? 0.5 : -0.5) * gap,
          y: g.clients.y + low + down * gap,
        };
    }
  }
}

// centered counts 0, -1, 1, -2, 2, … so that a few dots stay in the middle.
function centered(i) {
  return i % 2 ? -(i + 1) / 2 : i / 2;
}

// inDock packs dots into a backend's dock, column by column from the left.
function inDock(dock, slot, gap) {
  const rows = Math.max(1, Math.floor(dock.height / gap));
  const columns = Math.max(1, Math.floor(dock.width / gap));
  const place = slot % (rows * columns);
  return {
    x: dock.left + gap * (Math.floor(place / rows) + 0.55),
    y: dock.y + centered(place % rows) * gap,
  };
}
