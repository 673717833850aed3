// The page of notifications: those that are sent while it is open appear at its top.

import { Attempts, State } from "live";

const form = document.getElementById("send");
const list = document.getElementById("notifications");
const { path, user, login } = list.dataset;

// Milliseconds. Without a word for so long, not even a heartbeat, a stream counts as dead. It
// has so long at first, and at most, to open.
const SILENCE = 40_000;
const MAX_SILENCE = 160_000;

const state = new State(document.getElementById("state"), login);
const attempts = new Attempts();
// The id of the newest notification in the page; the next stream begins after it.
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
  after(attempts.patience(SILENCE, MAX_SILENCE), () => {
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
    // A stream that ended is opened again by the browser. An answer that is no stream is
    // final to it, even a proxy's 502 while the server restarts.
    if (source.readyState === EventSource.CLOSED) again();
  };
}

async function again() {
  after(attempts.pause(), connect);
  // An EventSource does not tell the status. A stream is not wanted here, so it is aborted.
  const request = new AbortController();
  const { status } = await fetch(address(), { signal: request.signal }).catch(() => ({}));
  request.abort();
  if (status === 401) {
    clearTimeout(timer);
    state.show("ended");
  }
}

form.addEventListener("submit", async (event) => {
  if (state.name !== "live") return; // A page that is loaded shows it as well.
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
state.show("connecting");
connect();
