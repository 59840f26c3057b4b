//! Keys that are changed, and sessions that are listed and revoked.

use super::*;

/// From a key in `.env` to its successor, with the log-ins that hold the old one back.
#[test]
fn keys_are_rotated_and_retired() {
    let place = Place::ready(&json!({}));
    let before = place.env_value("CRYPTOGRAPHY_KEY");
    let first = keys(&place);
    assert_eq!((first.len(), &first[0]["role"], &first[0]["live_sessions"]), (1, &json!("signs"), &json!(0)));
    assert!(!place.path().join("fastauth.db").exists(), "listing makes nothing");
    let issued = issue(&place, "c");

    let output = place.run(&["keys", "rotate", "--signs-in", "1h"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let (told, after) = (stderr(&output), place.env_value("CRYPTOGRAPHY_KEY"));
    assert!(told.contains("restart every node before then") && told.contains(kid(&first[0])), "{told}");
    assert!(!told.contains(&before) && !told.contains(&after) && before != after, "{told}");
    assert_eq!(place.env_value("PREVIOUS_CRYPTOGRAPHY_KEYS"), before);
    let waiting = keys(&place);
    assert_eq!((&waiting[0]["role"], &waiting[1]["role"]), (&json!("signs-from"), &json!("signs")));
    assert!(waiting[0]["signs_from"].as_str().unwrap().ends_with('Z'));
    assert_eq!((kid(&waiting[1]), &waiting[1]["live_sessions"]), (kid(&first[0]), &json!(1)));
    let text = place.done(&["keys", "list"]);
    assert!(text.contains("signs from 20") && text.contains("1 session live"), "{text}");
    assert!(!text.contains(&before) && !text.contains(&after));
    let refusal = place.fails(&["keys", "rotate"], 1);
    let remedy = ".env, variable CRYPTOGRAPHY_KEY_SIGNS_FROM) and restart every node";
    assert!(refusal.contains("remove `cryptography-key-signs-from` (") && refusal.contains(remedy), "{refusal}");
    assert!(place.fails(&["keys", "retire", kid(&first[0])], 1).contains("rotate first"));

    place.done(&["keys", "rotate", "--now"]);
    assert!(!fs::read_to_string(place.path().join(".env")).unwrap().contains("SIGNS_FROM"));
    let refusal = place.fails(&["keys", "retire", kid(&first[0])], 1);
    assert!(refusal.contains("1 session live with tokens of") && refusal.contains("--force"), "{refusal}");
    // Nobody has a token of the one that never signed.
    place.done(&["keys", "retire", kid(&waiting[0])]);
    renew(&place, &issued);
    place.done(&["keys", "retire", kid(&first[0])]);
    let left = keys(&place);
    assert_eq!((left.len(), &left[0]["role"], &left[0]["live_sessions"]), (1, &json!("signs"), &json!(1)));
    assert!(place.fails(&["keys", "retire", kid(&left[0])], 1).contains("the key that signs"));
    assert!(place.fails(&["keys", "retire", "nobody"], 1).contains("no configured key has the id nobody"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(place.path().join(".env")).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

/// A leaked key goes at once, and what it signed is refused.
#[test]
fn a_leaked_key_is_taken_out() {
    let place = Place::ready(&json!({}));
    let issued = issue(&place, "c");
    let leaked = keys(&place);
    place.done(&["keys", "rotate", "--now"]);
    let access = issued["access_token"].as_str().unwrap();
    place.done(&["token", "decode", access]);
    place.done(&["keys", "retire", "--force", kid(&leaked[0])]);
    assert!(place.fails(&["token", "decode", access], 1).contains("the signature does not match"));
    let output = place.run(&["keys", "list"]);
    assert!(stderr(&output).contains("1 session live whose tokens are of"), "{}", stderr(&output));
    // An application may know it from a file that held it before.
    assert!(stderr(&output).contains("which is not configured here\n"), "{}", stderr(&output));
    let output = place.run_with_input(&["token", "revoke", "-"], access.as_bytes());
    assert!(stderr(&output).contains("revoke its client by --client-id"), "{}", stderr(&output));
    place.done(&["token", "revoke", "--client-id", "c"]);
}

#[test]
fn keys_in_the_file_are_changed_there() {
    let key = "RkZGRkZGRkZGRkZGRkZGRkZGRkZGRkZGRkZGRkZGRkY=";
    let place = Place::ready(&json!({ "cryptography-key": key }));
    let env = fs::read_to_string(place.path().join(".env")).unwrap();
    let planned = place.done(&["keys", "rotate", "--print"]);
    assert!(planned.contains(&format!("\"previous-cryptography-keys\": [\"{key}\"],")), "{planned}");
    assert_eq!(keys(&place).len(), 1, "it was printed, and not written");
    place.done(&["keys", "rotate"]);
    let config: Value = serde_json::from_slice(&fs::read(place.path().join("fastauth.config.json")).unwrap()).unwrap();
    assert_eq!(config["previous-cryptography-keys"], json!([key]));
    assert_ne!(config["cryptography-key"], json!(key));
    assert!(config["cryptography-key-signs-from"].is_string(), "{config}");
    assert_eq!(fs::read_to_string(place.path().join(".env")).unwrap(), env);
    place.done(&["check"]);
}

#[test]
fn keys_in_the_environment_are_told_and_not_changed() {
    let place = Place::ready(&json!({}));
    let before = place.env_value("CRYPTOGRAPHY_KEY");
    let key = "RUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUU=";
    let run = |words: &[&str]| place.command(words).env("FASTAUTH_CRYPTOGRAPHY_KEY", key).output().unwrap();
    let output = run(&["keys", "rotate"]);
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.contains("FASTAUTH_CRYPTOGRAPHY_KEY=…") && told.contains("SIGNS_FROM=20") && told.contains("--print"),
        "{told}"
    );
    assert!(!told.contains(key) && stdout(&output).is_empty(), "{told}");
    let output = run(&["keys", "rotate", "--print"]);
    let printed = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let values: Vec<_> = printed.lines().map(|line| line.split_once('=').unwrap()).collect();
    assert_eq!(values[1], ("FASTAUTH_PREVIOUS_CRYPTOGRAPHY_KEYS", key));
    assert!(!stderr(&output).contains(values[0].1) && place.env_value("CRYPTOGRAPHY_KEY") == before);
    // What was printed is what can be set.
    let mut command = place.command(&["keys", "list", "--json"]);
    let output = command.envs(values.iter().copied()).output().unwrap();
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&list["keys"][0]["role"], &list["keys"][1]["role"]), (&json!("signs-from"), &json!("signs")));
}

/// The application's database is another one, so nothing is known of its sessions.
#[test]
fn a_database_that_does_not_exist_is_named() {
    let place = Place::ready(&json!({}));
    let first = keys(&place);
    place.done(&["keys", "rotate", "--now"]);
    let missing = format!("the database {} does not exist", place.path().join("fastauth.db").display());
    for words in [
        &["token", "revoke", "--client-id", "alice"][..],
        &["token", "revoke", "--session", "s"],
        &["token", "revoke", "--all", "--yes"],
        &["token", "revoke", "x"],
        &["token", "refresh", "x"],
        &["token", "introspect", "x"],
        &["keys", "retire", kid(&first[0])],
    ] {
        let refusal = place.fails(words, 1);
        assert!(refusal.contains(&missing), "{words:?}: {refusal}");
        assert!(words[1] != "revoke" || refusal.contains("nothing was revoked"), "{refusal}");
    }
    for words in [["token", "list"], ["keys", "list"]] {
        let output = place.run(&words);
        assert_eq!(output.status.code(), Some(0), "{words:?}");
        assert!(stderr(&output).contains(&missing), "{}", stderr(&output));
    }
    assert!(!place.path().join("fastauth.db").exists(), "nothing was created");
    place.done(&["keys", "retire", "--force", kid(&first[0])]);
}

/// Mounted secrets are told by their variables, and each value goes to a file.
#[test]
fn keys_in_mounted_files_are_told_and_not_changed() {
    let place = Place::ready(&json!({}));
    let key = "RUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUU=";
    fs::write(place.path().join("key"), key).unwrap();
    for prefix in ["", "FASTAUTH_"] {
        let variables = ["CRYPTOGRAPHY_KEY", "PREVIOUS_CRYPTOGRAPHY_KEYS", "CRYPTOGRAPHY_KEY_SIGNS_FROM"]
            .map(|name| format!("{prefix}{name}_FILE"));
        let run = |words: &[&str]| place.command(words).env(&variables[0], "key").output().unwrap();
        let output = run(&["keys", "rotate"]);
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(variables.iter().all(|name| told.contains(&format!("\n  {name}: "))), "{told}");
        assert!(!told.contains(&format!("{prefix}CRYPTOGRAPHY_KEY=")) && !told.contains(key), "{told}");

        let printed = stdout(&run(&["keys", "rotate", "--print"]));
        let lines: Vec<_> = printed.lines().collect();
        assert_eq!(lines.len(), 6, "{printed}");
        let mut command = place.command(&["keys", "list", "--json"]);
        for (name, pair) in variables.iter().zip(lines.chunks(2)) {
            assert_eq!(pair[0], format!("# The file that {name} names:"));
            fs::write(place.path().join(name), format!("{}\n", pair[1])).unwrap();
            command.env(name, name);
        }
        // What was printed is what the files can hold.
        let output = command.output().unwrap();
        let list: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&list["keys"][0]["role"], &list["keys"][1]["role"]), (&json!("signs-from"), &json!("signs")));
    }
}

/// A key in a file that the configuration names: what is not in that file goes into the configuration.
#[test]
fn rotating_a_key_whose_file_is_named_in_the_configuration() {
    let place = Place::new();
    let key = "a-key-of-forty-characters-hush-hush-0123";
    fs::write(place.path().join("key"), key).unwrap();
    let config = json!({ "access-token-paths": ["/access"], "cryptography-key-file": "key" });
    fs::write(place.path().join("fastauth.config.json"), config.to_string()).unwrap();
    let list: Value = serde_json::from_slice(&place.run(&["keys", "list", "--json"]).stdout).unwrap();
    assert_eq!(list["keys"][0]["role"], "signs");
    let output = place.run(&["keys", "rotate"]);
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    for expected in
        ["cryptography-key-file: the path of a file", "\"previous-cryptography-keys\": …", "-signs-from\": \"20"]
    {
        assert!(told.contains(expected), "{expected}: {told}");
    }
    assert!(!told.contains(key), "{told}");
    let printed = stdout(&place.run(&["keys", "rotate", "--print"]));
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(lines[0], "# The file that cryptography-key-file names:", "{printed}");
    assert_eq!(lines[2], format!("\"previous-cryptography-keys\": [\"{key}\"],"), "{printed}");
    let checked = stdout(&place.run(&["check", "--offline"]));
    assert!(checked.contains("result: no faults"), "{checked}");
}

/// Where nobody can tell whose tokens are live, an earlier key is not taken out unasked.
#[test]
fn a_store_that_is_away_keeps_every_key() {
    let place = Place::ready(&json!({ "database-api-url": "http://127.0.0.1:1" }));
    let first = keys(&place);
    assert_eq!(first[0]["live_sessions"], Value::Null);
    place.done(&["keys", "rotate", "--now"]);
    let refusal = place.fails(&["keys", "retire", kid(&first[0])], 1);
    assert!(refusal.contains("cannot be reached") || refusal.contains("cannot list"), "{refusal}");
    assert_eq!(keys(&place).len(), 2);
    place.done(&["keys", "retire", kid(&first[0]), "--force"]);
    assert_eq!(keys(&place).len(), 1);
}

#[test]
fn tokens_are_listed_a_page_after_the_other() {
    let place = Place::ready(&json!({ "tokens-per-client": "many" }));
    assert!(place.done(&["token", "list"]).is_empty() && !place.path().join("fastauth.db").exists());
    for client_id in ["a1", "a1", "a2", "b\u{301}"] {
        issue(&place, client_id);
    }
    place.done(&["token", "revoke", "--client", "a2"]);
    let all = lines(&place.done(&["token", "list", "--json"]));
    let clients: Vec<_> = all.iter().map(|entry| entry["client_id"].as_str().unwrap()).collect();
    assert_eq!(clients, ["a1", "a1", "a2", "b\u{301}"]);
    assert_eq!((&all[2]["status"], &all[0]["kid"]), (&json!("revoked"), &keys(&place)[0]["kid"]));
    for (words, count) in [
        (&["--client-id", "a1"][..], 2),
        (&["--client", "a"], 0),
        (&["--prefix", "a"], 3),
        (&["--prefix", "a", "--status", "live"], 2),
        (&["--status", "revoked"], 1),
        (&["--status", "reused"], 0),
    ] {
        let words: Vec<_> = ["token", "list", "--json"].iter().chain(words).copied().collect();
        assert_eq!(lines(&place.done(&words)).len(), count, "{words:?}");
    }
    let table = place.done(&["token", "list", "--all"]);
    assert!(table.starts_with("CLIENT") && table.lines().count() == 5, "{table}");
    assert!(!table.contains("eyJ"), "no token is shown: {table}");
}

/// More log-ins than a page of the store has.
#[tokio::test]
async fn every_page_is_listed() {
    let place = Place::ready(&json!({}));
    issue(&place, "first");
    let store = fastauth::store::SqliteStore::open(place.path().join("fastauth.db")).unwrap();
    let save = async |number: usize| save(&store, &format!("c{number}"), "1").await;
    futures_util::future::try_join_all((0..1500).map(save)).await.unwrap();
    drop(store);
    assert_eq!(lines(&place.done(&["token", "list", "--json"])).len(), 1501);
    let list: Value = serde_json::from_str(&place.done(&["keys", "list", "--json"])).unwrap();
    assert_eq!((&list["keys"][0]["live_sessions"], &list["live_sessions_without_kid"]), (&json!(1), &json!(1500)));
    // Nobody knows which key these are of: their texts are no tokens, so none of ours.
    let first = keys(&place);
    place.done(&["keys", "rotate", "--now"]);
    place.done(&["token", "revoke", "--client-id", "first"]);
    place.done(&["keys", "retire", kid(&first[0])]);
}

/// `fastauth-api` writes no `kid`. Whether an earlier key signed what it wrote, the text tells.
#[tokio::test]
async fn pairs_that_name_no_key_hold_back_the_one_that_signed_them() {
    let place = Place::ready(&json!({}));
    let first = keys(&place);
    let of_first = issue(&place, "c");
    place.done(&["keys", "rotate", "--now"]);
    let of_second = issue(&place, "c");
    let save = async |pair: &Value| {
        let entry = |name: &str| {
            let text = pair[name].as_str().unwrap();
            TokenEntry { digest: TokenDigest::of(text), text: text.into(), expires_at: 0 }
        };
        let record = TokenRecord {
            client_id: "py".to_owned(),
            session: String::new(),
            generation: 0,
            kid: String::new(),
            access: entry("access_token"),
            refresh: entry("refresh_token"),
        };
        let store = fastauth::store::SqliteStore::open(place.path().join("fastauth.db")).unwrap();
        store.save(&record, SaveOptions::default()).await.unwrap();
    };
    save(&of_first).await;
    let refusal = place.fails(&["keys", "retire", kid(&first[0])], 1);
    assert!(refusal.contains("1 session live whose tokens name no key and may be of"), "{refusal}");
    save(&of_second).await;
    place.done(&["keys", "retire", kid(&first[0])]);
}

#[test]
fn access_tokens_are_revoked_alone() {
    let place = Place::ready(&json!({ "tokens-per-client": "many" }));
    let issued: Vec<_> = ["a", "a", "b"].map(|client_id| issue(&place, client_id)).into();
    let is_active = |pair: &Value, token: &str| {
        let answer = place.done(&["token", "introspect", pair[token].as_str().unwrap()]);
        serde_json::from_str::<Value>(&answer).unwrap()["active"] == true
    };
    let session = issued[0]["session"].as_str().unwrap();
    let one = place.done(&["token", "revoke", "--session", session, "--access-only"]);
    assert_eq!(one, "Revoked the access tokens of 1 session; the log-ins stay\n");
    assert!(!is_active(&issued[0], "access_token") && is_active(&issued[1], "access_token"));
    let all = place.done(&["token", "revoke", "--client-id", "a", "--access-only"]);
    assert_eq!(all, "Revoked the access tokens of 2 sessions; the log-ins stay\n");
    for pair in &issued[..2] {
        assert!(!is_active(pair, "access_token") && is_active(pair, "refresh_token"));
        let refreshed = place.done(&["token", "refresh", pair["refresh_token"].as_str().unwrap()]);
        assert!(is_active(&serde_json::from_str(&refreshed).unwrap(), "access_token"));
    }
    assert!(is_active(&issued[2], "access_token"));
    let refusal = place.fails(&["token", "revoke", "--client-id", "nobody", "--access-only"], 1);
    assert!(refusal.contains("nothing was revoked: the store has no session of the client `nobody`"), "{refusal}");
    for words in [&["--all"][..], &["x"]] {
        place.fails(&[&["token", "revoke", "--access-only"], words].concat(), 2);
    }
}

#[test]
fn tokens_are_revoked_in_every_way() {
    let place = Place::ready(&json!({ "tokens-per-client": "many" }));
    let issued: Vec<_> = ["a", "a", "b", "b", "c"].map(|client_id| issue(&place, client_id)).into();
    let sessions = |client_id: &str| -> Vec<String> {
        let live = place.done(&["token", "list", "--json", "--client-id", client_id, "--status", "live"]);
        lines(&live).iter().map(|entry| entry["session"].as_str().unwrap().to_owned()).collect()
    };
    let of_a = sessions("a");
    assert_eq!(place.done(&["token", "revoke", "--client-id", "a", "--session", &of_a[0]]), "Revoked 1 session\n");
    assert_eq!(sessions("a"), of_a[1..]);
    let of_b = sessions("b");
    let both = place.done(&["token", "revoke", "--session", &of_a[1], "--session", &of_b[0]]);
    assert_eq!(both, "Revoked 2 sessions\n");
    assert!(place.fails(&["token", "revoke", "--session", "nobody's"], 1).contains("no session is named"));
    assert_eq!(place.done(&["token", "revoke", "--client", "b"]), "Revoked 1 session\n");
    assert_eq!(place.done(&["token", "revoke", "--client", "b"]), "Revoked 0 sessions\n");
    let refusal = place.fails(&["token", "revoke", "alice-hush"], 1);
    let hint = "nothing was revoked: this is not a token; name a client by --client-id, or a session by --session";
    assert!(refusal.contains(hint) && !refusal.contains("hush"), "{refusal}");
    let refusal = place.fails(&["token", "revoke", "--client", "nobody"], 1);
    assert!(refusal.contains("nothing was revoked: the store has no session of the client `nobody`"), "{refusal}");
    let refusal = place.fails(&["token", "revoke", "--client", "c", "--session", &of_b[0]], 1);
    assert!(refusal.contains("nothing was revoked: no session of the client `c` is named"), "{refusal}");

    let refresh = issued[4]["refresh_token"].as_str().unwrap();
    assert!(place.done(&["token", "introspect", refresh]).contains("\"active\": true"));
    let output = place.run_with_input(&["token", "revoke", "-"], format!("{refresh}\n").as_bytes());
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "Revoked 1 session\n"));
    assert_eq!(
        serde_json::from_str::<Value>(&place.done(&["token", "introspect", refresh])).unwrap(),
        json!({ "active": false })
    );
    let again = place.fails(&["token", "revoke", refresh], 1);
    assert!(again.contains("nothing was revoked") && !again.contains(refresh), "{again}");

    issue(&place, "d");
    let refusal = place.fails(&["token", "revoke", "--all"], 1);
    assert!(refusal.contains("--yes"), "{refusal}");
    assert_eq!(sessions("d").len(), 1);
    assert_eq!(place.done(&["token", "revoke", "--all", "--yes"]), "Revoked 1 session\n");
    assert!(sessions("d").is_empty());
    place.fails(&["token", "revoke"], 2);
    place.fails(&["token", "revoke", "--all", "--client-id", "a"], 2);
    place.fails(&["token", "revoke", refresh, "--all"], 2);
}
