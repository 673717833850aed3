// The template updates this file: see serving/README.md.

// Shared by all pages with an open connection: its state on the page, and its backoff.

const TEXTS = {
  connecting: "connecting …",
  live: "live",
  offline: "offline, trying again …",
  ended: "Your session has ended.",
};

// The state of a connection, shown in `element`. `onChange` is called with each new state.
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

// Milliseconds between attempts to connect.
const MIN_BACKOFF = 1_000;
export const MAX_BACKOFF = 15_000;

// The failed attempts since the last connection.
export class Attempts {
  count = 0;

  // Milliseconds until the next attempt: exponential backoff with jitter, so that browsers do
  // not all reconnect at the same time.
  backoff(atLeast = 0) {
    const backoff = Math.min(MIN_BACKOFF * 2 ** this.count, MAX_BACKOFF);
    this.count += 1;
    return Math.max(backoff * (0.5 + Math.random()), atLeast);
  }

  // Milliseconds to wait for an answer. It doubles with each attempt, because a server that is
  // overloaded needs more time, not more requests.
  timeout(min, max) {
    return Math.min(min * 2 ** this.count, max) * (1 + Math.random() / 2);
  }
}
