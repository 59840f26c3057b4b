/** A server with one session, as FastAuth behaves: one current access token, one refresh token, in a cookie or in bodies. */
export class FakeServer {
  constructor({ transport = "cookie", shape = "envelope", life = 900 } = {}) {
    Object.assign(this, { transport, shape, life });
    this.generation = 0;
    this.isLoggedIn = false;
    /** What was asked, and what came with it. */
    this.calls = [];
    /** Answers that are given in place of the usual ones: `Response`s or errors, by path. */
    this.instead = { "/auth/token/refresh": [], "/auth/token/revoke": [], "/auth/ticket": [], "/access/report": [] };
    /** Milliseconds until an answer. */
    this.delay = 0;
    this.fetch = this.fetch.bind(this);
  }

  logIn(clientId = "ann") {
    this.clientId = clientId;
    this.isLoggedIn = true;
    return this.issue();
  }

  issue() {
    this.generation += 1;
    const payload = btoa(JSON.stringify({ client_id: this.clientId, roles: ["reader"], exp: 2000 + this.life, iat: 2000 }));
    this.access = `head.${payload}.${this.generation}`;
    this.refresh = `refresh-${this.generation}`;
    const pair = { access_token: this.access, expires_in: this.life };
    if (this.transport === "body") pair.refresh_token = this.refresh;
    if (this.shape === "oauth") return Response.json({ ...pair, token_type: "Bearer" });
    return Response.json({ status: "success", code: 200, data: { client_id: this.clientId, ...pair } });
  }

  count(path) {
    return this.calls.filter((call) => call.path === path).length;
  }

  async fetch(input, init = {}) {
    const request = new Request(input, init);
    const path = new URL(request.url).pathname;
    const body = await request.text();
    const authorization = request.headers.get("Authorization") ?? request.headers.get("ACCESS-TOKEN");
    this.calls.push({ path, url: request.url, body, authorization, init, at: performance.now() });
    if (this.delay) await new Promise((resolve) => setTimeout(resolve, this.delay));
    const instead = this.instead[path]?.shift();
    if (instead instanceof Error) throw instead;
    if (instead) return instead;
    if (path === "/login") return this.logIn();
    if (path === "/auth/token/refresh") return this.exchange(body);
    if (path === "/auth/token/revoke") {
      this.isLoggedIn = false;
      return Response.json({});
    }
    if (!this.isLoggedIn || authorization?.replace("Bearer ", "") !== this.access) return refused(401, "not_current", '"invalid_token"');
    if (path === "/auth/ticket") return Response.json({ ticket: `ticket-${this.calls.length}`, expires_in: 30 });
    return Response.json({ report: body || this.clientId });
  }

  exchange(body) {
    const presented = this.transport === "body" ? new URLSearchParams(body).get("refresh_token") : this.refresh;
    if (this.isLoggedIn && presented === this.refresh) return this.issue();
    if (this.shape === "oauth") return Response.json({ error: "invalid_grant", reason: "reused_refresh_token" }, { status: 400 });
    return refused(401, "not_logged_in");
  }
}

export function refused(status, reason, challenge, headers = {}) {
  if (challenge) headers["WWW-Authenticate"] = `Bearer error=${challenge}`;
  return Response.json({ status: "error", code: status, reason, message: `because ${reason}` }, { status, headers });
}

/** Web Locks among the instances of one process: Node 20 has none. */
export class FakeLocks {
  #last = new Map();

  request(name, work) {
    const result = (this.#last.get(name) ?? Promise.resolve()).then(work);
    this.#last.set(name, result.catch(() => {}));
    return result;
  }
}

/** A socket that a test opens, closes and reads by hand. */
export class FakeSocket extends EventTarget {
  static all = [];

  constructor(url, protocols) {
    super();
    Object.assign(this, { url, protocols, readyState: 0, sent: [] });
    FakeSocket.all.push(this);
  }

  opens() {
    this.readyState = 1;
    this.onopen?.({});
  }

  receives(data) {
    this.onmessage?.({ data });
  }

  closes(code, reason = "") {
    this.readyState = 3;
    this.onclose?.({ code, reason, wasClean: true });
  }

  send(data) {
    this.sent.push(data);
  }

  close(code) {
    this.closedBy = code;
    this.readyState = 2;
  }
}
