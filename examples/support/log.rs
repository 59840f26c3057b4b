//! The log, on standard error: `RUST_LOG=info,fastauth=debug` says how much of it.

use std::{
    env,
    io::{self, IsTerminal, Write},
    sync::mpsc::{SyncSender, sync_channel},
    thread,
};

use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    prelude::*,
};

/// How many lines may wait. More are dropped.
const WAITING: usize = 1024;

pub(crate) fn init() {
    let chosen = env::var("RUST_LOG").ok().and_then(|text| text.parse::<Targets>().ok());
    let filter = chosen.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let (sender, lines) = sync_channel::<Vec<u8>>(WAITING);
    // Standard error may be full or not read. This thread waits for it, and requests do not.
    thread::spawn(move || {
        for line in lines {
            let _ = io::stderr().write_all(&line);
        }
    });
    let is_plain = !io::stderr().is_terminal() || env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let format = tracing_subscriber::fmt::layer()
        .with_ansi(!is_plain)
        .with_writer(move || Queue(sender.clone()))
        .log_internal_errors(false);
    tracing_subscriber::registry().with(format.with_filter(filter)).init();
}

struct Queue(SyncSender<Vec<u8>>);

impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let _ = self.0.try_send(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
