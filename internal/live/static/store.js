// The store keeps what the page knows: the last minute's connections, counts,
// workers and messages. Views draw it as it was at any time t (microseconds
// since the page's server started), so that live, paused, replayed and
// recorded runs are all drawn by the same code.

import { PHASES } from "./calls.js";
import { bytes, micros } from "./dom.js";

export const MINUTE = 60e6;
const GAP = 1e6; // without any connection for so long, the next one opens a new picture
const HOP = 200e3; // a dot stays at each place at least so long, to be seen

// Lane is one connection, or one of the page's own clients that the proxy has
// not accepted yet.
class Lane {
  constructor(key, start) {
    this.key = key;
    this.start = start; // when its client dialled, or when it was accepted
    this.end = Infinity;
    this.conn = this.shot = this.accepted = null;
    this.peer = this.worker = this.backend = this.request = this.error = "";
    this.status = 0;
    this.failed = false;
    this.steps = []; // {step, t, us, calls, bytes, status, text, err, peer}
    this.child = null; // {from, to, text} of its child process
    this.body = null;
    this.changed();
  }

  changed() {
    this.phaseList = this.placeList = null;
  }

  step(n) {
    return this.steps.find((s) => s.step === n);
  }

  // phases returns what the connection did and when: {phase, from, to, err};
  // to is Infinity for what it is still doing. The pauses of slow motion count
  // to the step that they delay.
  phases() {
    if (this.phaseList) return this.phaseList;
    const list = [];
    if (this.shot !== null && this.accepted !== this.start) {
      list.push({ phase: "backlog", from: this.start, to: this.accepted ?? this.end, err: "" });
    }
    let last = this.accepted;
    for (const s of this.steps) {
      if (s.step < 5) continue;
      list.push({ phase: PHASES[s.step], from: last, to: s.t, err: s.step === 10 ? "" : s.err });
      last = Math.max(last, s.t);
    }
    if (this.accepted !== null && this.end === Infinity) {
      const done = this.steps.reduce((most, s) => Math.max(most, s.step), 4);
      list.push({ phase: PHASES[Math.min(done + 1, 10)], from: last, to: Infinity, err: "" });
    }
    return (this.phaseList = list);
  }

  // places returns where its dot is from when on: {place, t, failed}. The
  // places are the true ones; each is held long enough to be seen.
  places() {
    if (this.placeList) return this.placeList;
    const list = [{ place: "client", t: this.start, failed: false }];
    let failed = false;
    const go = (place, t) => {
      if (list.at(-1).place === place && list.at(-1).failed === failed) return;
      list.push({
        place,
        t: Math.max(t, list.at(-1).t + (list.length > 1 ? HOP : HOP / 4)),
        failed,
      });
    };
    if (this.shot !== null) go("queue", this.start);
    if (this.accepted !== null) go("proxy", this.accepted);
    for (const s of this.steps) {
      failed ||= Boolean(s.err);
      if (s.step === 5) go(s.err ? "reply" : "link", s.t);
      if (s.step === 6 && !s.err) go("backend", s.t);
      if (s.step === 6 && s.err) go("proxy", s.t);
      if (s.step === 8) go(s.err ? "proxy" : "reply", s.t);
      if (s.step === 9) go("home", s.t);
    }
    if (this.end !== Infinity) {
      failed ||= this.failed;
      go("home", this.end);
      list.push({ place: "gone", t: list.at(-1).t + 1.5 * HOP, failed });
    }
    return (this.placeList = list);
  }

  // placeAt returns its dot's place at time t, null before and after.
  placeAt(t) {
    if (t < this.start || t > this.end + 10 * HOP) return null;
    const list = this.places();
    let at = null;
    for (const p of list) {
      if (p.t > t) break;
      at = p;
    }
    return at.place === "gone" ? null : at;
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
    this.messages = []; // {t, text, bad}
    this.open = 0;
    this.lost = 0;
    this.newest = 0; // time of the latest event or counts
    this.active = 0; // time of the latest event
  }

  add(e) {
    this.newest = Math.max(this.newest, e.t);
    this.active = Math.max(this.active, e.t);
    const burst = this.bursts.at(-1);
    if (burst && (this.open > 0 || e.t - burst.last < GAP) && e.t > burst.last) burst.last = e.t;
    if (e.kind === "step" && e.step === 4) this.accept(e);
    else if (e.kind === "step" || e.kind === "route" || e.kind === "body") this.happened(e);
    else if (e.kind === "client") this.client(e);
    else if (e.kind === "worker") this.worker(e);
    else if (e.err) this.tell(e.t, e.err, true);
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
    const lane = this.conns.get(e.conn);
    if (!lane) {
      if (e.err) this.tell(e.t, `#${e.conn} ${e.err}`, true);
      return;
    }
    if (e.worker) lane.worker = e.worker;
    if (e.kind === "route" || e.step === 6) lane.backend = e.peer || lane.backend;
    if (e.kind === "body") lane.body = e;
    if (e.kind === "step") {
      lane.steps.push(e);
      if (e.step === 5) lane.request = e.text ?? "";
      if (e.status) lane.status = e.status;
      if (e.err) lane.error = e.err;
      if (e.step === 10) {
        lane.failed = Boolean(e.failed);
        this.finish(lane, e.t);
        if (e.err) this.tell(e.t, `#${e.conn} ${e.err}`, lane.failed);
      }
    }
    lane.changed();
  }

  client(e) {
    let lane = this.shots.get(e.shot);
    if (e.text === "dialling") {
      lane = new Lane(`s${e.shot}`, e.t);
      lane.shot = e.shot;
      lane.request = e.name;
      this.shots.set(e.shot, lane);
      this.begin(lane);
      return;
    }
    if (!lane) return;
    if (e.text === "connected") this.connected(lane, e);
    if (e.text === "done") {
      const answer = e.status ? `${e.status}, ${bytes(e.bytes ?? 0)} in ${micros(e.us)}` : "";
      const id = lane.conn ? `#${lane.conn} ` : "";
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

  worker(e) {
    const lane = this.conns.get(e.conn);
    const started = e.text?.startsWith("started");
    if (started) {
      const life = { worker: e.worker, from: e.t, to: Infinity, text: e.text };
      this.workers.push(life);
      if (lane) lane.child = life;
    } else {
      const life = this.workers.findLast((w) => w.worker === e.worker && w.to === Infinity);
      if (life) Object.assign(life, { to: e.t, text: e.text });
      this.tell(e.t, `${e.worker} ${e.text}`, !/status 0$/.test(e.text ?? ""));
    }
    if (lane && !lane.worker) lane.worker = e.worker;
    lane?.changed();
  }

  tell(t, text, bad) {
    this.messages.push({ t, text, bad });
    if (this.messages.length > 500) this.messages.shift();
  }

  snapshot(s) {
    this.snapshots.push(s);
    this.newest = Math.max(this.newest, s.t);
  }

  // missed ends what this page can no longer know about: connections that
  // closed among the events it was too slow for.
  missed(note) {
    this.lost += note.events;
    const open = new Set(note.open);
    for (const lane of this.lanes) {
      if (lane.end === Infinity && lane.conn !== null && !open.has(lane.conn))
        this.finish(lane, this.newest);
    }
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
    for (const lane of this.lanes) {
      if (!old(lane)) continue;
      this.conns.delete(lane.conn);
      if (this.byPeer.get(lane.peer) === lane) this.byPeer.delete(lane.peer);
    }
    this.lanes = this.lanes.filter((lane) => !old(lane));
    this.workers = this.workers.filter((w) => w.to > cut);
    this.messages = this.messages.filter((m) => m.t > cut);
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

  // rateAt returns connections a second over the second before t, and how
  // many of them are drawn.
  rateAt(t) {
    const now = this.snapshotAt(t),
      before = this.snapshotAt(t - 1e6);
    if (!now || now === before) return { rate: 0, drawn: 0 };
    const seconds = Math.max((now.t - before.t) / 1e6, 0.2);
    return {
      rate: Math.round((now.connections - before.connections) / seconds),
      drawn: Math.round((now.drawn - before.drawn) / seconds),
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

// resultOf says how a connection stands at time t, in a few words.
export function resultOf(lane, t) {
  if (lane.accepted === null || t < lane.accepted) {
    return lane.end <= t ? "gone" : `waits ${micros(t - lane.start)}`;
  }
  const upTo = Math.min(t, lane.end);
  const time = micros(upTo - lane.accepted);
  const status = lane.steps.findLast((s) => s.status && s.t <= t)?.status;
  const bad = lane.steps.some((s) => s.err && s.t <= t) || (lane.failed && lane.end <= t);
  return `${bad ? "✕ " : ""}${status ? `${status} · ` : ""}${time}`;
}
