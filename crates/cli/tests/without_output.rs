//! Requests are answered, whatever becomes of what the program writes.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

#[path = "../../../tests/it/support/process.rs"]
mod process;

use process::{Server, Sink};

/// Takes the tables away, as no program does.
fn spoil_database(server: &Server) {
    let database = rusqlite::Connection::open(server.place.path().join("fastauth.db")).unwrap();
    let mut tables = database.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").unwrap();
    let tables: Vec<String> = tables.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    for table in tables.iter().filter(|table| !table.starts_with("sqlite_")) {
        database.execute_batch(&format!("DROP TABLE {table}")).unwrap();
    }
}

#[test]
fn a_served_store_answers_while_nothing_can_be_written() {
    for sink in [Sink::Full, Sink::Closed, Sink::Unread] {
        let server = Server::start(Path::new(env!("CARGO_BIN_EXE_fastauth")), &["store", "serve", "--listen"], sink);
        let pair = r#"{"data":{"access_token":"a","refresh_token":"r"}}"#;
        let written = server.send("POST", "/token?client_id=c", &[("content-type", "application/json")], pair);
        assert_eq!(written.0, 200, "{sink:?}: {written:?}");
        for _ in 0..500 {
            let (status, body) = server.send("GET", "/token?client_id=c", &[], "");
            assert!(status == 200 && body.contains(r#""a""#), "{sink:?}: {status} {body}");
        }
        // What is logged of a request is that the store failed.
        spoil_database(&server);
        for _ in 0..500 {
            assert!(server.send("GET", "/token?client_id=c", &[], "").0 >= 500, "{sink:?}");
        }
    }
}
