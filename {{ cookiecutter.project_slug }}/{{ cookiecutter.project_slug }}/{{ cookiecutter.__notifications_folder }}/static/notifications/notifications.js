// The page of notifications. New ones appear at the top while it is open.

import { Attempts, State } from "live";

const form = document.getElementById("send");
const list = document.getElementById("notifications");
const { path, user, login } = list.dataset;

// Milliseconds without any event, not even a heartbeat, until a stream counts as dead. It also
// has this long to open; the time grows with each attempt, up to the maximum.
const HEARTBEAT_TIMEOUT = 40_000;
const MAX_OPEN_TIMEOUT = 160_000;

const state = new State(document.getElementById("state"), login);
const attempts = new Attempts();
// The id of the newest notification in the page. The next stream starts after it.
let newest = Number(list.dataset.newest);
let source, timer;

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
  words.dir = "auto";
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
  after(HEARTBEAT_TIMEOUT, connect);
}

function connect() {
  source?.close();
  source = new EventSource(address());
  after(attempts.timeout(HEARTBEAT_TIMEOUT, MAX_OPEN_TIMEOUT), () => {
    attempts.count += 1;
    connect();
  });
  source.onopen = () => {
    attempts.count = 0;
    heard();
    state.show("live");
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
    state.show("offline");
    // The browser reconnects by itself if a stream ends. It does not if it gets an error, such
    // as a proxy's 502 while the server restarts.
    if (source.readyState === EventSource.CLOSED) retry();
  };
}

async function retry() {
  after(attempts.backoff(), connect);
  // EventSource does not expose the status. fetch() does; its stream is aborted.
  const request = new AbortController();
  const { status } = await fetch(address(), { signal: request.signal }).catch(() => ({}));
  request.abort();
  if (status === 401) {
    clearTimeout(timer);
    state.show("ended");
  }
}

form.addEventListener("submit", async (event) => {
  if (state.name !== "live") return; // Then the browser loads the page, which shows it.
  event.preventDefault();
  const options = { method: "POST", body: new FormData(form), redirect: "manual" };
  const answer = await fetch(form.action, options).catch(() => ({}));
  // Without a redirect there is an error. The browser sends the form again and shows the page.
  if (answer.type === "opaqueredirect") form.reset();
  else form.submit();
});

window.addEventListener("online", connect);
// A page from the back/forward cache has no stream any more.
window.addEventListener("pageshow", ({ persisted }) => persisted && connect());

list.querySelectorAll("time").forEach(localise);
state.show("connecting");
connect();
