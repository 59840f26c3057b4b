// Compiled and not run: the types of clients/js as an application uses them.
import { FastAuth, FastAuthError, type Session, type Socket } from "../../clients/js/fastauth.js";

const auth = new FastAuth({ baseUrl: "/auth", origins: ["https://api.example"] });

export async function logIn(form: FormData): Promise<Session | string> {
  const response = await fetch("/login", { method: "POST", body: form });
  try {
    return await auth.start(response);
  } catch (error) {
    return error instanceof FastAuthError && error.retryAfter !== undefined ? `in ${error.retryAfter} s` : "no";
  }
}

export function show(output: HTMLOutputElement): () => void {
  return auth.onChange((session) => {
    output.value = session ? `${session.clientId} ${new Date(session.expiresAt)} ${session.claims.roles}` : "";
  });
}

export function listen(): Socket {
  const socket = auth.socket("/access/ws", { protocols: ["chat"], binaryType: "arraybuffer" });
  socket.onopen = () => socket.send("hello") satisfies boolean;
  socket.onmessage = ({ data }) => console.log(data);
  socket.onclose = ({ code, reason, isFinal }) => console.log(code, reason, isFinal);
  return socket;
}

export async function report(signal: AbortSignal): Promise<unknown> {
  const token: string | null = await auth.accessToken();
  const session: Session | null = await auth.session();
  new EventSource(await auth.url("/access/events", { expiresIn: 300 }));
  const response: Response = await auth.fetch(new URL("/access/report", location.href), { signal });
  await auth.logout();
  auth.close();
  return [token, session, await response.json()];
}

// @ts-expect-error: there is no such transport.
new FastAuth({ transport: "header" });
// @ts-expect-error: a session may be absent.
auth.session().then((session) => session.clientId);
