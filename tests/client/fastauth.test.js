import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { afterEach, beforeEach, test } from "node:test";
import { inspect } from "node:util";

import { FastAuth, FastAuthError } from "../../clients/js/fastauth.js";
import { FakeLocks, FakeServer, FakeSocket, refused } from "./fake_server.js";

const BASE = "https://app.example/auth";
const REFRESH = "/auth/token/refresh";

/** @type {FastAuth[]} */
let opened = [];

beforeEach(() => {
  opened = [];
  FakeSocket.all = [];
  Object.defineProperty(globalThis, "navigator", { value: { locks: new FakeLocks() }, configurable: true });
});

afterEach(() => {
  for (const auth of opened) auth.close();
});

/** A tab of a browser: instances of one process hear each other's BroadcastChannel. */
function tab(server, options = {}) {
  const auth = new FastAuth({ baseUrl: BASE, fetch: server.fetch, WebSocket: FakeSocket, ...options });
  opened.push(auth);
  return auth;
}

async function until(condition, what = "it") {
  const deadline = Date.now() + 5000;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `${what} did not come about`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

for (const shape of ["envelope", "oauth"]) {
  test(`log_in_answer_is_taken_over_as_${shape}`, async () => {
    const server = new FakeServer({ shape });
    const auth = tab(server);
    const session = await auth.start(server.logIn());
    assert.equal(session.clientId, "ann");
    assert.deepEqual(session.claims.roles, ["reader"]);
    assert.ok(Math.abs(session.expiresAt - Date.now() - 900_000) < 1000);
    const response = await auth.fetch("/access/report");
    assert.equal(response.status, 200);
    assert.equal(server.calls.at(-1).authorization, `Bearer ${server.access}`);
    assert.equal(server.count(REFRESH), 0);
  });

  test(`ended_session_of_${shape}_logs_out_without_a_storm`, async () => {
    const server = new FakeServer({ shape });
    const auth = tab(server);
    const seen = [];
    auth.onChange((session) => seen.push(session));
    await until(() => seen.length === 1);
    assert.equal(seen[0], null);
    for (let i = 0; i < 5; i++) assert.equal((await auth.fetch("/access/report")).status, 401);
    assert.equal(await auth.session(), null);
    assert.equal(server.count(REFRESH), 1);
    assert.equal(server.calls.at(-1).authorization, null);
  });
}

test("refused_log_in_is_an_error_that_says_why", async () => {
  const auth = tab(new FakeServer());
  await assert.rejects(auth.start(refused(403, "locked")), (error) => {
    assert.ok(error instanceof FastAuthError);
    assert.deepEqual([error.status, error.reason], [403, "locked"]);
    assert.match(error.message, /403 because locked/);
    return true;
  });
});

test("reload_restores_the_session_by_one_refresh", async () => {
  const server = new FakeServer();
  server.logIn();
  const auth = tab(server);
  const answers = await Promise.all([auth.session(), auth.fetch("/access/report"), auth.fetch("/access/report")]);
  assert.equal(answers[0].clientId, "ann");
  assert.deepEqual([answers[1].status, answers[2].status], [200, 200]);
  assert.equal(server.count(REFRESH), 1);
});

test("parallel_calls_share_one_refresh", async () => {
  const server = new FakeServer();
  const auth = tab(server);
  await auth.start(server.logIn());
  server.issue(); // The tab's token is not the current one any more.
  server.delay = 20;
  const answers = await Promise.all(Array.from({ length: 8 }, () => auth.fetch("/access/report")));
  assert.deepEqual(new Set(answers.map((answer) => answer.status)), new Set([200]));
  assert.equal(server.count(REFRESH), 1);
});

test("new_tab_is_handed_the_token_by_another", async () => {
  const server = new FakeServer();
  await tab(server).start(server.logIn());
  const session = await tab(server).session();
  assert.equal(session.clientId, "ann");
  assert.equal(server.count(REFRESH), 0);
});

test("eight_tabs_renew_once", async () => {
  const server = new FakeServer();
  const tabs = Array.from({ length: 8 }, () => tab(server));
  await tabs[0].start(server.logIn());
  await Promise.all(tabs.map((auth) => auth.session()));
  assert.equal(server.count(REFRESH), 0);
  server.issue();
  server.delay = 20;
  const calls = tabs.flatMap((auth) => Array.from({ length: 4 }, () => auth.fetch("/access/report")));
  for (const answer of await Promise.all(calls)) assert.equal(answer.status, 200);
  assert.equal(server.count(REFRESH), 1);
});

test("token_is_renewed_before_it_expires", async () => {
  const server = new FakeServer({ life: 2 });
  const auth = tab(server);
  const first = await auth.start(server.logIn());
  const seen = [];
  auth.onChange((session) => seen.push(session));
  await until(() => server.count(REFRESH) === 1);
  assert.ok(Date.now() < first.expiresAt, "it was renewed too late");
  assert.ok(Date.now() > first.expiresAt - 1000, "it was renewed too early");
  await until(() => seen.at(-1).expiresAt > first.expiresAt);
});

test("lifetime_beyond_the_longest_timer_does_not_renew_at_once", async (context) => {
  const server = new FakeServer({ life: 36500 * 86400 });
  const auth = tab(server);
  const timers = context.mock.method(globalThis, "setTimeout");
  await auth.start(server.logIn());
  await new Promise((resolve) => setImmediate(resolve));
  await auth.fetch("/access/report");
  assert.equal(server.count(REFRESH), 0);
  for (const { arguments: [, wait] } of timers.mock.calls) assert.ok(wait < 2 ** 31, `${wait} fires at once`);
});

test("expired_token_is_not_sent_after_sleep", async (context) => {
  const server = new FakeServer();
  const auth = tab(server);
  await auth.start(server.logIn());
  context.mock.method(Date, "now", () => performance.timeOrigin + performance.now() + 3600_000);
  assert.equal((await auth.fetch("/access/report")).status, 200);
  assert.deepEqual(server.calls.map((call) => call.path), [REFRESH, "/access/report"]);
});

test("expired_token_that_cannot_be_refreshed_is_an_error", async (context) => {
  const server = new FakeServer();
  const auth = tab(server);
  await auth.start(server.logIn());
  context.mock.method(Date, "now", () => performance.timeOrigin + performance.now() + 3600_000);
  server.instead[REFRESH].push(refused(403, "cross_origin"));
  await assert.rejects(auth.fetch("/access/report"), { reason: "cross_origin" });
  assert.equal(server.count("/access/report"), 0);
});

test("clock_set_back_stops_nothing", async (context) => {
  const server = new FakeServer();
  const auth = tab(server);
  await auth.start(server.logIn());
  context.mock.method(Date, "now", () => performance.timeOrigin + performance.now() - 3600_000);
  server.issue();
  assert.equal((await auth.fetch("/access/report")).status, 200);
});

test("body_is_sent_again_after_a_401", async () => {
  const server = new FakeServer();
  const auth = tab(server);
  await auth.start(server.logIn());
  for (const send of [
    () => auth.fetch("/access/report", { method: "POST", body: "words" }),
    () => auth.fetch(new Request("https://app.example/access/report", { method: "POST", body: "words" })),
  ]) {
    server.issue();
    assert.deepEqual(await (await send()).json(), { report: "words" });
  }
});

test("stream_is_not_sent_again", async () => {
  const server = new FakeServer();
  const auth = tab(server);
  await auth.start(server.logIn());
  server.issue();
  const body = new Blob(["words"]).stream();
  assert.equal((await auth.fetch("/access/report", { method: "POST", body, duplex: "half" })).status, 401);
});

test("401_of_the_application_is_passed_on", async () => {
  const server = new FakeServer();
  const auth = tab(server);
  await auth.start(server.logIn());
  server.instead["/access/report"].push(refused(401, "wrong_password"), new Response("no", { status: 401 }));
  for (let i = 0; i < 2; i++) assert.equal((await auth.fetch("/access/report")).status, 401);
  assert.equal(server.count(REFRESH), 0);
});

test("401_across_origins_is_read_from_its_body", async () => {
  const server = new FakeServer();
  const auth = tab(server);
  await auth.start(server.logIn());
  server.instead["/access/report"].push(refused(401, "expired_token"));
  assert.equal((await auth.fetch("/access/report")).status, 200);
  assert.equal(server.count(REFRESH), 1);
});

test("server_that_refuses_new_tokens_is_asked_once_a_second_at_most", async () => {
  const server = new FakeServer();
  const auth = tab(server);
  await auth.start(server.logIn());
  const began = Date.now();
  for (let i = 0; i < 3; i++) {
    server.instead["/access/report"].push(refused(401, "not_current"), refused(401, "not_current"));
    assert.equal((await auth.fetch("/access/report")).status, 401);
  }
  assert.equal(server.count(REFRESH), 3);
  assert.ok(Date.now() - began >= 2900);
});

test("network_error_does_not_log_out", async () => {
  const server = new FakeServer();
  server.logIn();
  const auth = tab(server);
  server.instead[REFRESH].push(new TypeError("away"), new TypeError("away"), new TypeError("away"));
  await assert.rejects(auth.session(), { name: "FastAuthError", message: /token\/refresh cannot be reached/ });
  assert.equal(server.count(REFRESH), 3);
  assert.equal((await auth.session()).clientId, "ann");
});

test("renewal_that_fails_leaves_a_good_token_in_use", async (context) => {
  const server = new FakeServer();
  const auth = tab(server);
  const { expiresAt } = await auth.start(server.logIn());
  server.instead[REFRESH].push(refused(503, "store_unavailable", null, { "Retry-After": "5" }));
  context.mock.method(Date, "now", () => expiresAt - 10_000);
  for (let i = 0; i < 5; i++) assert.equal((await auth.fetch("/access/report")).status, 200);
  assert.equal(server.count(REFRESH), 1);
});

for (const [status, reason] of [[503, "store_unavailable"], [429, "rate_limited"]]) {
  test(`retry_after_of_a_${status}_is_kept_by_all_tabs`, async () => {
    const server = new FakeServer();
    server.logIn();
    const tabs = Array.from({ length: 4 }, () => tab(server));
    server.instead[REFRESH].push(refused(status, reason, null, { "Retry-After": "1" }));
    const sessions = await Promise.all(tabs.map((auth) => auth.session()));
    assert.ok(sessions.every((session) => session.clientId === "ann"));
    assert.equal(server.count(REFRESH), 2);
    const [first, second] = server.calls;
    assert.ok(second.at - first.at >= 950, `${second.at - first.at} ms`);
  });
}

test("long_retry_after_is_left_to_the_caller", async () => {
  const server = new FakeServer();
  server.logIn();
  const auth = tab(server);
  server.instead[REFRESH].push(refused(429, "rate_limited", null, { "Retry-After": "60" }));
  await assert.rejects(auth.fetch("/access/report"), (error) => error.status === 429 && error.retryAfter === 60);
  await assert.rejects(auth.fetch("/access/report"), (error) => error.retryAfter > 59);
  assert.equal(server.count(REFRESH), 1);
});

test("faulty_configuration_is_said_and_does_not_log_out", async () => {
  const server = new FakeServer();
  server.logIn();
  const auth = tab(server);
  server.instead[REFRESH].push(refused(403, "cross_origin"));
  await assert.rejects(auth.session(), { status: 403, reason: "cross_origin" });
  assert.equal((await auth.session()).clientId, "ann");
});

test("transport_that_differs_from_the_server_is_named", async () => {
  const inBodies = new FakeServer({ transport: "body" });
  await assert.rejects(tab(inBodies).start(inBodies.logIn()), /"refresh-transport": "cookie"/);
  const inCookie = new FakeServer();
  await assert.rejects(tab(inCookie, { transport: "body" }).start(inCookie.logIn()), /no refresh_token/);
});

test("logout_in_one_tab_logs_out_all", async () => {
  const server = new FakeServer();
  const [one, other] = [tab(server), tab(server)];
  await one.start(server.logIn());
  const seen = [];
  other.onChange((session) => seen.push(session?.clientId));
  await until(() => seen.at(-1) === "ann");
  await one.logout();
  await until(() => seen.at(-1) === undefined);
  assert.equal(server.count("/auth/token/revoke"), 1);
  assert.equal((await other.fetch("/access/report")).status, 401);
  assert.equal(server.count(REFRESH), 0);
});

test("logout_wins_over_a_refresh_under_way_in_another_tab", async () => {
  const server = new FakeServer();
  const [one, other] = [tab(server), tab(server)];
  await one.start(server.logIn());
  await other.session();
  server.issue();
  server.delay = 50;
  const call = other.fetch("/access/report");
  await until(() => server.count(REFRESH) === 1);
  await one.logout();
  assert.equal((await call).status, 401);
  assert.deepEqual([await one.session(), await other.session()], [null, null]);
});

test("token_announced_during_a_logout_is_dropped", async () => {
  const server = new FakeServer();
  const auth = tab(server);
  await auth.start(server.logIn());
  server.delay = 50;
  const logout = auth.logout();
  const other = new BroadcastChannel(`fastauth ${BASE}/`);
  other.postMessage({ token: { accessToken: "late", clientId: "ann", claims: {}, expiresAt: Infinity, renewAt: Infinity, receivedAt: 0 } });
  other.close();
  await until(async () => (await auth.session())?.clientId === "ann");
  await logout;
  assert.equal(await auth.session(), null);
});

test("no_tab_refreshes_while_a_user_logs_in", async () => {
  const server = new FakeServer();
  const [one, other] = [tab(server), tab(server)];
  await one.start(server.logIn("ann"));
  await other.session();
  server.issue();
  server.delay = 50;
  const call = other.fetch("/access/report");
  await until(() => server.count(REFRESH) === 1);
  const session = await one.start(async () => {
    assert.equal(server.generation, 3, "the refresh is not over");
    return server.logIn("bob");
  });
  await call;
  assert.equal(session.clientId, "bob");
  await until(async () => (await other.session()).clientId === "bob");
  assert.equal(server.count(REFRESH), 1);
});

test("logout_that_fails_is_an_error_and_can_be_repeated", async () => {
  const server = new FakeServer();
  const auth = tab(server);
  await auth.start(server.logIn());
  server.instead["/auth/token/revoke"].push(refused(501, "unsupported_by_store"));
  await assert.rejects(auth.logout(), { status: 501 });
  assert.equal(await auth.session(), null);
  await auth.logout();
  assert.equal(server.isLoggedIn, false);
});

test("log_in_of_another_user_reaches_all_tabs_and_closes_their_sockets", async () => {
  const server = new FakeServer();
  const [one, other] = [tab(server), tab(server)];
  await one.start(server.logIn("ann"));
  await other.session();
  const socket = other.socket("/access/ws");
  await until(() => FakeSocket.all.length === 1);
  FakeSocket.all[0].opens();
  await one.start(server.logIn("bob"));
  await until(async () => (await other.session()).clientId === "bob");
  assert.equal(socket.readyState, 3);
  assert.equal(FakeSocket.all[0].closedBy, 1000);
});

test("tokens_are_sent_to_named_origins_alone", async () => {
  const server = new FakeServer();
  const auth = tab(server, { origins: ["https://api.example"] });
  await auth.start(server.logIn());
  for (const url of ["https://evil.example/", "//evil.example/x", "http://app.example/", "https://app.example:444/"]) {
    await assert.rejects(auth.fetch(url), /no token is sent to/, url);
    await assert.rejects(auth.fetch(new Request(new URL(url, BASE))), /no token is sent to/, url);
    assert.throws(() => auth.socket(url), /no token is sent to/, url);
  }
  assert.equal(server.calls.length, 0);
  await auth.fetch("https://api.example/access/report");
  assert.equal(server.calls[0].authorization, `Bearer ${server.access}`);
});

test("header_of_its_own_does_not_follow_redirects", async () => {
  const server = new FakeServer();
  const auth = tab(server, { header: "ACCESS-TOKEN" });
  await auth.start(server.logIn());
  assert.equal((await auth.fetch("/access/report")).status, 200);
  assert.equal(server.calls[0].authorization, server.access);
  assert.equal(server.calls[0].init.redirect, "error");
  await auth.fetch("/access/report", { redirect: "follow" });
  assert.equal(server.calls[1].init.redirect, "error");
});

test("no_token_is_in_urls_errors_or_output", async () => {
  const server = new FakeServer();
  const auth = tab(server);
  await auth.start(server.logIn());
  const tokens = [server.access, server.refresh];
  server.instead[REFRESH].push(refused(500, "signing"));
  server.issue();
  const error = await auth.fetch("/access/report", { signal: AbortSignal.timeout(500) }).catch((error) => error);
  const shown = [inspect(auth, { depth: 9, showHidden: true }), inspect(error), JSON.stringify(auth), ...server.calls.map((call) => call.url)];
  for (const text of shown) for (const token of tokens) assert.ok(!text.includes(token), text);
});

test("abort_ends_the_wait_for_a_token", async () => {
  const server = new FakeServer();
  server.logIn();
  const auth = tab(server);
  server.instead[REFRESH].push(refused(503, "store_unavailable", null, { "Retry-After": "5" }));
  const began = performance.now();
  await assert.rejects(auth.fetch("/access/report", { signal: AbortSignal.timeout(50) }), { name: "TimeoutError" });
  assert.ok(performance.now() - began < 1000);
});

test("body_transport_keeps_the_refresh_token_in_a_storage", async () => {
  const server = new FakeServer({ transport: "body" });
  let kept = null;
  const storage = { load: async () => kept, save: async (token) => void (kept = token) };
  const auth = tab(server, { transport: "body", storage });
  assert.equal(await auth.session(), null);
  await auth.start(server.logIn());
  assert.equal(kept, server.refresh);
  server.issue();
  kept = server.refresh;
  assert.equal((await auth.fetch("/access/report")).status, 200);
  assert.equal(kept, server.refresh);
  // The next run of the program.
  const next = tab(server, { transport: "body", storage });
  assert.equal((await next.session()).clientId, "ann");
  await next.logout();
  assert.deepEqual([kept, server.isLoggedIn], [null, false]);
  assert.equal(server.calls.at(-1).body, "token=refresh-4");
});

test("socket_is_reopened_with_a_fresh_ticket", async () => {
  const server = new FakeServer();
  const auth = tab(server);
  await auth.start(server.logIn());
  const socket = auth.socket("/access/ws?room=1", { protocols: ["chat"] });
  const heard = [];
  socket.onopen = () => heard.push("open");
  socket.addEventListener("message", (event) => heard.push(event.data));
  socket.onclose = (event) => heard.push([event.code, event.isFinal]);
  assert.equal(socket.send("too early"), false);
  await until(() => FakeSocket.all.length === 1);
  const [first] = FakeSocket.all;
  assert.match(first.url, /^wss:\/\/app\.example\/access\/ws\?room=1&ticket=ticket-\d+$/);
  assert.deepEqual(first.protocols, ["chat"]);
  first.opens();
  first.receives("hello");
  assert.equal(socket.send("hi"), true);
  first.closes(1008, "the access token was replaced");
  await until(() => FakeSocket.all.length === 2);
  assert.notEqual(FakeSocket.all[1].url, first.url);
  FakeSocket.all[1].opens();
  FakeSocket.all[1].closes(1000);
  assert.deepEqual(heard, ["open", "hello", [1008, false], "open", [1000, true]]);
  assert.equal(socket.readyState, 3);
});

test("socket_that_is_refused_backs_off", async () => {
  const server = new FakeServer();
  const auth = tab(server);
  await auth.start(server.logIn());
  const socket = auth.socket("/access/ws");
  const began = performance.now();
  let closed = 0;
  socket.onclose = () => (closed += 1);
  for (let i = 0; i < 5; i++) {
    await until(() => FakeSocket.all.length === i + 1);
    FakeSocket.all[i].closes(1006);
  }
  socket.close();
  assert.equal(closed, 6);
  // On average 0.125 + 0.25 + 0.5 + 1 s.
  assert.ok(performance.now() - began > 100);
  assert.equal(server.count("/auth/ticket"), 5);
});

test("socket_that_never_opens_asks_whether_its_path_is_right", async (context) => {
  const server = new FakeServer();
  const auth = tab(server);
  await auth.start(server.logIn());
  context.mock.method(Math, "random", () => 0);
  const socket = auth.socket("/missing");
  const reasons = [];
  socket.onclose = ({ code, reason, isFinal }) => reasons.push([code, reason, isFinal]);
  for (let i = 0; i < 6; i++) {
    await until(() => FakeSocket.all.length === i + 1);
    if (i === 4) FakeSocket.all[i].opens();
    FakeSocket.all[i].closes(1006);
  }
  const silent = [1006, "", false];
  const asking = [1006, "the handshake was refused: is there a WebSocket at this path?", false];
  assert.deepEqual(reasons, [silent, silent, asking, asking, silent, silent]);
});

test("tab_says_why_it_leaves_the_server_alone", async (context) => {
  for (const [answer, first, second] of [
    [new TypeError("away"), "token/refresh cannot be reached", "the server cannot be reached: waiting"],
    [refused(502, "gateway"), "token/refresh is not available: 502 because gateway", "the server is not available: waiting"],
    [refused(503, "busy", null, { "Retry-After": "60" }), "token/refresh is not available: 503 because busy", "the server asked to wait"],
  ]) {
    const server = new FakeServer();
    const [one, other] = [tab(server), tab(server)];
    await one.start(server.logIn());
    await other.session();
    // The wait is too long to be sat out.
    const random = context.mock.method(Math, "random", () => 60);
    const now = context.mock.method(Date, "now", () => performance.timeOrigin + performance.now() + 3600_000);
    server.instead[REFRESH].push(answer);
    await assert.rejects(one.session(), { name: "FastAuthError", message: first });
    await assert.rejects(other.session(), { name: "FastAuthError", message: second });
    assert.equal(server.count(REFRESH), 1);
    for (const { mock } of [now, random]) mock.restore();
  }
});

test("socket_is_reopened_after_a_ticket_that_could_not_be_fetched", async (context) => {
  const server = new FakeServer();
  const auth = tab(server);
  await auth.start(server.logIn());
  context.mock.method(Math, "random", () => 0);
  server.instead["/auth/ticket"].push(new TypeError("away"));
  const closed = [];
  const socket = auth.socket("/access/ws");
  socket.onclose = ({ reason, isFinal }) => closed.push([reason, isFinal]);
  await until(() => FakeSocket.all.length === 1 || socket.readyState === 3);
  assert.deepEqual(closed, [["no ticket was issued: the server cannot be reached", false]]);
  assert.equal(FakeSocket.all.length, 1);
});

test("socket_ends_with_the_session_or_if_no_ticket_is_issued", async () => {
  const server = new FakeServer();
  const auth = tab(server);
  await auth.start(server.logIn());
  server.instead["/auth/ticket"].push(refused(501, "unsupported_by_store"));
  const unable = auth.socket("/access/ws");
  await until(() => unable.readyState === 3);
  const socket = auth.socket("/access/ws");
  await until(() => FakeSocket.all.length === 1);
  await auth.logout();
  assert.equal(socket.readyState, 3);
  assert.equal(FakeSocket.all[0].closedBy, 1000);
});

test("url_has_a_ticket_that_is_bound_to_its_path", async () => {
  const server = new FakeServer();
  const auth = tab(server);
  await assert.rejects(auth.url("/access/events"), { name: "FastAuthError", status: 401 });
  await auth.start(server.logIn());
  const once = await auth.url("/access/files/a%20b?part=1");
  assert.match(once, /^https:\/\/app\.example\/access\/files\/a%20b\?part=1&ticket=ticket-\d+$/);
  assert.deepEqual(JSON.parse(server.calls.at(-1).body), { path: "/access/files/a%20b" });
  assert.equal(server.calls.at(-1).init.headers.get("Content-Type"), "application/json");
  await auth.url("/access/events", { method: "HEAD", expiresIn: 300 });
  assert.deepEqual(JSON.parse(server.calls.at(-1).body), { path: "/access/events", method: "HEAD", expires_in: 300 });
  await assert.rejects(auth.url("https://evil.example/access"), TypeError);
});

test("paths_of_tickets_are_neither_relative_nor_resolved", async () => {
  const server = new FakeServer();
  const auth = tab(server);
  await auth.start(server.logIn());
  const dots = ["/access/../x", "/access/..", "/./x", "/access/%2e%2E/x", "/access/.%2e?a", "/access\\..\\x", "https://app.example/access/../x"];
  const relative = ["access/files", "", "?a", "ws", "https:access", " /access"];
  for (const [paths, message] of [[dots, /must be without "\." and "\.\." segments: /], [relative, /must begin with "\/": /]]) {
    for (const path of paths) {
      await assert.rejects(auth.url(path), { name: "TypeError", message }, path);
      assert.throws(() => auth.socket(path), { name: "TypeError", message }, path);
    }
  }
  assert.equal(server.calls.length, 0);
  for (const path of ["/access/..a/.well-known?to=/../x", "https://app.example/access/a...b", new URL("https://app.example/access/../x")]) {
    assert.match(await auth.url(path), /ticket=/);
  }
  auth.socket("wss://app.example/access/ws");
  await until(() => FakeSocket.all.length === 1);
});

test("listener_that_throws_breaks_nothing", async (context) => {
  const server = new FakeServer();
  const auth = tab(server);
  const thrown = [];
  context.mock.method(globalThis, "queueMicrotask", async (task) => {
    await null;
    try { task(); } catch (error) { thrown.push(error.message); }
  });
  auth.onChange(() => { throw new Error("of the page"); });
  await auth.start(server.logIn());
  await until(() => thrown.includes("of the page"));
  assert.equal((await auth.fetch("/access/report")).status, 200);
});

/** Runs an example of the README. */
async function run(example) {
  const readme = readFileSync(new URL("../../clients/js/README.md", import.meta.url), "utf8");
  const code = [...readme.matchAll(/```js\n(.*?)```/gs)][example][1];
  const script = new URL("../../clients/js/fastauth.js", import.meta.url).href;
  return import(`data:text/javascript,${encodeURIComponent(code.replace(/"[./]+fastauth.js"/, JSON.stringify(script)))}`);
}

test("readme_example_of_a_page_runs", async (context) => {
  const server = new FakeServer();
  const form = {};
  Object.assign(globalThis, { document: Object.assign(new EventTarget(), { querySelector: () => form }), location: { href: "https://app.example/" } });
  context.after(() => { delete globalThis.document; delete globalThis.location; });
  context.mock.method(globalThis, "fetch", (input, init) => server.fetch(new URL(input, location.href), init));
  const { FormData, WebSocket } = globalThis;
  Object.assign(globalThis, { FormData: class { constructor() { return [["name", "ann"]]; } }, WebSocket: FakeSocket });
  context.after(() => Object.assign(globalThis, { FormData, WebSocket }));
  // The example keeps its channel open.
  const channels = [];
  context.after(() => { for (const channel of channels) channel.close(); });
  const Channel = globalThis.BroadcastChannel;
  globalThis.BroadcastChannel = class extends Channel { name = channels.push(this); };
  await run(0);
  globalThis.BroadcastChannel = Channel;
  await until(() => document.title === "Log in");
  await form.onsubmit({ preventDefault() {}, target: form });
  await until(() => document.title === "Logged in as ann");
  await until(() => FakeSocket.all.length === 1);
  assert.equal(server.calls.find((call) => call.path === "/login").body, "name=ann");
  assert.equal(server.calls.find((call) => call.path === "/access/report").authorization, `Bearer ${server.access}`);
  await tab(server).logout();
  await until(() => document.title === "Log in");
});

test("readme_example_for_node_runs", async (context) => {
  const server = new FakeServer({ transport: "body" });
  globalThis.password = "open sesame";
  context.mock.method(globalThis, "fetch", server.fetch);
  const logged = context.mock.method(console, "log", () => {});
  await run(1);
  assert.deepEqual(logged.mock.calls[0].arguments, [{ report: "ann" }]);
  assert.deepEqual(server.calls.map((call) => call.path), ["/login", "/access/report", "/auth/token/revoke"]);
});

test("types_name_every_member", () => {
  const types = readFileSync(new URL("../../clients/js/fastauth.d.ts", import.meta.url), "utf8");
  for (const name of Object.getOwnPropertyNames(FastAuth.prototype)) assert.match(types, new RegExp(`\\b${name}\\(`), name);
});
