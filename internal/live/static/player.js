// The player decides which time the page shows: now, a time held, or a replay.

import { MINUTE } from "./store.js";

const DELAY = 80e3; // live runs so far behind, so that events are there before they are drawn
const SPEEDS = [1, 0.5, 0.25, 0.1];

export class Player {
  constructor() {
    this.mode = "live"; // live, paused or replay
    this.speed = 1;
    this.at = 0; // time shown when not live
    this.offset = null; // server's microseconds minus this page's
    this.last = performance.now();
    this.ended = null; // end of a recording, or of the program
  }

  // begin starts the clock anew, end stops it at the given time.
  begin() {
    this.offset = this.ended = null;
    this.mode = "live";
  }

  end(t) {
    this.ended ??= t;
  }

  // heard sets the clock by a message that carries the server's time. The
  // least delayed message counts; drift lets go of it slowly.
  heard(t) {
    const offset = t - performance.now() * 1000;
    if (this.offset === null || offset > this.offset) this.offset = offset;
    else this.offset -= 20;
  }

  // now returns the newest time there is to see.
  now() {
    if (this.offset === null) return this.ended ?? 0;
    return Math.min(performance.now() * 1000 + this.offset - DELAY, this.ended ?? Infinity);
  }

  oldest() {
    return Math.max(0, this.now() - MINUTE);
  }

  // time returns the time to show in this frame.
  time() {
    const passed = (performance.now() - this.last) * 1000;
    this.last = performance.now();
    const now = this.now();
    if (this.mode === "live") {
      if (now === this.ended) this.mode = "paused";
      return (this.at = now);
    }
    if (this.mode === "replay") {
      this.at = Math.max(this.oldest(), this.at) + passed * this.speed;
      if (this.at >= now) {
        this.at = now;
        this.mode = this.ended === null ? "live" : "paused";
      }
    }
    return this.at;
  }

  pause() {
    if (this.mode === "paused") {
      if (this.ended !== null && this.at >= this.ended) return this.replay(0);
      this.mode = this.ended === null ? "live" : "replay";
    } else {
      this.mode = "paused";
    }
  }

  // replay starts at the given time, at most a minute ago.
  replay(from) {
    this.at = Math.max(from, this.oldest());
    this.mode = "replay";
  }

  seek(t) {
    this.at = Math.min(Math.max(t, this.oldest()), this.now());
    this.mode = "paused";
  }

  faster() {
    this.speed = SPEEDS[(SPEEDS.indexOf(this.speed) + 1) % SPEEDS.length];
  }
}
