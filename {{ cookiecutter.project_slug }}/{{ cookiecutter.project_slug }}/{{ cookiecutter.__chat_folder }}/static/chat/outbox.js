// Messages that the server has not stored yet. They are sent one at a time, and the next one
// when it is stored. They survive a reload of the page.

// Milliseconds for the server to store a message; and until one that came too fast is sent
// again.
const STORE_TIMEOUT = 10_000;
const RETRY_PAUSE = 1_000;

export class Outbox {
  // `connection` sends them. Under `name` they are kept in this tab's storage.
  constructor(name, connection) {
    Object.assign(this, { name, connection });
    this.messages = this.load();
  }

  load() {
    try {
      return JSON.parse(sessionStorage.getItem(this.name)) ?? [];
    } catch {
      return [];
    }
  }

  save() {
    try {
      sessionStorage.setItem(this.name, JSON.stringify(this.messages));
    } catch {
      // No room, or not allowed: it does not survive a reload.
    }
  }

  add(text) {
    const message = { key: newKey(), text };
    this.messages.push(message);
    this.save();
    return message;
  }

  // Takes a message off that the server has, or will never take.
  remove(key) {
    if (this.underWay === key) {
      this.underWay = undefined;
      clearTimeout(this.timer);
    }
    this.messages = this.messages.filter((message) => message.key !== key);
    this.save();
    this.sendNext();
  }

  sendNext() {
    if (this.underWay || this.messages.length === 0 || !this.connection.live) return;
    const { key, text } = this.messages[0];
    this.underWay = key;
    this.connection.send({ type: "message", key, text });
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.connection.reconnect(), STORE_TIMEOUT);
  }

  sendAgain() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.restart(), RETRY_PAUSE);
  }

  // Over a new connection it is not known what became of the last one.
  restart() {
    this.underWay = undefined;
    this.sendNext();
  }

  pause() {
    clearTimeout(this.timer);
  }
}

function newKey() {
  // Not randomUUID(), which a page over plain http has not got.
  return Array.from(crypto.getRandomValues(new Uint32Array(4)), (n) => n.toString(16)).join("-");
}
