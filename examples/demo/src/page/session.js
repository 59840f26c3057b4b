// The session of this page: its pair of tokens, until when they are good, and the other tabs that share it.
import { Hidden, onCall, send } from "./calls.js";
import { announce, clock, copyButton, duration, element, make } from "./dom.js";

const KEPT = "fastauth-demo";
// So long before its end, a token is refreshed.
const EARLY = 15;

const TOKENS = [
  { name: "access_token", title: "Access token" },
  { name: "refresh_token", title: "Refresh token" },
];

const MEANINGS = {
  alg: "how it is signed", kid: "the key that signed it", client_id: "who holds it", type: "which of the pair it is",
  sid: "the session", gen: "how often it was refreshed", scope: "what it may be used for", jti: "its own name",
  iat: "issued", exp: "expires", nbf: "not before", at_hash: "the access token beside it", iss: "issued by", aud: "issued for",
};

// With that much room, claims are shown at once.
const isWide = matchMedia("(min-width: 48rem)");

// The pair, or null.
let pair = null;
// The server's clock less this one, in seconds.
let ahead = 0;
const ENDED = ["not_current", "unknown_client"];
const now = () => Date.now() / 1000 + ahead;
const watchers = [];
// The token whose end was announced, the one that the server no longer accepts, and whether one is being refreshed.
let announced = null;
let refused = null;
let refreshing = false;

export const accessToken = () => pair && new Hidden("ACCESS_TOKEN", pair.access_token);
export const accessHeaders = () => ({ "ACCESS-TOKEN": accessToken() ?? new Hidden("ACCESS_TOKEN", "") });
export const claims = () => pair && decoded(pair.access_token).claims;
// Calls a function when the session begins or ends, and when its tokens change.
export const watch = (watcher) => watchers.push(watcher);

onCall((call) => {
  const token = call.headers["ACCESS-TOKEN"]?.value;
  if (token && ENDED.includes(call.body?.reason)) ended(token);
});

// Notes that the server said the end of a token that has not expired.
export function ended(token) {
  refused = token;
  tick();
}

// Takes the pair of an answer, in either of its shapes.
export function take(call) {
  if (!call.ok) return;
  if (call.date) ahead = Math.round((Date.parse(call.date) - Date.now()) / 1000);
  adopt(call.body.data ?? call.body);
  tell({ kind: "pair", pair });
}

export async function logIn(code) {
  // A link is used up by the first who opens it, so it does not stay in the history.
  history.replaceState(null, "", location.pathname);
  const json = { code: new Hidden("CODE", code) };
  const call = { method: "POST", path: "/demo/login", json, good: "the link logged this browser in", spent: true };
  take(await send(call, element("session-result")));
}

export async function refresh() {
  const before = pair;
  // One tab at a time. In a page by http from another machine there are no locks.
  const alone = navigator.locks ? (work) => navigator.locks.request(KEPT, work) : (work) => work();
  await alone(async () => {
    if (!pair || pair !== before) return announce("another tab has refreshed");
    // Without it in a form, it is in the cookie.
    const form = pair.refresh_token ? { refresh_token: new Hidden("REFRESH_TOKEN", pair.refresh_token) } : {};
    const cookie = !pair.refresh_token;
    const call = { method: "POST", path: "/auth/token/refresh", form, cookie, good: "a new pair replaces the old one" };
    const answer = await send(call, element("session-result"));
    take(answer);
    // What was refused once is refused again.
    if (!answer.ok) element("automatic").checked = false;
  });
}

export async function logOut() {
  const token = pair.refresh_token ? new Hidden("REFRESH_TOKEN", pair.refresh_token) : accessToken();
  const call = { method: "POST", path: "/auth/token/revoke", form: { token }, good: "this session is revoked" };
  if ((await send(call, element("session-result"))).ok) end();
}

export async function logOutEverywhere() {
  const call = { method: "POST", path: "/access/logout-everywhere", headers: accessHeaders(), good: "all sessions of the client are revoked" };
  if ((await send(call, element("session-result"))).ok) end();
}

function end() {
  adopt(null);
  tell({ kind: "pair", pair });
  element("session").focus();
}

function adopt(next) {
  pair = next;
  if (pair) sessionStorage.setItem(KEPT, JSON.stringify(pair));
  else sessionStorage.removeItem(KEPT);
  render();
  for (const watcher of watchers) watcher();
}

// Other tabs. A new one takes over the session of those that are open, and all follow a refresh or a log-out.
const channel = new BroadcastChannel(KEPT);
const me = crypto.getRandomValues(new Uint32Array(2)).join("-");
const others = new Set();
const tell = (message) => channel.postMessage({ ...message, from: me });

channel.onmessage = ({ data: message }) => {
  if (message.kind === "hello") tell({ kind: "here", pair });
  if (message.kind === "bye") others.delete(message.from);
  else others.add(message.from);
  if (message.kind === "pair") {
    adopt(message.pair);
    const what = message.pair ? "Another tab has logged in or refreshed: this one follows." : "Another tab has logged out.";
    element("session-result").replaceChildren(make("p", { className: "note" }, what));
  }
  if (message.kind === "here" && message.pair && !pair) adopt(message.pair);
  renderTabs();
};
addEventListener("pagehide", () => tell({ kind: "bye" }));
addEventListener("pageshow", () => tell({ kind: "hello" }));

function renderTabs() {
  const count = others.size + 1;
  element("tabs").textContent = count > 1 ? `Open in ${count} tabs, which share the session` : "Open in this tab; others would share the session";
}

function render() {
  element("logged-in").hidden = !pair;
  element("logged-out").hidden = Boolean(pair);
  if (pair) {
    const { client_id, scope } = claims();
    element("client").textContent = client_id;
    element("avatar").textContent = client_id[0].toUpperCase();
    element("scope").textContent = `scope: ${scope}`;
    element("scope").hidden = !scope;
  }
  element("tokens").replaceChildren(...(pair ? TOKENS.map(panel) : []));
  tick();
}

// A token with a button that copies it, how long it is good for, and what it says.
function panel({ name, title }) {
  const heading = make("h3", {}, title);
  const token = pair[name];
  if (!token) {
    return make("div", { className: "token" }, [heading, make("p", {}, "It is in a cookie that scripts cannot read.")]);
  }
  const { header, claims } = decoded(token);
  const left = make("span", { className: "left" });
  const meter = make("progress", { max: claims.exp - claims.iat, ariaLabel: `How long the ${title.toLowerCase()} is good for` });
  const rows = Object.entries({ ...header, ...claims }).filter(([key]) => key !== "typ").map(([key, value]) => {
    const isTime = ["iat", "exp", "nbf"].includes(key);
    const shown = isTime ? clock(value) : typeof value === "string" ? value : JSON.stringify(value);
    const meaning = make("small", {}, MEANINGS[key] ?? "the application's");
    return make("tr", {}, [make("th", { scope: "row" }, key), make("td", { title: isTime ? value : "" }, [shown, " ", meaning])]);
  });
  const made = make("div", { className: "token" }, [
    make("div", { className: "row" }, [heading, left]),
    meter,
    make("div", { className: "curl" }, [
      make("code", {}, `${token.slice(0, 18)}…${token.slice(-6)}`), copyButton(() => token, `Copy the ${title.toLowerCase()}`),
    ]),
    make("details", { open: isWide.matches }, [make("summary", {}, "Claims"), make("table", {}, make("tbody", {}, rows))]),
  ]);
  made.tick = () => {
    const seconds = Math.max(0, claims.exp - now());
    left.textContent = seconds ? `${duration(seconds)} left` : "expired";
    made.classList.toggle("over", !seconds);
    meter.value = seconds;
  };
  return made;
}

// Shows the time that is left.
function tick() {
  for (const shown of element("tokens").children) shown.tick?.();
  const who = element("who");
  if (!pair) {
    who.className = "who";
    element("who-text").textContent = "Not logged in";
    return;
  }
  const { client_id, exp } = claims();
  const left = Math.max(0, exp - now());
  const isOver = refused === pair.access_token;
  who.className = left && !isOver ? "who good" : "who bad";
  const until = !left ? "expired" : isOver ? "revoked or replaced" : `for ${duration(left)}`;
  element("who-text").textContent = `${client_id}, ${until}`;
  if (!left && announced !== pair.access_token) {
    announced = pair.access_token;
    announce("The access token has expired. Refresh it.");
  }
  if (element("automatic").checked && left < EARLY && !refreshing) {
    refreshing = true;
    refresh().finally(() => (refreshing = false));
  }
}
setInterval(tick, 1000);

function decoded(token) {
  const [header, claims] = token.split(".").slice(0, 2).map((part) => {
    const bytes = Uint8Array.from(atob(part.replaceAll("-", "+").replaceAll("_", "/")), (byte) => byte.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes));
  });
  return { header, claims };
}

const kept = sessionStorage.getItem(KEPT);
if (kept) adopt(JSON.parse(kept));
else render();
renderTabs();
