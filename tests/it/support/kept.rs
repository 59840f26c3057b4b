//! A connection of HTTP/1.1 that is kept: each answer is read to the length that it says it has, and the next one begins there.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Kept(BufReader<TcpStream>);

/// An answer, as it came.
#[derive(Debug)]
pub(crate) struct KeptAnswer {
    pub(crate) status: u16,
    lines: Vec<String>,
    pub(crate) body: String,
}

impl Kept {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self(BufReader::new(TcpStream::connect(address).await.unwrap()))
    }

    /// Sends a request without a body, and reads the answer.
    pub(crate) async fn ask(&mut self, line: &str, headers: &[(&str, &str)]) -> KeptAnswer {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!("{line} HTTP/1.1\r\nhost: h\r\n{headers}\r\n");
        self.0.write_all(request.as_bytes()).await.unwrap();
        timeout(PATIENCE, self.answer(line.starts_with("HEAD "))).await.unwrap()
    }

    async fn answer(&mut self, to_head: bool) -> KeptAnswer {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).await.unwrap();
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let first = lines.first().expect("an answer");
        assert!(first.starts_with("HTTP/1.1 "), "what follows the last answer is not the next one: {first:?}");
        let status = first.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = KeptAnswer { status, lines, body: String::new() };
        assert_eq!(answer.header("transfer-encoding"), "", "{answer:?}");
        if !to_head && !matches!(status, 204 | 304) {
            let mut body = vec![0; answer.header("content-length").parse().unwrap()];
            self.0.read_exact(&mut body).await.unwrap();
            answer.body = String::from_utf8(body).unwrap();
        }
        answer
    }
}

impl KeptAnswer {
    /// A header, which is empty if it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut headers = self.lines.iter().filter_map(|line| line.split_once(": "));
        headers.find(|(other, _)| other.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }

    /// The reason in the body of a refusal.
    pub(crate) fn reason(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        body["reason"].as_str().unwrap_or_default().to_owned()
    }
}
