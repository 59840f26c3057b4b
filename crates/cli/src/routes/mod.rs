//! `routes`.

use std::{fs, io, path::PathBuf, process::ExitCode};

use clap::Args as ClapArgs;
use http::Method;
use serde::Serialize;

use crate::{
    config::Explaining,
    explain::Explainer,
    failure::Failure,
    output::{self, Label},
};

mod document;
mod finding;
mod route;

use self::{
    document::{Documented, Operation, Operations},
    finding::Finding,
    route::Route,
};

#[derive(ClapArgs)]
#[command(after_help = "\
The document is OpenAPI 3 in JSON, or a list with a line `METHOD PATH` for each operation, as of gRPC services. Paths are taken
with the path of each server that the document names. A parameter may have values that need more than others: such an operation has
a line for each. Parameters that are integers or UUIDs take such values alone.

A path that the document names, such as /users/me, is not one of the values of another, such as /users/{id}.

An operation that needs no credential here while the document says that it does is a fault. An operation is not covered if no rule
and no list of paths is for it, or for some values of its parameters, so that `default-level` alone decides: with --deny-uncovered,
that is a fault, too, and so is a document without operations.

If an operation is one of gRPC, the services of gRPC for health and reflection are named as well, since servers have them without a
line of the application. They are not counted unless the document names them.

With --json, the object has these members:
  operations  each with what guards it: `guards` with the rules and what they demand, and `covered`
  findings    {\"severity\", \"method\", \"path\", \"message\"} of faults, warnings and notes
  result      {\"operations\", \"uncovered\", \"open\", \"passes\"}; `open` counts what is open and documented as guarded

Examples:
  fastauth routes openapi.json
  fastauth routes --deny-uncovered openapi.json
  fastauth routes --base /api openapi.json
  echo 'POST /shop.v1.Orders/List' | fastauth routes --json -")]
pub(crate) struct Routes {
    /// The document, or `-` to read it from standard input
    #[arg(value_name = "OPENAPI.json")]
    document: PathBuf,
    /// Take this for the path before those of the document, whatever its servers are; `/` if there is none
    #[arg(long, value_name = "PATH", value_parser = base)]
    base: Option<String>,
    /// Fail if an operation is not covered, or if there is none
    #[arg(long)]
    deny_uncovered: bool,
    #[command(flatten)]
    explaining: Explaining,
}

/// The methods of gRPC's own services, as paths.
const GRPC: [&str; 5] = [
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/List",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

pub(crate) fn run(args: Routes) -> Result<ExitCode, Failure> {
    let name = if args.document.as_os_str() == "-" { "standard input" } else { &args.document.display().to_string() };
    let text = read(&args.document, name)?;
    let text = text.trim_start_matches('\u{feff}');
    let document = document::parse(text)?;
    let operations = match &document {
        Some(document) => Operations::of_document(document, args.base.as_deref())?,
        None => Operations::of_list(text, args.base.as_deref().unwrap_or_default())?,
    };
    let explainer = Explainer::new(args.explaining.config, args.explaining.auth_prefix)?;
    let all = All::new(&operations, &explainer, name, args.deny_uncovered);
    if args.explaining.json {
        output::json(&all)?;
    } else {
        all.print()?;
    }
    Ok(if all.result.passes { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn base(text: &str) -> Result<String, &'static str> {
    if !text.starts_with('/') {
        return Err("a path has to begin with `/`");
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn read(path: &PathBuf, name: &str) -> Result<String, Failure> {
    let is_input = path.as_os_str() == "-";
    let text = if is_input { io::read_to_string(io::stdin()) } else { fs::read_to_string(path) };
    text.map_err(|error| Failure::new(format!("{name} cannot be read: {error}")))
}

#[derive(Serialize)]
struct All {
    operations: Vec<Route>,
    grpc: Vec<Route>,
    findings: Vec<Finding>,
    result: Outcome,
}

#[derive(Serialize)]
struct Outcome {
    operations: usize,
    uncovered: usize,
    /// Those that are open, and documented as guarded.
    open: usize,
    passes: bool,
}

impl All {
    fn new(operations: &Operations<'_>, explainer: &Explainer, name: &str, deny_uncovered: bool) -> Self {
        let routes: Vec<_> =
            operations.all.iter().map(|operation| Route::new(operation, operations, explainer)).collect();
        let uncovered = routes.iter().filter(|route| route.is_uncovered()).count();
        let mut findings: Vec<_> = routes.iter().flat_map(|route| route.findings(deny_uncovered)).collect();
        if routes.is_empty() {
            let severity = if deny_uncovered { Label::Fault } else { Label::Warning };
            findings
                .push(Finding::of_all(severity, format!("there is no operation in {name}, so nothing was checked")));
        }
        if uncovered > 0 && !deny_uncovered {
            let (are, they_are) = if uncovered == 1 { ("is", "it is a fault") } else { ("are", "they are faults") };
            let number = number(uncovered);
            let message = format!("{number} {are} left to the default level; with --deny-uncovered, {they_are}");
            findings.push(Finding::of_all(Label::Warning, message));
        }
        let result = Outcome {
            operations: routes.len(),
            uncovered,
            open: routes.iter().filter(|route| route.is_open_against_the_document()).count(),
            passes: !findings.iter().any(Finding::is_fault),
        };
        Self { operations: routes, grpc: grpc(operations, explainer), findings, result }
    }

    fn print(&self) -> Result<(), Failure> {
        print_table(&self.operations)?;
        if !self.operations.is_empty() {
            output::line("")?;
        }
        for severity in [Label::Fault, Label::Warning, Label::Note] {
            let mut findings = self.findings.iter().filter(|finding| finding.severity() == severity);
            findings.try_for_each(Finding::print)?;
        }
        if !self.grpc.is_empty() {
            output::line("gRPC, if the application serves it:")?;
            print_table(&self.grpc)?;
            output::line("")?;
        }
        let Outcome { operations, uncovered, open, .. } = self.result;
        let open = if open > 0 { format!(", {open} open that the document guards") } else { String::new() };
        output::line(&format!("result: {}, {uncovered} not covered{open}", number(operations)))
    }
}

fn number(operations: usize) -> String {
    if operations == 1 { "1 operation".to_owned() } else { format!("{operations} operations") }
}

/// Returns gRPC's own services that are not among the operations, if some of those are gRPC.
fn grpc(operations: &Operations<'_>, explainer: &Explainer) -> Vec<Route> {
    if !operations.all.iter().any(Operation::is_grpc) {
        return Vec::new();
    }
    let others = GRPC.iter().filter(|path| !operations.all.iter().any(|operation| operation.path == **path));
    let others = others.map(|path| Operation {
        method: Method::POST,
        path: (*path).to_owned(),
        documented: Documented::Nothing,
    });
    others.map(|operation| Route::new(&operation, operations, explainer)).collect()
}

/// Prints a line for each answer that an operation may get.
fn print_table(routes: &[Route]) -> Result<(), Failure> {
    let rows: Vec<_> = routes.iter().flat_map(Route::rows).collect();
    let width = |column: fn(&[String; 4]) -> &String| rows.iter().map(|row| column(row).chars().count()).max();
    let methods = width(|row| &row[0]).unwrap_or_default();
    let paths = width(|row| &row[1]).unwrap_or_default();
    let levels = width(|row| &row[2]).unwrap_or_default();
    for [method, path, level, by] in &rows {
        output::line(&format!("{method:methods$}  {path:paths$}  {level:levels$}  {by}"))?;
    }
    Ok(())
}
