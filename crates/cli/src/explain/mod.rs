//! `explain`.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args as ClapArgs, error::ErrorKind};
use fastauth_core::shown::shown;
use http::Method;

use crate::{config::Explaining, failure::Failure, output};

mod answer;
mod explainer;
mod lines;
mod text;

use self::lines::Line;
pub(crate) use self::{
    answer::Presented,
    explainer::{Explained, Explainer, RuleFields},
    text::demands,
};

#[derive(ClapArgs)]
#[command(after_help = "\
Two parts of an application decide: the layer, by the lists of paths and the rules in the configuration, and the token router,
which checks the credentials for its own endpoints, whatever those say.

The numbered lines are the readings of the path: every form that a server or a file system could take it for. Below each stand
the rules that match it, the most specific first. Secrets are not needed, and nothing is sent.

The answer is that to a request with the credentials that --as and --master state, and no others. A token with these claims
counts as signed and current. If they name no `client_id`, `type`, `exp`, `iss` or `aud`, it has good ones. The age of its log-in
is told by `auth_time` or `iat`, and by the clock.

With --json, or for each line of standard input, the object has these members, among others:
  decision  public, optional, access, master, master+access, deny or reject
  rule      {\"place\", \"name\", \"path\", \"level\", \"demands\"} of the first rule that decides; null if none does
  rules     all rules that decide, in the same form
  answer    {\"passes\", \"status\", \"reason\"}: whether the application gets the request; if not, the status and the code of the reason

A line of standard input is `METHOD TARGET`, or an object such as
{\"method\": \"GET\", \"target\": \"/x\", \"claims\": {\"roles\": [\"admin\"]}, \"master\": true}, of which the last two may be left out.

Examples:
  fastauth explain GET /access/hello
  fastauth explain GET //access/%2e%2e/master
  fastauth explain POST /auth/token/new
  fastauth explain POST /tokens/token/new --auth-prefix /tokens
  echo '{\"roles\": [\"admin\"]}' | fastauth explain GET /access/hello --as -
  echo 'GET /access/hello' | fastauth explain -")]
pub(crate) struct Explain {
    /// The method, or `-` to read lines from standard input and to print a JSON object for each
    method: String,
    /// The request target, as in a request line
    target: Option<String>,
    /// Answer a request with an access token whose payload is this JSON object; `-` reads it from standard input
    #[arg(long = "as", value_name = "CLAIMS.json")]
    claims: Option<PathBuf>,
    /// Answer a request with the right master token
    #[arg(long)]
    master: bool,
    #[command(flatten)]
    explaining: Explaining,
}

pub(crate) fn run(args: Explain, mut program: clap::Command) -> Result<ExitCode, Failure> {
    let Some(target) = args.target else {
        if args.method != "-" {
            let message = "the target is missing: fastauth explain METHOD TARGET";
            usage_error(&mut program, ErrorKind::MissingRequiredArgument, message)
        }
        if args.claims.is_some() || args.master {
            let message =
                "`-` reads the claims and `master` of each request from its line: leave --as and --master out";
            usage_error(&mut program, ErrorKind::ArgumentConflict, message)
        }
        return lines::explain(&Explainer::new(args.explaining.config, args.explaining.auth_prefix)?);
    };
    if args.method == "-" {
        let message = "`-` reads methods and targets from standard input: leave the target out";
        usage_error(&mut program, ErrorKind::ArgumentConflict, message)
    }
    let Ok(method) = Method::from_bytes(args.method.as_bytes()) else {
        return Err(Failure::new(format!("`{}` is not a method; write one such as GET", shown(&args.method))));
    };
    let claims = args.claims.as_deref().map(answer::read_claims).transpose()?;
    let presented = Presented { claims: claims.as_ref(), master: args.master };
    let explainer = Explainer::new(args.explaining.config, args.explaining.auth_prefix)?;
    let explained = explainer.explain(&method, &target, &presented);
    if args.explaining.json {
        output::json(&Line::new(&args.method, &target, &explained))?;
    } else {
        text::print(&method, &target, &explained, &presented)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Ends the program with a message and the usage of this command.
fn usage_error(program: &mut clap::Command, kind: ErrorKind, message: &str) -> ! {
    program.build();
    let command = program.find_subcommand_mut("explain");
    command.map_or_else(|| clap::Error::raw(kind, message), |command| command.error(kind, message)).exit()
}
