// What the other files make elements with.

export const element = (id) => document.getElementById(id);

// Makes an element with these properties and children. Text is never markup.
export function make(name, properties = {}, children = []) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...[children].flat());
  return made;
}

// A sentence of the server, in which backticks stand around code.
export const prose = (text) => text.split(/`([^`]+)`/).map((part, place) => (place % 2 ? make("code", {}, part) : part));

export const button = (text, onclick, properties = {}) => make("button", { type: "button", onclick, ...properties }, text);

// Tells those who do not see the page.
export const announce = (text) => (element("announcement").textContent = text);

// A button that copies a text, and says so.
export function copyButton(text, label) {
  const copy = button("Copy", async () => {
    copy.textContent = (await copied(text())) ? "Copied" : "Not copied";
    announce(copy.textContent);
    setTimeout(() => (copy.textContent = "Copy"), 1500);
  }, { className: "small", ariaLabel: label, title: label });
  return copy;
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Browsers have no clipboard for pages by http from another machine, but for this.
    const area = make("textarea", { value: text, className: "unseen" });
    document.body.append(area);
    area.select();
    const is_copied = document.execCommand("copy");
    area.remove();
    return is_copied;
  }
}

// `1:05`, `2:01:05` or `30 days`.
export function duration(seconds) {
  if (seconds >= 2 * 86400) return `${Math.floor(seconds / 86400)} days`;
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, Math.floor(seconds % 60)];
  const shown = parts[0] ? parts : parts.slice(1);
  return shown.map((part, place) => (place ? String(part).padStart(2, "0") : part)).join(":");
}

// The time, and the day unless it is today.
export function clock(seconds) {
  const time = new Date(seconds * 1000);
  const isToday = time.toDateString() === new Date().toDateString();
  return isToday ? time.toLocaleTimeString() : time.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}
