//! What is logged on one thread, which is that of one test with all that it serves.

use std::{cell::RefCell, io, sync::Once};

use tracing::{Dispatch, subscriber::NoSubscriber};
use tracing_subscriber::fmt::MakeWriter;

thread_local! {
    static LINES: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Notes what this thread logs from now on, down to the last detail.
///
/// The subscriber is the process's: one of a thread's own would miss what other threads were the first to log.
///
/// Whether anybody cares for an event is found once, when it is first met, and kept for all threads. As long as there is one
/// subscriber, the thread that meets the event asks its default, and a thread that does so just before the default is set
/// would silence the event for good. So there are two, the first of which wants nothing and stays: then all are asked.
pub(crate) fn capture() {
    static SUBSCRIBER: Once = Once::new();
    SUBSCRIBER.call_once(|| {
        Box::leak(Box::new(Dispatch::new(NoSubscriber::new())));
        let subscriber = tracing_subscriber::fmt().with_env_filter("trace");
        subscriber.with_ansi(false).with_writer(OfThread).init();
    });
    LINES.set(Some(Vec::new()));
}

/// What this thread has logged since it was asked to note that.
pub(crate) fn captured() -> String {
    String::from_utf8(LINES.take().unwrap()).unwrap()
}

/// The same without what the clients say, which run beside the server and tell of all that they send.
pub(crate) fn captured_of_server() -> String {
    const CLIENTS: [&str; 3] = ["tungstenite::", "reqwest::", "hyper_util::client::"];
    let log = captured();
    let lines = log.lines().filter(|line| !CLIENTS.iter().any(|client| line.contains(client)));
    lines.collect::<Vec<_>>().join("\n")
}

struct OfThread;

impl io::Write for OfThread {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.with_borrow_mut(|lines| lines.iter_mut().for_each(|lines| lines.extend_from_slice(bytes)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for OfThread {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        Self
    }
}
