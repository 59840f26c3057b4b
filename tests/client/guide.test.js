// The event stream of docs/guide/tickets.md, with a server that is away, refuses, or has no session.
"use strict";

const assert = require("node:assert/strict");
const { readFileSync } = require("node:fs");
const path = require("node:path");
const { test } = require("node:test");

const GUIDE = readFileSync(path.join(__dirname, "../../docs/guide/tickets.md"), "utf8");
const [, SCRIPT] = GUIDE.match(/```js\n([\s\S]*?)\n+\/\/ a picture/);

/** A page with that script. `answers` are those to requests for a ticket, the last one again and again: "ticket", or an error. */
function page(answers) {
  const found = { waits: [], streams: [], tickets: 0 };
  let timer;
  class EventSource {
    constructor(url) {
      this.url = url;
      found.streams.push(this);
    }
    close() {
      this.isClosed = true;
    }
  }
  const auth = {
    async url(path) {
      found.tickets += 1;
      const answer = answers.length > 1 ? answers.shift() : answers[0];
      if (answer !== "ticket") throw answer;
      return `${path}?ticket=${found.tickets}`;
    },
  };
  const setTimeout = (work, wait) => {
    found.waits.push(wait);
    timer = work;
  };
  found.listen = new Function("auth", "EventSource", "setTimeout", "console", `${SCRIPT}\nreturn listen;`)(
    auth,
    EventSource,
    setTimeout,
    { log() {} },
  );
  found.elapse = async () => {
    const work = timer;
    timer = undefined;
    await work?.();
  };
  return found;
}

test("server_that_is_away_is_asked_again_more_and_more_seldom", async () => {
  const found = page([new TypeError("fetch failed")]);
  await found.listen();
  for (let time = 0; time < 7; time += 1) await found.elapse();
  assert.deepEqual(found.waits, [1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]);
});

test("stream_that_ends_is_opened_with_another_ticket", async () => {
  const found = page(["ticket"]);
  await found.listen();
  for (const readyState of [2, 0]) {
    const [stream] = found.streams.slice(-1);
    stream.onopen?.();
    stream.readyState = readyState;
    stream.onerror();
    await found.elapse();
    assert.ok(stream.isClosed);
  }
  assert.equal(found.streams.length, 3);
  assert.equal(new Set(found.streams.map(({ url }) => url)).size, 3);
  assert.deepEqual(found.waits, [1000, 1000]);
});

test("path_that_is_refused_is_not_asked_for_in_a_loop", async () => {
  const found = page(["ticket"]);
  await found.listen();
  for (let time = 0; time < 3; time += 1) {
    const [stream] = found.streams.slice(-1);
    stream.readyState = 2;
    stream.onerror();
    await found.elapse();
  }
  assert.deepEqual(found.waits, [1000, 2000, 4000]);
});

test("nothing_is_asked_again_once_nobody_is_logged_in", async () => {
  const found = page([Object.assign(new Error("no session"), { status: 401 })]);
  await found.listen();
  assert.deepEqual(found.waits, []);
});
