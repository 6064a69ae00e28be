// The live page. Events come from the program as server-sent events, or, in a
// recording, from the page itself; each frame draws one moment of them.

import { $, $$, count, plural, say, sayInOneLine, set } from "./dom.js";
import { Store } from "./store.js";
import { Player } from "./player.js";
import { Flow } from "./flow.js";
import { Lanes } from "./lanes.js";
import { Steps } from "./steps.js";
import { Controls } from "./controls.js";

const FOLLOW_FOR = 700; // milliseconds that a followed connection stays selected

class App {
  constructor(hello, live) {
    this.player = new Player();
    this.selected = null; // a lane, or null to follow the newest
    this.followed = null;
    this.followedAt = 0;
    this.store = new Store(hello);
    this.controls = new Controls(this);
    const act = live ? (path, command) => this.controls.act(path, command) : null;
    this.flow = new Flow($("#flow"), this.store, act);
    this.lanes = new Lanes($("#lanes"), this.store, (lane) => (this.selected = lane));
    this.steps = new Steps($("#steps"), this.store);
    this.show(hello);
    let drawn = 0;
    const frame = (now) => {
      // While nothing happens ten frames a second are enough for the clock.
      if (!this.quiet() || now - drawn >= 100) {
        this.draw();
        drawn = now;
      }
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
    setInterval(() => this.player.ended === null && this.store.trim(this.player.now()), 1000);
  }

  // restart forgets everything: the stream begins anew.
  restart(hello) {
    this.store = new Store(hello);
    this.selected = this.followed = null;
    this.player.begin();
    for (const view of [this.flow, this.lanes, this.steps]) view.reset(this.store);
    this.show(hello);
  }

  show(hello) {
    document.title = `${hello.chapter}: live`;
    say($("#chapter"), hello.chapter);
    sayInOneLine($("#proxy-name"), hello.chapter);
    say($("#proxy-addr"), hello.proxy);
    say($("#model"), hello.workers);
    set(document.documentElement, "data-forwards", hello.forwards);
    set(document.documentElement, "data-keeps", hello.keeps);
    $('[data-shoot="row"]').hidden = !hello.keeps;
    $("#steady").hidden = !hello.forwards;
    for (const button of $$('[data-shoot="big"], [data-shoot="drop"]'))
      button.hidden = !hello.forwards;
  }

  quiet() {
    return (
      this.player.mode === "live" &&
      this.store.open === 0 &&
      this.player.now() - this.store.active > 3e6
    );
  }

  draw() {
    const t = this.player.time();
    this.lanes.look(t, this.selected);
    const lane = this.chosen();
    this.drawTotals(t);
    this.flow.draw(t);
    this.lanes.draw(lane);
    this.steps.draw(lane, this.lanes.t); // the same connection at the same time
    this.controls.draw(t);
  }

  drawTotals(t) {
    const counts = this.store.snapshotAt(t);
    if (!counts) return;
    for (const name of ["connections", "requests", "inFlight", "idle", "failed"]) {
      const node = $(`[data-counter="${name}"]`);
      say(node, count(counts[name]));
      set(node, "data-value", counts[name]);
    }
    for (const word of ["connection", "request"])
      say($(`[data-counter="${word}s"]`).previousElementSibling, plural(counts[`${word}s`], word));
    set($('[data-counter="failed"]'), "class", counts.failed ? "bad" : null);
    // What is the same as another count, or none, says nothing.
    const hide = (name, idle) => ($(`[data-counter="${name}"]`).parentNode.hidden = idle);
    hide("requests", counts.requests <= counts.connections);
    hide("idle", !counts.idle);
    say($('[data-counter="rate"]'), count(this.store.rateAt(t).requests));
  }

  // chosen returns the selected lane, or the newest that is drawn; under load
  // the newest is changed slowly enough to be read.
  chosen() {
    const { visible, t } = this.lanes;
    if (visible.includes(this.selected)) return this.selected;
    const now = performance.now();
    if (visible.includes(this.followed) && now - this.followedAt < FOLLOW_FOR) return this.followed;
    const newest =
      visible.findLast((l) => l.accepted !== null && l.accepted <= t) ?? visible.at(-1) ?? null;
    if (newest !== this.followed) {
      this.followed = newest;
      this.followedAt = now;
    }
    return newest;
  }

  selectNext(step) {
    this.selected = this.lanes.next(this.chosen(), step);
  }

  // follow goes back to the newest connection and to now.
  follow() {
    this.selected = null;
    if (this.player.ended === null) this.player.mode = "live";
  }

  // otherBurst goes to the picture before or after the one shown.
  otherBurst(step) {
    const { bursts } = this.store;
    const i = bursts.indexOf(this.store.burstAt(this.player.at)) + step;
    if (i >= 0 && i < bursts.length) this.player.seek(bursts[i].last + 2e5);
  }
}

function status(state, words) {
  set($("#status"), "data-status", state);
  say($("#status"), words);
}

// watch follows the program until the page is closed.
function watch() {
  const source = new EventSource("events");
  let app = null;
  const on = (name, take) => source.addEventListener(name, (e) => take(JSON.parse(e.data)));
  on("hello", (hello) => {
    if (app) app.restart(hello);
    else app = new App(hello, true);
    app.player.heard(hello.now);
    status("live", "live");
  });
  on("history", (list) => (list ?? []).forEach((s) => app.store.snapshot(s)));
  on("events", (list) => list.forEach((e) => app.store.add(e)));
  on("tick", (tick) => {
    app.player.heard(tick.t);
    tick.events.forEach((e) => app.store.add(e));
    app.store.snapshot(tick);
    if (tick.lost) app.store.missed(tick.lost);
    status("live", app.store.lost ? `live, lost ${app.store.lost} events` : "live");
    set($("#status"), "data-lost", app.store.lost);
  });
  on("lost", (note) => app.store.missed(note));
  on("end", () => app.player.end(app.store.newest + 1e6));
  source.onerror = () => {
    if (!app) return status("ended", "no connection");
    app.player.end(app.store.newest + 1e6);
    status("ended", "program ended");
  };
}

// play shows a recording.
function play(recording) {
  document.documentElement.dataset.recording = "true";
  const app = new App(recording.hello, false);
  for (const s of recording.history) app.store.snapshot(s);
  for (const e of recording.events) app.store.add(e);
  app.player.end(app.store.newest + 1e6);
  app.controls.replay();
  status("recording", "recording");
  $("#replay").textContent = "Replay";
}

// In a frame it stands beside another page, which has the buttons for both.
if (window.parent !== window) document.documentElement.dataset.beside = "";

const recorded = document.getElementById("recording");
if (recorded) play(JSON.parse(recorded.textContent));
else watch();
