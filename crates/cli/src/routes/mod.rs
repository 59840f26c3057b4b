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
mod route;

use self::{
    document::{Documented, Operation},
    route::Route,
};

#[derive(ClapArgs)]
#[command(after_help = "\
The document is OpenAPI 3 in JSON, or a list with a line `METHOD PATH` for each operation, as of gRPC services. Paths are taken
with the path of each server that the document names. A parameter may have values that need more than others: such an operation has
a line for each. Parameters that are integers or UUIDs take such values alone.

An operation is not covered if no rule and no list of paths is for it, or for some values of its parameters, so that `default-level`
alone decides. With --deny-uncovered, such operations are faults, and so are those that need no credential here while the
document says that they do.

The services of gRPC for health and reflection are named in any case, since servers have them without a line of the application.
They are not counted unless the document names them.

Examples:
  fastauth routes openapi.json
  fastauth routes --deny-uncovered openapi.json
  fastauth routes --base /api openapi.json
  echo 'POST /shop.v1.Orders/List' | fastauth routes --json -")]
pub(crate) struct Routes {
    /// The document, or `-` to read it from standard input
    #[arg(value_name = "OPENAPI.json")]
    document: Option<PathBuf>,
    /// Take this for the path before those of the document, whatever its servers are; `/` if there is none
    #[arg(long, value_name = "PATH")]
    base: Option<String>,
    /// Fail if an operation is not covered
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
    let base = args.base.as_deref().map(|base| base.trim_end_matches('/'));
    let operations = match &args.document {
        Some(path) => document::read(&read(path)?, base)?,
        None => Vec::new(),
    };
    let explainer = Explainer::new(args.explaining.config, args.explaining.auth_prefix)?;
    let grpc = GRPC.iter().filter(|path| !operations.iter().any(|operation| operation.path == **path));
    let grpc =
        grpc.map(|path| Operation { method: Method::POST, path: (*path).to_owned(), documented: Documented::Nothing });
    let all = All {
        grpc: grpc.map(|operation| Route::new(&operation, &explainer)).collect(),
        operations: operations.iter().map(|operation| Route::new(operation, &explainer)).collect(),
    };
    let problems = all.operations.iter().flat_map(Route::problems).count();
    if args.explaining.json {
        output::json(&all)?;
    } else {
        all.print(args.deny_uncovered)?;
    }
    Ok(if args.deny_uncovered && problems > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn read(path: &PathBuf) -> Result<String, Failure> {
    let is_input = path.as_os_str() == "-";
    let text = if is_input { io::read_to_string(io::stdin()) } else { fs::read_to_string(path) };
    let name = if is_input { "standard input".to_owned() } else { path.display().to_string() };
    text.map_err(|error| Failure::new(format!("{name} cannot be read: {error}")))
}

#[derive(Serialize)]
struct All {
    operations: Vec<Route>,
    grpc: Vec<Route>,
}

impl All {
    fn print(&self, deny_uncovered: bool) -> Result<(), Failure> {
        print_table(&self.operations)?;
        if !self.operations.is_empty() {
            output::line("")?;
        }
        let mut uncovered = 0;
        for problem in self.operations.iter().flat_map(Route::problems) {
            uncovered += 1;
            output::labelled(if deny_uncovered { Label::Fault } else { Label::Warning }, &problem)?;
        }
        let disagreements: Vec<_> = self.operations.iter().filter_map(Route::disagreement).collect();
        for disagreement in &disagreements {
            output::labelled(Label::Note, disagreement)?;
        }
        if !self.grpc.is_empty() {
            output::line("gRPC, if the application serves it:")?;
            print_table(&self.grpc)?;
            output::line("")?;
        }
        let operations = self.operations.len();
        let plural = if operations == 1 { "" } else { "s" };
        output::line(&format!("result: {operations} operation{plural}, {uncovered} not covered"))
    }
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
