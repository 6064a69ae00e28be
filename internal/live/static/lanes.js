// The lanes: one row a connection, one bar a step of each of its requests, over
// a time axis. The
// picture begins with the first connection after a quiet time and stands
// still when all are done, so that it can be talked about.

import { $, count, el, micros, pool, say, set, svgEl } from "./dom.js";
import { LEGEND } from "./calls.js";
import { resultOf, waitOf } from "./store.js";

const ZOOMS = [
  1e3, 2.5e3, 5e3, 10e3, 25e3, 50e3, 100e3, 250e3, 500e3, 1e6, 2.5e6, 5e6, 10e6, 30e6, 60e6,
]; // microseconds
const NORMAL = 2.5e6; // width of the axis unless there is a reason for another
const WIDEST = 10e6; // a longer burst scrolls
const SHORTER = 1e6; // of a finished burst that needs no more
const DENSE = 60; // drawn connections a second from which the lanes show stills
const STEADY = 4; // requests a second of a steady stream that does the same
const FLOWING = 5e6; // width of the axis for a stream over kept connections
const STILL = 1e6; // microseconds that each still is shown
const RING = 3; // radius of the mark of a connection that is used again
const TINY = 60e3; // a finished burst as short as this is looked at through a microscope

// What has the backend's colour, if there are several.
const COLOURED = ["connecting", "forwarding", "waiting", "sending"];

const narrow = matchMedia("(max-width: 60rem)"); // as in live.css

export class Lanes {
  constructor(root, store, select) {
    this.root = root;
    this.plot = $(".plot", root);
    this.select = select;
    this.zoom = null; // microseconds, or null for automatic
    this.width = NORMAL; // shown now, on its way to the wanted one
    this.from = 0;
    this.axis = pool(this.layer("axis"), () => {
      const node = svgEl("g");
      node.line = svgEl("line");
      node.text = svgEl("text", { "text-anchor": "middle" });
      node.append(node.line, node.text);
      return node;
    });
    this.rows = pool(this.layer("rows"), () => this.newRow());
    this.cursor = svgEl("line", { class: "cursor" });
    this.plot.append(this.cursor);
    this.note = $("#lanes-note");
    this.legendKey = "";
    new ResizeObserver(() => (this.size = null)).observe(this.plot);
    this.reset(store);
  }

  layer(name) {
    const g = svgEl("g", { class: name });
    this.plot.append(g);
    return g;
  }

  reset(store) {
    this.store = store;
    this.visible = [];
    this.children = false; // processes have been seen
  }

  zoomBy(step) {
    const now = this.zoom ?? this.wanted ?? NORMAL;
    const i = ZOOMS.findIndex((z) => z >= now);
    this.zoom = ZOOMS[Math.min(Math.max(i + step, 0), ZOOMS.length - 1)];
  }

  // look chooses the lanes to draw. They are drawn as they were at this.t.
  look(now, selected) {
    this.size ??= this.measure();
    const digits = String(this.store.lanes.at(-1)?.conn ?? "").length;
    this.size.ids = Math.max(3, 0.62 * digits + 1.5) * this.size.unit;
    const worker = narrow.matches ? 0 : (this.store.lanes.at(-1)?.worker.length ?? 0);
    const left = this.size.ids + (0.8 + 0.54 * worker) * this.size.unit;
    this.size.left = Math.max(left, (narrow.matches ? 3.6 : 12.6) * this.size.unit);
    // So many connections that nobody could follow them: one still a second.
    const steady = this.store.snapshotAt(now)?.steady ?? 0;
    const { keeps } = this.store.hello;
    this.dense = this.store.rateAt(now).drawn >= DENSE || (steady >= STEADY && !keeps);
    this.flowing = steady > 0 && keeps;
    this.t = this.dense ? Math.floor(now / STILL) * STILL : now;
    this.burst = this.store.burstAt(this.t);
    this.frame(this.burst, this.t);
    this.visible = this.pick(this.burst, this.t, selected);
    this.fitted = this.zoom === null && (this.dense || this.crowded());
    if (this.fitted) this.fit(this.visible, this.t);
  }

  draw(selected) {
    const { t, burst, visible: lanes } = this;
    set($("#empty"), "hidden", burst ? "" : null);
    this.drawLegend();
    this.drawAxis(burst);
    const { height, axis, line } = this.size;
    const row = Math.min(Math.max((height - axis) / Math.max(lanes.length, 1), line), line * 1.9);
    lanes.forEach((lane, i) =>
      this.drawRow(this.rows.at(i), lane, t, axis + i * row, row, lane === selected),
    );
    this.rows.hideFrom(lanes.length);
    const x = this.x(t);
    const running =
      burst &&
      !this.dense &&
      (this.store.openAt(t) || t <= burst.last + 1e6) &&
      x <= this.size.right;
    set(this.cursor, "display", running ? null : "none");
    if (running) this.place(this.cursor, { x1: x, x2: x, y1: axis * 0.7, y2: height });
    this.drawNote(burst, t, lanes.length);
  }

  measure() {
    const r = this.plot.getBoundingClientRect();
    set(this.plot, "viewBox", `0 0 ${r.width} ${r.height}`);
    const unit = parseFloat(getComputedStyle(this.root).fontSize);
    return {
      height: r.height,
      right: r.width - 12.4 * unit,
      full: r.width,
      axis: 1.6 * unit,
      line: 1.25 * unit,
      unit,
    };
  }

  // frame decides which time the axis covers.
  frame(burst, t) {
    if (!burst) return;
    const running = this.store.openAt(t);
    const length = (running ? t : Math.min(t, burst.last)) - burst.start;
    const over = !running && t > burst.last + 150e3;
    this.length = length;
    this.wanted = this.zoom ?? NORMAL;
    if (this.zoom === null && length > NORMAL * 0.98)
      this.wanted = ZOOMS.find((z) => z >= length * 1.02 && z >= NORMAL) ?? WIDEST;
    if (this.zoom === null && over && length < SHORTER * 0.9) this.wanted = SHORTER;
    if (this.zoom === null && over && length < TINY)
      this.wanted = ZOOMS.find((z) => z >= length * 1.15);
    if (this.zoom === null) this.wanted = Math.min(this.wanted, this.flowing ? FLOWING : WIDEST);
    set(this.root, "data-wanted", this.wanted);
    const { least } = document.documentElement.dataset; // what the page beside this one wants
    if (this.zoom === null && least) this.wanted = Math.max(this.wanted, Number(least));
    if (this.framed !== burst) this.width = this.zoom ?? NORMAL;
    else if (this.fitted) this.width = this.wanted; // crowded decides anew, about the whole
    this.framed = burst;
    this.width += (this.wanted - this.width) * 0.2;
    if (Math.abs(this.width - this.wanted) < this.wanted / 200) this.width = this.wanted;
    this.from = burst.start + Math.max(0, length - this.width * 0.98);
  }

  // crowded says whether the lanes that have room need less than half of the axis
  // of a long burst.
  crowded() {
    const first = Math.min(...this.visible.map((l) => l.start));
    return (
      this.length > NORMAL &&
      this.total > this.visible.length &&
      this.from + this.width - first < this.width / 2
    );
  }

  // fit makes the axis just long enough for the given lanes.
  fit(lanes, t) {
    if (lanes.length === 0) return;
    this.from = Math.min(...lanes.map((l) => l.start));
    const end = Math.max(...lanes.map((l) => Math.min(l.end, t)));
    this.width = this.wanted = round(Math.max(end - this.from, 1e3), [1, 1.5, 2, 3, 4, 5, 7, 10]);
  }

  // pick returns the lanes to draw, if there are too many the newest and the
  // selected one.
  pick(burst, t, selected) {
    this.total = 0;
    if (!burst) return [];
    const room = Math.max(1, Math.floor((this.size.height - this.size.axis) / this.size.line));
    const open = [],
      done = [];
    for (const lane of this.store.lanes) {
      if (lane.start > t || lane.start < burst.start - 1 || (lane.end < this.from && !this.dense))
        continue;
      this.total++;
      (lane.end > t ? open : done).push(lane);
    }
    // What still runs matters most, then the newest.
    const most = open.slice(0, room);
    const lanes = [...done.slice(Math.max(0, done.length - (room - most.length))), ...most];
    if (!lanes.includes(selected) && (open.includes(selected) || done.includes(selected)))
      lanes[0] = selected;
    return lanes.sort((a, b) => order(a, t) - order(b, t) || a.start - b.start);
  }

  x(t) {
    const { left, right } = this.size;
    return left + ((t - this.from) / this.width) * (right - left);
  }

  newRow() {
    const row = { root: svgEl("g", { class: "row" }) };
    row.back = svgEl("rect", { class: "back" });
    row.id = svgEl("text", { class: "id", dy: "0.35em" });
    row.worker = svgEl("text", { class: "worker", dy: "0.35em" });
    row.bars = svgEl("g", { class: "bars" });
    row.pool = pool(row.bars, () => svgEl("rect", { rx: 2 }));
    row.marks = pool(row.bars, () => svgEl("path"));
    row.again = pool(row.bars, () => svgEl("text", { dy: "0.35em", "text-anchor": "middle" }));
    row.numbers = pool(row.bars, () => svgEl("text", { dy: "0.35em", "text-anchor": "end" }));
    row.child = svgEl("path", { class: "child" });
    row.result = svgEl("text", { class: "result", dy: "0.35em", "text-anchor": "end" });
    row.root.append(row.back, row.id, row.worker, row.child, row.bars, row.result);
    row.root.addEventListener("click", () => this.select(row.lane));
    return row;
  }

  drawRow(row, lane, t, y, height, selected) {
    const { left, right, full, unit } = this.size;
    row.lane = lane;
    const middle = y + height / 2;
    const ended = lane.end <= t;
    set(
      row.root,
      "class",
      `row ${selected ? "selected" : ""} ${ended && lane.failed ? "failed" : ""}`,
    );
    for (const [name, value] of [
      ["conn", lane.conn],
      ["shot", lane.shot],
      ["worker", lane.worker || null],
      ["backend", lane.backend || null],
      ["start", lane.start],
      ["accepted", lane.accepted],
      ["end", ended ? lane.end : null],
      ["status", lane.status || null],
      ["requests", lane.requests.length || null],
      ["failed", (ended && lane.failed) || null],
    ]) {
      set(row.root, `data-${name}`, value);
    }
    this.place(row.back, { x: 0, y: y + 0.5, width: full, height: height - 1 });
    const accepted = lane.accepted !== null && lane.accepted <= t;
    say(row.id, accepted ? `#${lane.conn}` : "–");
    this.place(row.id, { x: 0.4 * unit, y: middle });
    set(row.worker, "display", narrow.matches ? "none" : null);
    say(row.worker, accepted ? this.store.workerOf(lane) || "accepted" : "in the backlog");
    this.place(row.worker, { x: this.size.ids + 0.4 * unit, y: middle });
    this.drawBars(row, lane, t, middle, height * 0.62, left, right);
    this.drawRequests(row, lane, t, middle, height * 0.31, left, right);
    this.drawChild(row, lane, t, y + height - 3);
    say(row.result, resultOf(lane, t) + waitOf(lane, t));
    this.place(row.result, { x: full - 0.4 * unit, y: middle });
  }

  drawBars(row, lane, t, middle, height, left, right) {
    let n = 0;
    for (const p of lane.phases()) {
      if (p.from > t) break;
      const x1 = Math.max(this.x(p.from), left),
        x2 = Math.min(this.x(Math.min(p.to, t)), right);
      if (x2 <= left || x1 >= right || (p.phase === "closing" && x2 - x1 < 3)) continue;
      const bar = row.pool.at(n++);
      const thin = { backlog: 0.55, idle: 0.15, skipped: 0.4 }[p.phase] ?? 1;
      const own = this.byBackend && COLOURED.includes(p.phase) && this.colourOf(lane, p.step);
      set(bar, "class", `bar ${own || p.phase}`);
      set(bar, "data-phase", p.phase);
      set(bar, "data-from", p.from);
      set(bar, "data-to", p.to === Infinity ? null : p.to);
      this.place(bar, {
        x: x1,
        y: middle - (height * thin) / 2,
        width: Math.max(x2 - x1, 1.2),
        height: height * thin,
      });
      if (p.err && p.to <= t) this.drawFailure(row.pool.at(n++), x2, middle, height);
    }
    row.pool.hideFrom(n);
  }

  // drawRequests numbers the requests of a connection that carries several, and
  // marks their step 6: a stroke for a fresh connection to the backend, a ring for
  // one that is used again; and where another try followed one that failed.
  drawRequests(row, lane, t, middle, half, left, right) {
    let marks = 0,
      numbers = 0,
      again = 0,
      free = left; // of numbers from here on
    const { keeps } = this.store.hello;
    for (const r of lane.requests) {
      if (r.from > t) break;
      const x = this.x(r.from),
        end = this.x(Math.min(r.end, t));
      if (x > right) break;
      if (r.n > 1 && x >= left && x - free > 0.55 * this.size.unit * (1 + String(r.n).length)) {
        const number = row.numbers.at(numbers++);
        set(number, "class", "number-of");
        say(number, String(r.n));
        this.place(number, { x: x - RING - 2, y: middle });
      }
      free = Math.max(free, end);
      for (const e of r.tries) {
        const at = this.x(e.t);
        if (e.state !== "again" || e.t > t || at < left || at > right || end - x < 3 * RING)
          continue;
        const mark = row.again.at(again++);
        set(mark, "class", "again");
        say(mark, "↻");
        this.place(mark, { x: at + 3 * RING, y: middle }); // beside what marks the failure
      }
      for (const s of r.connects) {
        const at = this.x(s.t);
        if (!keeps || s.t > t || at < left || at > right || end - x < 3 * RING) continue;
        const mark = row.marks.at(marks++);
        set(mark, "class", s.reused ? "mark reused" : "mark fresh");
        const y = middle.toFixed(1);
        set(
          mark,
          "d",
          s.reused
            ? `M${(at - RING).toFixed(1)} ${y}` +
                [2, -2].map((way) => `a${RING} ${RING} 0 1 0 ${way * RING} 0`).join("")
            : `M${at.toFixed(1)} ${(middle - half - 2).toFixed(1)}v${(2 * half + 4).toFixed(1)}`,
        );
      }
    }
    row.marks.hideFrom(marks);
    row.again.hideFrom(again);
    row.numbers.hideFrom(numbers);
  }

  // drawFailure marks the end of a step that failed.
  drawFailure(bar, x, middle, height) {
    set(bar, "class", "bar bad");
    for (const name of ["data-phase", "data-from", "data-to"]) set(bar, name, null);
    this.place(bar, { x: x - 4, y: middle - height * 0.7, width: 8, height: height * 1.4 });
  }

  // drawChild draws the life of the child process under its connection's bars.
  drawChild(row, lane, t, y) {
    const life = lane.child;
    const shown = life && life.from <= t;
    set(row.child, "display", shown ? null : "none");
    if (!shown) return;
    const { left, right } = this.size;
    const x1 = Math.min(Math.max(this.x(life.from), left), right),
      x2 = Math.min(Math.max(this.x(Math.min(life.to, t)), left), right);
    set(row.child, "data-from", life.from);
    set(row.child, "data-to", life.to === Infinity ? null : life.to);
    const end = life.to <= t ? `M${x2 - 3} ${y - 4}l6 6m0 -6l-6 6` : "";
    set(row.child, "d", `M${x1} ${y - 3}v6M${x1} ${y}H${x2}${end}`);
  }

  // colourOf returns the class with the colour of the backend that a step went to.
  colourOf(lane, step) {
    const i = this.addresses.indexOf(step.backend || lane.requests.at(-1)?.first);
    return i < 0 ? "" : `b${i % 6}`;
  }

  // drawLegend explains the colours: phases, or backends if there are several.
  drawLegend() {
    this.addresses = this.store.snapshots.at(-1)?.backends.map((b) => b.addr) ?? [];
    this.byBackend = this.colors ? this.colors === "backend" : this.addresses.length > 1;
    this.children ||= this.store.lanes.some((lane) => lane.child);
    const retries = this.store.snapshots.at(-1)?.retries > 0;
    const key = [this.byBackend, this.children, retries, ...this.addresses].join();
    if (key === this.legendKey) return;
    this.legendKey = key;
    const item = (classes, words) => el("li", {}, el("i", { class: classes }), words);
    const { forwards } = this.store.hello;
    const items = this.byBackend
      ? [
          item("backlog", "in the backlog"),
          item("reading", "reading"),
          ...this.addresses.map((a, i) => item(`b${i % 6}`, `:${a.split(":").at(-1)}`)),
          item("bad", "failed"),
          ...(this.store.hello.keeps
            ? [item("key-fresh", "fresh"), item("key-reused", "reused")]
            : []),
          ...(retries ? [el("li", {}, "↻ tried again")] : []),
        ]
      : Object.entries(LEGEND)
          .filter(([p]) => forwards || p === "backlog" || p === "reading")
          .filter(([p]) => p !== "starting" || this.children)
          .map(([p, words]) => item(p, words))
          .concat(item("bad", "failed"));
    $("#legend").replaceChildren(...items);
  }

  drawAxis(burst) {
    const { left, right, axis, height } = this.size;
    let n = 0;
    if (burst) {
      const zero = this.dense ? this.from : burst.start;
      const gap = tickGap(this.width, (right - left) / (5 * this.size.unit));
      const first = Math.ceil((this.from - zero) / gap - 1e-9) * gap;
      for (let at = first; at <= this.from - zero + this.width * 1.0001; at += gap) {
        const node = this.axis.at(n++),
          x = this.x(zero + at);
        this.place(node.line, { x1: x, x2: x, y1: axis * 0.85, y2: height });
        this.place(node.text, { x, y: axis * 0.65 });
        say(
          node.text,
          at === 0
            ? "0"
            : this.width > 1.5e6
              ? `${+(at / 1e6).toFixed(1)} s`
              : `${+(at / 1e3).toFixed(1)} ms`,
        );
      }
    }
    this.axis.hideFrom(n);
  }

  drawNote(burst, t, shown) {
    if (!burst) return say(this.note, "");
    const { connections, drawn, requests, shown: some } = this.store.rateAt(
      this.dense ? t + STILL : t,
    );
    const sampled =
      connections > drawn + 1
        ? `sampled: ${drawn} of ${count(connections)} a second`
        : requests > some + 1
          ? `sampled: ${some} of ${count(requests)} requests a second`
          : "";
    const hidden = this.total > shown ? `${shown} shown` : "";
    const span = micros(Math.max(0, this.length));
    set(this.note, "data-sampled", sampled ? "true" : "false");
    say(
      this.note,
      [
        `${count(this.total)} in ${span}`,
        hidden,
        this.dense ? "one still a second" : "",
        sampled,
        this.zoom ? "zoom fixed" : "",
      ]
        .filter(Boolean)
        .join(" · "),
    );
  }

  place(node, numbers) {
    for (const name in numbers) set(node, name, numbers[name].toFixed(1));
  }

  // next returns the lane above or below the given one.
  next(lane, step) {
    const i = this.visible.indexOf(lane);
    return (
      this.visible[
        Math.min(Math.max(i < 0 ? this.visible.length - 1 : i + step, 0), this.visible.length - 1)
      ] ?? null
    );
  }
}

// order sorts lanes by when they were accepted, those in the backlog last.
const order = (lane, t) => (lane.accepted === null || lane.accepted > t ? Infinity : lane.accepted);

// tickGap returns a round distance for at most n ticks over a width.
const tickGap = (width, n) => round(width / n, [1, 2, 5, 10]);

// round returns the least number that is not below the given one and begins with
// one of the digits.
function round(least, digits) {
  const unit = 10 ** Math.floor(Math.log10(least));
  return digits.map((d) => d * unit).find((n) => n >= least * (1 - 1e-9));
}
