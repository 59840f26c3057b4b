//! `store serve`: whom it answers, and how it stops.

use std::{
    io::Read,
    net::TcpStream,
    time::{Duration, Instant},
};

use super::*;

/// How long is waited for what has to happen.
const PATIENCE: Duration = Duration::from_secs(30);

const BEARER: &str = "hush-by-the-bearer-of-this";

impl Served {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.url.strip_prefix("http://").unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// The answer to a request that is written as it is.
    fn raw(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }
}

#[test]
fn pages_and_other_names_are_refused() {
    let place = Place::new();
    let served = Served::start(&place, None);
    let get = |headers: &str| served.raw(&format!("GET /v2/clients HTTP/1.1\r\n{headers}connection: close\r\n\r\n"));
    let host = served.url.strip_prefix("http://").unwrap();
    let port = host.rsplit(':').next().unwrap();
    for headers in [
        format!("host: {host}\r\n"),
        format!(
            "host: localhost:{port}\r\nuser-agent: python-requests/2.32.3\r\naccept-encoding: gzip, deflate\r\naccept: */*\r\n"
        ),
    ] {
        assert!(get(&headers).starts_with("HTTP/1.1 200 "), "{headers}");
    }
    for headers in [
        format!("host: evil.example:{port}\r\n"),
        format!("host: {host}\r\norigin: http://evil.example\r\n"),
        format!("host: {host}\r\nsec-fetch-site: cross-site\r\n"),
    ] {
        assert!(get(&headers).starts_with("HTTP/1.1 403 "), "{headers}");
    }
    served.stop();
}

#[test]
fn a_bearer_that_could_be_guessed_is_refused() {
    let place = Place::new();
    for weak in ["x", "hush-hush-hush", "hhhhhhhhhhhhhhhhhhhhhhhh"] {
        let mut command = place.command(&["store", "serve", "--listen", "127.0.0.1:0"]);
        let output = command.env("FASTAUTH_STORE_TOKEN", weak).output().unwrap();
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains("FASTAUTH_STORE_TOKEN: ") && told.contains("fastauth keygen"), "{told}");
        assert!(!told.contains("hush") && !told.contains("hhhh"), "{told}");
    }
    Served::start(&place, Some(BEARER)).stop();
}

/// Neither the rest of a head nor that of a body has to come.
#[test]
fn a_signal_to_stop_ends_what_does_not_come() {
    let place = Place::new();
    let served = Served::start(&place, None);
    let host = served.url.strip_prefix("http://").unwrap().to_owned();
    let answered = format!("GET /token?client_id=a HTTP/1.1\r\nhost: {host}\r\n\r\n");
    let head = format!("GET /token HTTP/1.1\r\nhost: {host}\r\n");
    let body = format!(
        "POST /token?client_id=a HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{"
    );
    let mut open = Vec::new();
    for requests in [String::new(), head.clone(), body.clone(), answered.clone() + &head, answered.clone() + &body] {
        let mut stream = served.connect();
        stream.write_all(requests.as_bytes()).unwrap();
        if requests.starts_with(&answered) {
            stream.read_exact(&mut [0; 12]).unwrap();
        }
        open.push(stream);
    }
    let start = Instant::now();
    assert_eq!(served.stop(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
}

/// What is being answered is waited for, until a second signal.
#[test]
fn a_second_signal_ends_it_at_once() {
    let place = Place::new();
    let mut served = Served::start(&place, None);
    let host = served.url.strip_prefix("http://").unwrap().to_owned();
    let lock = rusqlite::Connection::open(place.path().join("tokens.db")).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let pair = r#"{"data":{"access_token":"a","refresh_token":"r"}}"#;
    let mut stream = served.connect();
    let length = pair.len();
    let head = format!(
        "POST /token?client_id=a HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {length}"
    );
    write!(stream, "{head}\r\nexpect: 100-continue\r\n\r\n").unwrap();
    let mut told = [0; 21];
    stream.read_exact(&mut told).unwrap();
    assert_eq!(&told, b"HTTP/1.1 100 Continue", "it waits for the body");
    stream.write_all(pair.as_bytes()).unwrap();
    served.signal("-TERM");
    let start = Instant::now();
    while TcpStream::connect(&host).is_ok() {
        assert!(start.elapsed() < PATIENCE, "it goes on listening");
    }
    assert!(served.child.try_wait().unwrap().is_none(), "a call is under way");
    served.signal("-TERM");
    assert_eq!(served.child.wait().unwrap().code(), Some(1));
    lock.execute_batch("ROLLBACK").unwrap();
}

/// Of certificates there is nothing to verify a plain store by, and nothing to verify.
#[test]
fn a_plain_store_needs_no_certificates() {
    let served_from = Place::new();
    let served = Served::start(&served_from, None);
    let place = Place::ready(&json!({ "database-api-url": served.url }));
    let none = served_from.path().join("none");
    let without = |place: &Place, words: &[&str]| {
        place.command(words).env("SSL_CERT_FILE", &none).env("SSL_CERT_DIR", &none).output().unwrap()
    };
    let checked = without(&place, &["check"]);
    assert_eq!(checked.status.code(), Some(0), "{}{}", stdout(&checked), stderr(&checked));
    assert!(stdout(&checked).contains("; answers)"));
    let tested = without(&place, &["store", "test", &served.url]);
    assert_eq!(tested.status.code(), Some(0), "{}{}", stdout(&tested), stderr(&tested));
    let over_tls = Place::ready(&json!({ "database-api-url": "https://127.0.0.1:1" }));
    let checked = without(&over_tls, &["check"]);
    let told = stdout(&checked);
    assert_eq!(checked.status.code(), Some(1), "{told}");
    assert!(told.contains("ca-certificates") && told.contains("SSL_CERT_FILE"), "{told}");
    assert!(!told.contains("write \"http"), "{told}");
    served.stop();
}
