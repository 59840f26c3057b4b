// What an editor with the language service of VS Code does with a configuration that names its schema.

const assert = require("node:assert");
const { readFileSync } = require("node:fs");
const path = require("node:path");
const { test } = require("node:test");
const { getLanguageService, TextDocument } = require("vscode-json-languageservice");

const schema = readFileSync(path.join(__dirname, "../../docs/fastauth.config.schema.json"), "utf8");
const place = "file:///shop/";
const service = getLanguageService({
  schemaRequestService: async (uri) => {
    assert.equal(uri, `${place}fastauth.config.schema.json`);
    return schema;
  },
  workspaceContext: { resolveRelativePath: (relative) => new URL(relative, place).href },
});

// A configuration with this rule. `|` stands for the cursor.
function withRule(rule) {
  const text = `{\n  "$schema": "./fastauth.config.schema.json",\n  "rules": [\n    ${rule}\n  ]\n}\n`;
  const at = text.indexOf("|");
  const document = TextDocument.create(`${place}fastauth.config.json`, "json", 1, text.replace("|", ""));
  return { document, json: service.parseJSONDocument(document), position: document.positionAt(Math.max(at, 0)) };
}

// A configuration with these members. `|` stands for the cursor.
function withMembers(members) {
  const text = `{\n  "$schema": "./fastauth.config.schema.json",\n  ${members}\n}\n`;
  const document = TextDocument.create(`${place}fastauth.config.json`, "json", 1, text.replace("|", ""));
  return { document, json: service.parseJSONDocument(document), position: document.positionAt(text.indexOf("|")) };
}

async function completed(rule) {
  const { document, json, position } = withRule(rule);
  const list = await service.doComplete(document, position, json);
  return list.items.map((item) => item.label);
}

async function marked(rule) {
  const { document, json } = withRule(rule);
  const found = await service.doValidation(document, json);
  return found.map((problem) => ({ text: document.getText(problem.range), message: problem.message }));
}

test("members of a rule are completed", async () => {
  const labels = await completed('{ "path": "/api", "level": "access", "|" }');
  for (const name of ["methods", "roles-any", "scopes", "max-age", "claim-equals", "report-only", "ends-on"]) {
    assert.ok(labels.includes(name), `${name}: ${labels}`);
  }
  assert.ok(!labels.includes("level"), "it is there");
});

test("words of a member are completed", async () => {
  const levels = ["access", "both", "deny", "master", "optional", "public"];
  assert.deepEqual((await completed('{ "path": "/api", "level": "|" }')).sort(), levels.map((word) => `"${word}"`));
  const methods = await completed('{ "path": "/api", "level": "access", "methods": ["|"] }');
  assert.ok(methods.includes('"GET"') && methods.includes('"DELETE"'), methods);
});

test("each key is suggested once, in the spelling of the reference", async () => {
  const { document, json, position } = withMembers('"|"');
  const labels = (await service.doComplete(document, position, json)).items.map((item) => item.label);
  assert.ok(labels.includes("access-ttl") && labels.includes("rules"), labels);
  assert.deepEqual(labels.filter((label) => label.includes("_") || label === "log-lv"), []);
  assert.deepEqual((await completed('{ "path": "/api", "level": "access", "|" }')).filter((label) => label.includes("_")), []);
});

test("a new rule has a path and a level", async () => {
  const { document, json, position } = withRule("|");
  const { items } = await service.doComplete(document, position, json);
  assert.ok(items.some((item) => /"path"[^]*"level"/.test(item.textEdit.newText)), JSON.stringify(items));
});

test("a number is completed to one that is accepted", async () => {
  const { document, json, position } = withMembers('"rate-limit-per-minute": |');
  const { items } = await service.doComplete(document, position, json);
  assert.deepEqual(items.map((item) => item.textEdit.newText).filter((text) => text === "0"), []);
  const names = withMembers('"rate-limit-per-|"');
  const named = (await service.doComplete(names.document, names.position, names.json)).items;
  assert.match(named.find((item) => item.label === "rate-limit-per-minute").insertText, /60/);
});

test("what is explained has no signs of Markdown in it", async () => {
  const markdown = getLanguageService({
    schemaRequestService: async () => schema,
    workspaceContext: { resolveRelativePath: (relative) => new URL(relative, place).href },
    clientCapabilities: { textDocument: { completion: { completionItem: { documentationFormat: ["markdown"] } } } },
  });
  const { document, position } = withRule('{ "path": "/api", "lev|el": "access" }');
  const hover = await markdown.doHover(document, position, markdown.parseJSONDocument(document));
  // Escaped, they would be shown as they are.
  assert.doesNotMatch(hover.contents.join(" "), /\\`/);
});

test("a member and a word are explained", async () => {
  const { document, json, position } = withRule('{ "path": "/api", "level": "access", "max-|age": "5m" }');
  const hover = await service.doHover(document, position, json);
  assert.match(hover.contents.join(" "), /logged in/);
});

test("a right rule is not marked", async () => {
  assert.deepEqual(await marked('{ "path": "/api", "level": "access", "max-age": "5m", "roles_any": ["admin"] }'), []);
});

test("wrong words, members and types are marked where they stand", async () => {
  for (const [rule, text, message] of [
    ['{ "path": "/api", "level": "acces" }', '"acces"', /not accepted. Valid values: "public", "optional", "access"/],
    ['{ "path": "/api", "level": "access", "rolls-any": ["admin"] }', '"rolls-any"', /rolls-any is not allowed/],
    ['{ "path": "/api", "level": "access", "methods": ["get"] }', '"get"', /Valid values: "GET"/],
    ['{ "path": "/api", "level": "access", "roles-any": "admin" }', '"admin"', /Expected "array"/],
    ['{ "path": "/api", "level": "public", "roles-any": ["admin"] }', '"roles-any"', /roles-any is not allowed/],
  ]) {
    const found = await marked(rule);
    assert.equal(found.length, 1, `${rule}: ${JSON.stringify(found)}`);
    assert.equal(found[0].text, text);
    assert.match(found[0].message, message);
  }
  const missing = await marked('{ "path": "/api" }');
  assert.equal(missing.length, 1);
  assert.match(missing[0].message, /Missing property "level"/);
});
