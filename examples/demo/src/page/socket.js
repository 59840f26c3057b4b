// The WebSocket: a page cannot give it headers, so the token stands among its protocols, or a ticket in its address.
import { send, show } from "./calls.js";
import { element, make } from "./dom.js";
import { accessHeaders, accessToken, ended } from "./session.js";

const PATH = "/access/ws";
const MOST_FRAMES = 20;
let socket = null;

const CLOSED = {
  1000: "closed by this page",
  1001: "the server stops",
  1006: "the server refused it, or the connection broke: browsers do not say which",
  1008: "the right to it ended",
  1013: "the token store does not answer: try again later",
};

function open(path, protocols) {
  const token = accessToken()?.value;
  socket?.close(1000);
  const began = new Date();
  const opened = new WebSocket(new URL(path, location.href.replace(/^http/, "ws")), protocols);
  socket = opened;
  state("opening", "");
  const tell = (ok, status, words) =>
    show({ method: "WS", path, began, took: Date.now() - began.getTime(), ok, status, words }, element("socket-result"));
  opened.onopen = () => {
    state("open", "good");
    tell(true, 101, `the socket is open${opened.protocol ? `, with the protocol "${opened.protocol}"` : ""}`);
  };
  opened.onmessage = (event) => frame("←", event.data);
  opened.onclose = (event) => {
    if (socket !== opened) return;
    state("closed", event.code === 1000 ? "" : "bad");
    if (event.code === 1008 && !event.reason.includes("expired")) ended(token);
    tell(event.code === 1000, event.code, event.reason || (CLOSED[event.code] ?? "closed"));
  };
}

function state(text, tone) {
  element("socket-state").textContent = text;
  element("socket-state").className = `badge ${tone}`;
  const isOpen = text === "open";
  element("close").disabled = !isOpen;
  element("say").querySelector("button").disabled = !isOpen;
}

function frame(arrow, text) {
  const frames = element("frames");
  frames.prepend(make("li", {}, `${arrow} ${text}`));
  while (frames.children.length > MOST_FRAMES) frames.lastChild.remove();
}

element("open-token").onclick = () => {
  const token = accessToken();
  open(PATH, token ? ["fastauth", token.value] : []);
};

element("open-ticket").onclick = async () => {
  const call = { method: "POST", path: "/auth/ticket", headers: accessHeaders(), good: "a ticket for one socket" };
  const answer = await send(call, element("socket-result"));
  if (answer.ok) open(`${PATH}?ticket=${encodeURIComponent(answer.body.ticket)}`);
};

element("say").onsubmit = (event) => {
  event.preventDefault();
  if (socket?.readyState !== WebSocket.OPEN) return;
  const text = event.target.elements.message.value;
  frame("→", text);
  socket.send(text);
};

element("close").onclick = () => socket?.close(1000);
