// The page of one room. No message is lost or shown twice, even if the connection fails.
// Messages are ordered by id: after a reconnect, the page asks for those after its last id.
// Each message that is typed gets a unique key. It is sent again until the server acknowledges
// that it is stored.

import { State } from "live";
import { Outbox } from "outbox";
import { Connection } from "socket";

const form = document.getElementById("say");
const input = document.getElementById("text");
const log = document.getElementById("log");
const pending = document.getElementById("pending");
const people = document.getElementById("people");
const problem = document.getElementById("problem");
const { path, user, room, login } = form.dataset;

let lastId = Number(log.dataset.lastId);

const state = new State(document.getElementById("state"), login, changed);
const address = () => `${path}?${new URLSearchParams({ after: lastId })}`;
const connection = new Connection(state, address, handle);
const outbox = new Outbox(`chat ${user} ${room}`, connection);

function changed(name) {
  if (name === "live") {
    problem.textContent = "";
    outbox.restart();
  } else {
    people.textContent = "";
    outbox.pause();
  }
}

// Frames from the server

function handle(frame) {
  if (frame.type === "message") append(frame);
  else if (frame.type === "people") showPeople(frame);
  else if (frame.type === "stored") {
    problem.textContent = "";
    settle(frame.key, frame.id <= lastId);
  } else if (frame.type === "error") refused(frame);
}

function append({ id, key, author, text, sent_at: sentAt }) {
  if (id <= lastId) return;
  lastId = id;
  const time = document.createElement("time");
  time.dateTime = sentAt;
  localise(time);
  // Do not scroll if the user has scrolled up to read.
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
  log.append(line(author, text, time));
  if (author === user) settle(key, true);
  if (atEnd || author === user) log.scrollTop = log.scrollHeight;
}

function showPeople({ names, count }) {
  const others = count - names.length;
  people.textContent = `Here now: ${names.join(", ")}${others > 0 ? ` and ${others} more` : ""}`;
}

function refused({ key, text, limit, again }) {
  problem.textContent = text;
  if (!key) return;
  if (again || limit === "messages per second") {
    outbox.retry();
    return;
  }
  const message = outbox.messages.find((one) => one.key === key);
  if (message && !input.value) input.value = message.text;
  settle(key, true);
}

// Rendering

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
  words.dir = "auto"; // turns no other text
  item.append(name, " ", time, " ", words);
  return item;
}

function showPending({ key, text }) {
  const note = document.createElement("em");
  note.textContent = "waiting";
  const item = line(user, text, note);
  item.dataset.key = key;
  pending.append(item);
}

// Stops sending a message. Removes it from the pending list if it is `shown` in the log, or
// was refused.
function settle(key, shown) {
  outbox.remove(key);
  const item = [...pending.children].find((child) => child.dataset.key === key);
  if (shown) item?.remove();
  else if (item) item.querySelector("em").textContent = "sent";
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = input.value.trim();
  if (!text) return;
  problem.textContent = "";
  input.value = "";
  input.focus();
  showPending(outbox.add(text));
  outbox.sendNext();
});

log.querySelectorAll("time").forEach(localise);
log.scrollTop = log.scrollHeight;
outbox.messages.forEach(showPending);
connection.connect();
