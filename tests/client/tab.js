// What a tab of the tests does: test_tabs.py puts it into pages.
import { FastAuth } from "/fastauth.js";

const auth = new FastAuth();
const count = (counts, name) => (counts[name] = (counts[name] ?? 0) + 1);
const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// By the script: adds the token, refreshes, and tries again.
const byScript = (path) => auth.fetch(path);

// As pages do without it: a refresh after a 401, and one more try.
let naiveToken;
async function naiveRefresh() {
  const answer = await fetch("/auth/token/refresh", { method: "POST" });
  if (answer.ok) naiveToken = (await answer.json()).data.access_token;
}
async function naively(path) {
  const send = () => fetch(path, { headers: { "ACCESS-TOKEN": naiveToken } });
  const answer = await send();
  if (answer.status !== 401) return answer;
  await naiveRefresh();
  return send();
}

async function work(call, seconds, parallel, pause) {
  const answers = {};
  const end = performance.now() + seconds * 1000;
  while (performance.now() < end) {
    const calls = Array.from({ length: parallel }, async () => {
      const answer = await call("/access/health");
      // Chromium keeps shared memory for a body that nothing reads.
      await answer.arrayBuffer();
      return answer;
    });
    for (const { status, value, reason } of await Promise.allSettled(calls)) {
      count(answers, status === "fulfilled" ? value.status : reason.message);
    }
    await sleep(pause);
  }
  return answers;
}

// A socket that is sent a message four times a second.
const socketCounts = { opened: 0, echoes: 0, closed: {}, unsent: 0, longestGap: 0 };
function openSocket() {
  const socket = auth.socket("/access/ws");
  let closedAt;
  socket.onopen = () => {
    socketCounts.opened += 1;
    if (closedAt) socketCounts.longestGap = Math.max(socketCounts.longestGap, performance.now() - closedAt);
  };
  socket.onmessage = () => (socketCounts.echoes += 1);
  socket.onclose = ({ code, isFinal }) => {
    closedAt = performance.now();
    count(socketCounts.closed, isFinal ? "finally" : code);
  };
  setInterval(() => socket.send("hello") || (socketCounts.unsent += 1), 250);
  return new Promise((resolve) => socket.addEventListener("open", () => resolve(), { once: true }));
}

const sessions = [];
auth.onChange((session) => sessions.push(session?.clientId ?? null));

Object.assign(window, { auth, sessions, socketCounts, openSocket, work, byScript, naively, naiveRefresh });
window.isReady = true;
