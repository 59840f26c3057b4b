//! The operations of an application: of an OpenAPI document, or of a list of requests.

use fastauth_core::{openapi::Paths, shown::shown};
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

/// The operations of an application.
pub(super) struct Operations<'a> {
    pub(super) all: Vec<Operation>,
    pub(super) paths: Paths<'a>,
}

/// Reads JSON, if it is what an OpenAPI document is written in.
pub(super) fn parse(text: &str) -> Result<Option<Value>, Failure> {
    if !text.trim_start().starts_with('{') {
        return Ok(None);
    }
    let document = serde_json::from_str(text)
        .map_err(|error| Failure::new(format!("the OpenAPI document cannot be read as JSON: {error}")))?;
    Ok(Some(document))
}

impl<'a> Operations<'a> {
    /// Reads an OpenAPI document.
    pub(super) fn of_document(root: &'a Value, base: Option<&'a str>) -> Result<Self, Failure> {
        let version = root["openapi"].as_str().unwrap_or_default();
        if !version.starts_with("3.") {
            return Err(Failure::new(
                "the document is not of OpenAPI 3: its member `openapi` must be such as \"3.1.0\"",
            ));
        }
        let mut operations = Self { all: Vec::new(), paths: Paths::of_document(root, base) };
        for (path, item) in root["paths"].as_object().into_iter().flatten().filter(|(path, _)| path.starts_with('/')) {
            let item = operations.paths.resolve(item).ok_or_else(|| {
                Failure::new(format!(
                    "the reference {} leads out of the document, or to another one: bundle it first",
                    item["$ref"]
                ))
            })?;
            for (method, operation) in operations_of(item) {
                let security = operation.get("security").or_else(|| root.get("security"));
                operations.push(&method, path, item, operation, documented(security))?;
            }
        }
        Ok(operations)
    }

    fn push(
        &mut self,
        method: &str,
        path: &str,
        item: &Value,
        operation: &Value,
        documented: Documented,
    ) -> Result<(), Failure> {
        let Ok(method) = Method::from_bytes(method.as_bytes()) else {
            return Err(Failure::new(format!("{method:?} of the path {path:?} is not a method")));
        };
        for path in self.paths.templates(path, item, operation) {
            self.all.push(Operation { method: method.clone(), path, documented });
        }
        Ok(())
    }

    /// Reads lines of METHOD and PATH.
    pub(super) fn of_list(text: &str, base: &str) -> Result<Self, Failure> {
        let lines = (1..).zip(text.lines().map(str::trim));
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let all = lines.map(|(number, line)| listed(number, line, base)).collect::<Result<Vec<_>, _>>()?;
        let paths = Paths::of_list(all.iter().map(|operation| operation.path.as_str()));
        Ok(Self { all, paths })
    }
}

impl Operation {
    /// Returns true if it is one of gRPC: `POST /package.Service/Method`.
    pub(super) fn is_grpc(&self) -> bool {
        let begins_upper = |name: &str| name.starts_with(|char: char| char.is_ascii_uppercase());
        let Some((service, method)) = self.path.strip_prefix('/').and_then(|path| path.split_once('/')) else {
            return false;
        };
        let service = service.rsplit('.').next().unwrap_or_default();
        self.method == Method::POST && !method.contains('/') && begins_upper(service) && begins_upper(method)
    }
}

fn listed(number: usize, line: &str, base: &str) -> Result<Operation, Failure> {
    let parsed = line.split_once(char::is_whitespace);
    let parsed = parsed.and_then(|(method, path)| Some((Method::from_bytes(method.as_bytes()).ok()?, path.trim())));
    let Some((method, path)) = parsed.filter(|(_, path)| path.starts_with('/')) else {
        return Err(Failure::new(format!(
            "line {number} is neither JSON nor such as `GET /path`: \"{}\"; give an OpenAPI document in JSON, or such lines",
            shown(line)
        )));
    };
    Ok(Operation { method, path: format!("{base}{path}"), documented: Documented::Nothing })
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn operations(document: &Value, base: Option<&str>) -> Vec<String> {
        let operations = Operations::of_document(document, base).map_err(|failure| failure.to_string()).unwrap();
        operations.all.iter().map(|operation| format!("{} {}", operation.method, operation.path)).collect()
    }

    fn fault(text: &str) -> String {
        let read = |text| match parse(text)? {
            Some(document) => Operations::of_document(&document, None).map(|_| ()),
            None => Operations::of_list(text, "").map(|_| ()),
        };
        read(text).unwrap_err().to_string()
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
            let operations = Operations::of_document(&document, Option::None).map_err(|failure| failure.to_string());
            assert_eq!(operations.unwrap().all[0].documented, expected, "{of_all} {own}");
        }
    }

    #[test]
    fn list_is_read_line_by_line() {
        let list = Operations::of_list("GET /a\n\n  POST /pkg.Service/Method\r\n", "/v1");
        let list = list.map_err(|failure| failure.to_string()).unwrap();
        let paths: Vec<_> = list.all.into_iter().map(|operation| operation.path).collect();
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
