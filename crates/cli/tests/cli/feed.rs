//! The change feed of real servers: over sockets, killed, stopped, and two on one file.

use std::{
    collections::{BTreeSet, HashSet},
    net::TcpStream,
    time::{Duration, Instant},
};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// A reader of a feed.
struct Reader {
    lines: std::io::Lines<BufReader<TcpStream>>,
}

/// An event: its id, its name and its data.
struct Event {
    id: String,
    name: String,
    data: Value,
}

impl Reader {
    fn open(served: &Served, query: &str) -> Self {
        let mut stream = connect(served);
        write!(stream, "GET /v2/changes{query} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        Self { lines: BufReader::new(stream).lines() }
    }

    /// The next event that is no heartbeat, or the first one of the stream; `None` at its end.
    fn next(&mut self, with_heartbeats: bool) -> Option<Event> {
        let mut id = None;
        let mut name = None;
        loop {
            let line = self.lines.next()?.ok()?;
            if let Some(text) = line.strip_prefix("id: ") {
                id = Some(text.to_owned());
            } else if let Some(text) = line.strip_prefix("event: ") {
                name = Some(text.to_owned());
            } else if let Some(text) = line.strip_prefix("data: ") {
                let event = Event { id: id.take()?, name: name.take()?, data: serde_json::from_str(text).unwrap() };
                if with_heartbeats || event.name != "hb" {
                    return Some(event);
                }
            }
        }
    }
}

fn connect(served: &Served) -> TcpStream {
    let stream = TcpStream::connect(served.url.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn post(served: &Served, target: &str, body: &str) -> String {
    let mut stream = connect(served);
    write!(
        stream,
        "POST {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    std::io::read_to_string(stream).unwrap()
}

/// Saves a pair, and returns true if that was acknowledged.
fn issue(served: &Served, client_id: &str) -> bool {
    let body = format!(r#"{{"data":{{"access_token":"a-{client_id}","refresh_token":"r-{client_id}"}}}}"#);
    post(served, &format!("/token?client_id={client_id}"), &body).starts_with("HTTP/1.1 200")
}

#[test]
fn reader_of_a_killed_server_goes_on_at_the_next() {
    let place = Place::new();
    let mut served = Served::start(&place, None);
    let mut reader = Reader::open(&served, "");
    let mut point = reader.next(true).unwrap().id;
    let mut told = HashSet::new();
    let mut acknowledged = BTreeSet::new();
    for round in 0..3 {
        for n in 0..20 {
            let id = format!("c{round}-{n}");
            assert!(issue(&served, &id));
            acknowledged.insert(id);
        }
        // It has read some of it when the server dies.
        for _ in 0..5 {
            let event = reader.next(false).unwrap();
            told.insert(event.data["client_id"].as_str().unwrap().to_owned());
            point = event.id;
        }
        served.child.kill().unwrap();
        served.child.wait().unwrap();
        served = Served::start(&place, None);
        reader = Reader::open(&served, &format!("?since={point}"));
    }
    while !acknowledged.iter().all(|id| told.contains(id)) {
        let event = reader.next(false).unwrap();
        assert_eq!(event.name, "change");
        told.insert(event.data["client_id"].as_str().unwrap().to_owned());
    }
    served.stop();
}

#[test]
fn stopped_server_does_not_wait_for_its_readers() {
    let place = Place::new();
    let served = Served::start(&place, None);
    let mut readers: Vec<_> = (0..10).map(|_| Reader::open(&served, "")).collect();
    readers.iter_mut().for_each(|reader| assert_eq!(reader.next(true).unwrap().name, "hb"));
    let start = Instant::now();
    assert_eq!(served.stop(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    for reader in &mut readers {
        assert_eq!(reader.next(false).unwrap().name, "move");
        assert!(reader.next(true).is_none());
    }
}

#[test]
fn two_servers_on_one_file_tell_of_each_other() {
    let place = Place::new();
    let (one, other) = (Served::start(&place, None), Served::start(&place, None));
    let mut readers = [Reader::open(&one, ""), Reader::open(&other, "")];
    readers.iter_mut().for_each(|reader| assert_eq!(reader.next(true).unwrap().name, "hb"));
    assert!(issue(&one, "a") && issue(&other, "b"));
    for reader in &mut readers {
        let told =
            [reader.next(false).unwrap(), reader.next(false).unwrap()].map(|event| event.data["client_id"].clone());
        assert_eq!(told, ["a", "b"]);
    }
    // As an operator does after a snapshot of the disk.
    let said = place.done(&["store", "reset-feed", "--database", "tokens.db"]);
    assert!(said.contains("forget what they know"), "{said}");
    for reader in &mut readers {
        assert_eq!(reader.next(false).unwrap().name, "reset");
    }
    assert!(place.fails(&["store", "reset-feed", "--database", "none.db"], 1).contains("no such database"));
    one.stop();
    other.stop();
}

#[test]
fn clients_are_limited_over_all_nodes() {
    let place = Place::new();
    let words = ["--rate-limit-per-minute", "1", "--rate-limit-burst", "2"];
    let served = Served::start_with(&place, None, &words);
    assert!(issue(&served, "a") && issue(&served, "a"));
    let body = r#"{"data":{"access_token":"x","refresh_token":"y"}}"#;
    let refused = post(&served, "/token?client_id=a", body).to_lowercase();
    assert!(refused.starts_with("http/1.1 429 ") && refused.contains("\r\nretry-after: "), "{refused}");
    let refused = post(&served, "/v2/clients/a/token", r#"{"access_token":"x","refresh_token":"y"}"#);
    assert!(refused.contains("\"rate_limited\""), "{refused}");
    let rotation = r#"{"refresh_sha256":"82f3e9c695dc6b8d1b11818d5701919e286de8d47f7c3eb3100c485f79e57828",
        "new":{"access_token":"x","refresh_token":"y"}}"#;
    assert!(post(&served, "/v2/clients/a/rotate", rotation).starts_with("HTTP/1.1 429"));
    assert!(issue(&served, "b"), "others are not concerned");
    assert!(place.fails(&["store", "serve", "--rate-limit-burst", "2"], 2).contains("--rate-limit-per-minute"));
    served.stop();
}

/// Every name that the dashboard asks for is among the metrics.
#[test]
fn dashboard_asks_for_what_there_is() {
    let place = Place::new();
    let served = Served::start(&place, None);
    assert!(issue(&served, "a"));
    let mut reader = Reader::open(&served, "");
    reader.next(true).unwrap();
    let mut stream = connect(&served);
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let metrics = std::io::read_to_string(stream).unwrap();
    let dashboard = include_str!("../../../../examples/observability/grafana/store-server.json");
    let names = dashboard.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
    let names: BTreeSet<_> = names.filter(|name| name.starts_with("fastauth_")).collect();
    assert!(names.len() >= 9, "{names:?}");
    for name in names {
        let is_there =
            metrics.lines().any(|line| line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} ")));
        assert!(is_there, "{name} in {metrics}");
    }
    assert!(metrics.contains("fastauth_server_feed_readers 1\n"), "{metrics}");
    served.stop();
}
