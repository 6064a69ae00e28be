// Buttons, keys, theme, time line.

import { $, $$, el, pool, say, set, svgEl } from "./dom.js";
import { MINUTE } from "./store.js";

const VIEWS = ["all", "flow", "lanes", "steps"];
const THEMES = ["auto", "light", "dark"];

const KEYS = [
  ["O  T  S  B", "send one, ten at once, a slow one, a big one"],
  ["A", "six in a row on one connection, where connections are kept"],
  ["P", "keep sending, so many requests a second; stop it"],
  ["I  H  L  K", "broken: silent, half a request, leaves halfway, backend breaks"],
  ["1  2  3", "stop or start that backend (with -demo)"],
  ["Space", "pause, go on"],
  ["R", "replay the last minute, from its first connection"],
  ["← →", "half a second back or on; with Shift a twentieth"],
  ["[ ]", "the picture before, the next one"],
  ["F", "speed of the replay"],
  ["↑ ↓", "choose a connection"],
  ["Esc", "follow the newest connection, live"],
  ["+ −", "zoom the time axis"],
  ["0", "automatic zoom"],
  ["C", "colour by step or by backend"],
  ["M", "slow motion: more, then off"],
  ["V", "enlarge flow, connections, steps"],
  ["D", "light, dark, or as the system"],
  ["W", "save the last minute as one HTML file"],
];

export class Controls {
  constructor(app) {
    this.app = app;
    for (const button of $$("[data-shoot]")) {
      button.addEventListener("click", () => this.act("shoot", { what: button.dataset.shoot }));
    }
    for (const button of $$("[data-do]"))
      button.addEventListener("click", () => this[button.dataset.do]());
    // After a choice by pointer the keys are the page's again; who chooses by keys
    // may need more than one of them.
    let byKeys = false;
    for (const type of ["pointerdown", "keydown"])
      document.addEventListener(type, () => (byKeys = type === "keydown"), true);
    const leave = (e) => byKeys || e.target.blur();
    $("#slow").addEventListener("change", (e) => {
      this.slow(Number(e.target.value));
      leave(e);
    });
    $("#rate").addEventListener("input", (e) => {
      if (this.steadyNow()) this.keepSending(Number(e.target.value));
    });
    $("#rate").addEventListener("change", leave);
    $("#algorithm").addEventListener("change", (e) => {
      this.act("algorithm", { what: e.target.value });
      leave(e);
    });
    $("#time").addEventListener("input", (e) =>
      app.player.seek(app.player.now() + Number(e.target.value) * 1e6),
    );
    document.addEventListener("keydown", (e) => this.key(e));
    $("#keys").append(
      ...KEYS.flatMap(([key, words]) => [
        el("span", {}, ...key.split("  ").map((k) => el("kbd", {}, k))),
        el("span", {}, words),
      ]),
    );
    this.asked = Promise.resolve(); // ends when the latest pause has been asked for
    this.pausing = null; // the pause that was asked for, until the program has it
    this.sending = null; // the rate that was asked for, until the program has it
    this.activity = pool($(".activity"), () => svgEl("rect", { width: 0.85 }));
    try {
      this.setTheme(localStorage.getItem("theme") ?? "auto");
    } catch {
      this.setTheme("auto"); // no storage in a file or a private window
    }
  }

  // act asks the program to do something; why it will not is shown.
  async act(path, command) {
    const { store } = this.app;
    if (!store.hello.token) return;
    try {
      const answer = await fetch(path, {
        method: "POST",
        body: JSON.stringify(command),
        headers: { "Content-Type": "application/json", "X-Live-Token": store.hello.token },
      });
      if (!answer.ok) store.tell(this.app.player.now(), (await answer.text()).trim(), true);
    } catch {
      store.tell(this.app.player.now(), "the program does not answer", true);
    }
  }

  key(e) {
    if (e.ctrlKey || e.metaKey || e.altKey || $("#help").open) return;
    if (e.target.matches("select, input") && /^(Arrow|Home|End|Page|Enter)/.test(e.key)) return;
    if (e.target.matches("select") && e.key === " ") return; // opens the list
    const key = e.key.toLowerCase();
    if (key === " " && e.target.matches("button")) return; // presses that button
    const { player, lanes } = this.app;
    const moves = {
      arrowleft: () => player.seek(player.time() - (e.shiftKey ? 5e4 : 5e5)),
      arrowright: () => player.seek(player.time() + (e.shiftKey ? 5e4 : 5e5)),
      arrowup: () => this.app.selectNext(-1),
      arrowdown: () => this.app.selectNext(1),
      escape: () => this.app.follow(),
      "+": () => lanes.zoomBy(-1),
      "=": () => lanes.zoomBy(-1),
      "-": () => lanes.zoomBy(1),
      0: () => (lanes.zoom = null),
      "[": () => this.app.otherBurst(-1),
      "]": () => this.app.otherBurst(1),
      c: () => (lanes.colors = lanes.byBackend ? "phase" : "backend"),
      m: () => this.slower(),
    };
    const button = $$("[data-key]").find((b) => b.dataset.key === key && b.matches("button"));
    const backend = /^[1-9]$/.test(key) && $(`[data-backend-index="${key - 1}"]`);
    if (moves[key]) moves[key]();
    else if (backend) backend.click();
    else if (button && button.offsetParent !== null) button.click();
    else return;
    e.preventDefault();
  }

  slower() {
    const select = $("#slow");
    select.selectedIndex = (select.selectedIndex + 1) % select.options.length;
    this.slow(Number(select.value));
  }

  // slow asks for a pause. Several in a row reach the program in their order,
  // and until it has the last, what it tells is older than what is shown.
  slow(ms) {
    this.pausing = { ms, until: performance.now() + 2000 };
    this.asked = this.asked.then(() => this.act("slow", { ms }));
  }

  steady() {
    this.keepSending(this.steadyNow() ? 0 : Number($("#rate").value));
  }

  // steadyNow returns the requests a second that are sent now, or soon.
  steadyNow() {
    if (this.sending && performance.now() > this.sending.until) this.sending = null;
    const told = this.app.store.snapshots.at(-1)?.steady ?? 0; // now, whatever time is shown
    if (this.sending?.rate === told) this.sending = null;
    return this.sending?.rate ?? told;
  }

  // keepSending asks for a rate in requests a second, 0 to end it.
  keepSending(rate) {
    const { viewer } = this.app.store.hello;
    this.sending = { rate, until: performance.now() + 2000 };
    this.asked = this.asked.then(() => this.act("steady", { rate, viewer }));
  }

  pause() {
    this.app.player.pause();
  }

  // replay shows the last minute again, from where something happened in it.
  replay() {
    const { player, store } = this.app;
    player.replay((store.bursts[0]?.start ?? player.now()) - 3e5);
  }

  speed() {
    this.app.player.faster();
  }

  help() {
    $("#help").showModal();
  }

  save() {
    const link = el("a", { href: "recording.html", download: "" });
    link.click();
  }

  view() {
    const root = document.documentElement;
    root.dataset.view = VIEWS[(VIEWS.indexOf(root.dataset.view) + 1) % VIEWS.length];
  }

  theme() {
    this.setTheme(
      THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length],
    );
  }

  setTheme(theme) {
    document.documentElement.dataset.theme = THEMES.includes(theme) ? theme : "auto";
    try {
      localStorage.setItem("theme", theme);
    } catch {
      // it lasts as long as the page then
    }
  }

  draw(t) {
    const { player, store } = this.app;
    const behind = (t - player.now()) / 1e6;
    set(document.documentElement, "data-mode", player.mode);
    say($("#pause"), player.mode === "paused" ? "Go on" : "Pause");
    say($("#speed"), `${player.speed}×`);
    const time = $("#time");
    if (document.activeElement !== time || player.mode !== "paused") time.value = behind;
    const date = new Date(store.hello.startedAt + t / 1000);
    say(
      $("#clock"),
      player.mode === "live"
        ? date.toTimeString().slice(0, 8)
        : `${date.toTimeString().slice(0, 8)}.${String(Math.floor(date.getMilliseconds() / 100))}`,
    );
    const message = store.messageAt(t);
    say($("#message"), message?.text ?? "");
    set($("#message"), "class", message?.bad ? "bad" : null);
    const slow = store.snapshots.at(-1)?.slow ?? 0; // now, whatever time is shown
    const { pausing } = this;
    if (pausing && (pausing.ms === slow || performance.now() > pausing.until)) this.pausing = null;
    if (!this.pausing && document.activeElement !== $("#slow")) choose($("#slow"), slow);
    const rate = this.steadyNow();
    set($("[data-do=steady]"), "aria-pressed", String(rate > 0));
    if (rate && document.activeElement !== $("#rate")) $("#rate").value = rate;
    say($("#steady output"), `${$("#rate").value}/s`);
    this.drawAlgorithms(store.snapshots.at(-1));
    if (performance.now() - (this.drawn ?? 0) > 500) this.drawActivity();
  }

  // drawAlgorithms shows by what backends are chosen, where that can be changed.
  drawAlgorithms(latest) {
    const list = $("#algorithm"),
      names = latest?.algorithms ?? [];
    if (list.options.length !== names.length) {
      set(list, "hidden", names.length ? null : "");
      list.replaceChildren(...names.map((name) => el("option", {}, name)));
      this.app.flow.geometry = null; // it takes room
    }
    if (latest?.algorithm !== list.value && document.activeElement !== list)
      list.value = latest?.algorithm ?? "";
  }

  // drawActivity shows over the time line where there were connections.
  drawActivity() {
    this.drawn = performance.now();
    const now = this.app.player.now(),
      columns = new Array(240).fill(0);
    for (const lane of this.app.store.lanes) {
      const i = Math.floor(((lane.start - now + MINUTE) / MINUTE) * 240);
      if (i >= 0 && i < 240) columns[i]++;
    }
    const most = Math.max(...columns, 4);
    let n = 0;
    columns.forEach((c, i) => {
      if (c === 0) return;
      const bar = this.activity.at(n++),
        height = 2 + (8 * c) / most;
      set(bar, "x", i);
      set(bar, "y", (10 - height).toFixed(1));
      set(bar, "height", height.toFixed(1));
    });
    this.activity.hideFrom(n);
  }
}

// choose shows a pause in the list, adding it if -slow-motion set another.
function choose(list, ms) {
  if (list.value === String(ms)) return;
  const options = [...list.options];
  if (!options.some((o) => o.value === String(ms))) {
    const longer = options.find((o) => Number(o.value) > ms) ?? null;
    list.insertBefore(el("option", { value: ms }, `${ms} ms`), longer);
  }
  list.value = ms;
}
