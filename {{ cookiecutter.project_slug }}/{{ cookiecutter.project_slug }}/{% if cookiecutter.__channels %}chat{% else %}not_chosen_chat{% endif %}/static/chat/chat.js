// One room: shows what is said in it and sends what is typed.

const form = document.getElementById("say");
const input = document.getElementById("text");
const log = document.getElementById("log");
const problem = document.getElementById("problem");
const state = document.getElementById("state");

let socket;

function show(name, text) {
  state.dataset.state = name;
  state.textContent = text;
  form.querySelector("button").disabled = name !== "live";
}

// The server writes times in its own time zone; people read them in theirs.
function localise(time) {
  const format = { hour: "2-digit", minute: "2-digit" };
  time.textContent = new Date(time.dateTime).toLocaleTimeString([], format);
}

function append({ author, text, sent_at: sentAt }) {
  const item = document.createElement("li");
  const name = document.createElement("strong");
  const time = document.createElement("time");
  const words = document.createElement("span");
  name.textContent = author;
  time.dateTime = sentAt;
  localise(time);
  words.textContent = text;
  item.append(name, " ", time, " ", words);
  log.append(item);
  log.scrollTop = log.scrollHeight;
}

function connect(pause) {
  const url = new URL(form.dataset.path, location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  socket = new WebSocket(url);
  socket.onopen = () => {
    pause = 1000;
    show("live", "live");
  };
  socket.onmessage = ({ data }) => {
    const event = JSON.parse(data);
    problem.textContent = event.type === "error" ? event.text : "";
    if (event.type === "message") append(event);
  };
  socket.onclose = () => {
    show("offline", "offline, trying again …");
    // Longer each time and never all at once: a restarted server meets no stampede.
    setTimeout(connect, pause * (0.5 + Math.random()), Math.min(pause * 2, 30000));
  };
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (socket.readyState !== WebSocket.OPEN) return;
  socket.send(JSON.stringify({ type: "message", text: input.value }));
  input.value = "";
  input.focus();
});

log.querySelectorAll("time").forEach(localise);
log.scrollTop = log.scrollHeight;
show("connecting", "connecting …");
connect(1000);
