// The readings of a path, as a tree, and the rule that decided.
import { quoted, reveal, send } from "./calls.js";
import { copyButton, element, make, prose } from "./dom.js";

const LISTS = { master: "master-token-paths", access: "access-token-paths", public: "public-paths" };

const REQUIRED = {
  public: ["Public", "no credential is required"],
  access: ["Access token", "an access token is required"],
  master: ["Master token", "the master token is required"],
  "master+access": ["Both tokens", "the master token and an access token are required"],
  reject: ["Rejected", "no credential opens it"],
};

const STEPS = {
  "as-sent": "as it was sent",
  decode: "escapes decoded",
  "decode-but-separators": "escapes decoded, but %2F and %5C",
  cut: "cut at ? or #",
  "backslash-to-slash": "backslashes turned",
  "drop-parameters": "parameters behind ; dropped",
  "merge-slashes": "slashes merged",
  "remove-dot-segments": "dot segments resolved",
  "drop-authority": "//host dropped",
  "remove-escaped-dot-segments": "escaped dot segments resolved",
  "leave-out-dot-segments": "dot segments left out",
  "drop-scheme": "scheme dropped",
  "remove-dot-segments-below": "dot segments resolved below a mount",
  "remove-escaped-dot-segments-below": "escaped dot segments resolved below a mount",
  "drop-authority-below": "//host dropped below a mount",
  "drop-scheme-below": "scheme dropped below a mount",
  "windows-names": "as Windows reads names",
};

async function explain(method, target) {
  const place = element("explain-result");
  const path = `/demo/explain?${new URLSearchParams({ method, target })}`;
  const call = await send({ path, good: "explained" }, place);
  if (!call.ok) return;
  place.replaceChildren(...picture(call.body, method, target));
  reveal(place);
}

function picture(explained, method, target) {
  const { decision, decided_by: deciding, readings } = explained;
  const [title, required] = REQUIRED[decision];
  const verdict = make("div", { className: `verdict ${decision.replace("+", " ")}` }, [
    make("strong", {}, title), make("span", {}, `${method} ${target}: ${required}`), make("p", {}, prose(why(explained))),
  ]);
  const parts = [verdict];
  if (readings.length) {
    parts.push(make("p", { className: "quiet" }, readings.length === 1 ? "One reading:" : `${readings.length} readings:`));
    parts.push(tree(readings, deciding, null));
  }
  const line = `curl -i --path-as-is${method === "GET" ? "" : ` -X ${method}`} ${quoted(location.origin, target)}`;
  parts.push(make("div", { className: "curl" }, [make("code", {}, line), copyButton(() => line, "Copy the curl line")]));
  return parts;
}

function why({ deciding, decided_by, overruled = [], readings, refusal }) {
  if (refusal) return `The path ${refusal}.`;
  if (!decided_by.length) return "None of its readings begins with a guarded prefix.";
  return decided_by.map(({ list, prefix, reading }) => {
    const lost = overruled.map((other) => `"${other.prefix}" of ${LISTS[other.list]}`).join(" and ");
    const wins = lost ? `, and wins over ${lost}` : "";
    return `"${prefix}" of ${LISTS[list]} decides: the reading ${readings[reading].text} begins with it${wins}.`;
  }).join(" ");
}

// The readings that were made from this one, each with those that were made from it.
function tree(readings, deciding, from) {
  const branches = readings.flatMap((reading, index) => ((reading.from ?? null) === from ? [branch(readings, deciding, index)] : []));
  return make("ul", { className: from === null ? "tree" : "" }, branches);
}

function branch(readings, deciding, index) {
  const { text, step, ...met } = readings[index];
  const decided = deciding.filter((rule) => rule.reading === index);
  const rules = Object.keys(LISTS).flatMap((list) => met[list].map((prefix) => {
    const decides = decided.some((rule) => rule.list === list && rule.prefix === prefix);
    return make("span", { className: `badge ${list} ${decides ? "decides" : ""}` }, `${decides ? "decided by " : ""}${list}: ${prefix}`);
  }));
  const line = make("div", { className: decided.length ? "reading decided" : "reading" }, [
    make("code", {}, text), ...rules, make("small", {}, STEPS[step] ?? step),
  ]);
  const made = readings.some((reading) => reading.from === index) ? [tree(readings, deciding, index)] : [];
  return make("li", {}, [line, ...made]);
}

const form = element("explain");
form.onsubmit = (event) => {
  event.preventDefault();
  explain(form.elements.method.value, form.elements.target.value);
};
element("examples").onclick = ({ target }) => {
  if (target.tagName !== "BUTTON") return;
  form.elements.target.value = target.textContent;
  explain(form.elements.method.value, target.textContent);
};
