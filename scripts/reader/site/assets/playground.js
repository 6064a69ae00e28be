"use strict";
// The playground's script: it unpacks the Go program, hands it the settings, and draws what it
// says. What is simulated, and what chooses, is Go: newFarm comes from scripts/playground/wasm.
(() => {
  const get = (id) => document.getElementById(id);
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const sections = Array.from(document.querySelectorAll(".farm"));
  const perSlice = 20000; // steps towards the end, between two looks
  let farms = [];
  let running = false;
  let ending = false;
  let changed = false; // since the run began

  const say = (text) => { get("status").textContent = text; };
  const trouble = (text) => {
    get("trouble").textContent = text;
    get("trouble").hidden = !text;
  };
  const number = (id) => Number(get(id).value);
  const settings = (section) => ({
    algorithm: section.querySelector(".algorithm").value, load: number("load") / 100, slow: number("slow"),
    weights: Array.from(get("weights").querySelectorAll("input"), (e) => Number(e.value)),
    servers: number("servers"), work: get("work").value, jobs: number("jobs"), seed: Math.max(0, Math.floor(number("seed"))),
  });

  // The names of the settings, and a slider of weight for each server.
  const label = () => {
    get("load-is").textContent = number("load") + " %";
    get("slow-is").textContent = number("slow") === 1 ? "no" : number("slow") + " times";
    get("servers-is").textContent = get("servers").value;
    for (const section of sections) {
      const kind = algorithms.find((k) => k.name === section.querySelector(".algorithm").value);
      section.querySelector(".about").textContent = kind.about;
    }
    const box = get("weights").querySelector(".knobs");
    while (box.children.length > number("servers")) box.lastElementChild.remove();
    while (box.children.length < number("servers")) {
      const name = document.createElement("label");
      const input = Object.assign(document.createElement("input"), { type: "range", min: 1, max: 10, value: 1 });
      name.append(`server ${box.children.length + 1} `, Object.assign(document.createElement("span"), { className: "is" }), input);
      box.append(name);
    }
    for (const name of box.children) name.querySelector(".is").textContent = name.querySelector("input").value;
  };

  const begin = () => {
    for (const farm of farms) farm.free();
    farms = [];
    ending = changed = false;
    label();
    const made = sections.map((section) => newFarm(settings(section)));
    const wrong = made.find((farm) => typeof farm === "string");
    trouble(wrong || "");
    farms = made.filter((farm) => typeof farm !== "string");
    if (wrong) run(false);
    show(true);
  };
  const change = () => {
    label();
    if (!farms.length) return begin();
    if (farms[0].state().arrived) changed = true;
    trouble(farms.map((farm, i) => farm.change(settings(sections[i]))).find((wrong) => wrong) || "");
    show(true);
  };
  const run = (on) => {
    running = on && farms.length > 0;
    ending = false;
    get("run").textContent = running ? "Pause" : "Run";
    if (running) requestAnimationFrame(frame);
    show(true);
  };

  // Drawing.
  const digits = (x) => x >= 100 ? x.toFixed(0) : x >= 10 ? x.toFixed(1) : x.toFixed(2);
  const draw = (canvas, queues, labels) => {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const scale = devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    const c = canvas.getContext("2d");
    c.setTransform(scale, 0, 0, scale, 0, 0);
    c.clearRect(0, 0, width, height);
    const column = width / queues.length;
    const bar = Math.min(column * 0.75, 60);
    const [foot, head, row] = [40, 20, 7];
    const fit = Math.floor((height - foot - head) / row);
    c.textAlign = "center";
    queues.forEach((jobs, i) => {
      const x = i * column + (column - bar) / 2;
      for (let n = 0; n < Math.min(jobs, fit); n++) {
        c.fillStyle = colour(n === 0 ? "--add-edge" : n < 10 ? "--badge" : "--del-edge");
        c.fillRect(x, height - foot - (n + 1) * row, bar, row - 1);
      }
      c.fillStyle = colour("--soft");
      c.fillRect(x - 2, height - foot, bar + 4, 1);
      c.font = "13px system-ui, sans-serif";
      if (jobs > fit) c.fillText("+" + (jobs - fit), x + bar / 2, height - foot - fit * row - 5);
      c.fillText(labels[i], x + bar / 2, height - 5);
      c.fillStyle = colour("--ink");
      c.font = "600 15px system-ui, sans-serif";
      c.fillText(String(jobs), x + bar / 2, height - foot + 17);
    });
  };
  let told = 0;
  const show = (all) => {
    if (!farms.length) return;
    const tell = all || performance.now() - told > 250; // figures that flicker cannot be read
    if (tell) told = performance.now();
    farms.forEach((farm, i) => {
      const state = farm.state();
      const s = settings(sections[i]);
      draw(sections[i].querySelector("canvas"), state.queues, state.queues.map((_, n) =>
        n === s.servers - 1 && s.slow > 1 ? "slow" : s.weights[n] > 1 ? "×" + s.weights[n] : ""));
      if (!tell) return;
      const put = (name, value, text) => {
        const cell = sections[i].querySelector("." + name);
        cell.textContent = text === undefined ? digits(value) : text;
        cell.dataset.exact = String(value);
      };
      put("recentMean", state.recentMean);
      put("recent50", state.recent50);
      put("recent99", state.recent99);
      const longest = Math.max(...state.queues);
      put("queue", longest, longest + " now");
      const yet = state.counts ? undefined : "–";
      put("mean", state.mean, yet);
      put("p50", state.p50, yet);
      put("p99", state.p99, yet);
      put("longest", state.longest, String(state.longest));
      sections[i].querySelector("canvas").setAttribute("aria-label", "Jobs at each server: " + state.queues.join(", "));
      if (i === 0) {
        const of = `${state.arrived.toLocaleString("en")} of ${s.jobs.toLocaleString("en")} jobs have come in ${Math.round(state.now).toLocaleString("en")} s`;
        say(of + (state.ended === s.jobs ? ", and all have ended." : running || ending ? "." : ". Paused.") +
          (changed ? " Something was changed on the way." : ""));
      }
    });
  };

  // Time. Where motion is not wanted, the picture changes once a second.
  let last = 0;
  const frame = (time) => {
    if (!running) return;
    requestAnimationFrame(frame);
    const gone = (time - last) / 1000;
    if (still.matches && gone < 1) return;
    last = time;
    const to = farms[0].state().now + Math.min(gone, still.matches ? 1 : 0.1) * number("speed");
    const more = farms.map((farm) => farm.until(to)); // both, always
    if (more.includes(true)) show(false);
    else run(false);
  };
  const oneJob = () => {
    run(false);
    if (!farms.length) return;
    farms[0].nextJob();
    farms[1].until(farms[0].state().now);
    show(true);
  };
  const toTheEnd = () => {
    run(false);
    if (!farms.length) return;
    ending = true;
    const slice = () => {
      if (!ending) return;
      ending = farms.map((farm) => farm.steps(perSlice)).includes(true);
      show(true);
      if (ending) setTimeout(slice);
    };
    slice();
  };

  const start = () => {
    for (const section of sections) {
      const select = section.querySelector(".algorithm");
      for (const kind of algorithms) select.append(new Option(kind.name, kind.name));
      select.value = select.dataset.default;
      select.addEventListener("change", change);
    }
    for (const id of ["load", "slow", "weights"]) get(id).addEventListener("input", change);
    for (const id of ["servers", "work", "jobs", "seed"]) get(id).addEventListener(id === "servers" ? "input" : "change", begin);
    get("controls").addEventListener("submit", (event) => event.preventDefault());
    const keys = { p: () => run(!running), o: oneJob, e: toTheEnd, r: begin };
    get("run").addEventListener("click", keys.p);
    get("one").addEventListener("click", oneJob);
    get("end").addEventListener("click", toTheEnd);
    get("reset").addEventListener("click", begin);
    for (const button of document.querySelectorAll(".buttons button")) button.disabled = false;
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
      const key = keys[event.key.toLowerCase()];
      if (!key) return;
      event.preventDefault();
      key();
    });
    new ResizeObserver(() => show(false)).observe(sections[0]);
    new MutationObserver(() => show(false)).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    begin();
    run(!still.matches);
    document.documentElement.dataset.ready = "yes";
  };

  // The program is packed in the page, because a page from a file may not load it.
  const load = async () => {
    const packed = Uint8Array.from(atob(playgroundProgram), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const go = new Go();
    const { instance } = await WebAssembly.instantiate(await new Response(stream).arrayBuffer(), go.importObject);
    addEventListener("farms", start, { once: true });
    go.run(instance).catch(() => {}).then(() => trouble("The program has ended. Please reload the page."));
  };
  load().catch((err) => {
    say("");
    trouble("The playground needs a browser with WebAssembly and DecompressionStream (" + err.message + ").");
  });
})();
