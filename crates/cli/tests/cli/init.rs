//! `init`, on a terminal and without one.

use std::{fs, process::Command};

use serde_json::{Value, json};

use super::{Place, Served, stderr, stdout};

fn config(place: &Place, name: &str) -> Value {
    serde_json::from_slice(&fs::read(place.path().join(name)).unwrap()).unwrap()
}

fn names(place: &Place) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

/// Runs the commands that `init` says come next.
fn run_next(place: &Place, notes: &str) {
    let commands: Vec<_> = notes.lines().filter_map(|line| line.strip_prefix("  fastauth ")).collect();
    assert!(commands.len() >= 3, "{notes}");
    for command in commands.iter().filter(|command| !command.starts_with("store serve")) {
        let (words, remark) = command.split_once('#').unwrap();
        assert!(!remark.trim().is_empty(), "{command}");
        place.done(&words.split_whitespace().collect::<Vec<_>>());
    }
}

#[test]
fn configuration_of_init_has_nothing_to_improve() {
    let place = Place::new();
    let notes = stderr(&place.run(&["init", "--yes", "--app-name", "shop"]));
    let expected = json!({
        "$schema": "./fastauth.config.schema.json",
        "app-name": "shop",
        "database-api-url": "sqlite:fastauth.db",
        "default-level": "access",
        "rules": [
            { "path": "/auth", "level": "public" },
            { "path": "/login", "level": "public" },
            { "path": "/health", "level": "public" },
        ],
        "access-ttl": "15m",
        "allow-get": false,
        "tokens-per-client": "many",
        "store-format": "fernet",
        "cache": "on",
    });
    assert_eq!(config(&place, "fastauth.config.json"), expected);
    let text = fs::read_to_string(place.path().join("fastauth.config.json")).unwrap();
    assert!(text.contains("\n    { \"path\": \"/auth\", \"level\": \"public\" },\n"), "{text}");
    run_next(&place, &notes);
    for (target, answer) in [
        ("/auth/token/refresh", "requires no credential"),
        ("/login", "requires no credential"),
        ("/logins", "requires an access token"),
    ] {
        let told = place.done(&["explain", "POST", target]);
        assert!(told.contains(answer), "{target}: {told}");
    }
    let checked = place.done(&["check", "--strict"]);
    assert!(checked.ends_with("result: no faults, no warnings, no suggestions\n"), "{checked}");
    assert!(!place.path().join(".gitignore").exists(), "there is no repository");
}

/// What a store behind HTTP may require is said, and is not accepted as it is printed.
#[test]
fn init_says_how_the_token_of_a_store_is_sent() {
    let place = Place::new();
    let words = ["init", "--yes", "--database-api-url", "http://127.0.0.1:1"];
    let notes = stderr(&place.run(&words));
    let line = notes.lines().find(|line| line.trim_start().starts_with("\"headers\"")).unwrap();
    assert!(notes.contains("add it to fastauth.config.json"), "{notes}");
    let file = place.path().join("fastauth.config.json");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen('{', &format!("{{{line},"), 1)).unwrap();
    let told = place.run(&["check", "--offline"]);
    assert!(String::from_utf8_lossy(&told.stdout).contains("the value of \"Authorization\" is a placeholder"));
    let again = stderr(&place.run(&[&words[..], &["--force"]].concat()));
    assert!(!again.contains("Authorization"), "the header is kept: {again}");
    assert!(!stderr(&Place::new().run(&["init", "--yes"])).contains("Authorization"));
}

#[test]
fn secrets_and_the_database_are_ignored_in_a_repository() {
    let place = Place::new();
    fs::create_dir_all(place.path().join(".git")).unwrap();
    fs::create_dir(place.path().join("conf")).unwrap();
    fs::write(place.path().join(".gitignore"), "/target\n/.env").unwrap();
    let read = |name: &str| fs::read_to_string(place.path().join(name)).unwrap();
    let notes = stderr(&place.run(&["init", "--yes"]));
    assert_eq!(read(".gitignore"), "/target\n/.env\nfastauth.db*\n");
    assert!(notes.contains("Added the files with secrets and tokens to .gitignore"), "{notes}");
    let notes = stderr(&place.run(&["init", "--yes", "--force"]));
    assert_eq!(read(".gitignore"), "/target\n/.env\nfastauth.db*\n");
    assert!(!notes.contains("gitignore"), "{notes}");
    // The pattern for the database is in the directory above already.
    place.done(&["init", "--yes", "--config", "conf/auth.json"]);
    assert_eq!(read("conf/.gitignore"), ".env\n");
    let ignored = Command::new("git").args(["-C", ".", "init", "-q"]).current_dir(place.path()).status();
    if ignored.is_ok_and(|status| status.success()) {
        let files = [".env", "fastauth.db", "fastauth.db-wal", "conf/.env", "conf/fastauth.db"];
        let mut command = Command::new("git");
        let output = command.args(["check-ignore"]).args(files).current_dir(place.path()).output().unwrap();
        assert_eq!(stdout(&output).lines().collect::<Vec<_>>(), files);
    }
}

#[test]
fn secrets_of_a_replaced_configuration_are_kept() {
    let place = Place::new();
    let old =
        json!({ "cryptography_key": "a-key-of-forty-characters-in-all-for-tests", "access-token-paths": ["/old"] });
    fs::write(place.path().join("fastauth.config.schema.json"), "{}").unwrap();
    fs::write(place.path().join("fastauth.config.json"), old.to_string()).unwrap();
    let refusal = place.fails(&["init", "--yes"], 1);
    assert!(refusal.contains("--force replaces it (secrets are kept)"), "{refusal}");
    assert_eq!(config(&place, "fastauth.config.json"), old);
    // A key that is not a Fernet key cannot encrypt, which check says.
    place.done(&["keygen", "--name", "MASTER_TOKEN", "--write"]);
    let master = place.env_value("MASTER_TOKEN");
    let notes = stderr(&place.run(&["init", "--yes", "--force"]));
    assert!(notes.contains("Kept MASTER_TOKEN in .env"), "{notes}");
    assert!(notes.contains("Kept cryptography_key in fastauth.config.json"), "{notes}");
    let new = config(&place, "fastauth.config.json");
    assert_eq!((&new["cryptography_key"], &new["access-token-paths"]), (&old["cryptography_key"], &Value::Null));
    assert_eq!(config(&place, "fastauth.config.schema.json")["title"], "fastauth.config.json");
    assert_eq!(place.env_value("MASTER_TOKEN"), master);
    assert!(!fs::read_to_string(place.path().join(".env")).unwrap().contains("CRYPTOGRAPHY_KEY"));

    fs::write(place.path().join("broken.json"), "{").unwrap();
    let refusal = place.fails(&["init", "--yes", "--force", "--config", "broken.json"], 1);
    assert!(refusal.contains("is not a JSON object, so the secrets in it cannot be kept"), "{refusal}");
    assert_eq!(fs::read_to_string(place.path().join("broken.json")).unwrap(), "{");
}

#[cfg(unix)]
#[test]
fn shared_configuration_is_what_the_python_package_needs() {
    let of_the_store = Place::new();
    let served = Served::start(&of_the_store, None);
    let place = Place::new();
    let key = "a-key-of-forty-characters-in-all-for-tests";
    fs::write(
        place.path().join("python.env"),
        format!("MASTER_TOKEN=a-master-token-of-python\nCRYPTOGRAPHY_KEY={key}\n"),
    )
    .unwrap();
    let words = [
        "init",
        "--yes",
        "--shared-with-fastauth-api",
        "--database-api-url",
        &served.url,
        "--secrets-from",
        "python.env",
    ];
    let notes = stderr(&place.run(&words));
    let written = config(&place, "fastauth.config.json");
    for (name, expected) in [
        ("allow-get", json!(true)),
        ("response-shape", json!("envelope")),
        ("tokens-per-client", json!("one")),
        ("store-format", json!("plain")),
        ("database-api-url", json!(served.url)),
        ("access-ttl", json!(null)),
    ] {
        assert_eq!(written[name], expected, "{name}");
    }
    assert_eq!(place.env_value("CRYPTOGRAPHY_KEY"), key);
    assert!(notes.contains("Copied CRYPTOGRAPHY_KEY to .env") && !notes.contains(key), "{notes}");
    run_next(&place, &notes);
    let checked = place.done(&["check", "--strict"]);
    assert!(checked.ends_with("result: no faults, no warnings, no suggestions\n"), "{checked}");

    let message = place
        .fails(&["init", "--yes", "--force", "--shared-with-fastauth-api", "--database-api-url", "sqlite:x.db"], 1);
    assert!(message.contains("--database-api-url: fastauth-api cannot use an embedded database"), "{message}");
    fs::write(place.path().join("half.env"), "MASTER_TOKEN=a-master-token-of-python\n").unwrap();
    let message =
        place.fails(&["init", "--yes", "--force", "--shared-with-fastauth-api", "--secrets-from", "half.env"], 1);
    assert!(message.contains("half.env does not set CRYPTOGRAPHY_KEY"), "{message}");
    served.stop();
}

#[test]
fn every_fault_of_the_flags_is_said_at_once() {
    let place = Place::new();
    let words = ["init", "--yes", "--app-name", " ", "--access-path", "api", "--database-api-url", "sqlite:no/such.db"];
    let message = place.fails(&words, 1);
    for part in
        ["--app-name: it is empty", "--access-path: the prefix \"api\"", "there is no directory no; create it first"]
    {
        assert!(message.contains(part), "{part}: {message}");
    }
    let message = place.fails(&["init", "--yes", "--public-path", "health", "--master-path", "/a/"], 1);
    for part in ["--public-path: ", "--master-path: "] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let message = place.fails(&["init", "--yes", "--public-path", "/a", "--master-path", "/a"], 1);
    assert!(message.contains("\"/a\" is open to all"), "{message}");
    place.fails(&["init", "--yes", "--public-path", "/a", "--access-path", "/b"], 2);
    fs::write(place.path().join("fastauth.config.schema.json"), "{}").unwrap();
    let message = place.fails(&["init", "--yes"], 1);
    assert!(
        message.contains("fastauth.config.schema.json already exists, and is not what this version writes"),
        "{message}"
    );
    fs::remove_file(place.path().join("fastauth.config.schema.json")).unwrap();
    let message = place.fails(&["init", "--yes", "--access-path", "none", "--master-path", "none"], 1);
    assert!(message.contains("no path would be guarded"), "{message}");
    assert!(names(&place).is_empty());
}

#[test]
fn application_is_written_whole_or_not_at_all() {
    let place = Place::new();
    let read = |name: &str| fs::read_to_string(place.path().join(name)).unwrap();
    let notes = stderr(&place.run(&["init", "--axum", "shop"]));
    assert!(notes.contains("cd shop\n  cargo test"), "{notes}");
    let notes = stderr(&place.run(&["init", "--axum", "Bob's Shop"]));
    assert!(notes.contains("cd 'Bob'\\''s Shop'\n  cargo test"), "{notes}");
    let clone = fs::canonicalize(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).unwrap();
    assert!(
        read("shop/Cargo.toml").contains(&format!("path = {:?}", clone.to_str().unwrap())),
        "{}",
        read("shop/Cargo.toml")
    );
    assert!(read("shop/.gitignore").contains("\n.env\n"));
    for name in [
        "Cargo.toml",
        "src/main.rs",
        "src/tests.rs",
        "Containerfile",
        "README.md",
        "fastauth.config.json",
        "fastauth.config.schema.json",
    ] {
        assert!(!read(&format!("shop/{name}")).contains("{{"), "{name}");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |name: &str| fs::metadata(place.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode("shop/.env"), 0o600);
        assert_eq!(mode("shop") & 0o700, 0o700);
    }
    let before = read("shop/.env");
    let refusal = place.fails(&["init", "--axum", "shop"], 1);
    assert!(refusal.contains("shop is not empty"), "{refusal}");
    assert_eq!(read("shop/.env"), before);

    fs::create_dir_all(place.path().join("Tower/.git")).unwrap();
    place.done(&["init", "--axum", "Tower", "--fastauth", "0.1"]);
    assert!(read("Tower/Cargo.toml").contains("name = \"tower-app\""), "{}", read("Tower/Cargo.toml"));
    assert!(read("Tower/Cargo.toml").contains("fastauth = { version = \"0.1\", features = [\"axum\"] }"));
    assert!(!read("Tower/Containerfile").contains("--from=fastauth"));
    let refusal = place.fails(&["init", "--axum", "other", "--fastauth", "no-such-thing"], 1);
    assert!(refusal.contains("neither the directory of a clone of FastAuth nor a version"), "{refusal}");
    assert_eq!(names(&place), ["Bob's Shop", "Tower", "shop"]);
    let checked = place.done(&["check", "--strict", "--config", "shop/fastauth.config.json"]);
    assert!(checked.ends_with("result: no faults, no warnings, no suggestions\n"), "{checked}");
}

#[cfg(unix)]
mod on_a_terminal {
    use std::{
        fs::{File, OpenOptions},
        io::{Read, Write},
        process::{Child, Stdio},
    };

    use rustix::{
        event::{PollFd, PollFlags, Timespec, poll},
        pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    };

    use super::*;

    /// The program on a terminal, and what it wrote there.
    struct Dialogue {
        child: Child,
        terminal: File,
        seen: String,
        /// How much of it was looked at.
        read: usize,
    }

    impl Dialogue {
        fn start(place: &Place, words: &[&str]) -> Self {
            let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
            grantpt(&terminal).unwrap();
            unlockpt(&terminal).unwrap();
            let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
            let end = OpenOptions::new().read(true).write(true).open(name).unwrap();
            let mut command = place.command(words);
            command.stdin(Stdio::from(end.try_clone().unwrap())).stderr(Stdio::from(end));
            let child = command.stdout(Stdio::null()).spawn().unwrap();
            Self { child, terminal: File::from(terminal), seen: String::new(), read: 0 }
        }

        /// Waits until the program has written this text.
        fn expect(&mut self, text: &str) {
            loop {
                if let Some(at) = self.seen[self.read..].find(text) {
                    self.read += at + text.len();
                    return;
                }
                let mut ready = [PollFd::new(&self.terminal, PollFlags::IN)];
                let patience = Timespec { tv_sec: 20, tv_nsec: 0 };
                assert_eq!(poll(&mut ready, Some(&patience)).unwrap(), 1, "{text:?} does not come: {}", self.seen);
                let mut bytes = [0; 4096];
                let count =
                    self.terminal.read(&mut bytes).unwrap_or_else(|_| panic!("{text:?} does not come: {}", self.seen));
                self.seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        }

        fn answer(&mut self, question: &str, answer: &str) {
            self.expect(question);
            writeln!(self.terminal, "{answer}").unwrap();
        }
    }

    #[test]
    fn wrong_answer_is_explained_and_asked_again() {
        let place = Place::new();
        let mut dialogue = Dialogue::start(&place, &["init"]);
        dialogue.expect("A 401 response names it as the realm");
        dialogue.answer("Name of the application?", "${NAME}");
        dialogue.expect("Not accepted: it contains the placeholder");
        dialogue.answer("Name of the application?", "shop");
        dialogue.answer("Is the store shared with fastauth-api? [no]", "perhaps");
        dialogue.expect("Not accepted: answer yes or no");
        dialogue.answer("shared with fastauth-api?", "");
        dialogue.answer("Where are tokens stored? [sqlite:fastauth.db]", "sqlite:data/tokens.db");
        dialogue.expect("there is no directory data; create it first");
        dialogue.answer("Where are tokens stored?", "");
        dialogue.answer("Paths that are open to all? [/auth /login /health]", "auth /files");
        dialogue.expect("Not accepted: ");
        dialogue.answer("Paths that are open to all?", "/auth /files");
        dialogue.answer("Paths that require the master token? [none]", "/files");
        dialogue.expect("Not accepted: \"/files\" is open to all");
        dialogue.answer("Paths that require the master token?", "/admin");
        dialogue.expect("Next:");
        assert_eq!(dialogue.child.wait().unwrap().code(), Some(0));
        let config = config(&place, "fastauth.config.json");
        let rules = json!([
            { "path": "/auth", "level": "public" },
            { "path": "/files", "level": "public" },
            { "path": "/admin", "level": "master" },
        ]);
        assert_eq!((&config["app-name"], &config["rules"]), (&json!("shop"), &rules));
        let checked = place.done(&["check", "--strict"]);
        assert!(checked.ends_with("result: no faults, no warnings, no suggestions\n"), "{checked}");
    }

    #[test]
    fn sharing_asks_for_the_store_and_the_secrets_of_the_other() {
        let place = Place::new();
        fs::write(
            place.path().join("python.env"),
            "MASTER_TOKEN=a-master-token-of-python\nCRYPTOGRAPHY_KEY=a-key-of-forty-characters-in-all-for-tests\n",
        )
        .unwrap();
        let mut dialogue = Dialogue::start(&place, &["init", "--app-name", "shop", "--master-path", "/admin"]);
        dialogue.answer("Is the store shared with fastauth-api?", "yes");
        dialogue.answer("The .env file of fastauth-api?", "missing.env");
        dialogue.expect("there is no file missing.env");
        dialogue.answer("The .env file of fastauth-api?", "python.env");
        dialogue.answer("Where are tokens stored? [http://127.0.0.1:6789]", "sqlite:x.db");
        dialogue.expect("fastauth-api cannot use an embedded database");
        dialogue.answer("Where are tokens stored?", "http://127.0.0.1:1");
        dialogue.answer("Prefixes that require an access token?", "none");
        dialogue.expect("Next:");
        assert_eq!(dialogue.child.wait().unwrap().code(), Some(0));
        assert_eq!(config(&place, "fastauth.config.json")["tokens-per-client"], "one");
    }

    #[test]
    fn interrupted_questions_leave_nothing() {
        for interrupts in [true, false] {
            let place = Place::new();
            fs::create_dir(place.path().join(".git")).unwrap();
            let mut dialogue = Dialogue::start(&place, &["init"]);
            dialogue.answer("Name of the application?", "shop");
            dialogue.answer("Is the store shared with fastauth-api?", "no");
            dialogue.expect("Where are tokens stored?");
            if interrupts {
                // Not SIGINT, which a test in the background of a shell inherits as ignored.
                Command::new("kill").args(["-TERM", &dialogue.child.id().to_string()]).status().unwrap();
            } else {
                // Ctrl-D.
                dialogue.terminal.write_all(b"\x04").unwrap();
                dialogue.expect("the input ended before this question was answered; nothing was written");
            }
            assert!(!dialogue.child.wait().unwrap().success());
            assert_eq!(names(&place), [".git"]);
        }
    }
}
