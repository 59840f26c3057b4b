// Calls of the server, and what is shown of each: the request, the answer, both in words, and the line for curl.
import { copyButton, element, make, prose } from "./dom.js";

// A value that is sent as it is, and shown as a variable of the shell.
export class Hidden {
  constructor(variable, value) {
    this.variable = variable;
    this.value = value;
  }
}

const MOST_LOGGED = 50;
const listeners = [];
// Calls a function after each call.
export const onCall = (listener) => listeners.push(listener);

// In place of the server's texts, which those of fastauth-api bind. The others are good as they are.
const WORDS = {
  missing_access_token: "this path requires an access token, and none was sent",
  missing_master_token: "this path requires the master token, and none was sent",
  wrong_master_token: "the master token is wrong",
  too_many_guesses: "too many wrong master tokens: wait before the next one",
  expired_token: "the access token has expired",
  invalid_signature: "the token was not signed with this server's key",
  malformed_token: "the token cannot be read",
  wrong_token_type: "that is the other token of the pair",
  not_current: "the access token was replaced by a newer one, or its session was revoked",
  unknown_client: "the client has no active session: it was revoked, or there never was one",
  spent_ticket: "the ticket was used before",
  foreign_origin: "this server does not accept pages of this origin",
  store_unavailable: "the token store does not answer: try again later",
};

// Sends a request, shows it in `place` and in the log, and returns it with its answer. `call` has a method, a path, and at will
// headers, a form (or JSON), `cookie` (the browser adds the refresh token), `good` (what a success means),
// `shown` (the page shows the answer in a way of its own), and `spent` (it works once, so that a line for curl would not).
export async function send(call, place) {
  call = { method: "GET", headers: {}, began: new Date(), ...call };
  // An empty one is in the line for curl alone: the shell may have what the page lacks.
  const headers = Object.fromEntries(Object.entries(call.headers).map(([name, value]) => [name, sent(value)]).filter(([, value]) => value));
  let body;
  if (call.form) body = new URLSearchParams(Object.entries(call.form).map(([name, value]) => [name, sent(value)]));
  if (call.json) {
    headers["Content-Type"] = "application/json";
    body = JSON.stringify(call.json, (_, value) => sent(value));
  }
  try {
    const answer = await fetch(call.path, { method: call.method, headers, body, redirect: "manual", cache: "no-store" });
    Object.assign(call, { status: answer.status, ok: answer.ok, date: answer.headers.get("Date") });
    if (answer.type === "opaqueredirect") call.words = "it redirects to another path";
    call.text = await answer.text();
    call.body = parsed(call.text);
  } catch {
    call.ok = false;
    call.words = `no answer: the server at ${location.host} cannot be reached. Does it still run?`;
  }
  call.took = Date.now() - call.began.getTime();
  call.words ??= inWords(call);
  for (const listener of listeners) listener(call);
  show(call, place);
  return call;
}

const sent = (value) => (value instanceof Hidden ? value.value : value);

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function inWords({ status, ok, body, good, path, headers }) {
  if (ok) return good ?? "the request passed";
  const reason = body?.reason ?? body?.error;
  const text = body?.message ?? body?.error_description ?? body?.detail;
  let words = WORDS[reason] ?? (typeof text === "string" ? text : undefined);
  if (!words && Array.isArray(text)) words = text.map((fault) => `${fault.loc?.at(-1)}: ${fault.msg}`).join("; ");
  if (reason === "missing_master_token" && "MASTER-TOKEN" in headers) words = "enter the master token first";
  if (status === 404) words = `there is nothing at ${path}`;
  words ??= "refused, without a reason";
  return reason ? `${words} (${reason})` : words;
}

// Shows a call beside its buttons, and in the log.
export function show(call, place) {
  place?.replaceChildren(details(call));
  reveal(place);
  element("nothing").hidden = true;
  const log = element("log");
  const line = make("summary", {}, [badge(call), make("code", {}, `${call.method} ${call.path.split("?")[0]}`), words(call)]);
  log.prepend(make("li", {}, make("details", { className: tone(call) }, [line, time(call), ...evidence(call)])));
  while (log.children.length > MOST_LOGGED) log.lastChild.remove();
}

// Scrolls a result into view, if its user has just asked for it.
export function reveal(place) {
  if (navigator.userActivation?.isActive) place?.scrollIntoView({ block: "nearest" });
}

function details(call) {
  const line = make("p", { className: "request" }, [
    badge(call), make("code", {}, `${call.method} ${shortened(call.path)}`), make("span", { className: "quiet" }, `${call.took} ms`),
  ]);
  return make("div", { className: `call ${tone(call)}` }, [line, words(call), ...evidence(call, call.shown)]);
}

const tone = (call) => (call.ok ? "good" : "bad");
const badge = (call) => make("b", { className: "status" }, String(call.status || "—"));
const words = (call) => make("span", { className: "words" }, prose(call.status ? `${call.status}: ${call.words}` : call.words));
const time = (call) => make("time", { className: "quiet" }, `${call.began.toLocaleTimeString()}, ${call.took} ms`);

// What the call left: the answer, unless the page shows it in another way, and the line for curl.
function evidence(call, isShown) {
  const parts = [];
  if (call.text && !(call.ok && isShown)) parts.push(make("pre", { tabIndex: 0 }, shortened(call.body ? laidOut(call.body) : call.text)));
  if (call.method !== "WS" && !call.spent) {
    const line = curl(call);
    parts.push(make("div", { className: "curl" }, [make("code", {}, line), copyButton(() => line, "Copy the curl line")]));
  }
  return parts;
}

// JSON on one line, if it is short enough.
function laidOut(body) {
  const line = JSON.stringify(body, null, 1).replace(/\n */g, " ");
  return shortened(line).length <= 100 ? line : JSON.stringify(body, null, 2);
}

// Tokens and tickets are long, and need not be on a screen.
export function shortened(text) {
  const long = /[\w-]{8,}\.[\w-]+\.[\w-]+|gAAAA[\w-]{16,}=*/g;
  return text.replace(long, (token) => `${token.slice(0, 8)}…${token.slice(-4)}`);
}

// The line for curl, in which secrets are variables of the shell.
function curl({ method, path, headers, form, json, cookie }) {
  const parts = ["curl -i"];
  if (method !== "GET" && !json && !Object.keys(form ?? {}).length) parts.push(`-X ${method}`);
  if (cookie) parts.push('-b "__Host-fastauth-refresh=$REFRESH_TOKEN"');
  for (const [name, value] of Object.entries(headers)) parts.push(`-H ${quoted(`${name}: `, value)}`);
  for (const [name, value] of Object.entries(form ?? {})) {
    const isPlain = value instanceof Hidden || /^[\w.-]*$/.test(value);
    parts.push(`${isPlain ? "-d" : "--data-urlencode"} ${quoted(`${name}=`, value)}`);
  }
  if (json) {
    // Single quotes end before a variable, and begin again behind it.
    const text = JSON.stringify(json, (_, value) => (value instanceof Hidden ? `'"$${value.variable}"'` : value));
    parts.push("-H 'Content-Type: application/json'", `-d '${text.replaceAll(/'\\"(\$\w+)\\"'/g, `'"$1"'`)}'`);
  }
  return [...parts, quoted(location.origin, path)].join(" ");
}

export function quoted(prefix, value) {
  if (value instanceof Hidden) return `"${prefix}$${value.variable}"`;
  const text = `${prefix}${value}`;
  return /^[\w./:@=%+-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

element("clear").onclick = () => {
  element("log").replaceChildren();
  element("nothing").hidden = false;
};
