//! What rules have to know of an OpenAPI document: which paths an operation has.

use serde_json::Value;

use crate::policy::Rules;

/// An OpenAPI document, or a list of paths, by the paths that requests have.
#[derive(Debug)]
pub struct Paths<'a> {
    root: &'a Value,
    /// What stands before the paths, whatever the servers are.
    base: Option<&'a str>,
    /// The paths without parameters. Such a path is never one of a path with parameters: OpenAPI and routers match it first.
    plain: Vec<String>,
}

impl<'a> Paths<'a> {
    /// Reads the paths of a document. `base` stands before them; without it, the path of each server does.
    pub fn of_document(root: &'a Value, base: Option<&'a str>) -> Self {
        let mut paths = Self { root, base: base.map(|base| base.trim_end_matches('/')), plain: Vec::new() };
        let items = root["paths"].as_object().into_iter().flatten();
        paths.plain = items
            .filter(|(path, _)| is_plain(path))
            .flat_map(|(path, item)| {
                let item = paths.resolve(item).unwrap_or(item);
                paths.bases(&[item]).into_iter().map(move |base| format!("{base}{path}"))
            })
            .collect();
        paths
    }

    /// Takes paths as requests have them.
    pub fn of_list<'b>(paths: impl Iterator<Item = &'b str>) -> Self {
        Self { root: &Value::Null, base: None, plain: paths.filter(|path| is_plain(path)).map(str::to_owned).collect() }
    }

    /// Returns the path of an operation below each server, with the types of its parameters, as a rule has them.
    pub fn templates(&self, path: &str, item: &Value, operation: &Value) -> Vec<String> {
        let path = self.typed(path, [item, operation]);
        self.bases(&[operation, item]).into_iter().map(|base| format!("{base}{path}")).collect()
    }

    /// Returns paths of a template, in order: whatever the rules ask for another path of it, they ask for one of these.
    pub fn paths_of(&self, rules: &Rules, template: &str) -> Vec<String> {
        rules.paths_of(template, &self.plain)
    }

    /// Follows a reference within the document, unless it leads out of it or to another one.
    pub fn resolve<'b>(&self, value: &'b Value) -> Option<&'b Value>
    where
        'a: 'b,
    {
        let Some(reference) = value["$ref"].as_str() else { return Some(value) };
        let found = self.root.pointer(reference.strip_prefix('#')?)?;
        found.get("$ref").is_none().then_some(found)
    }

    /// Returns what stands before a path, each once: the paths of the servers of the first level that has some, or else of the document.
    fn bases(&self, levels: &[&Value]) -> Vec<String> {
        if let Some(base) = self.base {
            return vec![base.to_owned()];
        }
        let servers = levels.iter().copied().chain([self.root]).find_map(|level| level.get("servers"));
        let urls = servers.and_then(Value::as_array).into_iter().flatten().filter_map(|server| server["url"].as_str());
        let mut bases: Vec<_> = urls.map(path_of_server).collect();
        bases.sort();
        bases.dedup();
        if bases.is_empty() { vec![String::new()] } else { bases }
    }

    /// Writes the types of the parameters into a path. A parameter that cannot be read has none: then more paths count.
    fn typed(&self, path: &str, levels: [&Value; 2]) -> String {
        let mut path = path.to_owned();
        for parameter in levels.into_iter().filter_map(|level| level["parameters"].as_array()).flatten() {
            let Some(parameter) = self.resolve(parameter) else { continue };
            let Some(schema) = self.resolve(&parameter["schema"]) else { continue };
            let (Some("path"), Some(name)) = (parameter["in"].as_str(), parameter["name"].as_str()) else { continue };
            let kind = match (schema["type"].as_str(), schema["format"].as_str()) {
                (Some("integer"), _) => "int",
                (_, Some("uuid")) => "uuid",
                _ => continue,
            };
            path = path.replace(&format!("{{{name}}}"), &format!("{{{name}:{kind}}}"));
        }
        path
    }
}

fn is_plain(path: &str) -> bool {
    path.starts_with('/') && !path.contains('{')
}

/// Returns the path of a server's URL, without a slash at its end. That of one relative to the document cannot be known.
fn path_of_server(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let behind_host = url.split_once("://").map(|(_, rest)| rest.find('/').map_or("", |at| &rest[at..]));
    let path = behind_host.unwrap_or(url);
    if path.starts_with('/') { path.trim_end_matches('/').to_owned() } else { String::new() }
}
