//! The parts of a server that have nothing to do with its routes: the example `axum` and `examples/demo` share them.

use std::{
    error::Error,
    io::{self, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    process::ExitCode,
};

use axum::Router;
use fastauth::{FastAuthLayer, SettingsBuilder};
use tokio::net::TcpListener;

use arguments::Arguments;
pub(crate) use server::Stopping;

mod arguments;
pub(crate) mod echo;
mod log;
mod server;

/// A key with what sets it.
pub(crate) type DefaultSetting = (&'static str, fn(SettingsBuilder) -> SettingsBuilder);

pub(crate) struct Example {
    pub(crate) name: &'static str,
    /// Settings for the shipped configuration, each by its key: they count if nothing else sets the key.
    pub(crate) defaults: &'static [DefaultSetting],
    /// Makes the application by the layer, the signal to stop, and the address in a browser.
    pub(crate) app: fn(FastAuthLayer, Stopping, &str) -> Router,
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
        let mut arguments = Arguments::parse(self.name)?;
        arguments.make_missing_secrets()?;
        arguments.apply(self.defaults);
        let master_token = arguments.source_of("master-token");
        let listen = arguments.listen;
        // In an application without these arguments: `FastAuthLayer::from_config()`.
        let auth = FastAuthLayer::new(arguments.load()?)?;

        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let url = format!("http://{}", reachable(address));
        say(&format!("Listening on http://{address}. Paste these into another terminal, in this order:\n"));
        say(&arguments::curl_lines(&url, master_token));
        if address.ip().is_unspecified() {
            say("From another machine, put the address of this one in place of that in the lines.\n");
        }
        server::serve(listener, |stopping| (self.app)(auth, stopping, &url)).await?;
        Ok(())
    }
}

/// Returns the address at which this machine reaches a listener: one that listens everywhere has no address of its own.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    address
}

/// Prints a line. `println!` panics if standard output is closed or full; the server goes on instead.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}
