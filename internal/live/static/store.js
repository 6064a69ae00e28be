// The store keeps what the page knows: the last minute's connections, counts,
// workers and messages. Views draw it as it was at any time t (microseconds
// since the page's server started), so that live, paused, replayed and
// recorded runs are all drawn by the same code.

import { PHASES } from "./calls.js";
import { bytes, count, micros } from "./dom.js";

export const MINUTE = 60e6;
const GAP = 1e6; // without any connection for so long, the next one opens a new picture
const PATIENCE = 130e6; // longer than any client of the page's waits to be accepted
const KEPT = 400; // requests of an open connection that are remembered
const HOP = 90e3; // a ghost stays at each place at least so long, to be seen

// Lane is one connection, or one of the page's own clients that the proxy has
// not accepted yet.
class Lane {
  constructor(key, start) {
    this.key = key;
    this.start = start; // when its client dialled, or when it was accepted
    this.end = Infinity;
    this.conn = this.shot = this.accepted = this.child = null; // child: {from, to} of its process
    this.peer = this.worker = this.backend = "";
    this.status = 0;
    this.failed = false;
    this.steps = []; // events of steps 4–10, in their order
    this.requests = []; // {n, from, end, target, first, backend, tries, failed, body, pool}
    this.idle = []; // times from which it waited for another request
    this.ended = null; // event that says why it carries no further request
    this.changed();
  }

  changed() {
    this.phaseList = this.placeList = null;
  }

  // request returns the request that an event belongs to.
  request(e) {
    let r = this.requests.at(-1);
    if (!r || e.request > r.n) {
      r = { n: e.request || 1, from: e.t, end: Infinity, target: "", first: "", backend: "" };
      r.tries = []; // events of those that failed
      r.connects = []; // steps 6 that went well
      if (r.n > 1) r.from -= e.us;
      this.requests.push(r);
    }
    return r;
  }

  // requestAt returns the latest request that had begun at time t.
  requestAt(t) {
    return this.requests.findLast((r) => r.from <= t) ?? null;
  }

  // stepsAt returns what had happened by time t: steps 4 and 10, and of the
  // others those of the latest request, from step 6 on those of its latest try.
  stepsAt(t) {
    const n = this.requestAt(t)?.n;
    const list = this.steps.filter(
      (s) => s.t <= t && (s.step === 4 || s.step === 10 || (s.request || 1) === n),
    );
    const latest = list.findLast((s) => s.step < 10)?.try;
    return list.filter((s) => s.step < 6 || s.step === 10 || s.try === latest);
  }

  // forget drops what an open connection did before time t, but for step 4; and
  // of many requests the oldest.
  forget(t) {
    const old = this.requests.filter((r) => r.end < t).length;
    const drop = Math.max(old, this.requests.length - KEPT);
    if (drop <= 0) return;
    this.requests.splice(0, drop);
    const n = this.requests[0]?.n ?? Infinity;
    this.steps = this.steps.filter((s) => s.step === 4 || (s.request || 1) >= n);
    const cut = this.requests[0]?.from ?? t;
    this.idle = this.idle.filter((from, i, all) => from >= cut || i === all.length - 1);
    this.changed();
  }

  // idleAt says whether it waited for another request at time t.
  idleAt(t) {
    const last = this.steps.findLast((s) => s.t <= t)?.t ?? Infinity;
    return this.idle.some((from) => from <= t && from >= last);
  }

  // servedFrom returns from when on a worker was there: a child process has to
  // be started first, until it measures its first step.
  servedFrom() {
    if (!this.child || this.child.from < this.accepted) return this.accepted;
    const first = this.steps.find((s) => s.step === 5);
    return Math.max(this.child.from, first ? first.t - first.us : 0);
  }

  // phases returns what the connection did and when: {phase, from, to, err,
  // step}, step being the event at its end; to is Infinity for what it is still
  // doing. The pauses of slow motion count to the step that they delay.
  phases() {
    if (this.phaseList) return this.phaseList;
    const list = [];
    let last = this.start,
      before = 0; // number of the request before
    const go = (phase, to, err = "", step = null) => {
      if (to > last) list.push({ phase, from: last, to, err, step });
      last = to;
    };
    if (this.shot !== null && this.accepted !== this.start)
      go("backlog", this.accepted ?? this.end);
    if (this.accepted === null) return (this.phaseList = list);
    go("starting", this.servedFrom());
    for (const s of this.steps) {
      const others = s.request > before + 1; // requests that are not drawn
      if (s.step === 5 && s.request > 1) go(others ? "skipped" : "idle", s.t - s.us);
      if (s.step === 10 && before && s.request > before) go("skipped", s.t);
      const closed = s.step === 10 && this.idle.at(-1) >= last;
      if (s.step > 4) go(closed ? "idle" : PHASES[s.step], s.t, s.step < 10 && s.err, s);
      before = s.request || before;
    }
    if (this.end === Infinity) {
      const step = this.steps.at(-1);
      const phase = this.idleAt(Infinity) ? "idle" : PHASES[Math.min(step.step + 1, 10)];
      go(phase, Infinity, "", step);
    }
    return (this.phaseList = list);
  }

  // places returns where its request is, and from when on: {place, t, ghost,
  // failed, backend}. ghost is when a faded dot gets there that is slow enough to
  // be seen.
  places() {
    if (this.placeList) return this.placeList;
    const list = [];
    let failed = false,
      backend = "";
    const go = (place, t) => {
      const last = list.at(-1);
      if (last?.place === place && last.failed === failed && last.backend === backend) return;
      list.push({ place, t, ghost: last ? Math.max(t, last.ghost + HOP) : t, failed, backend });
    };
    if (this.shot !== null) go("queue", this.start);
    const first = new Map(this.requests.map((r) => [r.n, r.first]));
    for (const s of this.steps) {
      failed = Boolean(s.err) || (failed && s.step > 6);
      backend = s.backend || first.get(s.request || 1) || "";
      if (s.step === 4) go("proxy", this.accepted);
      if (s.step === 5) go(failed ? "proxy" : "link", s.t);
      if (s.step === 6 && s.try > 1) go("link", Math.max(s.t - s.us, list.at(-1).t));
      if (s.step === 6 && failed) go("proxy", s.t);
      if (s.step === 7) go(failed ? "proxy" : "backend", s.t);
      if (s.step === 8) go(failed ? "proxy" : "reply", s.t);
      if (s.step === 9) go("home", s.t);
    }
    failed ||= this.requests.at(-1)?.failed ?? this.failed;
    if (this.end !== Infinity) {
      go("home", this.end);
      list.push({ place: "", t: this.end, ghost: list.at(-1).ghost + 2 * HOP, failed, backend });
    }
    return (this.placeList = list);
  }

  // placeAt returns where its dot is at time t, or, by "ghost", where its ghost
  // is; null when there is none.
  placeAt(t, clock = "t") {
    if (t < this.start || t > this.end + 10 * HOP) return null;
    const at = this.places().findLast((p) => p[clock] <= t);
    return at?.place ? at : null;
  }
}

export class Store {
  constructor(hello) {
    this.hello = hello;
    this.lanes = []; // by start
    this.conns = new Map();
    this.shots = new Map();
    this.byPeer = new Map(); // lanes not yet joined with their client or connection
    this.workers = []; // child processes: {worker, from, to, text}
    this.snapshots = [];
    this.bursts = []; // {start, last}: times with connections
    this.checks = []; // events of health checks
    this.messages = []; // {t, text, bad}
    this.open = 0;
    this.lost = 0;
    this.newest = 0; // time of the latest event or counts
    this.active = 0; // time of the latest event
    for (const e of hello.open) this.add(e);
    for (const e of hello.children) this.worker(e);
  }

  add(e) {
    this.newest = Math.max(this.newest, e.t);
    this.active = Math.max(this.active, e.t);
    const burst = this.bursts.at(-1);
    if (burst && (this.open > 0 || e.t - burst.last < GAP) && e.t > burst.last) burst.last = e.t;
    if (e.kind === "step" && e.step === 4) this.accept(e);
    else if (e.kind === "client") this.client(e);
    else if (e.kind === "worker") this.worker(e);
    else if (e.kind === "problem") this.tell(e.t, e.err, true);
    else if (e.kind === "check") this.checks.push(e);
    else if (e.kind === "health")
      this.tell(e.t, (e.peer ? `${e.peer} is ${e.state}: ` : "") + e.text, e.state === "down");
    else this.happened(e);
  }

  begin(lane) {
    const burst = this.bursts.at(-1);
    if (!burst || (this.open === 0 && lane.start - burst.last >= GAP)) {
      this.bursts.push({ start: lane.start, last: lane.start });
    }
    this.open++;
    this.lanes.push(lane);
  }

  finish(lane, t) {
    if (lane.end !== Infinity) return;
    lane.end = t;
    this.open--;
    lane.changed();
  }

  accept(e) {
    if (this.conns.has(e.conn)) return; // the program's greeting had it already
    let lane = this.byPeer.get(e.peer);
    if (lane && lane.conn === null) {
      this.byPeer.delete(e.peer);
    } else {
      lane = new Lane(`c${e.conn}`, e.t);
      lane.peer = e.peer;
      this.byPeer.set(e.peer, lane);
      this.begin(lane);
    }
    lane.conn = e.conn;
    lane.accepted = Math.max(e.t, lane.start);
    lane.steps.push(e);
    lane.changed();
    this.conns.set(e.conn, lane);
  }

  happened(e) {
    const over = e.kind === "request" || (e.step === 10 && !e.request);
    if (over && e.err) this.tell(e.t, `#${e.conn} ${e.err}`, e.failed);
    if (e.kind === "pool" && e.state === "dropped")
      return this.tell(e.t, `an idle connection to ${e.peer} was closed: ${e.text}`, false);
    const lane = this.conns.get(e.conn);
    if (!lane) return;
    lane.changed();
    if (e.worker) lane.worker = e.worker;
    if (e.status) lane.status = e.status;
    if (e.kind === "idle") lane.idle.push(e.t);
    if (e.kind === "step") lane.steps.push(e);
    if (e.step === 10) {
      lane.failed ||= Boolean(e.failed);
      this.finish(lane, e.t);
    }
    if (e.kind === "pool" && !e.peer) lane.ended = e;
    if (e.kind === "idle" || e.step === 10 || lane.ended === e) return;
    const r = lane.request(e);
    if (e.kind === "route" || e.step === 6) lane.backend = r.backend = e.peer || r.backend;
    r.first ||= r.backend;
    e.backend = r.backend;
    if (e.kind === "body") r.body = e;
    if (e.kind === "pool") {
      r.pool = e;
      if (e.state === "closed")
        this.tell(e.t, `#${e.conn} the connection to ${e.peer} was closed: ${e.text}`, false);
    }
    if (e.kind === "try") {
      r.tries.push(e);
      const next = e.state === "again" ? "trying again" : "no further try";
      this.tell(e.t, `#${e.conn} try ${e.try || 1} failed, ${next}: ${e.text}`, false);
    }
    if (e.kind === "cookie") this.tell(e.t, `#${e.conn} ${e.text}`, false);
    if (e.step === 5) r.target = e.text ?? "";
    if (e.step === 6 && !e.err) r.connects.push(e);
    if (e.kind === "request") {
      Object.assign(r, { end: e.t, failed: Boolean(e.failed) });
      lane.failed ||= r.failed;
    }
  }

  client(e) {
    let lane = this.shots.get(e.shot);
    if (e.text === "dialling") {
      lane = new Lane(`s${e.shot}`, e.t);
      lane.shot = e.shot;
      this.shots.set(e.shot, lane);
      this.begin(lane);
      return;
    }
    if (!lane) return;
    if (e.text === "connected") this.connected(lane, e);
    if (e.text === "done") {
      const answer = e.status ? `${e.status}, ${bytes(e.bytes ?? 0)} in ${micros(e.us)}` : "";
      const id = lane.conn ? `#${lane.conn} ` : "";
      const silent = e.name === "steady" && !e.err; // there are too many of them
      if (!silent)
        this.tell(
          e.t,
          `${id}client “${e.name}”: ${[answer, e.err].filter(Boolean).join(", ")}`,
          Boolean(e.err),
        );
      if (lane.conn === null) this.finish(lane, e.t); // never accepted
      this.shots.delete(e.shot);
    }
  }

  // connected joins a client of the page's with its connection, whichever was
  // heard of first.
  connected(lane, e) {
    lane.peer = e.peer;
    const other = this.byPeer.get(e.peer);
    if (!other || other.conn === null || other.shot !== null || other.accepted < lane.start - 5e6) {
      this.byPeer.set(e.peer, lane);
      return;
    }
    this.byPeer.delete(e.peer);
    const { key, start, shot } = lane;
    Object.assign(lane, other, { key, start, shot });
    lane.accepted = Math.max(lane.accepted, start);
    lane.changed();
    this.lanes.splice(this.lanes.indexOf(other), 1);
    this.conns.set(lane.conn, lane);
    this.open--;
  }

  // worker keeps the life of a child process.
  worker(e) {
    const lane = this.conns.get(e.conn);
    const life = this.workers.findLast((w) => w.worker === e.worker && w.to === Infinity);
    lane?.changed();
    if (e.state !== "started") {
      if (life) life.to = e.t;
      this.tell(e.t, `${e.worker} ${e.text}`, false);
      return;
    }
    let now = life;
    if (life?.from !== e.t) {
      // else the program's greeting had it already
      now = { worker: e.worker, from: e.t, to: Infinity };
      this.workers.push(now);
      if (life) life.to = e.t;
    }
    if (lane) Object.assign(lane, { child: now, worker: e.worker });
  }

  tell(t, text, bad) {
    this.messages.push({ t, text, bad });
    if (this.messages.length > 500) this.messages.shift();
  }

  snapshot(s) {
    this.snapshots.push(s);
    this.newest = Math.max(this.newest, s.t);
  }

  // missed ends what this page can no longer know about: connections and
  // processes that ended among the events it was too slow for.
  missed(note) {
    this.lost += note.events;
    const open = new Set(note.open);
    for (const lane of this.lanes) {
      if (lane.end === Infinity && lane.conn !== null && !open.has(lane.conn))
        this.finish(lane, this.newest);
    }
    const alive = new Set(note.workers);
    for (const life of this.workers)
      if (life.to === Infinity && !alive.has(life.worker)) life.to = this.newest;
    this.tell(
      this.newest,
      `this page was too slow for ${note.events} events; the counts are right`,
      true,
    );
  }

  // trim forgets what is older than a minute.
  trim(now) {
    const cut = now - MINUTE;
    const old = (lane) => lane.end < cut;
    // A client of the page's that was never accepted and whose end was lost.
    for (const [shot, lane] of this.shots) {
      if (lane.start > now - PATIENCE) continue;
      this.shots.delete(shot);
      if (lane.conn === null) this.finish(lane, now);
    }
    for (const lane of this.lanes) {
      if (!old(lane)) continue;
      this.conns.delete(lane.conn);
      if (this.byPeer.get(lane.peer) === lane) this.byPeer.delete(lane.peer);
    }
    this.lanes = this.lanes.filter((lane) => !old(lane));
    for (const lane of this.lanes) lane.forget(cut);
    this.workers = this.workers.filter((w) => w.to > cut);
    this.messages = this.messages.filter((m) => m.t > cut);
    this.checks = this.checks.filter((e) => e.t > cut);
    while (this.bursts.length > 1 && this.bursts[0].last < cut) this.bursts.shift();
    while (this.snapshots.length > 1 && this.snapshots[1].t < cut) this.snapshots.shift();
  }

  // snapshotAt returns the latest counts at time t.
  snapshotAt(t) {
    return this.snapshots[this.indexAt(t)] ?? null;
  }

  indexAt(t) {
    let low = 0,
      high = this.snapshots.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.snapshots[middle].t <= t) low = middle + 1;
      else high = middle;
    }
    return Math.max(0, low - 1);
  }

  // rateAt returns requests and connections a second over the second before t,
  // and how many of them are drawn: shown requests, drawn connections.
  rateAt(t) {
    const now = this.snapshotAt(t),
      before = this.snapshotAt(t - 1e6);
    if (!now || now === before) return { requests: 0, connections: 0, drawn: 0, shown: 0 };
    const seconds = Math.max((now.t - before.t) / 1e6, 0.2);
    const per = (name) => Math.round((now[name] - before[name]) / seconds);
    return {
      requests: per("requests"),
      connections: per("connections"),
      drawn: per("drawn"),
      shown: per("shown"),
    };
  }

  // openAt says whether any connection was open at time t.
  openAt(t) {
    return this.lanes.some((lane) => lane.start <= t && lane.end > t);
  }

  burstAt(t) {
    return this.bursts.findLast((b) => b.start <= t) ?? null;
  }

  // workerOf names who serves a connection, also where the program has only one.
  workerOf(lane) {
    return lane.worker || (this.hello.single ? "main goroutine" : "");
  }

  messageAt(t) {
    return this.messages.findLast((m) => m.t <= t) ?? null;
  }
}

// resultOf says how a connection stands at time t: the status and the client's
// whole time; lanes add how much of it was the wait to be accepted.
export function resultOf(lane, t) {
  const whole = micros(Math.min(t, lane.end) - lane.start);
  if (lane.accepted === null || t < lane.accepted) return lane.end <= t ? "gone" : `waits ${whole}`;
  const all = lane.end <= t ? lane.steps.at(-1).request : 0; // those that are not drawn too
  const n = Math.max(lane.requestAt(t)?.n ?? 0, all ?? 0);
  const status = lane.stepsAt(t).findLast((s) => s.status)?.status;
  const bad = lane.requests.some((r) => r.failed && r.end <= t) || (lane.failed && lane.end <= t);
  return (bad ? "✕ " : "") + [n > 1 ? `${count(n)} requests` : status, whole].filter(Boolean).join(" · ");
}

export function waitOf(lane, t) {
  const whole = Math.min(t, lane.end) - lane.start,
    waited = lane.accepted - lane.start;
  return lane.accepted !== null && t > lane.accepted && waited > whole / 50
    ? `, waited ${micros(waited, whole)}`
    : "";
}
