// The steps: one connection as a sequence diagram of ten rows, filled in as
// its steps happen, each with the C call, the Go call and the time it took.

import { $, bytes, el, micros, say, set, svgEl } from "./dom.js";
import { STEPS, goCall, has } from "./calls.js";
import { resultOf } from "./store.js";

// Where the lifelines stand in a row's drawing, which is 100 wide and 40 high.
const LINES = { c: 12, p: 50, b: 88 };

export class Steps {
  constructor(root, store) {
    this.root = root;
    this.title = $("#steps-title");
    this.request = $("#steps-request");
    this.rows = STEPS.map((step) => this.newRow(step));
    $("#step-list").replaceChildren(...this.rows.map((row) => row.root));
    this.reset(store);
  }

  reset(store) {
    this.store = store;
    const chapter = store.hello.chapter;
    const forwards = has(STEPS[5], chapter);
    for (const row of this.rows) {
      row.drawing.replaceChildren(...arrow(row.step.arrow, forwards));
      set(row.root, "hidden", has(row.step.step, chapter) ? null : "");
      row.go = goCall(row.step, chapter);
    }
    set(this.root, "data-short", forwards ? null : "true");
  }

  newRow(step) {
    const row = { step };
    row.time = el("span", { class: "time" });
    row.calls = el("span", { class: "calls" });
    row.drawing = svgEl("svg", {
      viewBox: "0 0 100 40",
      preserveAspectRatio: "none",
      "aria-hidden": "true",
    });
    row.root = el(
      "li",
      { "data-step": step.step, "data-state": "pending" },
      el("span", { class: "number" }, String(step.step)),
      row.drawing,
      el("span", { class: "name" }, step.name),
      row.time,
      row.calls,
    );
    return row;
  }

  draw(lane, t) {
    say(
      this.title,
      lane?.conn
        ? [`Connection #${lane.conn}`, lane.accepted <= t ? this.store.workerOf(lane) : ""]
            .filter(Boolean)
            .join(" · ")
        : lane
          ? "A client in the backlog"
          : "Steps",
    );
    say(this.request, lane ? this.headline(lane, t) : "Choose a connection with ↑ and ↓.");
    set(this.root, "data-conn", lane?.conn ?? null);
    const next = lane ? this.expected(lane, t) : 0;
    for (const row of this.rows) this.drawRow(row, lane, t, next);
  }

  headline(lane, t) {
    const request = lane.steps.some((s) => s.step === 5 && s.t <= t) ? lane.request : "";
    const backend = lane.steps.some((s) => s.step === 6 && s.t <= t)
      ? ` → :${lane.backend.split(":").at(-1)}`
      : "";
    return [request + backend, resultOf(lane, t)].filter(Boolean).join(" · ");
  }

  // expected returns the step that the connection is in at time t.
  expected(lane, t) {
    if (lane.accepted === null || lane.accepted > t) return 4;
    if (lane.end <= t) return 0;
    const done = lane.steps.filter((s) => s.t <= t).map((s) => s.step);
    const next = Math.max(4, ...done) + 1;
    return has(next, this.store.hello.chapter) ? next : 10;
  }

  drawRow(row, lane, t, expected) {
    const n = row.step.step;
    const done =
      n <= 3
        ? this.store.hello.listening.find((s) => s.step === n)
        : lane?.steps.find((s) => s.step === n && s.t <= t);
    let state = "pending",
      time = "";
    if (done) {
      state = done.err && !(n === 10 && !done.failed) ? "failed" : n <= 3 ? "once" : "done";
      time =
        n <= 3
          ? "once"
          : n === 4
            ? this.waited(lane)
            : n === 10
              ? `${micros(done.us)} in all`
              : micros(done.us);
    } else if (lane && n === expected) {
      state = "now";
      const last = lane.steps.filter((s) => s.t <= t).at(-1);
      time = `${micros(t - (last?.t ?? lane.start))} …`;
    }
    set(row.root, "data-state", state);
    set(row.root, "data-us", done ? done.us : null);
    set(row.root, "data-calls", done?.calls ?? null);
    say(row.time, time);
    this.drawCalls(row, done, lane, t);
  }

  // waited says how long a client of the page's waited to be accepted; for
  // others only the kernel knows.
  waited(lane) {
    return lane.shot !== null && lane.accepted > lane.start
      ? `waited ${micros(lane.accepted - lane.start)}`
      : "";
  }

  drawCalls(row, done, lane, t) {
    const n = row.step.step;
    if (done?.err) {
      row.calls.className = "calls error";
      say(row.calls, done.err);
      set(row.calls, "title", done.err);
      return;
    }
    const c = (done?.calls || row.step.c).replaceAll(",", "");
    let extra = "";
    if (done?.bytes && n !== 4) extra = bytes(done.bytes);
    if (n === 7 && lane?.body && lane.body.t <= t) extra = bytes(lane.body.bytes ?? 0);
    if (n === 8 && done?.status) extra = `${done.status}, ${extra}`;
    row.calls.className = "calls";
    const key = c + row.go + extra;
    if (row.calls.said === key) return;
    row.calls.said = key;
    set(row.calls, "title", null);
    row.calls.replaceChildren(
      el("code", { class: "c", title: "C" }, c),
      el("code", { class: "go", title: "Go" }, row.go),
      el("span", {}, extra),
    );
  }
}

// arrow draws the lifelines and what passes between them in one step.
function arrow(ends, forwards) {
  const alive = forwards ? [LINES.c, LINES.p, LINES.b] : [LINES.c, LINES.p];
  const lines = alive.map((x) => svgEl("line", { class: "life", x1: x, x2: x, y1: 0, y2: 40 }));
  if (ends === "x") {
    const closed = [alive[0], alive.at(-1)];
    return [
      ...lines,
      svgEl("path", { class: "arrow", d: `M${closed[0]} 20H${closed[1]}` }),
      ...closed.map((x) => svgEl("path", { class: "arrow", d: `M${x - 4} 13l8 14m0 -14l-8 14` })),
    ];
  }
  const from = LINES[ends[0]],
    to = LINES[ends[1]];
  if (from === to) {
    return [...lines, svgEl("path", { class: "arrow", d: `M${from} 11h9v18h-9m4 -5l-4 5l4 5` })];
  }
  const back = to > from ? -6 : 6;
  return [
    ...lines,
    svgEl("path", { class: "arrow", d: `M${from} 20H${to}m${back} -7l${-back} 7l${back} 7` }),
  ];
}
