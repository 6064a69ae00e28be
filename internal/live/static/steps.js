// The steps: one connection as a sequence diagram of ten rows, filled in as
// its steps happen, each with the C call, the Go call and the time it took.

import { $, bytes, el, micros, pool, say, set, svgEl } from "./dom.js";
import { STEPS, has } from "./calls.js";
import { resultOf } from "./store.js";

// Where the lifelines stand in a row's drawing, which is 100 wide and 40 high.
const LINES = { c: 12, p: 50, b: 88 };

export class Steps {
  constructor(root, store) {
    this.root = root;
    this.title = $("#steps-title");
    this.request = $("#steps-request");
    this.tries = pool($("#tries"), () => el("li"));
    this.rows = STEPS.map((step) => this.newRow(step));
    $("#step-list").replaceChildren(...this.rows.map((row) => row.root));
    this.reset(store);
  }

  reset(store) {
    this.store = store;
    const { forwards, rawCalls } = store.hello;
    for (const row of this.rows) {
      row.drawing.replaceChildren(...arrow(row.step.arrow, forwards));
      set(row.root, "hidden", has(row.step.step, store.hello) ? null : "");
      row.go = rawCalls ? `syscall.${row.step.raw}` : row.step.go;
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
    const accepted = lane?.conn && lane.accepted <= t;
    const request = lane?.requestAt(t);
    say(
      this.title,
      accepted
        ? [`Connection #${lane.conn}`, this.store.workerOf(lane)].filter(Boolean).join(" · ")
        : lane
          ? "A client in the backlog"
          : "Steps",
    );
    const steps = lane?.stepsAt(t) ?? [];
    say(
      this.request,
      lane ? headline(lane, steps, request, t) : "Choose a connection with ↑ and ↓.",
    );
    set(this.root, "data-conn", lane?.conn ?? null);
    this.drawTries(request, t);
    const next = lane ? this.expected(lane, steps, t) : 0;
    for (const row of this.rows) this.drawRow(row, lane, steps, request, t, next);
  }

  // drawTries lists the request's tries that failed, and what followed.
  drawTries(request, t) {
    const failed = request?.tries.filter((e) => e.t <= t) ?? [];
    failed.forEach((e, i) => {
      const next = e.state === "again" ? "tried again" : "no further try";
      const port = e.peer ? ` → :${e.peer.split(":").at(-1)}` : "";
      const line = this.tries.at(i);
      set(line, "data-state", e.state === "again" ? "again" : "over");
      say(line, `try ${e.try || 1}${port} failed, ${next}: ${e.text}`);
    });
    this.tries.hideFrom(failed.length);
  }

  // expected returns the step that the connection is in at time t.
  expected(lane, steps, t) {
    if (lane.accepted === null || lane.accepted > t) return 4;
    if (lane.end <= t || lane.idleAt(t)) return 0;
    const next = steps.at(-1).step + 1;
    return has(next, this.store.hello) ? next : 10;
  }

  drawRow(row, lane, steps, request, t, expected) {
    const n = row.step.step;
    const done =
      n <= 3
        ? this.store.hello.listening.find((s) => s.step === n)
        : steps.findLast((s) => s.step === n);
    let state = "pending",
      time = "";
    if (done) {
      state = done.err && !(n === 10 && !done.failed) ? "failed" : n <= 3 ? "once" : "done";
      if (n <= 3) time = "once";
      else if (n === 4) time = this.waited(lane);
      else time = micros(done.us) + (n === 10 ? " in all" : "");
    } else if (n === expected) {
      state = "now";
      time = this.since(steps.at(-1)?.t ?? lane.start, n, t);
    }
    set(row.root, "data-state", state);
    set(row.root, "data-us", done ? done.us : null);
    set(row.root, "data-calls", done?.calls ?? null);
    say(row.time, time);
    // What ended the connection early need not be said twice.
    const said = n === 10 && done?.err && steps.some((s) => s.step < 10 && s.err === done.err);
    if (n === 10 && (said || !done?.err) && this.drawEnds(row, lane, request, t)) return;
    this.drawCalls(row, said ? { ...done, err: "" } : done, request?.body, t);
  }

  // since says how long a step has been going on. The pause of slow motion comes
  // before it; after accept and after the request was forwarded it runs beside
  // the next step, which, if it was faster, is told at the pause's end.
  since(from, n, t) {
    const pause = (this.store.snapshotAt(t)?.slow ?? 0) * 1000;
    if (t - from < pause) return "…";
    return `${micros(t - from - (n === 5 || n === 8 || n === 4 ? 0 : pause))} …`;
  }

  // waited says how long a client of the page's waited to be accepted; for
  // others only the kernel knows.
  waited(lane) {
    return lane.shot !== null && lane.accepted > lane.start
      ? `waited ${micros(lane.accepted - lane.start)}`
      : "";
  }

  // drawEnds says what became of the backend's connection after a request, and why
  // the client's carries no further one, if that is known.
  drawEnds(row, lane, request, t) {
    const words = [];
    const pool = request?.pool;
    if (pool?.t <= t)
      words.push(pool.state === "kept" ? "backend’s kept" : `backend’s closed: ${pool.text}`);
    if (lane?.ended?.t <= t) words.push(`client’s closed: ${lane.ended.text}`);
    if (words.length === 0) return false;
    row.calls.className = "calls words";
    say(row.calls, words.join(" · "));
    return true;
  }

  drawCalls(row, done, body, t) {
    const n = row.step.step;
    if (done?.err) {
      row.calls.className = "calls error";
      say(row.calls, done.err);
      return;
    }
    row.calls.className = "calls";
    const again = done?.try > 1 ? `try ${done.try}` : "";
    if (done?.reused) {
      say(row.calls, ["an idle connection, reused", again].filter(Boolean).join(", "));
      return;
    }
    const c = (done?.calls || row.step.c).replaceAll(",", "");
    let extra = "";
    if (done?.bytes && n !== 4) extra = bytes(done.bytes);
    if (n === 6) extra = again;
    if (n === 7 && body?.t <= t) extra = bytes(body.bytes ?? 0);
    if (n === 8 && done?.status) extra = `${done.status}, ${extra}`;
    const key = c + row.go + extra;
    if (row.calls.said === key) return;
    row.calls.said = key;
    row.calls.replaceChildren(
      el("code", { class: "c", title: "C" }, c),
      // Chapter 10 has recv and send, where package syscall has no function for it.
      c === row.step.c || !this.store.hello.rawCalls
        ? el("code", { class: "go", title: "Go" }, row.go)
        : "",
      el("span", {}, extra),
    );
  }
}

function headline(lane, steps, request, t) {
  const number = request?.n > 1 && `request ${request.n}: `;
  const asked = steps.some((s) => s.step === 5) && request?.target;
  const backend = steps.some((s) => s.step === 6) && ` → :${request.backend.split(":").at(-1)}`;
  const what = [number, asked, backend].filter(Boolean).join("");
  return [what, resultOf(lane, t)].filter(Boolean).join(" · ");
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
