//! Hostile paths at real routers, file servers and proxies: nothing protected is ever reached without credentials.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{collections::BTreeMap, env, path::Path, thread};

use axum::{Router, body::Body, extract, routing::any};
use http::{Request, StatusCode, Uri};
use reqwest::Url;
use tokio::runtime::{Builder, Runtime};

mod apps;
mod paths;
mod upstream;

use apps::{App, SCENES, Scene, all, guarded, make_files, names, reached};
use paths::{Random, hostile_path, shrink};
use upstream::parse;

const PATHS: usize = 100_000;

/// The paths that the documentation warns of, below whatever an application is mounted at.
const KNOWN: [&str; 40] = [
    "/access",
    "/access/x",
    "/access/..",
    "/access/%2e%2e",
    "/access/..%2fpublic",
    "/access/..//",
    "//access/..",
    "/master",
    "//master/x",
    "//access/x",
    "///access/x",
    "/access//x",
    "/./access/x",
    "/x/../access/x",
    "/../access/x",
    "/%61ccess/x",
    "/access%2fx",
    "/%2561ccess/x",
    "/%2faccess/x",
    "/x%2f..%2faccess",
    "/%2e/access/x",
    "/.%2faccess/x",
    "/%2e%2faccess/x",
    "/access%2f.%2fx",
    "/access/x/",
    "/access/x/.",
    "/x/%2e%2e/access",
    "/x/.%2E/access",
    r"/x\..\access",
    r"/\access",
    "/x/..;/access",
    "/access;x=1/x",
    "/;/access",
    "/x/..%3b/access",
    "//x/access",
    "/http:/access",
    "/http://x/access",
    "/access%23x",
    "/access%3fx",
    "/public/../access",
];

/// What takes a path as it was sent.
const BYTE_BY_BYTE: [&str; 4] = ["routes", "catch-all", "nested routes", "hyper proxy, as is"];

#[test]
fn nothing_protected_is_reached() {
    let seed = env::var("FASTAUTH_SINK_SEED").map_or(1, |seed| seed.parse().unwrap());
    hunt(seed, PATHS);
}

/// `FASTAUTH_SINK_PATHS` says how many paths, `FASTAUTH_SINK_SEED` which.
#[test]
#[ignore = "takes minutes; run it with --release"]
fn nothing_protected_is_reached_in_a_long_run() {
    let number = |name, default| env::var(name).map_or(default, |number| number.parse().unwrap());
    hunt(number("FASTAUTH_SINK_SEED", 2), usize::try_from(number("FASTAUTH_SINK_PATHS", 3_000_000)).unwrap());
}

#[test]
fn nothing_protected_is_reached_by_known_tricks() {
    let files = tempfile::tempdir().unwrap();
    make_files(files.path());
    let hunter = Hunter::new(files.path());
    let mut found = Found::default();
    for (scene, outermost, placed) in &hunter.scenes {
        for path in KNOWN.map(|path| scene.below_mounts(path)) {
            for target in outermost.iter().chain(placed) {
                hunter.fire(scene, target, &path, &mut found);
            }
        }
    }
    assert_eq!(found.bypasses, []);
}

/// Without a guard, every sink gives away what is protected to odd spellings, and all but those that match paths byte
/// by byte do so to spellings that no comparison with the rules as they stand would catch.
#[test]
fn without_the_guard_everything_is_reached() {
    let files = tempfile::tempdir().unwrap();
    make_files(files.path());
    let runtime = runtime();
    // Files answer no other method.
    for scene in SCENES.iter().filter(|scene| scene.method == "GET") {
        let sinks = scene.sinks(files.path());
        let app = all(&sinks);
        let mut random = Random::new(3);
        let known = KNOWN.iter().map(|path| scene.below_mounts(path));
        let random_paths = std::iter::repeat_with(|| hostile_path(&mut random, scene.starts)).take(3_000);
        // How often each sink was reached by an odd spelling, and by one that does not look protected.
        let mut reaches: BTreeMap<String, (usize, usize)> = names(&sinks).into_iter().map(|n| (n, (0, 0))).collect();
        let mut missing = reaches.len();
        for path in known.chain(random_paths) {
            if missing == 0 {
                break;
            }
            let Some(request) = request(&path) else { continue };
            let looks_protected = scene.protects_as_sent(request.uri().path());
            for mark in runtime.block_on(reached(&app, request)) {
                let (sink, _mark) = mark.rsplit_once([',', ':']).unwrap();
                let (odd, hidden) = reaches.get_mut(sink).unwrap();
                *odd += usize::from(is_odd(&path));
                *hidden += usize::from(!looks_protected);
            }
            let must_hide = |sink: &str| scene.has_no_exemptions() && !BYTE_BY_BYTE.contains(&sink);
            let is_missing =
                |(sink, (odd, hidden)): &(&String, &(usize, usize))| *odd == 0 || *hidden == 0 && must_hide(sink);
            missing = reaches.iter().filter(is_missing).count();
        }
        assert_eq!(
            missing, 0,
            "{}: not all of these were reached, with odd and hidden spellings: {reaches:#?}",
            scene.name
        );
    }
}

/// What the documentation says stays open (`src/docs/placement.md`): said as long as it is true, and no longer.
#[test]
fn what_is_known_to_stay_open() {
    type Forward = fn(&str) -> Option<Url>;
    fn joined(base: &str, rest: &str) -> Option<Url> {
        Url::parse(base).ok()?.join(rest).ok()
    }
    let rows: [(&str, &str, Forward, &str); 3] = [
        ("/%20access", "/{*rest}", |rest| joined("http://up/", rest), "/access"),
        ("/../v1/access", "/{*rest}", |rest| parse(&format!("http://up/v1/{rest}")), "/v1/access"),
        ("/x//access", "/x/{*rest}", |rest| joined("http://up/x/", rest), "/access"),
    ];
    let (guard, runtime) = (SCENES[0].guard(), runtime());
    for (path, route, forward, protected) in rows {
        let handler = async move |extract::Path(rest): extract::Path<String>| match forward(&rest) {
            Some(url) if url.path() == protected => StatusCode::IM_A_TEAPOT,
            _ => StatusCode::NOT_FOUND,
        };
        let app = guarded(App::new(Router::new().route(route, any(handler))), &guard);
        let response = runtime.block_on(apps::send(&app, request(path).unwrap()));
        assert_eq!(response.status(), StatusCode::IM_A_TEAPOT, "{path} does not reach {protected} any more");
    }
}

/// Sends `count` paths to guarded applications, and fails by the shortest that got around the guard.
fn hunt(seed: u64, count: usize) {
    println!("seed {seed}, {count} paths");
    let files = tempfile::tempdir().unwrap();
    make_files(files.path());
    let workers = thread::available_parallelism().map_or(2, usize::from);
    let found: Vec<_> = thread::scope(|scope| {
        let each = count.div_ceil(workers);
        let root = files.path();
        let hunters: Vec<_> = (0u64..)
            .take(workers)
            .map(|worker| scope.spawn(move || Hunter::new(root).hunt(Random::new(seed << 8 | worker), each)))
            .collect();
        hunters.into_iter().map(|hunter| hunter.join().unwrap()).collect()
    });
    let sent: usize = found.iter().map(|found| found.sent).sum();
    let passed: usize = found.iter().map(|found| found.passed).sum();
    println!("{sent} paths sent, {passed} of them let through");
    assert!(sent >= count);
    // A guard that refuses everything is no proof.
    assert!(passed > count / 20, "only {passed} paths passed the guard");
    let shortest = found.into_iter().flat_map(|found| found.bypasses).min_by_key(|(path, _)| path.len());
    if let Some((path, place)) = shortest {
        panic!("a protected resource was reached without credentials, seed {seed}\n  path: {path}\n  {place}");
    }
}

/// The scenes with the guard in all its places.
struct Hunter {
    runtime: Runtime,
    scenes: Vec<(Scene, [Target; 2], Vec<Target>)>,
}

/// A guarded application.
struct Target {
    place: String,
    app: App,
}

#[derive(Default)]
struct Found {
    sent: usize,
    passed: usize,
    /// The path, and where it got around.
    bypasses: Vec<(String, String)>,
}

impl Hunter {
    fn new(files: &Path) -> Self {
        let runtime = runtime();
        let scenes = SCENES.iter().map(|scene| {
            let (sinks, guard) = (scene.sinks(files), scene.guard());
            // Halves, since each costs as much as the guard does.
            let (half, other_half) = sinks.split_at(sinks.len() / 2);
            let outermost =
                [half, other_half].map(|half| Target { place: "outermost".into(), app: guarded(all(half), &guard) });
            let placed = sinks.iter().flat_map(|sink| {
                let place = |(place, app)| Target { place: format!("{}, {place}", sink.name), app };
                sink.guarded(&guard).into_iter().map(place)
            });
            (*scene, outermost, placed.collect())
        });
        Self { scenes: scenes.collect(), runtime }
    }

    fn hunt(&self, mut random: Random, count: usize) -> Found {
        let mut found = Found::default();
        while found.sent < count {
            let (scene, outermost, placed) = &self.scenes[random.below(self.scenes.len())];
            let path = hostile_path(&mut random, scene.starts);
            if self.fire(scene, &outermost[random.below(outermost.len())], &path, &mut found) {
                found.sent += 1;
            }
            if found.sent % 3 == 0 {
                self.fire(scene, &placed[random.below(placed.len())], &path, &mut found);
            }
        }
        found
    }

    /// Whether the path can be sent at all.
    fn fire(&self, scene: &Scene, target: &Target, path: &str, found: &mut Found) -> bool {
        let Some((reached, passed)) = self.try_out(scene, target, path) else { return false };
        found.passed += usize::from(passed);
        if !reached.is_empty() {
            let gets_around =
                |path: &str| self.try_out(scene, target, path).is_some_and(|(reached, _)| !reached.is_empty());
            let shortest = shrink(path, gets_around);
            let (reached, _) = self.try_out(scene, target, &shortest).unwrap_or_default();
            found.bypasses.push((shortest, format!("{}: guard {}: {reached:?}", scene.name, target.place)));
        }
        true
    }

    /// What is reached by a path, and whether the guard let it through.
    fn try_out(&self, scene: &Scene, target: &Target, path: &str) -> Option<(Vec<String>, bool)> {
        let mut request = request(path)?;
        *request.method_mut() = scene.method.parse().unwrap();
        Some(self.runtime.block_on(async {
            let response = apps::send(&target.app, request).await;
            (apps::marks(&response), response.extensions().get::<fastauth::Denial>().is_none())
        }))
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

/// A request without credentials, where the path can stand in one.
fn request(path: &str) -> Option<Request<Body>> {
    let uri: Uri = path.parse().ok()?;
    Some(Request::get(uri).body(Body::empty()).unwrap())
}

fn is_odd(path: &str) -> bool {
    path.contains(['%', '\\', ';']) || path.contains("//") || path.contains("/.")
}
