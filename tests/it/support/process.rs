//! A process that serves requests, wherever its output goes.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use serde_json::json;
use tempfile::TempDir;

pub(crate) const MASTER: &str = "a-master-token-for-tests";

/// Where the output of a process goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sink {
    /// To a disk that is full.
    Full,
    /// Into a pipe that nobody reads any more.
    Closed,
    /// Into a pipe that is open and not read.
    Unread,
}

/// A process that serves requests, and ends with the test.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    /// Its working directory, which is there as long as the process.
    #[allow(dead_code, reason = "one of the test programs that share this file looks into it")]
    pub(crate) place: TempDir,
}

impl Server {
    pub(crate) fn start(program: &Path, words: &[&str], sink: Sink) -> Self {
        let place = TempDir::new().unwrap();
        let config = json!({
            "master-token": MASTER,
            "cryptography-key": "a-key-of-forty-characters-in-all-for-tests",
            "access-token-paths": ["/access"],
            "master-token-paths": ["/master"],
        });
        fs::write(place.path().join("fastauth.config.json"), config.to_string()).unwrap();
        // Free a moment ago, and soon taken: what is printed cannot be read here.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new(program);
        command.args(words).arg(address.to_string()).current_dir(place.path());
        command.env_clear().env("RUST_LOG", "trace").stdin(Stdio::null());
        command.stdout(output(sink)).stderr(output(sink));
        let mut child = command.spawn().unwrap();
        if matches!(sink, Sink::Closed) {
            drop((child.stdout.take(), child.stderr.take()));
        }
        while TcpStream::connect(address).is_err() {
            assert!(child.try_wait().unwrap().is_none(), "{sink:?}: it ended at its start");
            thread::sleep(Duration::from_millis(5));
        }
        Self { child, address, place }
    }

    /// The status and the body of an answer.
    pub(crate) fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
        let mut connection = TcpStream::connect(self.address).unwrap();
        // Only a failure waits as long as that.
        connection.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        write!(connection, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap_or_else(|| panic!("{method} {target} was not answered"));
        (status.parse().unwrap(), answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn output(sink: Sink) -> Stdio {
    match sink {
        Sink::Full => Stdio::from(OpenOptions::new().write(true).open("/dev/full").unwrap_or_else(|_| null())),
        Sink::Closed | Sink::Unread => Stdio::piped(),
    }
}

/// Only Linux has a disk that is always full.
fn null() -> File {
    OpenOptions::new().write(true).open(Path::new("/dev/null")).unwrap()
}
