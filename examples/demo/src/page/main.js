// The buttons and forms of the page.
import { Hidden, send } from "./calls.js";
import { button, clock, element, make } from "./dom.js";
import { accessHeaders, claims, logIn, logOut, logOutEverywhere, refresh, take, watch } from "./session.js";
import "./paths.js";
import "./socket.js";

// Does the work while its button is disabled, so that a second click does nothing.
function does(id, work) {
  element(id).onclick = async ({ currentTarget: clicked }) => {
    clicked.disabled = true;
    await work().finally(() => (clicked.disabled = false));
  };
}

does("print", async () => {
  const good = "look into the terminal: the link stands there";
  await send({ method: "POST", path: "/demo/link", good }, element("session-result"));
});
does("refresh", refresh);
does("log-out", logOut);
does("log-out-everywhere", logOutEverywhere);
does("list", listSessions);

const masters = [...document.querySelectorAll(".master")];
const masterHeaders = () => ({ "MASTER-TOKEN": new Hidden("MASTER_TOKEN", masters[0].value) });
for (const input of masters) {
  input.oninput = () => masters.forEach((other) => (other.value = input.value));
}

element("issue").onsubmit = async (event) => {
  event.preventDefault();
  const form = { client_id: event.target.elements.client.value };
  const call = { method: "POST", path: "/auth/token/new", headers: masterHeaders(), form, good: "a pair was issued" };
  take(await send(call, element("session-result")));
};

const request = element("request");
request.onchange = () => (element("request-master").hidden = request.elements.with.value !== "master");
request.onsubmit = (event) => {
  event.preventDefault();
  ask(request.elements.method.value, request.elements.path.value);
};
element("requests").onclick = ({ target }) => {
  if (target.tagName !== "BUTTON") return;
  request.elements.path.value = target.textContent;
  ask("GET", target.textContent);
};

function ask(method, path) {
  const headers = { access: accessHeaders, master: masterHeaders, none: () => ({}) }[request.elements.with.value]();
  // A path of another host would take the token there.
  return send({ method, path: path.replace(/^\/*/, "/"), headers }, element("request-result"));
}

async function listSessions() {
  const call = await send({ path: "/access/sessions", headers: accessHeaders(), good: "the live sessions", shown: true }, element("sessions-result"));
  if (call.ok) showSessions(call.body);
}

function showSessions(sessions) {
  const rows = sessions.map(({ client_id, session, issued_at, refresh_expires_at, generation }) => {
    const isMine = session === claims()?.sid;
    const end = button("Revoke", () => revoke(client_id, session), { className: "small", ariaLabel: `Revoke the session ${session} of ${client_id}` });
    return make("li", {}, [
      make("div", {}, [
        make("strong", {}, client_id), " ", make("code", {}, session.slice(0, 8)), " ", isMine ? make("span", { className: "badge good" }, "this page") : "",
        make("small", {}, `since ${clock(issued_at)}, refreshed ${generation}×, until ${clock(refresh_expires_at)}`),
      ]),
      end,
    ]);
  });
  const list = rows.length ? make("ul", { className: "sessions" }, rows) : make("p", { className: "quiet" }, "Nobody is.");
  element("sessions").replaceChildren(list);
}

async function revoke(client_id, session) {
  const call = {
    method: "POST", path: "/access/sessions/revoke", headers: accessHeaders(), json: { client_id, session }, good: "the session is revoked",
  };
  const isMine = session === claims()?.sid;
  if ((await send(call, element("sessions-result"))).ok && !isMine) await listSessions();
}

watch(() => element("sessions").replaceChildren());

// In a tab that has the page already, a link changes no more than what is behind `#`.
addEventListener("hashchange", followLink);
followLink();

function followLink() {
  const [name, code] = location.hash.slice(1).split("=");
  if (name === "code" && code) logIn(code);
}
