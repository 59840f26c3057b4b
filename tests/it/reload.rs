//! The configuration is replaced while requests run.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::Router;
use fastauth::{FastAuthLayer, Secret, Settings, store::MemoryStore};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{task::JoinSet, time::timeout};

use crate::{
    app::{Endpoints, MASTER, access_token, serve, settings},
    support::log,
};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// A directory with a configuration that is read from there, and from nowhere else.
struct Place(TempDir);

impl Place {
    fn new(config: &Value) -> Self {
        let place = Self(TempDir::new().unwrap());
        place.write("fastauth.config.json", &config.to_string());
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file in one step.
    fn write(&self, name: &str, text: &str) {
        let draft = self.path("draft");
        fs::write(&draft, text).unwrap();
        fs::rename(draft, self.path(name)).unwrap();
    }

    fn settings(&self) -> Settings {
        let none: [(&str, &str); 0] = [];
        let settings = Settings::builder().directory(self.0.path()).environment(none).store(MemoryStore::new());
        settings.load().unwrap()
    }
}

fn config(more: &Value) -> Value {
    let mut config = json!({
        "master-token": MASTER,
        "cryptography-key": crate::app::KEY,
        "access-token-paths": ["/access"],
    });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

/// Waits until a request for a path without credentials has this status.
async fn becomes(server: &Endpoints, path: &str, expected: u16) {
    let none = Secret::from("");
    let wait = async {
        while status(server, path, &none).await != expected {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, wait).await.unwrap_or_else(|_| panic!("{path} never becomes {expected}"));
}

/// Builds settings whose store is not the layer's, as those of a reload are.
fn again(change: impl FnOnce(fastauth::SettingsBuilder) -> fastauth::SettingsBuilder) -> fastauth::Settings {
    change(settings().store(MemoryStore::new())).build().unwrap()
}

async fn status(server: &Endpoints, path: &str, token: &Secret) -> u16 {
    server.send("GET", path, &[("access-token", token.expose())], "").await.status
}

#[tokio::test]
async fn what_a_reload_returned_from_is_in_force() {
    let layer = FastAuthLayer::new(settings().build().unwrap()).unwrap();
    let server = Endpoints::of(&layer).await;
    let token = access_token(&layer, "alice").await;
    let none = Secret::from("");
    assert_eq!((status(&server, "/health", &none).await, status(&server, "/access/health", &none).await), (200, 401));
    layer.reload_with(again(|settings| settings.access_token_paths(["/health"]))).unwrap();
    assert_eq!((status(&server, "/health", &none).await, status(&server, "/access/health", &none).await), (401, 200));
    assert_eq!(status(&server, "/health", &token).await, 200, "the token and its session live on");
    let other = "another master token of the tests";
    layer.reload_with(again(|settings| settings.master_token(other))).unwrap();
    let new_tokens =
        async |master| server.send("POST", "/auth/token/new", &[("master-token", master)], "").await.status;
    assert_eq!((new_tokens(MASTER).await, new_tokens(other).await), (401, 200));
}

/// A key that is withdrawn opens nothing any more, also for tokens that were confirmed before; one that is added changes nothing.
#[tokio::test]
async fn tokens_that_were_confirmed_are_forgotten_with_their_key() {
    let layer = FastAuthLayer::new(settings().build().unwrap()).unwrap();
    let server = Endpoints::of(&layer).await;
    let token = access_token(&layer, "alice").await;
    assert_eq!(status(&server, "/access/health", &token).await, 200);
    let (new, old) = (Secret::generate(), crate::app::KEY);
    layer
        .reload_with(again(|settings| settings.cryptography_key(new.clone()).previous_cryptography_keys([old])))
        .unwrap();
    assert_eq!(status(&server, "/access/health", &token).await, 200);
    let newer = access_token(&layer, "bob").await;
    assert_eq!(status(&server, "/access/health", &newer).await, 200);
    layer.reload_with(again(|settings| settings.cryptography_key(new))).unwrap();
    assert_eq!(status(&server, "/access/health", &token).await, 401);
    assert_eq!(status(&server, "/access/health", &newer).await, 200);
}

#[tokio::test]
async fn another_store_is_a_fault_that_names_the_key() {
    let place = tempfile::TempDir::new().unwrap();
    let of = |file: &str| {
        let settings = fastauth::Settings::builder().cryptography_key(crate::app::KEY).access_token_paths(["/access"]);
        settings.database_api_url(format!("sqlite:{}", place.path().join(file).display())).build().unwrap()
    };
    let layer = FastAuthLayer::new(of("a.db")).unwrap();
    layer.reload_with(of("a.db")).unwrap();
    let error = layer.reload_with(of("b.db")).unwrap_err();
    assert_eq!(error.faults()[0].key(), Some("database-api-url"));
    assert!(error.to_string().contains("cannot change while the application runs"), "{error}");
    let error = layer.reload_with(again(|settings| settings)).unwrap_err();
    assert_eq!(error.faults()[0].key(), Some("database-api-url"));
}

/// The settings number `number` guard one of two paths, and name themselves in their challenges.
fn numbered(number: usize) -> Settings {
    again(|settings| settings.app_name(format!("set {number}")).access_token_paths([format!("/{}", number % 2)]))
}

/// Returns the number of the set that refused a request.
fn named_by(reply: &crate::app::Reply) -> usize {
    let challenge = reply.header("www-authenticate");
    let number = challenge.split("set ").nth(1).and_then(|rest| rest.split('"').next());
    number.unwrap_or_else(|| panic!("{reply:?}")).parse().unwrap()
}

/// Each answer is that of one set as a whole, which is in force at some time while the request runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_load_each_answer_is_that_of_one_set() {
    const RELOADS: usize = 300;
    let layer = FastAuthLayer::new(numbered(0)).unwrap();
    let app = Router::new().nest_service("/auth", layer.router()).fallback(async || "open").layer(layer.clone());
    let address = serve(app).await;
    // A reload is begun before it is done.
    let begun = Arc::new(AtomicUsize::new(0));
    let done = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for task in 0..8 {
        let (begun, done) = (Arc::clone(&begun), Arc::clone(&done));
        tasks.spawn(async move {
            let server = Endpoints::at(address);
            let mut seen = (0, 0);
            for turn in task.. {
                let first = done.load(Ordering::SeqCst);
                if first == RELOADS && turn > 100 {
                    break;
                }
                let reply = match turn % 3 {
                    2 => server.post("/auth/token/new", "client_id=c").await,
                    path => server.send("GET", &format!("/{path}"), &[], "").await,
                };
                let last = begun.load(Ordering::SeqCst);
                if reply.status == 200 {
                    seen.0 += 1;
                    let is_open_in_one = (first..=last).any(|number| number % 2 != turn % 3);
                    assert!(is_open_in_one, "/{} was open in none of {first} to {last}", turn % 3);
                    continue;
                }
                seen.1 += 1;
                assert_eq!(reply.status, 401);
                let number = named_by(&reply);
                assert!((first..=last).contains(&number), "{number} is not within {first} to {last}");
                assert!(turn % 3 == 2 || number % 2 == turn % 3, "set {number} does not guard /{}", turn % 3);
            }
            seen
        });
    }
    for number in 1..=RELOADS {
        begun.store(number, Ordering::SeqCst);
        layer.reload_with(numbered(number)).unwrap();
        done.store(number, Ordering::SeqCst);
        tokio::task::yield_now().await;
    }
    while let Some(seen) = tasks.join_next().await {
        let (open, refused) = seen.unwrap();
        assert!(open > 0 && refused > 0, "{open} open, {refused} refused");
    }
}

#[tokio::test]
async fn a_faulty_file_changes_nothing_and_is_told() {
    let place = Place::new(&config(&json!({})));
    let layer = FastAuthLayer::new(place.settings()).unwrap();
    let server = Endpoints::of(&layer).await;
    let health = async || server.send("GET", "/auth/healthz?deep", &[], "").await;
    for (text, fault) in [
        ("{", "not usable JSON"),
        (r#"{"access-token-paths": ["/health"], "access-ttl": "soon"}"#, "`access-ttl`: "),
        (&config(&json!({ "reload": "watch" })).to_string(), "`reload`: it cannot change while the application runs"),
    ] {
        place.write("fastauth.config.json", text);
        let error = layer.reload().unwrap_err();
        assert!(error.to_string().starts_with("FastAuth did not reload: "), "{error}");
        assert!(error.to_string().contains(fault) && !error.to_string().contains(MASTER), "{error}");
        let reply = health().await;
        assert_eq!((reply.status, &reply.json()["status"]), (200, &json!("ok")), "requests are served");
        assert_eq!(reply.json()["checks"]["configuration"], "faulty");
        let none = Secret::from("");
        assert_eq!(
            (status(&server, "/health", &none).await, status(&server, "/access/health", &none).await),
            (200, 401)
        );
    }
    place.write("fastauth.config.json", &config(&json!({ "access-token-paths": ["/health"] })).to_string());
    layer.reload().unwrap();
    assert_eq!(health().await.json()["checks"]["configuration"], "ok");
    becomes(&server, "/health", 401).await;
}

/// Whatever order concurrent reloads come in, what was written last is in force when all of them have returned.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_last_of_concurrent_reloads_is_what_was_written_last() {
    let named = |number: usize| config(&json!({ "app-name": format!("set {number}") }));
    let place = Arc::new(Place::new(&named(0)));
    let layer = FastAuthLayer::new(place.settings()).unwrap();
    let server = Endpoints::of(&layer).await;
    let written = Arc::new(std::sync::Mutex::new(0));
    for _ in 0..20 {
        let threads = (0..4).map(|_| {
            let (place, layer, written) = (Arc::clone(&place), layer.clone(), Arc::clone(&written));
            std::thread::spawn(move || {
                for _ in 0..5 {
                    let mut number = written.lock().unwrap();
                    *number += 1;
                    place.write("fastauth.config.json", &named(*number).to_string());
                    drop(number);
                    layer.reload().unwrap();
                }
            })
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let reply = server.send("GET", "/access/health", &[], "").await;
        assert_eq!(named_by(&reply), *written.lock().unwrap());
    }
}

#[tokio::test]
async fn settings_of_code_alone_are_not_read_again() {
    let layer = FastAuthLayer::new(settings().build().unwrap()).unwrap();
    let error = layer.reload().unwrap_err().to_string();
    assert!(error.contains("made in code alone") && error.contains("call `reload_with`"), "{error}");
}

#[cfg(feature = "metrics")]
#[tokio::test]
async fn reloads_are_counted_by_their_outcome() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        let layer = FastAuthLayer::new(settings().metrics(true).build().unwrap()).unwrap();
        layer.reload_with(again(|settings| settings.metrics(true))).unwrap();
        layer.reload_with(again(|settings| settings.metrics(true))).unwrap();
        layer.reload().unwrap_err();
    });
    let text = recorder.handle().render();
    for (outcome, count) in [("applied", 2), ("faulty", 1)] {
        assert!(text.contains(&format!("fastauth_reloads_total{{outcome=\"{outcome}\"}} {count}")), "{text}");
    }
}

/// As Kubernetes mounts a ConfigMap: the file is a link through a link, and that is swapped.
#[cfg(unix)]
#[tokio::test]
async fn a_link_that_is_swapped_is_noticed() {
    use std::os::unix::fs::symlink;
    let place = Place(TempDir::new().unwrap());
    let swap = |version: &str, text: &str| {
        fs::create_dir(place.path(version)).unwrap();
        fs::write(place.path(version).join("fastauth.config.json"), text).unwrap();
        symlink(version, place.path("..draft")).unwrap();
        fs::rename(place.path("..draft"), place.path("..data")).unwrap();
    };
    let watched = |paths: Value| config(&json!({ "reload": "watch", "access-token-paths": paths })).to_string();
    swap("..1", &watched(json!(["/access"])));
    symlink(Path::new("..data/fastauth.config.json"), place.path("fastauth.config.json")).unwrap();
    let layer = FastAuthLayer::new(place.settings()).unwrap();
    let server = Endpoints::of(&layer).await;
    becomes(&server, "/access/health", 401).await;
    swap("..2", &watched(json!(["/health"])));
    becomes(&server, "/health", 401).await;
    // A faulty one is told, and another one noticed after it.
    swap("..3", "{");
    let told = async {
        while server.send("GET", "/auth/healthz?deep", &[], "").await.json()["checks"]["configuration"] != "faulty" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, told).await.unwrap();
    assert_eq!(status(&server, "/health", &Secret::from("")).await, 401);
    swap("..4", &watched(json!(["/access"])));
    becomes(&server, "/health", 200).await;
}

/// The key is replaced in its file again and again while requests run, and no token that was issued is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keys_are_replaced_in_their_file_without_a_refusal() {
    const ROTATIONS: usize = 20;
    let place = Place(TempDir::new().unwrap());
    let replace_key = || place.write("key", &format!("{}\n", Secret::generate().expose()));
    replace_key();
    place.write(
        "fastauth.config.json",
        &json!({ "master-token": MASTER, "cryptography-key-file": "key", "access-token-paths": ["/access"] })
            .to_string(),
    );
    let layer = FastAuthLayer::new(place.settings()).unwrap();
    let address = serve(crate::app::app(layer.clone())).await;
    let first = access_token(&layer, "the first").await;
    let done = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for task in 0..8 {
        let done = Arc::clone(&done);
        tasks.spawn(async move {
            let server = Endpoints::at(address);
            while done.load(Ordering::SeqCst) < ROTATIONS {
                let issued = server.post_as_master("/auth/token/new", &format!("client_id={task}")).await.json();
                let token = issued["data"]["access_token"].as_str().unwrap();
                for _ in 0..3 {
                    assert!(server.opens(token).await, "a token is refused");
                }
            }
        });
    }
    for number in 1..=ROTATIONS {
        replace_key();
        layer.reload().unwrap();
        done.store(number, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    assert!(Endpoints::at(address).opens(first.expose()).await, "a token of the first key");
}

/// Only what was in the file of the key before verifies by itself: a key that is written elsewhere is withdrawn by leaving it out.
#[tokio::test]
async fn a_key_that_stands_in_the_configuration_goes_with_it() {
    let place = Place::new(&config(&json!({})));
    let layer = FastAuthLayer::new(place.settings()).unwrap();
    let server = Endpoints::of(&layer).await;
    let token = access_token(&layer, "alice").await;
    assert!(server.opens(token.expose()).await);
    place.write(
        "fastauth.config.json",
        &config(&json!({ "cryptography-key": Secret::generate().expose() })).to_string(),
    );
    layer.reload().unwrap();
    assert!(!server.opens(token.expose()).await);
}

/// What is logged of a reload: the names of the keys that it changed, and each fault on a line.
#[tokio::test]
async fn a_reload_names_the_keys_that_it_changes() {
    let place = Place::new(&config(&json!({})));
    let layer = FastAuthLayer::new(place.settings()).unwrap();
    let logged = |more: Value| {
        place.write("fastauth.config.json", &config(&more).to_string());
        log::capture();
        let outcome = layer.reload();
        let log = log::captured();
        let lines: Vec<_> = log.lines().filter(|line| line.contains("reloaded")).map(str::to_owned).collect();
        (outcome.is_ok(), lines)
    };
    let key = Secret::generate();
    let (is_ok, lines) = logged(json!({ "cryptography-key": key.expose(), "access-ttl": "3m" }));
    assert!(is_ok && lines.len() == 1, "{lines:?}");
    assert!(lines[0].ends_with("the configuration was reloaded: changed cryptography-key, access-ttl"), "{lines:?}");
    assert!(!lines[0].contains(key.expose()), "{lines:?}");
    let (_, lines) = logged(json!({ "cryptography-key": key.expose(), "access-ttl": "3m" }));
    assert!(lines[0].ends_with("the configuration was reloaded: no key has changed"), "{lines:?}");
    let (is_ok, lines) = logged(json!({ "access-ttl": "soon", "refresh-ttl": "late" }));
    assert!(!is_ok && lines.len() == 2, "{lines:?}");
    for (line, fault) in lines.iter().zip(["`access-ttl`: \"soon\"", "`refresh-ttl`: \"late\""]) {
        assert!(line.contains("was not reloaded, and stays as it was: ") && line.contains(fault), "{line}");
    }
}

#[tokio::test]
async fn a_file_larger_than_any_configuration_is_refused() {
    let place = Place::new(&config(&json!({})));
    let layer = FastAuthLayer::new(place.settings()).unwrap();
    let padded = |length| format!("{}{}", config(&json!({})), " ".repeat(length));
    place.write("fastauth.config.json", &padded(1 << 19));
    layer.reload().unwrap();
    place.write("fastauth.config.json", &padded(1 << 20));
    let error = layer.reload().unwrap_err().to_string();
    assert!(error.contains("larger than 1 MiB"), "{error}");
}

/// A process that reads its configuration again on SIGHUP.
#[cfg(unix)]
#[tokio::test]
async fn a_signal_reloads_another_process() {
    is_reloaded_by_signals("sighup").await;
}

/// The signal would end a process that only looks at its files.
#[cfg(unix)]
#[tokio::test]
async fn a_signal_reloads_a_process_that_looks_at_its_files() {
    is_reloaded_by_signals("watch").await;
}

#[cfg(unix)]
async fn is_reloaded_by_signals(reload: &str) {
    use std::process::{Command, Stdio};
    let place = Place::new(&config(&json!({ "reload": reload, "database-api-url": "sqlite:tokens.db" })));
    let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = Command::new(crate::output::example("deployed"));
    command.env_clear().env("LISTEN", listen.to_string()).current_dir(place.0.path()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let server = Endpoints::at(listen);
    let listens = async {
        while tokio::net::TcpStream::connect(listen).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, listens).await.unwrap();
    let changes = async {
        becomes(&server, "/health", 200).await;
        let changed = json!({
            "reload": reload, "database-api-url": "sqlite:tokens.db", "access-token-paths": ["/health"],
        });
        place.write("fastauth.config.json", &config(&changed).to_string());
        let hang_up = || Command::new("kill").args(["-HUP", &child.id().to_string()]).status().unwrap();
        assert!(hang_up().success());
        becomes(&server, "/health", 401).await;
        becomes(&server, "/access/health", 200).await;
        // A faulty one neither ends the process nor opens anything.
        place.write("fastauth.config.json", "{");
        assert!(hang_up().success());
        let health = async || server.send("GET", "/auth/healthz?deep", &[], "").await.json();
        while health().await["checks"]["configuration"] != "faulty" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        becomes(&server, "/health", 401).await;
    };
    let changed = timeout(LONG, changes).await;
    child.kill().unwrap();
    child.wait().unwrap();
    changed.unwrap();
}
