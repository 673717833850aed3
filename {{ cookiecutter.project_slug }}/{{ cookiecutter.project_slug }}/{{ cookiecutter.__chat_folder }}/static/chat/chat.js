// One room: shows what is said in it and sends what is typed. Nothing is lost and nothing is
// shown twice, whatever happens to the connection: messages have ids in their order, so what
// was missed is asked for by the last id seen; what is typed has a key of its own and is sent
// until the server says that it is stored.

const form = document.getElementById("say");
const input = document.getElementById("text");
const log = document.getElementById("log");
const pending = document.getElementById("pending");
const people = document.getElementById("people");
const problem = document.getElementById("problem");
const state = document.getElementById("state");
const { path, user, room, login } = form.dataset;

// Milliseconds. A server that says nothing for so long is asked whether it is there, has so
// long to answer, and so long to store a message or to begin another session; pauses between
// attempts grow from and to. A server that is busy with a crowd is not let in by asking it
// again: each attempt to connect has twice as long as the one before it, up to the last.
const SILENCE = 25_000;
const ANSWER = 10_000;
const LONGEST_ANSWER = 80_000;
const STORE = 10_000;
const RENEWAL = 2_000;
const SHORTEST = 1_000;
const LONGEST = 15_000;

const STATES = {
  connecting: "connecting …",
  live: "live",
  offline: "offline, trying again …",
  ended: "Your session has ended.",
};

function show(name) {
  if (name !== "live") clearTimeout(patience);
  state.dataset.state = name;
  state.textContent = STATES[name];
  if (name !== "live") people.textContent = "";
  if (name !== "ended") return;
  const link = document.createElement("a");
  link.href = login;
  link.textContent = "Log in";
  state.append(" ", link);
}

// What is shown

let lastId = Number(log.dataset.lastId);

// The server writes times in its own time zone; people read them in theirs.
function localise(time) {
  const date = new Date(time.dateTime);
  const today = date.toDateString() === new Date().toDateString();
  const day = today ? {} : { month: "short", day: "numeric" };
  time.textContent = date.toLocaleString([], { ...day, hour: "2-digit", minute: "2-digit" });
  time.title = date.toLocaleString();
}

function line(author, text, time) {
  const item = document.createElement("li");
  const name = document.createElement("strong");
  const words = document.createElement("span");
  name.textContent = author;
  words.textContent = text;
  item.append(name, " ", time, " ", words);
  return item;
}

function append({ id, key, author, text, sent_at: sentAt }) {
  if (id <= lastId) return;
  lastId = id;
  const time = document.createElement("time");
  time.dateTime = sentAt;
  localise(time);
  // Who has scrolled up to read is left there.
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
  log.append(line(author, text, time));
  if (author === user) settle(key, true);
  if (atEnd || author === user) log.scrollTop = log.scrollHeight;
}

function showPeople({ names, count }) {
  const others = count - names.length;
  people.textContent = `Here now: ${names.join(", ")}${others > 0 ? ` and ${others} more` : ""}`;
}

// What is sent: one message at a time, and the next when it is stored. It survives a reload.

const storage = `chat ${user} ${room}`;
let outbox = load();
let underWay;
let patience;

function load() {
  try {
    return JSON.parse(sessionStorage.getItem(storage)) ?? [];
  } catch {
    return [];
  }
}

function save() {
  try {
    sessionStorage.setItem(storage, JSON.stringify(outbox));
  } catch {
    // No room, or not allowed: it does not survive a reload.
  }
}

function newKey() {
  // Not randomUUID(), which a page over plain http has not got.
  return Array.from(crypto.getRandomValues(new Uint32Array(4)), (n) => n.toString(16)).join("-");
}

function queue(text) {
  const message = { key: newKey(), text };
  outbox.push(message);
  save();
  showPending(message);
  sendNext();
}

function showPending({ key, text }) {
  const note = document.createElement("em");
  note.textContent = "waiting";
  const item = line(user, text, note);
  item.dataset.key = key;
  pending.append(item);
}

// Takes a message that the server has, or will never take, off what is to be sent; once it
// is `shown` in the log, or refused, off the page too.
function settle(key, shown) {
  if (underWay === key) {
    underWay = undefined;
    clearTimeout(patience);
  }
  outbox = outbox.filter((message) => message.key !== key);
  save();
  const item = [...pending.children].find((child) => child.dataset.key === key);
  if (shown) item?.remove();
  else if (item) item.querySelector("em").textContent = "sent";
  sendNext();
}

function sendNext() {
  if (underWay || outbox.length === 0 || state.dataset.state !== "live") return;
  const { key, text } = outbox[0];
  underWay = key;
  say({ type: "message", key, text });
  clearTimeout(patience);
  patience = setTimeout(reconnect, STORE);
}

function refused({ key, text, limit, again }) {
  problem.textContent = text;
  if (!key) return;
  if (again || limit === "messages per second") {
    clearTimeout(patience);
    patience = setTimeout(() => {
      underWay = undefined;
      sendNext();
    }, SHORTEST);
    return;
  }
  const message = outbox.find((one) => one.key === key);
  if (message && !input.value) input.value = message.text;
  settle(key, true);
}

// The connection

let socket;
let attempts = 0;
let timer;
let begunAt = 0;
let allowed = ANSWER;
let heardAt = 0;
let askedAt = 0;
let endings = 0;

function say(frame) {
  socket.send(JSON.stringify(frame));
}

function connect() {
  clearTimeout(timer);
  show("connecting");
  begunAt = Date.now();
  allowed = Math.min(ANSWER * 2 ** attempts, LONGEST_ANSWER) * (1 + Math.random() / 2);
  const url = new URL(path, location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  url.searchParams.set("after", lastId);
  const own = new WebSocket(url);
  let opened = false;
  socket = own;
  own.onopen = () => {
    opened = true;
    heardAt = Date.now();
    askedAt = 0;
    underWay = undefined;
    problem.textContent = "";
    show("live");
    sendNext();
  };
  own.onmessage = ({ data }) => {
    // Only now: a server that accepts and closes again is not asked without a pause.
    attempts = 0;
    heardAt = Date.now();
    hear(JSON.parse(data));
  };
  own.onclose = ({ code }) => {
    if (own !== socket) return;
    if (code === 4401) {
      // A session also ends with a new password, and the browser is given another one.
      later(endings === 0 ? 2 * RENEWAL : LONGEST);
      setTimeout(askForSession, RENEWAL);
      endings += 1;
    } else if (code === 1012 && attempts === 0) {
      // The server restarts, and a new process is there already.
      reconnect();
    } else {
      later(code === 4429 ? LONGEST : 0);
      if (!opened) askForSession();
    }
  };
}

function hear(frame) {
  if (frame.type === "message") append(frame);
  else if (frame.type === "people") showPeople(frame);
  else if (frame.type === "stored") {
    problem.textContent = "";
    settle(frame.key, frame.id <= lastId);
  }
  else if (frame.type === "error") refused(frame);
}

// Longer each time and never all at once: a restarted server meets no stampede.
function later(atLeast) {
  show("offline");
  clearTimeout(timer);
  const pause = Math.min(SHORTEST * 2 ** attempts, LONGEST);
  attempts += 1;
  timer = setTimeout(connect, Math.max(pause * (0.5 + Math.random()), atLeast));
}

// A connection that has died without a word never closes: it is left to itself.
function reconnect() {
  clearTimeout(patience);
  const old = socket;
  attempts += 1;
  connect();
  old?.close();
}

function drop() {
  const old = socket;
  socket = undefined;
  old?.close();
  later(0);
}

// A handshake that is refused looks like a network that is away. A page that sends people to
// the log-in page does not.
async function askForSession() {
  try {
    const page = await fetch(location.href, { method: "HEAD", redirect: "manual" });
    if (page.type !== "opaqueredirect") return;
    clearTimeout(timer);
    show("ended");
  } catch {
    // The network is away.
  }
}

setInterval(() => {
  const now = Date.now();
  if (state.dataset.state === "connecting" && now - begunAt > allowed) drop();
  if (state.dataset.state !== "live") return;
  if (askedAt > heardAt) {
    if (now - askedAt > ANSWER) reconnect();
  } else if (now - heardAt > SILENCE) {
    askedAt = now;
    say({ type: "ping" });
  }
}, 5_000);

window.addEventListener("offline", () => {
  if (state.dataset.state !== "ended") drop();
});
window.addEventListener("online", () => {
  if (state.dataset.state === "offline") connect();
});

// Who has logged in again in another tab comes back to this one.
document.addEventListener("visibilitychange", () => {
  if (state.dataset.state === "ended" && !document.hidden) connect();
});

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = input.value.trim();
  if (!text) return;
  problem.textContent = "";
  input.value = "";
  input.focus();
  queue(text);
});

log.querySelectorAll("time").forEach(localise);
log.scrollTop = log.scrollHeight;
outbox.forEach(showPending);
connect();
