// The page of notifications: those that are sent while it is open appear at its top.

const form = document.getElementById("send");
const list = document.getElementById("notifications");
const state = document.getElementById("state");
const { path, user, login } = list.dataset;

// Milliseconds. Without a word for so long, not even a heartbeat, a stream counts as dead;
// pauses between attempts grow from and to. One that has not opened in that time has longer
// the next time: a server that is busy with a crowd is not helped by asking it again.
const SILENCE = 40_000;
const LONGEST_SILENCE = 160_000;
const SHORTEST = 1_000;
const LONGEST = 15_000;

const STATES = {
  connecting: "connecting …",
  live: "live",
  offline: "offline, trying again …",
  ended: "Your session has ended.",
};

// The id of the newest notification in the page; the next stream begins after it.
let newest = Number(list.dataset.newest);
let pause = SHORTEST;
let allowed = SILENCE;
let source, timer;

function show(name) {
  state.hidden = false;
  state.dataset.state = name;
  state.textContent = STATES[name];
  if (name !== "ended") return;
  const link = document.createElement("a");
  link.href = login;
  link.textContent = "Log in";
  state.append(" ", link);
}

// The server writes times in its own time zone; people read them in theirs.
function localise(time) {
  const format = { dateStyle: "medium", timeStyle: "short" };
  time.textContent = new Date(time.dateTime).toLocaleString([], format);
}

function prepend({ text, url, created_at: createdAt }) {
  const item = document.createElement("li");
  const time = document.createElement("time");
  const words = document.createElement(url ? "a" : "span");
  time.dateTime = createdAt;
  localise(time);
  if (url) words.href = url;
  words.textContent = text;
  item.append(time, " ", words);
  list.prepend(item);
}

function address() {
  return `${path}?${new URLSearchParams({ user, after: newest })}`;
}

function after(milliseconds, action) {
  clearTimeout(timer);
  timer = setTimeout(action, milliseconds);
}

function heard() {
  after(SILENCE, connect);
}

function connect() {
  source?.close();
  source = new EventSource(address());
  after(allowed, connect);
  allowed = Math.min(allowed * (1.5 + Math.random()), LONGEST_SILENCE);
  source.onopen = () => {
    allowed = SILENCE;
    heard();
    pause = SHORTEST;
    show("live");
  };
  source.addEventListener("heartbeat", heard);
  source.addEventListener("notification", ({ data }) => {
    heard();
    const notification = JSON.parse(data);
    if (notification.id > newest) {
      newest = notification.id;
      prepend(notification);
    }
  });
  source.onerror = () => {
    show("offline");
    // A stream that ended is opened again by the browser. An answer that is no stream is
    // final to it, even a proxy's 502 while the server restarts.
    if (source.readyState === EventSource.CLOSED) again();
  };
}

async function again() {
  // Longer each time and never all at once: a restarted server meets no stampede.
  after(pause * (0.5 + Math.random()), connect);
  pause = Math.min(pause * 2, LONGEST);
  // An EventSource does not tell the status. A stream is not wanted here, so it is aborted.
  const request = new AbortController();
  const { status } = await fetch(address(), { signal: request.signal }).catch(() => ({}));
  request.abort();
  if (status === 401) {
    clearTimeout(timer);
    show("ended");
  }
}

form.addEventListener("submit", async (event) => {
  if (state.dataset.state !== "live") return; // A page that is loaded shows it as well.
  event.preventDefault();
  const options = { method: "POST", body: new FormData(form), redirect: "manual" };
  const answer = await fetch(form.action, options).catch(() => ({}));
  // Whatever is not the redirect, the browser asks for again and shows.
  if (answer.type === "opaqueredirect") form.reset();
  else form.submit();
});

window.addEventListener("online", connect);
// A page from the back/forward cache has lost its stream.
window.addEventListener("pageshow", ({ persisted }) => persisted && connect());

list.querySelectorAll("time").forEach(localise);
show("connecting");
connect();
