// Messages that the server has not acknowledged yet. They are sent one at a time. They survive
// a reload of the page.

// Milliseconds until a message that is not acknowledged is sent over a new connection.
const ACK_TIMEOUT = 10_000;
// Milliseconds until a message that exceeded the rate limit is sent again.
const RETRY_DELAY = 1_000;

export class Outbox {
  // `name` is their key in sessionStorage.
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
      // Storage is full or not allowed. Then messages do not survive a reload.
    }
  }

  add(text) {
    const message = { key: newKey(), text };
    this.messages.push(message);
    this.save();
    return message;
  }

  // Removes a message that was stored, or refused for good.
  remove(key) {
    if (this.sending === key) {
      this.sending = undefined;
      clearTimeout(this.timer);
    }
    this.messages = this.messages.filter((message) => message.key !== key);
    this.save();
    this.sendNext();
  }

  sendNext() {
    if (this.sending || this.messages.length === 0 || !this.connection.live) return;
    const { key, text } = this.messages[0];
    this.sending = key;
    this.connection.send({ type: "message", key, text });
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.connection.reconnect(), ACK_TIMEOUT);
  }

  retry() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.restart(), RETRY_DELAY);
  }

  // After a reconnect the last message is sent again, because its acknowledgement may be lost.
  restart() {
    this.sending = undefined;
    this.sendNext();
  }

  pause() {
    clearTimeout(this.timer);
  }
}

function newKey() {
  // randomUUID() does not exist on pages over plain http.
  return Array.from(crypto.getRandomValues(new Uint32Array(4)), (n) => n.toString(16)).join("-");
}
