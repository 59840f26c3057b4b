// @ts-check
/**
 * Handles FastAuth's tokens for a page or a Node program: adds the access token to requests, refreshes it before it expires,
 * shares it among the tabs of a browser, and reopens sockets. `fastauth.d.ts` documents the interface.
 *
 * The access token is in memory only. The refresh token of a page is in a cookie that scripts cannot read.
 *
 * @import { FastAuth as Interface, Options, Session, Socket as SocketInterface, SocketOptions, Storage, UrlOptions } from "./fastauth.d.ts"
 * @typedef {Session & { accessToken: string, receivedAt: number, renewAt: number }} Token
 */

/** How long other tabs have to hand over a token, and the server to answer; in milliseconds. */
const HANDOVER = 100;
const TIMEOUT = 15_000;
/** How long a token is kept at least, so that a server that refuses new ones is not asked in a loop; in milliseconds. */
const LEAST_AGE = 1_000;
/** How long before its end a token is refreshed, or up to twice as long; a short-lived one a fifth of its life before. */
const EARLY = 60_000;
/** After how many closes in a row, none of them after an open, a socket says what may be wrong. */
const UNOPENED = 3;
/** How often a call tries to get a token, and the longest wait in between, in seconds. */
const ATTEMPTS = 3;
const PATIENCE = 10;
/** A timer for longer fires at once. */
const LONGEST_TIMER = 2 ** 31 - 1;
/** What the URL parser would resolve, `%2e` and `\` included. */
const DOT_SEGMENT = /[/\\](\.|%2e){1,2}([/\\]|$)/i;
/** The reasons of a 401 that a new access token may mend. */
const REFUSED = ["expired_token", "not_current", "unknown_client", "invalid_signature"];

export class FastAuthError extends Error {
  name = "FastAuthError";

  /** @param {string} message @param {{ status?: number, reason?: string, retryAfter?: number, cause?: unknown }} details */
  constructor(message, { status, reason, retryAfter, cause } = {}) {
    super(message, { cause });
    this.status = status;
    this.reason = reason;
    this.retryAfter = retryAfter;
  }
}

/** @implements {Interface} */
export class FastAuth {
  #base;
  #origins;
  #header;
  #fetch;
  #WebSocket;
  /** Holds the refresh token, unless that is in a cookie. @type {Storage | undefined} */
  #storage;
  /** Connects the tabs of this origin. @type {BroadcastChannel | undefined} */
  #channel;
  /** The access token; null if nobody is logged in, undefined if that is not known yet. @type {Token | null | undefined} */
  #token;
  /** Counts what `#token` has been. */
  #changes = 0;
  /** @type {Promise<Token | null> | undefined} */
  #renewing;
  /** Until when the server is left alone, by `performance.now()`, and why. */
  #pauseEnd = 0;
  #pauseReason = "";
  /** Ends the wait for other tabs. @type {(() => void) | undefined} */
  #heard;
  /** The last of the work that runs one at a time, if there are no locks over all tabs. @type {Promise<unknown>} */
  #last = Promise.resolve();
  /** @type {any} */
  #timer;
  /** @type {Set<Socket>} */
  #sockets = new Set();
  /** @type {Set<(session: Session | null) => void>} */
  #listeners = new Set();
  #closing = new AbortController();

  /** @param {Options} options */
  constructor({ baseUrl = "/auth", origins = [], transport = "cookie", storage, header = "Authorization", ...parts } = {}) {
    const page = globalThis.location?.href;
    if (!page && !URL.canParse(baseUrl)) throw new TypeError(`baseUrl must be absolute outside of a browser: ${baseUrl}`);
    this.#base = new URL(`${baseUrl.replace(/\/+$/, "")}/`, page);
    this.#origins = new Set([this.#base.origin, ...origins.map((origin) => new URL(origin).origin)]);
    this.#header = header;
    this.#fetch = parts.fetch ?? ((input, init) => globalThis.fetch(input, init));
    this.#WebSocket = parts.WebSocket ?? globalThis.WebSocket;
    if (transport === "body") this.#storage = storage ?? inMemory();
    else if (globalThis.BroadcastChannel) {
      this.#channel = new BroadcastChannel(`fastauth ${this.#base.href}`);
      this.#channel.onmessage = ({ data }) => this.#hear(data);
    }
    // Timers are late in hidden tabs, and stand still while the machine sleeps.
    const { signal } = this.#closing;
    globalThis.document?.addEventListener("visibilitychange", this.#tick, { signal });
    for (const event of ["online", "pageshow"]) globalThis.window?.addEventListener(event, this.#tick, { signal });
  }

  /** @param {Response | object | (() => Promise<Response | object>)} answer */
  start(answer) {
    // No tab may refresh while the cookie is replaced.
    return this.#alone(async () => {
      const sentAt = Date.now();
      const given = typeof answer === "function" ? await answer() : answer;
      if (given instanceof Response && !given.ok) throw await failure("the log-in was refused", given);
      const token = await this.#read(given instanceof Response ? await given.json() : given, sentAt);
      this.#announce(token);
      return /** @type {Session} */ (describe(token));
    });
  }

  async session() {
    return describe(await this.#fresh());
  }

  async accessToken() {
    return (await this.#fresh())?.accessToken ?? null;
  }

  /** @param {(session: Session | null) => void} listener */
  onChange(listener) {
    this.#listeners.add(listener);
    if (this.#token === undefined) this.#tick();
    else queueMicrotask(() => listener(describe(this.#token ?? null)));
    return () => void this.#listeners.delete(listener);
  }

  /** @param {string | URL | Request} input @param {RequestInit} init */
  async fetch(input, init = {}) {
    const request = input instanceof Request ? input : undefined;
    const url = this.#trusted(request ? request.url : String(input));
    const signal = init.signal ?? request?.signal;
    /** @param {Token | null} token */
    const send = (token) => {
      const headers = new Headers(init.headers ?? request?.headers);
      const isUsual = this.#header === "Authorization";
      if (token) headers.set(this.#header, isUsual ? `Bearer ${token.accessToken}` : token.accessToken);
      // No other header is removed when a redirect leads to another origin.
      const redirect = isUsual || init.redirect === "manual" ? init.redirect : "error";
      return this.#fetch(request?.clone() ?? url, { ...init, headers, redirect });
    };
    const token = await abortable(this.#fresh(), signal);
    const response = await send(token);
    if (!token || init.body instanceof ReadableStream || !(await isRefused(response))) return response;
    const newer = await abortable(this.#fresh(token), signal);
    if (!newer) return response;
    await response.body?.cancel();
    return send(newer);
  }

  /** @param {string | URL} path @param {SocketOptions} options */
  socket(path, { protocols = [], binaryType = "blob" } = {}) {
    const url = this.#located(String(path).replace(/^ws(?=s?:)/i, "http"));
    if (!this.#WebSocket) throw new TypeError("there is no WebSocket here: pass one to the constructor");
    const open = async () => {
      const address = new URL(url);
      address.searchParams.set("ticket", await this.#ticket());
      return Object.assign(new this.#WebSocket(address.href.replace(/^http/, "ws"), protocols), { binaryType });
    };
    const socket = new Socket(open, () => this.#sockets.delete(socket));
    this.#sockets.add(socket);
    return socket;
  }

  /** @param {string | URL} path @param {UrlOptions} options */
  async url(path, { method, expiresIn } = {}) {
    const url = this.#located(String(path));
    url.searchParams.set("ticket", await this.#ticket({ path: url.pathname, method, expires_in: expiresIn }));
    return url.href;
  }

  async logout() {
    this.#announce(null);
    await patiently(() =>
      this.#alone(async () => {
        const refreshToken = await this.#storage?.load();
        if (!this.#storage || refreshToken) {
          const response = await this.#post("token/revoke", refreshToken ? { token: refreshToken } : {});
          // 400: there is no cookie any more.
          if (!response.ok && response.status !== 400) throw await failure("the session was not revoked", response);
          await this.#storage?.save(null);
        }
        // A tab that was refreshing may have announced its token after the first time.
        this.#announce(null);
      }),
    );
  }

  close() {
    this.#closing.abort();
    this.#channel?.close();
    clearTimeout(this.#timer);
    this.#listeners.clear();
    for (const socket of this.#sockets) socket.close();
  }

  /** Returns the URL of a path, if tokens may be sent there. @param {string} path */
  #trusted(path) {
    const url = new URL(path, this.#base);
    if (this.#origins.has(url.origin)) return url;
    throw new TypeError(`no token is sent to ${url.origin}: name it in "origins", or use fetch itself`);
  }

  /** Returns the URL of a path that is not relative, so that the ticket is for what the caller wrote. @param {string} path */
  #located(path) {
    const shown = path.split(/[?#]/)[0];
    if (!/^(https?:\/)?\//i.test(shown)) throw new TypeError(`the path of a ticket must begin with "/": ${shown}`);
    if (DOT_SEGMENT.test(shown)) throw new TypeError(`the path of a ticket must be without "." and ".." segments: ${shown}`);
    return this.#trusted(path);
  }

  /** Returns a ticket: for one socket, unless it is bound to something else. @param {object} [bound] */
  async #ticket(bound) {
    const sent = bound && { body: JSON.stringify(bound), headers: { "Content-Type": "application/json" } };
    const response = await this.fetch(new URL("ticket", this.#base), { method: "POST", ...sent }).catch((cause) => {
      throw cause instanceof FastAuthError ? cause : new FastAuthError("no ticket was issued: the server cannot be reached", { cause });
    });
    if (!response.ok) throw await failure("no ticket was issued", response);
    return (await response.json()).ticket;
  }

  /** Returns a token that the server should accept, after it refused one, or null if nobody is logged in. @param {Token} [refused] */
  #fresh(refused) {
    return patiently(async () => {
      const token = this.#token;
      if (token === null) return null;
      const isGood = token && token !== refused && Date.now() < token.expiresAt;
      const isDue = !token || Date.now() >= token.renewAt;
      if (isGood && !this.#renewing && (!isDue || performance.now() < this.#pauseEnd)) return token;
      return this.#renew(token).catch((error) => {
        if (isGood) return token;
        throw error;
      });
    });
  }

  /** Replaces a token. Simultaneous calls share one renewal. @param {Token | undefined} stale */
  #renew(stale) {
    this.#renewing ??= this.#alone(() => this.#newer(stale)).finally(() => (this.#renewing = undefined));
    return this.#renewing;
  }

  /** Returns what replaces a token: that of another tab, or else a new one of the server. @param {Token | undefined} stale */
  async #newer(stale) {
    if (this.#token === stale) await this.#ask();
    if (this.#token !== stale) return this.#token ?? null;
    const pause = this.#pauseEnd - performance.now();
    if (pause > 0) throw new FastAuthError(this.#pauseReason, { retryAfter: pause / 1000 });
    if (stale) await sleep(Math.min(stale.receivedAt + LEAST_AGE - Date.now(), LEAST_AGE));
    const changes = this.#changes;
    const token = await this.#exchange();
    // Or else the user has logged in or out in the meantime.
    if (this.#changes === changes) this.#announce(token);
    return this.#token ?? null;
  }

  /** Exchanges the refresh token; returns null if there is no session. */
  async #exchange() {
    const sentAt = Date.now();
    const refreshToken = await this.#storage?.load();
    if (this.#storage && !refreshToken) return null;
    const response = await this.#post("token/refresh", refreshToken ? { refresh_token: refreshToken } : {});
    if (response.ok) return this.#read(await response.json(), sentAt);
    const error = await failure("the access token was not refreshed", response);
    // 400: OAuth's `invalid_grant`; "refused": by the application.
    if (response.status !== 400 && response.status !== 401 && error.reason !== "refused") throw error;
    await this.#storage?.save(null);
    return null;
  }

  /**
   * Reads an answer, in the envelope or in OAuth's form. Its lifetime began after the request was sent, whatever the server's clock says.
   * @param {any} answer @param {number} sentAt @returns {Promise<Token>}
   */
  async #read(answer, sentAt) {
    const pair = answer.data ?? answer;
    if (typeof pair.access_token !== "string") throw new FastAuthError("the answer has no access_token");
    if (this.#storage ? !pair.refresh_token : pair.refresh_token) {
      const [has, here, there] = this.#storage ? ["no", "cookie", "body"] : ["a", "body", "cookie"];
      throw new FastAuthError(`the answer has ${has} refresh_token: use transport "${here}", or "refresh-transport": "${there}" at the server`);
    }
    await this.#storage?.save(pair.refresh_token);
    const claims = claimsOf(pair.access_token);
    const life = (pair.expires_in ?? claims.exp - claims.iat) * 1000;
    const expiresAt = sentAt + life;
    const renewAt = expiresAt - Math.min(EARLY, life / 5) * (1 + Math.random());
    const clientId = pair.client_id ?? claims.client_id;
    return { accessToken: pair.access_token, clientId, claims, expiresAt, renewAt, receivedAt: Date.now() };
  }

  /** Sends a form to a token endpoint. A failure that may pass is an error with `retryAfter`. @param {string} path @param {Record<string, string>} form */
  async #post(path, form) {
    const credentials = this.#storage ? "omit" : "include";
    const signal = AbortSignal.timeout(TIMEOUT);
    let error;
    let reason = "the server cannot be reached: waiting";
    try {
      const init = { method: "POST", body: new URLSearchParams(form), credentials, signal, redirect: "error" };
      const response = await this.#fetch(new URL(path, this.#base), /** @type {RequestInit} */ (init));
      if (![429, 500, 502, 503, 504].includes(response.status)) return response;
      error = await failure(`${path} is not available`, response);
      reason = error.retryAfter ? "the server asked to wait" : "the server is not available: waiting";
    } catch (cause) {
      error = new FastAuthError(`${path} cannot be reached`, { cause });
    }
    error.retryAfter ??= 1 + Math.random();
    this.#pause(error.retryAfter, reason);
    this.#channel?.postMessage({ pause: error.retryAfter, reason });
    throw error;
  }

  /** Leaves the server alone. @param {number} seconds @param {string} reason */
  #pause(seconds, reason) {
    this.#pauseEnd = performance.now() + seconds * 1000;
    this.#pauseReason = reason;
  }

  /** Adopts a token in all tabs. @param {Token | null} token */
  #announce(token) {
    this.#channel?.postMessage({ token });
    this.#adopt(token);
  }

  /** Adopts a token; null if the user is logged out. @param {Token | null} token */
  #adopt(token) {
    const former = this.#token;
    this.#token = token;
    this.#changes += 1;
    this.#heard?.();
    this.#tick();
    if (former && former.clientId !== token?.clientId) for (const socket of this.#sockets) socket.close();
    if (former === token) return;
    // Later, so that a listener that throws stops nothing here.
    for (const listener of this.#listeners) queueMicrotask(() => listener(describe(token)));
  }

  /** Takes a message of another tab. @param {{ ask?: true, pause?: number, reason?: string, token: Token | null, isAnswer?: true }} message */
  #hear({ ask, pause, reason, token, isAnswer }) {
    if (pause) return this.#pause(pause, reason ?? "the server asked to wait");
    if (ask) {
      const isGood = this.#token && Date.now() < this.#token.expiresAt;
      return isGood && this.#channel?.postMessage({ token: this.#token, isAnswer });
    }
    // A tab that missed the latest token answers, too.
    const isNewer = token && token.expiresAt > (this.#token?.expiresAt ?? 0);
    if (!isAnswer || (this.#heard && isNewer)) this.#adopt(token);
  }

  /** Asks the other tabs for a newer token, and waits for it. */
  async #ask() {
    if (!this.#channel) return;
    this.#channel.postMessage({ ask: true, isAnswer: true });
    await new Promise((resolve) => {
      this.#heard = () => resolve(undefined);
      setTimeout(this.#heard, HANDOVER);
    });
    this.#heard = undefined;
  }

  /** Renews the token if that is due, and else waits until it is. */
  #tick = () => {
    clearTimeout(this.#timer);
    if (this.#token === null || this.#closing.signal.aborted) return;
    const { renewAt, expiresAt } = this.#token ?? { renewAt: 0, expiresAt: 0 };
    // Hidden tabs are slow, and calls in visible ones would wait for them.
    const lag = globalThis.document?.hidden ? (expiresAt - renewAt) / 2 : 0;
    const wait = renewAt + lag - Date.now();
    if (wait > 0) return this.#tickIn(wait);
    this.#renew(this.#token).catch((error) => this.#tickIn((error.retryAfter ?? 30) * 1000 + Math.random() * 1000));
  };

  /** @param {number} wait */
  #tickIn(wait) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.#tick, Math.min(wait, LONGEST_TIMER));
    // Or else Node would not exit.
    this.#timer.unref?.();
  }

  /** Runs work while no other work runs, in all tabs. @template T @param {() => Promise<T>} work @returns {Promise<T>} */
  #alone(work) {
    const locks = this.#channel && globalThis.navigator?.locks;
    if (locks) return /** @type {Promise<any>} */ (locks.request(`fastauth ${this.#base.href}`, work));
    const result = this.#last.then(work);
    this.#last = result.catch(() => {});
    return result;
  }
}

/** A WebSocket that is reopened when it closes. @implements {SocketInterface} */
class Socket extends EventTarget {
  /** @type {((event: any) => void) | null} */
  onopen = null;
  /** @type {((event: any) => void) | null} */
  onmessage = null;
  /** @type {((event: any) => void) | null} */
  onclose = null;
  #connect;
  #ended;
  /** @type {WebSocket | undefined} */
  #inner;
  /** Counts the times in a row that it did not stay open. */
  #failures = 0;
  /** Counts the times in a row that it did not open. */
  #unopened = 0;
  #isOver = false;

  /** @param {() => Promise<WebSocket>} connect @param {() => void} ended */
  constructor(connect, ended) {
    super();
    this.#connect = connect;
    this.#ended = ended;
    this.#open();
  }

  get readyState() {
    if (this.#isOver) return 3;
    return this.#inner?.readyState === 1 ? 1 : 0;
  }

  /** @param {any} data */
  send(data) {
    const isOpen = this.readyState === 1;
    if (isOpen) this.#inner?.send(data);
    return isOpen;
  }

  close(code = 1000, reason = "") {
    this.#inner?.close(code, reason);
    this.#closed({ code, reason, wasClean: true }, true);
  }

  async #open() {
    if (this.#isOver) return;
    let openedAt = Infinity;
    try {
      const inner = await this.#connect();
      if (this.#isOver) return inner.close();
      this.#inner = inner;
      inner.onopen = () => {
        openedAt = performance.now();
        this.#unopened = 0;
        this.#emit("open", {});
      };
      inner.onmessage = ({ data }) => this.#isOver || this.#emit("message", { data });
      inner.onclose = ({ code, reason, wasClean }) => {
        if (performance.now() - openedAt > 1000) this.#failures = 0;
        if (openedAt === Infinity) this.#unopened += 1;
        // Browsers do not say why a handshake failed.
        if (this.#unopened >= UNOPENED) reason ||= "the handshake was refused: is there a WebSocket at this path?";
        this.#closed({ code, reason, wasClean }, code === 1000);
      };
    } catch (error) {
      const { status = 0, message } = /** @type {FastAuthError} */ (error);
      // Trying again would not help: a fault of the application, or of the configuration.
      const isFinal = !(error instanceof FastAuthError) || (status >= 400 && status < 500 && status !== 429) || status === 501;
      this.#closed({ code: 1006, reason: message, wasClean: false }, isFinal);
    }
  }

  /** Reopens the socket after a while, unless it is over. @param {{ code: number, reason: string, wasClean: boolean }} details @param {boolean} isFinal */
  #closed(details, isFinal) {
    if (this.#isOver) return;
    this.#inner = undefined;
    this.#isOver = isFinal;
    if (isFinal) this.#ended();
    // At random, since the sockets of all tabs close when the token is replaced.
    else setTimeout(() => this.#open(), Math.random() * Math.min(30_000, 250 * 2 ** this.#failures++));
    this.#emit("close", { ...details, isFinal });
  }

  /** @param {"open" | "message" | "close"} type @param {object} details */
  #emit(type, details) {
    const event = Object.assign(new Event(type), details);
    this[`on${type}`]?.(event);
    this.dispatchEvent(event);
  }
}

/** Returns what an application may know of a token. @param {Token | null} token @returns {Session | null} */
function describe(token) {
  return token && { clientId: token.clientId, expiresAt: token.expiresAt, claims: token.claims };
}

/** Returns true if FastAuth refused an access token. @param {Response} response */
async function isRefused(response) {
  if (response.status !== 401) return false;
  // Pages of another origin may read the body, but not this header.
  if (response.headers.get("WWW-Authenticate")?.includes('"invalid_token"')) return true;
  const body = await response.clone().json().catch(() => null);
  return REFUSED.includes(body?.reason);
}

/** Makes an error of a failed answer. @param {string} what @param {Response} response */
async function failure(what, response) {
  const body = (await response.json().catch(() => null)) ?? {};
  const why = [response.status, body.message ?? body.error_description].filter(Boolean).join(" ");
  const retryAfter = Number(response.headers.get("Retry-After")) || undefined;
  return new FastAuthError(`${what}: ${why}`, { status: response.status, reason: body.reason, retryAfter });
}

/** Returns the claims in a token, which is not verified. @param {string} token @returns {Record<string, any>} */
function claimsOf(token) {
  try {
    const bytes = atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"));
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(bytes, (byte) => byte.charCodeAt(0))));
  } catch {
    return {};
  }
}

/** @returns {Storage} */
function inMemory() {
  /** @type {string | null} */
  let kept = null;
  return { load: () => kept, save: (refreshToken) => void (kept = refreshToken) };
}

/** Tries again while a failure may pass soon. @template T @param {() => Promise<T>} work */
async function patiently(work) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      const wait = error instanceof FastAuthError ? error.retryAfter : undefined;
      if (!wait || wait > PATIENCE || attempt === ATTEMPTS) throw error;
      await sleep(wait * 1000);
    }
  }
}

/** @template T @param {Promise<T>} promise @param {AbortSignal | null} [signal] @returns {Promise<T>} */
function abortable(promise, signal) {
  if (!signal) return promise;
  signal.throwIfAborted();
  const aborted = new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason), { once: true }));
  return Promise.race([promise, aborted]);
}

/** @param {number} milliseconds */
function sleep(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
