//! Values that are not there, or not what was written: nothing of that opens anything, or is lost without a word.

use std::{
    error::Error,
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use fastauth::{
    FastAuthLayer, IssueErrorKind, Settings, TokenType,
    config::{EnvFile, EnvFileError, KeyChangeError},
    store::{MemoryStore, SqliteStore, StoreError, StoreErrorKind},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    app::Endpoints,
    config::{KEY, MASTER, Place, good, with, without},
};

/// The names of all keys, as a report lists them.
fn all_keys() -> Vec<&'static str> {
    Place::new(&good()).builder(&[]).report().entries().iter().map(|entry| entry.key).collect()
}

/// Whether this master token opens what it is for.
async fn issues(place: &Place, token: &str) -> bool {
    let settings = place.builder(&[]).store(MemoryStore::new()).load().unwrap();
    let server = Endpoints::of(&FastAuthLayer::new(settings).unwrap()).await;
    server.send("POST", "/auth/token/new", &[("master-token", token)], "").await.status == 200
}

#[test]
fn null_is_a_fault_for_every_key() {
    let keys = all_keys();
    assert!(keys.len() > 30);
    for key in keys.into_iter().chain(["database_api_path", "log-lv"]) {
        for spelling in [key.to_owned(), key.replace('-', "_")] {
            let mut config = without(key);
            config[&spelling] = Value::Null;
            let message = Place::new(&config).faults(&[]);
            assert!(message.contains("found null; give it a value, or remove the key"), "{spelling}: {message}");
        }
    }
    for (key, value, expected) in [
        ("access-token-paths", json!(["/a", null]), "found null in the list"),
        ("public-paths", json!([null]), "found null in the list"),
        ("allowed-origins", json!([null]), "found null in the list"),
        ("previous-cryptography-keys", json!([null]), "found null in the list"),
        ("master-tokens", json!({ "ops": null }), "found null as the value of `ops`"),
        ("headers", json!({ "X-A": null }), "found null as the value of `X-A`"),
    ] {
        let message = Place::new(&with(key, value)).faults(&[]);
        assert!(message.contains(expected), "{key}: {message}");
    }
}

/// A file that says nothing of paths does not say that all are open.
#[test]
fn a_file_without_path_lists_is_a_fault() {
    let mut config = good();
    config.as_object_mut().unwrap().retain(|key, _| !key.ends_with("-token-paths"));
    let message = Place::new(&config).faults(&[]);
    let expected = "`rules`: neither it nor `access-token-paths` or `master-token-paths` is set, so no path would be guarded; \
                    write rules, or list the prefixes to guard, or write []";
    assert!(message.contains(expected) && message.contains("1 fault in"), "{message}");
    assert!(Place::new(&json!({})).faults(&[("CRYPTOGRAPHY_KEY", KEY)]).contains(expected));
    // Code may name them, and an empty list says so.
    Place::new(&config).builder(&[]).access_token_paths(["/access"]).load().unwrap();
    config["master_token-paths"] = json!([]);
    assert!(Place::new(&config).load(&[]).unwrap().warnings().concat().contains("both path lists are empty"));
}

/// As systemd, Docker and Kubernetes mount secrets.
#[test]
fn secret_is_read_from_the_file_that_a_variable_names() {
    let mut config = without("master-token");
    config.as_object_mut().unwrap().remove("cryptography-key");
    let place = Place::new(&config);
    place.write("key", &format!("{KEY}\r\n"));
    place.write("master", MASTER);
    let path = |name: &str| place.path().join(name).display().to_string();
    let (key, master) = (path("key"), path("master"));
    let files = [("CRYPTOGRAPHY_KEY_FILE", key.as_str()), ("FASTAUTH_MASTER_TOKEN_FILE", "master")];
    let settings = place.load(&files).unwrap();
    assert!(settings.warnings().is_empty(), "{:?}", settings.warnings());
    let listed = |environment: &[(&str, &str)]| place.builder(environment).report().keys().unwrap().list();
    assert_eq!(listed(&files), listed(&[("CRYPTOGRAPHY_KEY", KEY), ("MASTER_TOKEN", MASTER)]));
    let source = place.source(&files, "cryptography-key").to_string();
    assert_eq!(source, format!("{key}, named by CRYPTOGRAPHY_KEY_FILE"));

    // As the variables without the ending, each in its place among the sources.
    assert!(place.source(&files, "master-token").to_string().ends_with("master, named by FASTAUTH_MASTER_TOKEN_FILE"));
    place.write(".env", "MASTER_TOKEN=another-master-token\n");
    let of_env = [files[0], ("MASTER_TOKEN_FILE", master.as_str())];
    assert!(place.source(&of_env, "master-token").to_string().ends_with("named by MASTER_TOKEN_FILE"));

    let both = place.faults(&[files[0], ("MASTER_TOKEN", MASTER), ("MASTER_TOKEN_FILE", &master)]);
    assert!(both.contains("variable MASTER_TOKEN_FILE: MASTER_TOKEN is set, too; unset one of them"), "{both}");
    let both = place.faults(&[files[0], files[1], ("FASTAUTH_MASTER_TOKEN", MASTER)]);
    assert!(both.contains("FASTAUTH_MASTER_TOKEN_FILE: FASTAUTH_MASTER_TOKEN is set, too"), "{both}");
    for (file, problem) in [("nothing", "entity not found"), ("", "it is a directory")] {
        let file = path(file);
        let message = place.faults(&[files[1], ("CRYPTOGRAPHY_KEY_FILE", &file)]);
        let expected = format!("variable CRYPTOGRAPHY_KEY_FILE: the file {file} cannot be read ({problem}");
        assert!(message.contains(&expected), "{message}");
    }
    place.write("key", "\n");
    let message = place.faults(&files);
    assert!(message.contains(&format!("{key}, named by CRYPTOGRAPHY_KEY_FILE: it is empty")), "{message}");
    place.write("key", &format!("{KEY}\nsecond line"));
    let message = place.faults(&files);
    assert!(message.contains("it has a line break") && !message.contains("hush"), "{message}");
}

#[cfg(unix)]
#[test]
fn secret_file_that_every_user_can_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new(&without("cryptography-key"));
    place.write("key", KEY);
    fs::set_permissions(place.path().join("key"), fs::Permissions::from_mode(0o644)).unwrap();
    let settings = place.load(&[("CRYPTOGRAPHY_KEY_FILE", "key")]).unwrap();
    let warnings = settings.warnings().concat();
    assert!(warnings.contains("/key: every user of this machine can read it"), "{warnings}");
}

/// Nothing can write a mounted secret: what to set is printed.
#[test]
fn keys_in_files_are_rotated_by_hand() {
    let place = Place::new(&without("cryptography-key"));
    place.write("key", KEY);
    let keys = place.builder(&[("CRYPTOGRAPHY_KEY_FILE", "key")]).report().keys().unwrap().clone();
    let change = keys.rotate(None).unwrap();
    assert!(matches!(change.write(), Err(KeyChangeError::Unwritable(_))));
    let settings = change.settings();
    assert_eq!(settings[0].name, "CRYPTOGRAPHY_KEY_FILE");
    assert_eq!((settings[1].name.as_str(), &settings[1].value), ("PREVIOUS_CRYPTOGRAPHY_KEYS_FILE", &Some(KEY.into())));
    assert!(settings.iter().all(|setting| setting.is_in_file));
    assert_eq!(fs::read_to_string(place.path().join("key")).unwrap(), KEY);
}

/// A variable that somebody meant to set, and that came out empty.
#[test]
fn an_empty_variable_opens_nothing() {
    let place = Place::new(&good());
    for key in all_keys() {
        let name = format!("FASTAUTH_{}", key.replace('-', "_").to_ascii_uppercase());
        for empty in ["", "\n"] {
            match place.load(&[(&name, empty)]) {
                // An empty list takes the earlier keys away.
                Ok(_) => assert_eq!(key, "previous-cryptography-keys", "{empty:?}"),
                Err(error) => assert!(error.to_string().contains(&name), "{error}"),
            }
        }
    }
    let place = Place::new(&without("master-token"));
    assert!(place.faults(&[("MASTER_TOKEN", "")]).contains("environment variable MASTER_TOKEN: it is empty"));
    for empty in ["", "\n"] {
        let message = place.faults(&[("FASTAUTH_CONFIG", empty)]);
        assert!(message.contains("variable FASTAUTH_CONFIG: the path of the configuration file is empty"), "{message}");
    }
    let message = place.builder(&[]).config_file("").load().unwrap_err().to_string();
    assert!(message.contains("code: the path of the configuration file is empty"), "{message}");
}

/// What was written is what is read, or the start says which line is at fault.
#[tokio::test]
async fn a_secret_in_an_env_file_is_taken_as_it_is_written() {
    let place = Place::new(&without("master-token"));
    let secret = "s3cret-hush$tr0ng$passw0rd-of-the-ops";
    place.write(".env", &format!("OTHER=$HOME\nMASTER_TOKEN='{secret}' # of the ops\n"));
    assert!(issues(&place, secret).await);
    assert!(!issues(&place, "s3cret-hush-of-the-ops").await && !issues(&place, "s3cret-hush").await);
    for (text, line, problem) in [
        (format!("OTHER=1\nMASTER_TOKEN={secret}\n"), 2, "has a character outside of single quotes"),
        (format!("MASTER_TOKEN=\"{secret}\"\n"), 1, "has a character outside of single quotes"),
        ("MASTER_TOKEN=hush\\$hush\n".to_owned(), 1, "has a character outside of single quotes"),
        ("MASTER_TOKEN=hu'sh'\n".to_owned(), 1, "has a character outside of single quotes"),
        ("MASTER_TOKEN=hush hush\n".to_owned(), 1, "has text after its value"),
        ("MASTER_TOKEN: hush\n".to_owned(), 1, "is not NAME=value"),
        ("A=1\nMASTER_TOKEN=\"hush\nhush\"\n".to_owned(), 2, "opens quotes that are not closed on it"),
        ("A=\"1\n2\nMASTER_TOKEN=hush\n\"\n".to_owned(), 3, "is inside the quotes that line 1 opens"),
        ("MASTER_TOKEN=hush;hush\n".to_owned(), 1, "has a character outside of single quotes"),
        ("MASTER_TOKEN=hush#hush\n".to_owned(), 1, "has a character outside of single quotes"),
        ("FOO=bar\\\nMASTER_TOKEN=hush\n".to_owned(), 2, "continues line 1, which ends in a backslash"),
        ("FOO-BAR='x\nMASTER_TOKEN=hush\n'\n".to_owned(), 2, "is inside the quotes that line 1 opens"),
        ("MASTER_TOKEN=hush-1\nexport\tMASTER_TOKEN=hush-2\n".to_owned(), 2, "sets another value than an earlier line"),
    ] {
        place.write(".env", &text);
        let message = place.faults(&[]);
        let expected = format!(".env, variable MASTER_TOKEN: line {line} {problem}");
        assert!(message.contains(&expected) && !message.contains("hush"), "{text}: {message}");
        assert!(message.contains("write NAME='value' on one line") && message.contains("1 fault in"), "{message}");
        // Another source goes before it, and then it is only a warning.
        let settings = place.load(&[("FASTAUTH_MASTER_TOKEN", MASTER)]).unwrap();
        assert!(settings.warnings().concat().contains(problem), "{text}");
    }
}

/// The file is shared with others, whose lines are not ours to judge.
#[tokio::test]
async fn lines_of_other_programs_stop_nothing() {
    let place = Place::new(&without("master-token"));
    for other in [
        "NOTE=it's",
        "NOTE=it's a \"$5\" `thing`",
        "A='it''s' # don't\n# it's \"\nB=\"x\"\"y\"\nDIR=C:\\bin",
        "KEY=\"-----BEGIN\nabc\n-----END\"",
        "KEY='{\n  \"a\": 1\n}'",
        "export\tX=1\nnot an assignment\n=\n@\u{1}",
        "PRICE=$5\nURL=http://h/?MASTER_TOKEN=other",
        "# MASTER_TOKEN=other",
        "MASTER_TOKEN_2=other\nexport MASTER_TOKEN",
    ] {
        for text in [format!("{other}\nMASTER_TOKEN={MASTER}\n"), format!("\u{feff}MASTER_TOKEN={MASTER}\r\n{other}")] {
            place.write(".env", &text);
            assert!(issues(&place, MASTER).await, "{text:?}");
            assert!(place.load(&[]).unwrap().warnings().is_empty(), "{text:?}");
        }
    }
    // A comment in Latin-1, and then a value of ours.
    fs::write(place.path().join(".env"), [b"# caf\xe9\nMASTER_TOKEN=", MASTER.as_bytes()].concat()).unwrap();
    assert!(issues(&place, MASTER).await);
    fs::write(place.path().join(".env"), b"A=1\nMASTER_TOKEN=caf\xe9-hush-hush-hush-hush").unwrap();
    assert!(place.faults(&[]).contains("line 2 has a control character in its value, or is not UTF-8"));
    fs::write(place.path().join(".env"), b"\xff\xfeM\0A\0").unwrap();
    assert!(
        place
            .faults(&[])
            .contains(".env, `cryptography-key`: the file cannot be read (it is UTF-16: save it as UTF-8)")
    );
}

#[test]
fn the_env_file_beside_the_configuration_goes_first() {
    let place = Place::new(&json!({}));
    fs::create_dir(place.path().join("etc")).unwrap();
    place.write("etc/shop.json", &without("master-token").to_string());
    let shown = || {
        let report = place.builder(&[]).config_file("etc/shop.json").report();
        report.entries().iter().find(|entry| entry.key == "master-token").unwrap().source.to_string()
    };
    let message = place.builder(&[]).config_file("etc/shop.json").load().unwrap_err().to_string();
    let expected = format!("keygen --name MASTER_TOKEN --write {}", place.path().join("etc/.env").display());
    assert!(message.contains(&expected), "{message}");
    place.write(".env", &format!("MASTER_TOKEN={MASTER}\n"));
    assert_eq!(shown(), format!("{}, variable MASTER_TOKEN", place.path().join(".env").display()));
    place.write("etc/.env", &format!("MASTER_TOKEN={MASTER}\n"));
    assert_eq!(shown(), format!("{}, variable MASTER_TOKEN", place.path().join("etc/.env").display()));
}

/// A line break at the end of a variable is no part of the key, in whichever variable it stands.
#[tokio::test]
async fn keys_are_rotated_by_variables_that_end_with_a_line_break() {
    const NEXT: &str = "the-next-key-of-forty-characters-in-all-1";
    let place = Place::new(&without("cryptography-key"));
    let layer = |variables: &[(&str, &str)]| {
        FastAuthLayer::new(place.builder(variables).store(MemoryStore::new()).load().unwrap()).unwrap()
    };
    for end in ["\n", "\r\n", ""] {
        for prefix in ["", "FASTAUTH_"] {
            let (key, previous) = (format!("{prefix}CRYPTOGRAPHY_KEY"), format!("{prefix}PREVIOUS_CRYPTOGRAPHY_KEYS"));
            let (old, new) = (format!("{KEY}{end}"), format!("{NEXT}{end}"));
            let issued = layer(&[(&key, &old)]).issuer().issue("c").await.unwrap();
            let rotated = layer(&[(&key, &new), (&previous, &old)]);
            let verified = rotated.issuer().verify(issued.tokens.access_token.expose(), TokenType::Access);
            assert!(verified.is_ok(), "{key:?} {end:?}");
        }
    }
    // What else one variable would keep and another trim is a fault, wherever it stands.
    for (key, problem) in [
        (format!("{KEY}\n\n"), "has a line break"),
        (format!("\u{feff}{KEY}"), "a byte order mark"),
        (format!(" {KEY}"), "has a space at its beginning or end"),
        (format!("{KEY}\t"), "another control character"),
    ] {
        assert!(place.faults(&[("FASTAUTH_CRYPTOGRAPHY_KEY", &key)]).contains(problem), "{key:?}");
        assert!(Place::new(&with("cryptography-key", json!(key))).faults(&[]).contains(problem), "{key:?}");
        let previous = Place::new(&with("previous-cryptography-keys", json!([key]))).faults(&[]);
        assert!(previous.contains(problem), "{key:?}: {previous}");
    }
    let settings =
        place.load(&[("CRYPTOGRAPHY_KEY", KEY), ("FASTAUTH_ACCESS_TTL", "5m\n"), ("FASTAUTH_WINDOWS", "true\r\n")]);
    assert_eq!(settings.unwrap().access_ttl(), Duration::from_secs(300));
}

#[test]
fn variables_of_kubernetes_draw_no_warning() {
    let place = Place::new(&good());
    let mut variables = Vec::new();
    for service in ["FASTAUTH", "FASTAUTH_STORE", "FASTAUTH_CACHE", "FASTAUTH_ISSUER", "FASTAUTH_STORE_FORMA"] {
        for (end, value) in [
            ("SERVICE_HOST", "10.0.0.1"),
            ("SERVICE_PORT", "6789"),
            ("SERVICE_PORT_HTTP", "6789"),
            ("PORT", "tcp://10.0.0.1:6789"),
            ("PORT_6789_TCP", "tcp://10.0.0.1:6789"),
            ("PORT_6789_TCP_PROTO", "tcp"),
            ("PORT_6789_TCP_PORT", "6789"),
            ("PORT_6789_TCP_ADDR", "10.0.0.1"),
        ] {
            variables.push((format!("{service}_{end}"), value));
        }
    }
    let variables: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    assert_eq!(place.load(&variables).unwrap().warnings(), [""; 0]);
    for (typo, meant) in [
        ("FASTAUTH_STORE_FORMT", "FASTAUTH_STORE_FORMAT"),
        ("FASTAUTH_CACH", "FASTAUTH_CACHE"),
        ("FASTAUTH_SHADOWS", "FASTAUTH_SHADOW"),
        ("FASTAUTH_ISSUR", "FASTAUTH_ISSUER"),
    ] {
        let warnings = place.load(&[(typo, "x")]).unwrap().warnings().concat();
        assert!(warnings.contains(&format!("did you mean {meant}?")), "{typo}: {warnings}");
    }
    for unknown in
        ["CONFIG_FILE", "RATE_LIMIT", "ALLOWED_HOSTS", "TOKEN_PATHS", "DATABASE_URL", "app_nam_of_the_shop", ""]
    {
        let unknown = format!("FASTAUTH_{unknown}");
        let settings = place.load(&[(&unknown, "hush"), ("FASTAUTH_STORE_TOKEN", "hush")]).unwrap();
        let told =
            matches!(settings.warnings(), [one] if one.starts_with(&format!("environment variable {unknown}: ")));
        assert!(told && !settings.warnings().concat().contains("hush"), "{unknown}: {:?}", settings.warnings());
    }
}

/// A template that nobody filled in.
#[test]
fn a_placeholder_in_a_value_is_a_fault() {
    for placeholder in ["${HUSH}", "${HUSH:-x}", "$(HUSH)", "{{ .Values.hush }}", "{{hush}}"] {
        let around = format!("a-{placeholder}-b");
        for (key, value) in [
            ("issuer", json!(around)),
            ("audience", json!(placeholder)),
            ("app-name", json!(around)),
            ("database-api-url", json!(format!("http://{placeholder}/x"))),
            ("headers", json!({ "Authorization": format!("Bearer {placeholder}") })),
            ("headers", json!({ "X-A": placeholder })),
            ("master-token", json!(around)),
            ("master-tokens", json!({ "ops": around })),
            ("cryptography-key", json!(format!("{KEY}{placeholder}"))),
            ("previous-cryptography-keys", json!([format!("{KEY}{placeholder}")])),
            ("access-token-paths", json!([format!("/x/{placeholder}")])),
            ("allowed-origins", json!([format!("https://{placeholder}")])),
            ("base-path", json!(format!("/{placeholder}"))),
        ] {
            let message = Place::new(&with(key, value)).faults(&[]);
            assert!(
                message.contains("placeholder") && message.contains("1 fault in"),
                "{key} {placeholder}: {message}"
            );
            let is_secret = key.contains("key") || key.contains("token") && !key.contains("paths") || key == "headers";
            assert!(!is_secret || !message.to_lowercase().contains("hush"), "{key}: {message}");
        }
        let message = Place::new(&good()).faults(&[("FASTAUTH_ISSUER", placeholder)]);
        assert!(message.contains("FASTAUTH_ISSUER: it contains the placeholder"), "{message}");
    }
    for (key, value) in [
        ("issuer", json!("<your-issuer>")),
        ("audience", json!("%AUDIENCE%")),
        ("headers", json!({ "Authorization": "Bearer <token>" })),
        ("headers", json!({ "X-Api-Key": "changeme" })),
        ("headers", json!({ "Authorization": "Bearer $TOKEN" })),
        ("headers", json!({ "Authorization": "Bearer $token" })),
        ("headers", json!({ "Authorization": "Bearer {{ $t }}" })),
        ("headers", json!({ "Authorization": "Bearer {{- .Values.t }}" })),
        ("headers", json!({ "Authorization": "Bearer #{TOKEN}" })),
        ("headers", json!({ "Authorization": "Bearer <your token>" })),
        ("headers", json!({ "X-Api-Key": "your-api-key" })),
        ("issuer", json!("$ISSUER")),
        ("issuer", json!("https://$HOST/")),
        ("issuer", json!("https://{{- .Values.h }}/")),
        ("issuer", json!("https://<host>/")),
        ("issuer", json!("https://${1}-${HOST}/")),
        ("audience", json!("__AUDIENCE__")),
        ("audience", json!("x-[[AUDIENCE]]")),
        ("app-name", json!("{% raw %}x{% endraw %}")),
        ("allowed-origins", json!(["https://$HOST"])),
        ("master-token", json!("your-master-token-here")),
        ("master-token", json!("REPLACE_WITH_SECRET")),
        ("master-token", json!("Change-This-Please")),
        ("master-token", json!("__MASTER_TOKEN__")),
        ("master-token", json!("[[MASTER_TOKEN]]")),
        ("master-token", json!("$MASTER_TOKEN")),
        ("master-token", json!("#{MASTER_TOKEN}")),
        ("master-token", json!("{% raw %}x{% endraw %}")),
        ("master-token", json!("vault:secret/data/x#y")),
        ("master-token", json!("file:///run/secrets/master_token")),
    ] {
        let message = Place::new(&with(key, value)).faults(&[]);
        assert!(message.contains("placeholder") && message.contains("1 fault in"), "{key}: {message}");
    }
    for empty in ["", "Bearer ", "bearer"] {
        let message = Place::new(&with("headers", json!({ "Authorization": empty }))).faults(&[]);
        assert!(message.contains("the value of \"Authorization\" is empty"), "{empty:?}: {message}");
    }
    for fine in ["a$b", "cost: 5$", "{a}", "$(", "100%", "<b> and </b>s", "a__b__c", "1 < 2 > 0", "[a]"] {
        Place::new(&with("app-name", json!(fine))).load(&[]).unwrap();
    }
    // Paths have such names, and their own faults.
    Place::new(&with("access-token-paths", json!(["/__DEBUG__"]))).load(&[]).unwrap();
    for fine in ["pa$$word-of-the-ops", "your-7hQz-__x__-[[y]]", "replaced by a horse", "s3cret-<b>-$x-of-mine"] {
        Place::new(&with("master-token", json!(fine))).load(&[]).unwrap();
    }
}

#[test]
fn a_schema_for_editors_is_no_setting() {
    let config = with("$schema", json!("https://example.org/fastauth.schema.json"));
    assert_eq!(Place::new(&config).load(&[]).unwrap().warnings(), [""; 0]);
}

#[test]
fn months_are_not_minutes_and_times_are_shown_in_plain_units() {
    for key in ["access-ttl", "refresh-ttl", "refresh-grace", "cache-ttl", "websocket-recheck"] {
        for text in ["5M", "1h 5M", "5 M"] {
            let message = Place::new(&with(key, json!(text))).faults(&[]);
            assert!(message.contains("means months") && message.contains("for minutes"), "{key}: {message}");
        }
        let report = Place::new(&with(key, json!("90sec"))).builder(&[]).report();
        let shown = &report.entries().iter().find(|entry| entry.key == key).unwrap().value;
        assert_eq!(shown, "1m 30s", "{key}");
    }
    let report = Place::new(&with("refresh-ttl", json!("1year"))).builder(&[]).report();
    assert!(report.entries().iter().any(|entry| entry.key == "refresh-ttl" && entry.value == "365d 6h"));
}

#[test]
fn a_database_is_a_plain_path_or_a_fault() {
    let place = Place::new(&good());
    let absolute = place.path().join("absolute.db").display().to_string();
    for path in ["tokens.db", "./sub.db", "with space.db", "a:b.db", &absolute] {
        place.write("fastauth.config.json", &with("database-api-url", json!(format!("sqlite:{path}"))).to_string());
        let settings = place.load(&[]).unwrap();
        assert_eq!(settings.database_file(), Some(place.path().join(path).as_path()));
    }
    for path in [
        "tokens.db?mode=rwc",
        "//tokens.db",
        "///tokens.db",
        "////tmp/tokens.db",
        "file:tokens.db",
        "FILE:tokens.db?x",
        "tokens%20.db",
        "tokens.db#x",
        " tokens.db",
        "tokens/",
        "to$kens.db",
        "~/tokens.db",
        "..",
        ":memory:",
        "",
    ] {
        let message = Place::new(&with("database-api-url", json!(format!("sqlite:{path}")))).faults(&[]);
        assert!(
            message.contains("`database-api-url`: it ") && message.contains("write \"sqlite:FILE\""),
            "{path}: {message}"
        );
        assert_eq!(SqliteStore::path_in_url(&format!("sqlite:{path}")), None, "{path}");
    }
}

/// The start does not wait for whoever would write into it.
#[cfg(unix)]
#[test]
fn a_pipe_is_no_file_of_settings() {
    let pipe = |path: &Path| assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    let place = Place::new(&good());
    pipe(&place.path().join(".env"));
    assert!(
        place.load(&[]).unwrap().warnings().concat().contains("it is a pipe, a socket or a device, and not a file")
    );
    place.write("fastauth.config.json", &without("cryptography-key").to_string());
    assert!(place.faults(&[]).contains(".env, `cryptography-key`: the file cannot be read (it is a pipe"));
    assert!(EnvFile::new(place.path().join(".env")).contains("X").unwrap_err().to_string().contains("it is a pipe"));
    pipe(&place.path().join("pipe.json"));
    assert!(
        place.faults(&[("FASTAUTH_CONFIG", "pipe.json")]).contains("pipe.json: the file cannot be read (it is a pipe")
    );
    let directory = place.path().display().to_string();
    assert!(place.faults(&[("FASTAUTH_CONFIG", &directory)]).contains("it is a directory, and not a file"));
}

/// Secrets that every user of the machine can read are warned of, and those that some can read by a group are not.
#[cfg(unix)]
#[test]
fn secrets_that_others_can_read_are_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new(&json!({ "access-token-paths": ["/access"] }));
    place.write(".env", &format!("CRYPTOGRAPHY_KEY={KEY}\nMASTER_TOKEN={MASTER}\n"));
    place.write("fastauth.db", "");
    let mode = |name: &str, mode: u32| {
        fs::set_permissions(place.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    for name in ["fastauth.config.json", ".env", "fastauth.db"] {
        mode(name, 0o640);
    }
    let warnings = || place.load(&[]).unwrap().warnings().to_vec();
    assert_eq!(warnings(), [""; 0]);
    // There is no secret in it, but what is guarded is.
    mode("fastauth.config.json", 0o666);
    let expected =
        "fastauth.config.json: every user of this machine can change it, and it says what is guarded; run `chmod o= ";
    assert!(matches!(&warnings()[..], [one] if one.contains(expected)), "{:?}", warnings());
    mode("fastauth.config.json", 0o644);
    assert_eq!(warnings(), [""; 0]);
    for (name, of_others, verb) in [(".env", 0o644, "read"), ("fastauth.db", 0o644, "read"), (".env", 0o602, "change")]
    {
        mode(name, of_others);
        let path = place.path().join(name);
        let expected = format!("{}: every user of this machine can {verb} it", path.display());
        assert!(matches!(&warnings()[..], [one] if one.starts_with(&expected)), "{:?}", warnings());
        mode(name, 0o600);
    }
    // In a directory that all can write to, unless each file is its owner's.
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(warnings().iter().all(|warning| warning.contains("every user of this machine can replace it")));
    assert_eq!(warnings().len(), 3, "of the secrets, the database and the path lists");
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    assert_eq!(warnings(), [""; 0]);
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o700)).unwrap();
    place.write("fastauth.config.json", &good().to_string());
    mode("fastauth.config.json", 0o644);
    assert!(matches!(&warnings()[..], [one] if one.contains("fastauth.config.json: every user")), "{:?}", warnings());
    let headers = json!({ "access-token-paths": ["/access"], "headers": { "X-Store": "x" }, "database-api-url": "http://127.0.0.1:1" });
    place.write("fastauth.config.json", &headers.to_string());
    mode("fastauth.config.json", 0o644);
    assert!(matches!(&warnings()[..], [one] if one.contains("fastauth.config.json: every user")), "{:?}", warnings());
}

#[test]
fn headers_in_the_clear_are_warned_of() {
    for (url, warns) in [
        ("http://store.example:6789", true),
        ("HTTP://10.0.0.7/x", true),
        ("http://[2001:db8::1]:6789", true),
        ("http://localhost.example", true),
        ("https://store.example", false),
        ("http://127.0.0.1:6789", false),
        ("http://127.8.9.1", false),
        ("http://LocalHost:6789", false),
        ("http://[::1]:6789", false),
    ] {
        let builder = Settings::builder().cryptography_key(KEY).master_token(MASTER).access_token_paths(["/access"]);
        let builder = builder.database_api_url(url);
        let told = |builder: fastauth::SettingsBuilder| {
            builder.build().unwrap().warnings().iter().any(|warning| warning.contains("over http://"))
        };
        assert_eq!(told(builder.clone().headers([("X-Store", "x")])), warns, "{url}");
        assert!(!told(builder), "{url}");
    }
}

/// What `fn main() -> Result<(), Box<dyn Error>>` prints of an error is for people to read.
#[test]
fn errors_are_shown_alike_by_debug_and_display() {
    let trouble = || StoreError::new(StoreErrorKind::Failed, "it is away").caused_by("the cause");
    let place = Place::new(&with("access-ttl", json!("soon")));
    let config = place.load(&[]).unwrap_err();
    let text = config.to_string();
    let boxed: Box<dyn Error> = config.into();
    assert_eq!(format!("{boxed:?}"), text);
    let keys = Place::new(&good()).builder(&[]).report().keys().unwrap().clone();
    let unknown: KeyChangeError = keys.retire("nobody").unwrap_err();
    assert_eq!(format!("{unknown:?}"), unknown.to_string());
    let directory = TempDir::new().unwrap();
    let unreadable: EnvFileError = EnvFile::new(directory.path()).contains("X").unwrap_err();
    assert_eq!(format!("{unreadable:?}"), unreadable.to_string());
    assert_eq!(format!("{:?}", trouble()), "it is away: the cause");
    assert_eq!(
        format!("{:?}", IssueErrorKind::Store(trouble())),
        "the token store is unavailable: it is away: the cause"
    );
    assert_eq!(format!("{:?}", fastauth::ClientIdError::Empty), "a client id must not be empty");
    assert_eq!(format!("{:?}", fastauth::TokenError::Expired), fastauth::TokenError::Expired.to_string());
}

/// The writer and the reader are one: what was set is read, whatever stood in the file.
#[test]
fn a_value_that_was_written_is_read_back() {
    let place = Place::new(&without("master-token"));
    let file = EnvFile::new(place.path().join(".env"));
    let written = || fs::read_to_string(file.path()).unwrap();
    for (before, after) in [
        ("export\tMASTER_TOKEN=hush-leaked\n", "export\tMASTER_TOKEN='new$one'\n"),
        ("\u{feff}MASTER_TOKEN=a # why\r\nB=1\r\n", "\u{feff}MASTER_TOKEN='new$one' # why\r\nB=1\r\n"),
        ("MASTER_TOKEN=a$b\n MASTER_TOKEN = c\nB=it's", "MASTER_TOKEN='new$one'\nB=it's"),
        ("MASTER_TOKEN: a\nexport MASTER_TOKEN\n", "MASTER_TOKEN='new$one'\nexport MASTER_TOKEN\n"),
        ("export A=1", "export A=1\nexport MASTER_TOKEN='new$one'\n"),
        ("A=\"x\ny\"\n", "A=\"x\ny\"\nMASTER_TOKEN='new$one'\n"),
    ] {
        place.write(".env", before);
        file.set("MASTER_TOKEN", &"new$one".into()).unwrap();
        assert_eq!(written(), after);
        assert!(!file.set_if_missing("MASTER_TOKEN", &"other".into()).unwrap());
        assert_eq!(written(), after);
        let others =
            dotenvy::from_read_iter(after.trim_start_matches('\u{feff}').split("it's").next().unwrap().as_bytes());
        let others: Vec<_> = others.filter_map(Result::ok).filter(|(name, _)| name == "MASTER_TOKEN").collect();
        assert!(others.iter().all(|(_, value)| value == "new$one") && !others.is_empty(), "{after:?}: {others:?}");
        place.load(&[]).unwrap();
    }
    for before in ["MASTER_TOKEN=\"a\nb\"\n", "A='x\nMASTER_TOKEN=a\n'\n", "A=\"never closed\n"] {
        place.write(".env", before);
        let error = file.set("MASTER_TOKEN", &"new".into()).unwrap_err().to_string();
        assert!(error.contains("nothing was written: edit the line by hand"), "{error}");
        assert_eq!(written(), before);
    }
    // A value over several lines, in whichever form: what stands in it is not read, and a new secret does not go into it.
    for before in [
        "FOO-BAR='x\nMASTER_TOKEN=inner\n'\n",
        "FOO: 'x\nMASTER_TOKEN=inner\n'\n",
        "FOO='it''s\nMASTER_TOKEN=inner\n'\n",
        "FOO='it\\'s\nMASTER_TOKEN=inner\n'\n",
        "FOO=\"x\" \"y\nMASTER_TOKEN=inner\n\"\n",
        "FOO=\"x\ny\" \"z\nMASTER_TOKEN=inner\n\"\n",
        "FOO=\"x\ny \\\"\nMASTER_TOKEN=inner\n\"\n",
        "FOO[0]='x\nMASTER_TOKEN=inner\n'\n",
        "FOO=bar\\\nMASTER_TOKEN=inner\n",
        "FOO=\\\nbar\\\r\nMASTER_TOKEN=inner\n",
        "MASTER_TOKEN='x' 'inner\ny'\n",
        "MASTER_TOKEN=inner\\\ny\n",
    ] {
        place.write(".env", before);
        let message = place.faults(&[]);
        assert!(message.contains(".env, variable MASTER_TOKEN: line"), "{before:?}: {message}");
        let error = file.set("MASTER_TOKEN", &"new".into()).unwrap_err().to_string();
        assert!(
            error.contains("nothing was written: edit the line by hand") && !error.contains("inner"),
            "{before:?}: {error}"
        );
        assert_eq!(written(), before);
    }
    place.write(".env", "");
    for value in ["it's", "a\nb", "a\\", "a\u{7}"] {
        let error = file.set("MASTER_TOKEN", &value.into()).unwrap_err().to_string();
        assert!(
            error.contains(".env: ") && error.contains("MASTER_TOKEN") && error.contains("nothing was written"),
            "{error}"
        );
    }
    for value in ["a\\b", "a\"b", "a b;c#d&e<f>(g)~h`i$j", "~a", "a#b", "", "a,b=c:d/e+f@g%h"] {
        file.set("MASTER_TOKEN", &value.into()).unwrap();
        let text = written();
        let read = dotenvy::from_read_iter(text.as_bytes()).map(|line| line.unwrap().1).collect::<Vec<_>>();
        assert_eq!(read, [value]);
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", ". ./.env; printf %s \"$MASTER_TOKEN\""]);
        let output = shell.current_dir(place.path()).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), value);
    }
}

/// Whoever can write to a directory could put a link there, to have a secret written where they wish.
#[cfg(unix)]
#[test]
fn a_link_is_followed_only_where_others_cannot_put_one() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let directory = TempDir::new().unwrap();
    let at = |name: &str| directory.path().join(name);
    for name in ["open", "closed"] {
        fs::create_dir(at(name)).unwrap();
        symlink("../target", at(name).join(".env")).unwrap();
    }
    symlink("open/.env", at("chain")).unwrap();
    fs::create_dir(at("real")).unwrap();
    symlink("../real", at("open").join("directory")).unwrap();
    fs::write(at("target"), "A=1\n").unwrap();
    for mode in [0o777, 0o1777] {
        fs::set_permissions(at("open"), fs::Permissions::from_mode(mode)).unwrap();
        for path in [at("open").join(".env"), at("chain"), at("open").join("directory/.env")] {
            let error = EnvFile::new(path).set("MASTER_TOKEN", &"x".into()).unwrap_err().to_string();
            assert!(error.contains("is a link in a directory that every user can write to"), "{error}");
        }
        assert_eq!(fs::read_to_string(at("target")).unwrap(), "A=1\n");
        assert_eq!(fs::read_dir(at("real")).unwrap().count(), 0);
    }
    EnvFile::new(at("closed").join(".env")).set("MASTER_TOKEN", &"x".into()).unwrap();
    assert_eq!(fs::read_to_string(at("target")).unwrap(), "A=1\nMASTER_TOKEN=x\n");
    assert!(fs::symlink_metadata(at("closed").join(".env")).unwrap().is_symlink());
}

/// Of two that plan a change of the same keys, one is told that it came too late.
#[test]
fn keys_that_were_changed_meanwhile_are_not_overwritten() {
    let in_env = Place::new(&without("cryptography-key"));
    in_env.write(".env", &format!("export CRYPTOGRAPHY_KEY={KEY} # signs\n"));
    for place in [in_env, Place::new(&good())] {
        let keys = place.builder(&[]).report().keys().unwrap().clone();
        let (first, second) = (keys.rotate(None).unwrap(), keys.rotate(Some(SystemTime::now())).unwrap());
        first.write().unwrap();
        assert!(matches!(second.write(), Err(KeyChangeError::Changed(_))));
        let kids: Vec<_> = place.builder(&[]).report().keys().unwrap().list().into_iter().map(|key| key.kid).collect();
        assert_eq!(kids, [first.kid(), &keys.list()[0].kid]);
        if let Ok(text) = fs::read_to_string(place.path().join(".env")) {
            let mut lines = text.lines();
            let line = lines.next().unwrap();
            assert!(line.starts_with("export CRYPTOGRAPHY_KEY=") && line.ends_with(" # signs"), "{text}");
            assert!(lines.next().unwrap().starts_with("export PREVIOUS_CRYPTOGRAPHY_KEYS="), "{text}");
        }
    }
}
