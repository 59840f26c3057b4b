/** The session of a user. */
export interface Session {
  /** The client that the tokens were issued to. */
  clientId: string;
  /** When the access token expires, in milliseconds of this machine's clock. It is refreshed before. */
  expiresAt: number;
  /** The claims of the access token, such as `roles`. They are not verified here: use them for what is shown, not for what is allowed. */
  claims: Record<string, any>;
}

/** Where a program keeps its refresh token between two runs. */
export interface Storage {
  load(): string | null | Promise<string | null>;
  /** Keeps the token; `null` removes it. */
  save(refreshToken: string | null): void | Promise<void>;
}

export interface Options {
  /** Where the token endpoints are: `/auth` by default. Outside of browsers, an absolute URL. */
  baseUrl?: string;
  /** More origins that may be sent the access token, such as `["https://api.example"]`. That of `baseUrl` always may. */
  origins?: string[];
  /** How refresh tokens travel, as `refresh-transport` says at the server. `cookie` by default; `body` for programs without cookies. */
  transport?: "cookie" | "body";
  /** Where to keep the refresh token with `transport: "body"`; in memory by default. */
  storage?: Storage;
  /** The header of the access token: `Authorization` by default, or `ACCESS-TOKEN` if something else uses that. Redirects are errors then. */
  header?: "Authorization" | "ACCESS-TOKEN";
  /** Used in place of the global `fetch`. */
  fetch?: typeof fetch;
  /** Used in place of the global `WebSocket`, which Node has since version 22. */
  WebSocket?: new (url: string, protocols?: string | string[]) => any;
}

export interface SocketOptions {
  protocols?: string | string[];
  binaryType?: BinaryType;
}

/** Why there is no token or no ticket, although the user may be logged in. It never contains a token. */
export class FastAuthError extends Error {
  /** The status of the answer, if there was one. */
  readonly status?: number;
  /** The code of the reason in the answer, such as `store_unavailable`. */
  readonly reason?: string;
  /** After how many seconds to try again, if that may help. */
  readonly retryAfter?: number;
}

export class FastAuth {
  /** Makes no request: the session is restored by the first call that needs it, or when the page is shown. */
  constructor(options?: Options);

  /**
   * Takes over the answer of a log-in handler, in all tabs. Pass a function, `() => fetch("/login", …)`, if a user may log in while another
   * one is logged in: no tab refreshes until it has returned.
   *
   * @throws {FastAuthError} if the answer refuses the log-in, or has no token.
   */
  start(answer: Response | object | (() => Promise<Response | object>)): Promise<Session>;

  /**
   * Returns the session, or `null` if nobody is logged in. After a reload it is restored from another tab, or by a refresh.
   *
   * @throws {FastAuthError} if the server cannot be reached, so that it is not known.
   */
  session(): Promise<Session | null>;

  /** Calls a function with the session now, and whenever it is refreshed, begins or ends, in any tab. Returns a function that stops this. */
  onChange(listener: (session: Session | null) => void): () => void;

  /**
   * Sends a request with the access token, like the global `fetch`. A relative URL is resolved against `baseUrl`. If the server refuses the
   * token, the request is sent again with a new one, unless its body is a stream. If nobody is logged in, it is sent without a token.
   *
   * @throws {TypeError} if the URL is of an origin that may not be sent the token.
   * @throws {FastAuthError} if the token has expired and cannot be refreshed now.
   */
  fetch(input: string | URL | Request, init?: RequestInit): Promise<Response>;

  /**
   * Opens a WebSocket, which is reopened with a fresh ticket whenever it closes, until `close()`, code 1000 or the log-out.
   *
   * @throws {TypeError} if the path is relative, has dot segments, or is of an origin that may not be sent the token.
   */
  socket(path: string | URL, options?: SocketOptions): Socket;

  /**
   * Returns a URL with a ticket, for what cannot send a header: an `EventSource`, an image, a download. It opens the path once, within 30
   * seconds; with `expiresIn`, any number of times within so many seconds.
   *
   * @throws {TypeError} if the path is relative, has dot segments, or is of an origin that may not be sent the token.
   * @throws {FastAuthError} if no ticket is issued, such as when nobody is logged in.
   */
  url(path: string | URL, options?: UrlOptions): Promise<string>;

  /** Returns an access token for code that sends its requests itself, or `null` if nobody is logged in. Ask for it before each request. */
  accessToken(): Promise<string | null>;

  /**
   * Logs out in all tabs, and revokes the session at the server.
   *
   * @throws {FastAuthError} if the session was not revoked: the tabs are logged out, but a reload would restore it. Try again.
   */
  logout(): Promise<void>;

  /** Releases timers, sockets and the channel to other tabs, without a log-out. */
  close(): void;
}

/** What a URL with a ticket opens. */
export interface UrlOptions {
  /** The method of the request. The default is `GET`. */
  method?: "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** For how many seconds the URL can be used, instead of once; at most 3600. */
  expiresIn?: number;
}

/** A WebSocket that is reopened when it closes. Messages of the time in between are lost. */
export interface Socket extends EventTarget {
  /** 0 while it connects, 1 while it is open, 3 when it is over. */
  readonly readyState: 0 | 1 | 3;
  /** Called each time that the socket opens: load what messages may have been missed. */
  onopen: ((event: Event) => void) | null;
  onmessage: ((event: Event & { data: any }) => void) | null;
  /**
   * Called each time that the socket closes. `isFinal` says that it is not reopened. From the third failed handshake in a row on, the reason asks
   * whether there is a WebSocket at the path, since browsers do not say why a handshake fails.
   */
  onclose: ((event: Event & { code: number; reason: string; wasClean: boolean; isFinal: boolean }) => void) | null;
  /** Sends a message, or returns `false` if the socket is not open. */
  send(data: string | ArrayBufferLike | Blob | ArrayBufferView): boolean;
  close(code?: number, reason?: string): void;
}
