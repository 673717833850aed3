// The template updates this file: see serving/README.md.

// What all pages with an open connection do: they show its state, and pause between attempts.

const TEXTS = {
  connecting: "connecting …",
  live: "live",
  offline: "offline, trying again …",
  ended: "Your session has ended.",
};

// The state of a connection, shown in an element. `onChange` is called with each new one.
export class State {
  constructor(element, login, onChange = () => {}) {
    Object.assign(this, { element, login, onChange });
  }

  get name() {
    return this.element.dataset.state;
  }

  show(name) {
    this.element.hidden = false;
    this.element.dataset.state = name;
    this.element.textContent = TEXTS[name];
    if (name === "ended") {
      const link = document.createElement("a");
      link.href = this.login;
      link.textContent = "Log in";
      this.element.append(" ", link);
    }
    this.onChange(name);
  }
}

// Milliseconds. Pauses between attempts to connect grow from and to.
const MIN_BACKOFF = 1_000;
export const MAX_BACKOFF = 15_000;

// Attempts to connect, none of which has succeeded yet.
export class Attempts {
  count = 0;

  // How long to pause before the next one: longer each time, and never as long as others do.
  // So a restarted server meets no stampede.
  pause(atLeast = 0) {
    const pause = Math.min(MIN_BACKOFF * 2 ** this.count, MAX_BACKOFF);
    this.count += 1;
    return Math.max(pause * (0.5 + Math.random()), atLeast);
  }

  // How long to wait for an answer: each time twice as long, up to `most`. A server that is
  // busy with a crowd is not helped by asking it again.
  patience(least, most) {
    return Math.min(least * 2 ** this.count, most) * (1 + Math.random() / 2);
  }
}
