//! `store serve` on a PostgreSQL database.

use super::*;

#[allow(dead_code, reason = "the tests of the store use more of it")]
#[path = "../../../../tests/it/support/postgres.rs"]
mod server;

/// Serves a database whose address is in a file, and returns the server with its log.
fn serve(place: &Place, url: &str, words: &[&str]) -> Served {
    fs::write(place.path().join("database"), format!("{url}\n")).unwrap();
    let mut command =
        place.command(&["store", "serve", "--listen", "127.0.0.1:0", "--database-file", "database", "-v"]);
    let log = fs::File::create(place.path().join("log")).unwrap();
    let mut child = command.args(words).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    Served { child, url: line.trim().strip_prefix("Listening on ").unwrap().to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_servers_share_a_database_and_show_no_password() {
    let Some(url) = server::database() else { return };
    let url = url.replace("fastauth@", "fastauth:hush@");
    let places = [Place::new(), Place::new()];
    let servers = [serve(&places[0], &url, &[]), serve(&places[1], &url, &["--feed", "poll"])];
    let stores = servers.each_ref().map(|served| RestStore::new(&served.url, http::HeaderMap::new()).unwrap());
    save(&stores[0], "a", "one").await.unwrap();
    assert_eq!(held(&stores[1], "a").await.as_deref(), Some("one"));
    let tested = places[0].done(&["store", "test", &servers[1].url]);
    assert!(tested.contains("The store speaks v2") && tested.contains(" 0 broken"), "{tested}");
    let said = places[0].done(&["store", "reset-feed", "--database", &url]);
    assert!(said.contains("forget what they know") && !said.contains("hush"), "{said}");
    for (place, served) in places.iter().zip(servers) {
        assert_eq!(served.stop(), Some(0));
        let log = fs::read_to_string(place.path().join("log")).unwrap();
        assert!(log.contains("postgres://") && !log.contains("hush"), "{log}");
    }
}

#[test]
fn address_that_is_of_no_use_is_refused_without_its_password() {
    let place = Place::new();
    for (address, complaint) in [
        ("postgres://u:hush@127.0.0.1:1/x", "cannot be reached"),
        ("postgres://u:hush@127.0.0.1:1/x?sslmode=maybe", "sslmode"),
        ("postgres://u@127.0.0.1:hush/x", "cannot be read"),
        ("sqlite:file:hush", "is not a database"),
        ("", "must have one line"),
        ("a\nhush", "must have one line"),
    ] {
        fs::write(place.path().join("database"), address).unwrap();
        let words = ["store", "serve", "--listen", "127.0.0.1:0", "--database-file", "database"];
        let error = place.fails(&words, 1);
        assert!(error.contains(complaint) && !error.contains("hush"), "{address:?}: {error}");
    }
    let words = ["store", "serve", "--listen", "127.0.0.1:0", "--database-file", "database", "--database", "x.db"];
    place.fails(&words, 2);
    place.fails(&["store", "serve", "--listen", "127.0.0.1:0", "--database-file", "missing"], 1);
}

#[test]
fn password_can_be_in_its_own_variable() {
    let place = Place::new();
    let words = ["store", "serve", "--listen", "127.0.0.1:0", "--database", "postgres://u@127.0.0.1:1/x"];
    let output = place.command(&words).env("PGPASSWORD", "hush").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("postgres://127.0.0.1:1/x") && !stderr(&output).contains("hush"));
}
