//! The operations of an application: of an OpenAPI document, or of a list of requests.

use http::Method;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::failure::Failure;

/// The members of a path item that are operations.
const METHODS: [&str; 9] = ["get", "put", "post", "delete", "options", "head", "patch", "trace", "query"];

/// One operation.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Operation {
    pub(super) method: Method,
    /// The path, with that of its server. Its parameters have a type if the document says that they are integers or UUIDs.
    pub(super) path: String,
    pub(super) documented: Documented,
}

/// What a document says of the credentials of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Documented {
    /// Nothing.
    Nothing,
    /// That none is needed.
    None,
    /// That one is taken, and none is needed.
    Optional,
    /// That one is needed.
    Required,
}

/// Reads an OpenAPI document, or else lines of METHOD and PATH.
pub(super) fn read(text: &str, base: Option<&str>) -> Result<Vec<Operation>, Failure> {
    if text.trim_start().starts_with('{') {
        let document = serde_json::from_str(text)
            .map_err(|error| Failure::new(format!("the OpenAPI document cannot be read as JSON: {error}")))?;
        return Document { root: &document, base }.operations();
    }
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| listed(line, base.unwrap_or_default())).collect()
}

fn listed(line: &str, base: &str) -> Result<Operation, Failure> {
    let parsed =
        line.split_once(' ').and_then(|(method, path)| Some((Method::from_bytes(method.as_bytes()).ok()?, path)));
    let Some((method, path)) = parsed.filter(|(_, path)| path.starts_with('/')) else {
        return Err(Failure::new(format!(
            "{line:?} is neither JSON nor a line such as `GET /path`: give an OpenAPI document in JSON, or such lines"
        )));
    };
    Ok(Operation { method, path: format!("{base}{path}"), documented: Documented::Nothing })
}

/// An OpenAPI document of version 3.
struct Document<'a> {
    root: &'a Value,
    /// What stands before the paths, whatever the servers are.
    base: Option<&'a str>,
}

impl<'a> Document<'a> {
    fn operations(&self) -> Result<Vec<Operation>, Failure> {
        let version = self.root["openapi"].as_str().unwrap_or_default();
        if !version.starts_with("3.") {
            return Err(Failure::new(
                "the document is not of OpenAPI 3: its member `openapi` must be such as \"3.1.0\"",
            ));
        }
        let Some(paths) = self.root["paths"].as_object() else { return Ok(Vec::new()) };
        let mut operations = Vec::new();
        for (path, item) in paths.iter().filter(|(path, _)| path.starts_with('/')) {
            let item = self.resolve(item)?;
            for (method, operation) in operations_of(item) {
                self.push(&mut operations, path, item, &method, operation)?;
            }
        }
        Ok(operations)
    }

    fn push(
        &self,
        operations: &mut Vec<Operation>,
        path: &str,
        item: &Value,
        method: &str,
        operation: &Value,
    ) -> Result<(), Failure> {
        let Ok(method) = Method::from_bytes(method.as_bytes()) else {
            return Err(Failure::new(format!("{method:?} of the path {path:?} is not a method")));
        };
        let path = self.typed(path, [item, operation])?;
        let security = operation.get("security").or_else(|| self.root.get("security"));
        for base in self.bases(item, operation) {
            let path = format!("{base}{path}");
            operations.push(Operation { method: method.clone(), path, documented: documented(security) });
        }
        Ok(())
    }

    /// Returns what stands before a path: the paths of its servers, each once.
    fn bases(&self, item: &Value, operation: &Value) -> Vec<String> {
        if let Some(base) = self.base {
            return vec![base.trim_end_matches('/').to_owned()];
        }
        let servers = [operation, item, self.root].into_iter().find_map(|level| level.get("servers"));
        let urls = servers.and_then(Value::as_array).into_iter().flatten().filter_map(|server| server["url"].as_str());
        let mut bases: Vec<_> = urls.map(path_of_server).collect();
        bases.sort();
        bases.dedup();
        if bases.is_empty() { vec![String::new()] } else { bases }
    }

    /// Writes the types of the parameters into a path, as a rule has them.
    fn typed(&self, path: &str, levels: [&'a Value; 2]) -> Result<String, Failure> {
        let mut path = path.to_owned();
        let parameters = levels.into_iter().filter_map(|level| level["parameters"].as_array()).flatten();
        for parameter in parameters {
            let parameter = self.resolve(parameter)?;
            let schema = self.resolve(&parameter["schema"])?;
            let (Some("path"), Some(name)) = (parameter["in"].as_str(), parameter["name"].as_str()) else { continue };
            let kind = match (schema["type"].as_str(), schema["format"].as_str()) {
                (Some("integer"), _) => "int",
                (_, Some("uuid")) => "uuid",
                _ => continue,
            };
            path = path.replace(&format!("{{{name}}}"), &format!("{{{name}:{kind}}}"));
        }
        Ok(path)
    }

    /// Follows a reference within the document.
    fn resolve(&self, value: &'a Value) -> Result<&'a Value, Failure> {
        let Some(reference) = value["$ref"].as_str() else { return Ok(value) };
        let found = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
        found.filter(|found| found.get("$ref").is_none()).ok_or_else(|| {
            Failure::new(format!(
                "the reference {reference:?} leads out of the document, or to another one: bundle it first"
            ))
        })
    }
}

/// Returns the operations of a path item, each with its method.
fn operations_of(item: &Value) -> impl Iterator<Item = (String, &Value)> {
    let standard = METHODS.iter().filter_map(|name| Some((name.to_ascii_uppercase(), item.get(name)?)));
    // Of OpenAPI 3.2.
    let others = item["additionalOperations"].as_object().into_iter().flatten();
    standard.chain(others.map(|(name, operation)| (name.clone(), operation)))
}

/// Returns what a list of requirements says, each of which is enough.
fn documented(security: Option<&Value>) -> Documented {
    let Some(alternatives) = security.and_then(Value::as_array) else { return Documented::Nothing };
    let is_open = |alternative: &&Value| alternative.as_object().is_some_and(Map::is_empty);
    let open = alternatives.iter().filter(is_open).count();
    match open {
        _ if open == alternatives.len() => Documented::None,
        0 => Documented::Required,
        _ => Documented::Optional,
    }
}

/// Returns the path of a server's URL, without a slash at its end. That of one relative to the document cannot be known.
fn path_of_server(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let behind_host = url.split_once("://").map(|(_, rest)| rest.find('/').map_or("", |at| &rest[at..]));
    let path = behind_host.unwrap_or(url);
    if path.starts_with('/') { path.trim_end_matches('/').to_owned() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn operations(document: &Value, base: Option<&str>) -> Vec<String> {
        let operations = read(&document.to_string(), base).map_err(|failure| failure.to_string()).unwrap();
        operations.iter().map(|operation| format!("{} {}", operation.method, operation.path)).collect()
    }

    fn fault(text: &str) -> String {
        read(text, None).map(|operations| format!("{operations:?}")).unwrap_err().to_string()
    }

    #[test]
    fn paths_are_those_of_the_servers_with_types() {
        let document = json!({
            "openapi": "3.0.3",
            "servers": [{ "url": "https://example.com/v1/" }, { "url": "/v1" }, { "url": "https://other.example" }],
            "paths": {
                "/items/{id}/{part}": {
                    "parameters": [{ "$ref": "#/components/parameters/Id" }],
                    "get": { "parameters": [{ "in": "path", "name": "part", "schema": { "type": "integer" } }] },
                },
                "/alone": { "$ref": "#/components/pathItems/Alone" },
                "x-else": {},
            },
            "components": {
                "parameters": { "Id": { "in": "path", "name": "id", "schema": { "$ref": "#/components/schemas/Id" } } },
                "schemas": { "Id": { "type": "string", "format": "uuid" } },
                "pathItems": { "Alone": { "post": {}, "servers": [{ "url": "." }], "additionalOperations": { "PURGE": {} } } },
            },
        });
        let expected =
            ["POST /alone", "PURGE /alone", "GET /items/{id:uuid}/{part:int}", "GET /v1/items/{id:uuid}/{part:int}"];
        assert_eq!(operations(&document, None), expected);
        let based = operations(&document, Some("/api/"));
        assert_eq!(based, ["POST /api/alone", "PURGE /api/alone", "GET /api/items/{id:uuid}/{part:int}"]);
    }

    #[test]
    fn security_is_that_of_the_operation_or_else_of_the_document() {
        use Documented::{None, Nothing, Optional, Required};
        for (of_all, own, expected) in [
            (json!(null), json!(null), Nothing),
            (json!([{ "Bearer": [] }]), json!(null), Required),
            (json!([{ "Bearer": [] }]), json!([]), None),
            (json!([]), json!([{ "Bearer": [] }]), Required),
            (json!(null), json!([{}]), None),
            (json!(null), json!([{}, { "Bearer": [] }]), Optional),
        ] {
            let mut document = json!({ "openapi": "3.1.0", "paths": { "/x": { "get": {} } } });
            if !of_all.is_null() {
                document["security"] = of_all.clone();
            }
            if !own.is_null() {
                document["paths"]["/x"]["get"]["security"] = own.clone();
            }
            let operations = read(&document.to_string(), Option::None).map_err(|failure| failure.to_string()).unwrap();
            assert_eq!(operations[0].documented, expected, "{of_all} {own}");
        }
    }

    #[test]
    fn list_is_read_line_by_line() {
        let list = read("GET /a\n\n  POST /pkg.Service/Method\r\n", Some("/v1")).map_err(|failure| failure.to_string());
        let paths: Vec<_> = list.unwrap().into_iter().map(|operation| operation.path).collect();
        assert_eq!(paths, ["/v1/a", "/v1/pkg.Service/Method"]);
    }

    #[test]
    fn what_is_no_document_is_refused_with_a_remedy() {
        for (text, expected) in [
            ("openapi: 3.0.0", "give an OpenAPI document in JSON"),
            ("GET a", "give an OpenAPI document in JSON"),
            ("{", "cannot be read as JSON"),
            (r#"{"swagger":"2.0"}"#, "\"3.1.0\""),
            (r#"{"openapi":"3.0.0","paths":{"/a":{"$ref":"other.json"}}}"#, "bundle it first"),
            (
                r##"{"openapi":"3.0.0","paths":{"/a":{"$ref":"#/paths/~1b"},"/b":{"$ref":"#/paths/~1a"}}}"##,
                "bundle it first",
            ),
        ] {
            assert!(fault(text).contains(expected), "{text}: {}", fault(text));
        }
    }
}
