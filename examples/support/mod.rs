//! The parts of a server that have nothing to do with its routes: the example `axum` and `examples/demo` share them.

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
};

use axum::Router;
use fastauth::FastAuthLayer;
use tokio::net::TcpListener;

use arguments::Arguments;
pub(crate) use server::Stopping;

mod arguments;
pub(crate) mod echo;
mod log;
mod server;

pub(crate) struct Example {
    pub(crate) name: &'static str,
    /// The paths of pages for a browser, each with its title.
    pub(crate) pages: &'static [(&'static str, &'static str)],
    pub(crate) app: fn(FastAuthLayer, Stopping) -> Router,
}

impl Example {
    pub(crate) async fn run(self) -> ExitCode {
        log::init();
        match self.serve().await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                let _ = writeln!(io::stderr(), "{error}");
                ExitCode::FAILURE
            }
        }
    }

    async fn serve(self) -> Result<(), Box<dyn Error>> {
        let arguments = Arguments::parse(self.name)?;
        arguments.make_missing_secrets()?;
        let master_token = arguments.source_of("master-token");
        // In an application without these arguments: `FastAuthLayer::from_config()`.
        let auth = FastAuthLayer::new(arguments.settings.load()?)?;

        let listener = TcpListener::bind(arguments.listen).await?;
        let address = listener.local_addr()?;
        say(&format!("Listening on http://{address}. Paste these into another terminal:\n"));
        say(&arguments::curl_lines(address, master_token));
        for (path, title) in self.pages {
            say(&format!("{title} in a browser: http://{address}{path}"));
        }
        server::serve(listener, |stopping| (self.app)(auth, stopping)).await?;
        Ok(())
    }
}

/// Prints a line. `println!` panics if standard output is closed or full; the server goes on instead.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}
