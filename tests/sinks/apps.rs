//! The sinks: applications as they stand behind a guard, with resources that are protected and that say so.

use std::{convert::Infallible, fs, path::Path, sync::Arc};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract,
    response::IntoResponse,
    routing::{MethodRouter, any},
};
use fastauth::{FastAuthLayer, Level, Rule, Secret, Settings, store::MemoryStore};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri};
use reqwest::Url;
use tower::{Layer, Service, ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_http::{normalize_path::NormalizePath, services::ServeDir};

use crate::upstream::{self, UPSTREAMS, parse};

pub(crate) type App = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// Which protected resource answered, and through what.
const REACHED: HeaderName = HeaderName::from_static("x-reached");

/// What requests need that no rule matches, and the rules.
type SceneRules = (Level, fn() -> Vec<Rule>);

/// One set of rules, and where the applications are mounted that it guards.
#[derive(Clone, Copy)]
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    /// The prefixes of the routers around the application, the outermost first.
    mounts: &'static [&'static str],
    access: &'static [&'static str],
    master: &'static [&'static str],
    public: &'static [&'static str],
    rules: Option<SceneRules>,
    /// The method of all requests.
    pub(crate) method: &'static str,
    /// What hostile paths begin with.
    pub(crate) starts: &'static [&'static str],
    /// Which check the rules ask for a resource of the application, by the application's own name for it.
    protects: fn(&str) -> Option<&'static str>,
}

pub(crate) const SCENES: [Scene; 10] = [
    Scene {
        name: "at the root",
        mounts: &[],
        access: &["/access"],
        master: &["/master/"],
        public: &[],
        rules: None,
        method: "GET",
        starts: &["/", "//", "/x", "/public", "/public/", "/x/"],
        protects: listed,
    },
    Scene {
        name: "mounted",
        mounts: &["/api"],
        access: &["/api/access"],
        master: &["/api/master/"],
        public: &[],
        rules: None,
        method: "GET",
        starts: &["/api/", "/api", "/api//", "/api/x", "/api/x/", "/api/../", "/x/../api/"],
        protects: listed,
    },
    Scene {
        name: "mounted twice",
        mounts: &["/api", "/v1"],
        access: &["/api/v1/access"],
        master: &["/api/v1/master/"],
        public: &[],
        rules: None,
        method: "GET",
        starts: &["/api/v1", "/api/v1/", "/api//v1/", "/api//v1//", "/api/v1/x", "/api/v1/../", "/api/v1/x/"],
        protects: listed,
    },
    Scene {
        name: "all but public",
        mounts: &[],
        access: &["/"],
        master: &[],
        public: &["/public"],
        rules: None,
        method: "GET",
        starts: &["/public", "/public/", "/public/..", "/public/x", "/public/x/"],
        protects: unlisted,
    },
    Scene {
        name: "all but public, mounted",
        mounts: &["/api"],
        access: &["/"],
        master: &[],
        public: &["/api/public"],
        rules: None,
        method: "GET",
        starts: &["/api/public", "/api/public/", "/api//public", "/api/public/../", "/api/public/x"],
        protects: unlisted,
    },
    Scene {
        rules: Some((Level::Access, || {
            vec![Rule::prefix("/public").public(), Rule::prefix("/public/access").access()]
        })),
        protects: |path| if below(path, "/public/access") { Some("access") } else { unlisted(path) },
        starts: &["/public", "/public/", "/public/..", "/public/x", "/public/access", "/public/x/"],
        ..Scene::new("all but what a rule opens")
    },
    Scene {
        mounts: &["/api"],
        rules: Some((Level::Access, || {
            vec![Rule::prefix("/api/public/{id}").public(), Rule::exact("/api/public/{id}/access").both()]
        })),
        protects: |path| {
            let id = path.strip_prefix("/public/").filter(|id| !id.starts_with('/') && !id.is_empty());
            let has_access = id.and_then(|id| id.split_once('/')).is_some_and(|(_, rest)| rest == "access");
            (id.is_none() || has_access).then_some("access")
        },
        starts: &[
            "/api/public",
            "/api/public/",
            "/api//public",
            "/api/public/../",
            "/api/public/x/",
            "/api/public/x/access",
        ],
        ..Scene::new("all but what a pattern opens, mounted")
    },
    Scene {
        rules: Some((Level::Public, || {
            vec![
                Rule::prefix("/access").access(),
                Rule::prefix("/access/{id}").access(),
                Rule::prefix("/master/{*rest}").master(),
            ]
        })),
        protects: |path| match path {
            _ if below(path, "/access") => Some("access"),
            // The router takes a parameter for what is empty.
            _ if below(path, "/master") && path.len() > "/master/".len() => Some("master"),
            _ => None,
        },
        starts: &["/", "//", "/x", "/public", "/public/", "/x/", "/master//"],
        ..Scene::new("what rules guard")
    },
    Scene {
        mounts: &["/api", "/v1"],
        rules: Some((Level::Public, || {
            vec![
                Rule::exact("/api/v1/access/{id}").methods(["POST", "GET"]).access(),
                Rule::prefix("/api/v1/access/{id}/x").deny(),
                Rule::prefix("/api/v1/{tenant}/access").master(),
                Rule::prefix("/api/v1/access").methods(["POST"]).public(),
            ]
        })),
        method: "POST",
        protects: |path| {
            let segments: Vec<_> = path.split('/').skip(1).collect();
            match segments[..] {
                // The route of a rest is for more than one segment as well.
                ["access", id] | ["access", id, ""] if !id.is_empty() && !id.starts_with("{*") => Some("access"),
                ["access", _, "x", ..] => Some("deny"),
                [_, "access", ..] => Some("master"),
                _ => None,
            }
        },
        starts: &[
            "/api/v1",
            "/api/v1/",
            "/api//v1/",
            "/api//v1//",
            "/api/v1/access/",
            "/api/v1/../",
            "/api/v1/x/access",
        ],
        ..Scene::new("what patterns guard, mounted twice")
    },
    Scene {
        rules: Some((Level::Access, || {
            vec![Rule::prefix("/").methods(["GET"]).public(), Rule::exact("/public/{id}").methods(["PUT"]).public()]
        })),
        method: "PUT",
        protects: |path| {
            let id = path.strip_prefix("/public/").map(|id| id.strip_suffix('/').unwrap_or(id));
            let is_open = id.is_some_and(|id| !id.is_empty() && !id.contains('/'));
            (!is_open).then_some("access")
        },
        starts: &["/public", "/public/", "/public/..", "/public/x", "/public/x/"],
        ..Scene::new("what rules leave to another method")
    },
];

fn below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn listed(path: &str) -> Option<&'static str> {
    let below = |prefix| path.strip_prefix(prefix).is_some_and(|rest: &str| rest.is_empty() || rest.starts_with('/'));
    if path.starts_with("/access") { Some("access") } else { below("/master").then_some("master") }
}

fn unlisted(path: &str) -> Option<&'static str> {
    let public = path.strip_prefix("/public").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    (!public).then_some("access")
}

impl Scene {
    /// A scene at the root, without any guard.
    const fn new(name: &'static str) -> Self {
        Self {
            name,
            mounts: &[],
            access: &[],
            master: &[],
            public: &[],
            rules: None,
            method: "GET",
            starts: &[],
            protects: |_| None,
        }
    }

    pub(crate) fn guard(&self) -> FastAuthLayer {
        let settings = Settings::builder()
            .cryptography_key(Secret::generate())
            .master_token(Secret::generate())
            .access_token_paths(self.access.iter().copied())
            .master_token_paths(self.master.iter().copied())
            .public_paths(self.public.iter().copied())
            .store(MemoryStore::new());
        let settings = match self.rules {
            Some((default_level, rules)) => settings.default_level(default_level).rules(rules()),
            None => settings,
        };
        FastAuthLayer::new(settings.build().unwrap()).unwrap()
    }

    /// Whether a path asks for a check as it stands, so that the worst of guards would see it.
    pub(crate) fn protects_as_sent(&self, path: &str) -> bool {
        let mount = self.mounts.concat();
        path.strip_prefix(&mount).and_then(self.protects).is_some()
    }

    /// With exemptions, what is reached is what is *not* in a list, and few sinks take that for something listed.
    pub(crate) fn has_no_exemptions(&self) -> bool {
        self.public.is_empty() && self.rules.is_none()
    }

    pub(crate) fn below_mounts(&self, path: &str) -> String {
        self.mounts.concat() + path
    }

    /// The applications, with nothing before them.
    pub(crate) fn sinks(&self, files: &Path) -> Vec<Sink> {
        let mut sinks: Vec<_> = inner_sinks(self.protects, files)
            .into_iter()
            .map(|(name, app)| Sink::new(name, app, self.mounts))
            .collect();
        if let [outer, inner @ ..] = self.mounts {
            let flattened = |app| nest(&[outer], nest(inner, app, true), false);
            let files = Router::new().fallback_service(serve_files(self.protects, files));
            let mut flat = vec![("nested routes", routes(self.protects, "")), ("nested files", files)];
            flat.extend(NESTED_PROXIES.iter().map(|proxy| (proxy.name, parameter_proxy(proxy, self.protects))));
            for (name, app) in flat {
                sinks.push(Sink { app: flattened(app.clone()), ..Sink::new(name, app, self.mounts) });
            }
        }
        sinks
    }
}

/// An application that guards are tried before.
pub(crate) struct Sink {
    pub(crate) name: &'static str,
    app: Router,
    mounts: &'static [&'static str],
    /// The part that can have the guard around it and be mounted with it.
    guarded_inside: Option<Router>,
}

impl Sink {
    fn new(name: &'static str, app: Router, mounts: &'static [&'static str]) -> Self {
        let mounted = nest(mounts, app.clone(), true);
        Self { name, app: mounted, mounts, guarded_inside: (!mounts.is_empty()).then_some(app) }
    }

    pub(crate) fn unguarded(&self) -> App {
        App::new(self.app.clone())
    }

    /// The placements of a guard that belong to this application alone.
    pub(crate) fn guarded(&self, guard: &FastAuthLayer) -> Vec<(&'static str, App)> {
        let layered = self.app.clone().layer(guard.clone());
        let mut placements = vec![
            ("Router::layer", App::new(layered.clone())),
            ("Router::layer below NormalizePath", App::new(NormalizePath::trim_trailing_slash(layered))),
        ];
        if let Some(inner) = &self.guarded_inside {
            let inside = nest(self.mounts, inner.clone().layer(guard.clone()), true);
            placements.push(("Router::layer inside", App::new(inside)));
        }
        placements
    }
}

/// All applications in one: what any of them answers is in the headers.
pub(crate) fn all(sinks: &[Sink]) -> App {
    let apps: Arc<Vec<_>> = Arc::new(sinks.iter().map(|sink| (sink.name, sink.unguarded())).collect());
    App::new(service_fn(move |request: Request<Body>| {
        let apps = Arc::clone(&apps);
        async move {
            let mut gathered = Response::new(Body::empty());
            for (name, app) in apps.iter() {
                for mark in reached(app, copy(&request)).await {
                    append(gathered.headers_mut(), &format!("{name}, {mark}"));
                }
            }
            Ok(gathered)
        }
    }))
}

/// The guard around everything, where it is best placed.
pub(crate) fn guarded(app: App, guard: &FastAuthLayer) -> App {
    App::new(guard.layer(app).map_response(|response| response.map(Body::new)))
}

/// What a request reached of what is protected.
pub(crate) async fn reached(app: &App, request: Request<Body>) -> Vec<String> {
    marks(&send(app, request).await)
}

pub(crate) async fn send(app: &App, request: Request<Body>) -> Response<Body> {
    let Ok(response) = app.clone().oneshot(request).await;
    response
}

pub(crate) fn marks(response: &Response<Body>) -> Vec<String> {
    let marks = response.headers().get_all(REACHED);
    marks.iter().map(|mark| String::from_utf8_lossy(mark.as_bytes()).into_owned()).collect()
}

pub(crate) fn copy(request: &Request<Body>) -> Request<Body> {
    let mut copy = Request::new(Body::empty());
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    copy.extensions_mut().clone_from(request.extensions());
    copy
}

fn append(headers: &mut HeaderMap, mark: &str) {
    headers.append(REACHED, HeaderValue::from_str(mark).unwrap());
}

/// `nest_service` for each prefix, or `nest`, which makes one router of all.
fn nest(mounts: &[&str], app: Router, as_service: bool) -> Router {
    mounts.iter().rev().fold(app, |app, prefix| match as_service {
        true => Router::new().nest_service(prefix, app),
        false => Router::new().nest(prefix, app),
    })
}

/// All that can be reached: applications, and the upstreams of those that are proxies.
pub(crate) fn names(sinks: &[Sink]) -> Vec<String> {
    let of_sink = |sink: &Sink| {
        let name = sink.name;
        match RAW_PROXIES.iter().chain(&PARAMETER_PROXIES).chain(&NESTED_PROXIES).any(|proxy| proxy.name == name) {
            true => UPSTREAMS.iter().map(|upstream| format!("{name}, {}", upstream.name)).collect(),
            false => vec![name.to_owned()],
        }
    };
    sinks.iter().flat_map(of_sink).collect()
}

type Protects = fn(&str) -> Option<&'static str>;

fn inner_sinks(protects: Protects, files: &Path) -> Vec<(&'static str, Router)> {
    let behind = |service| Router::new().fallback_service(service);
    let mut sinks = vec![
        ("routes", routes(protects, "")),
        ("catch-all", catch_all(protects)),
        ("files", behind(serve_files(protects, files))),
        ("NormalizePath, routes", {
            let trimmed = NormalizePath::trim_trailing_slash(routes(protects, ""));
            Router::new().fallback_service(trimmed)
        }),
        ("NormalizePath with slash, routes", {
            let appended = NormalizePath::append_trailing_slash(routes(protects, "/"));
            Router::new().fallback_service(appended)
        }),
        ("NormalizePath, files", {
            let trimmed = NormalizePath::trim_trailing_slash(behind(serve_files(protects, files)));
            Router::new().fallback_service(trimmed)
        }),
    ];
    sinks.extend(RAW_PROXIES.iter().map(|proxy| {
        let handler = async move |uri: Uri| answer(proxy, protects, path_and_query(&uri));
        (proxy.name, Router::new().fallback(handler))
    }));
    sinks.extend(PARAMETER_PROXIES.iter().map(|proxy| (proxy.name, parameter_proxy(proxy, protects))));
    sinks
}

fn parameter_proxy(proxy: &'static Proxy, protects: Protects) -> Router {
    let handler = async move |extract::Path(rest): extract::Path<String>| answer(proxy, protects, &rest);
    Router::new().route("/{*rest}", any(handler))
}

/// Routes as applications have them. `end` is what they end in.
fn routes(protects: Protects, end: &str) -> Router {
    let paths = ["/access", "/access/x", "/access/{id}", "/access/{id}/x", "/master", "/master/{id}", "/public/{id}"];
    paths.iter().fold(Router::new(), |router, path| router.route(&format!("{path}{end}"), marked(protects(path))))
}

fn catch_all(protects: Protects) -> Router {
    let paths = ["/access/{*rest}", "/master/{*rest}", "/public/{*rest}"];
    paths.iter().fold(Router::new(), |router, path| router.route(path, marked(protects(path))))
}

fn marked(mark: Option<&'static str>) -> MethodRouter {
    any(async move || {
        let mut headers = HeaderMap::new();
        if let Some(mark) = mark {
            append(&mut headers, mark);
        }
        headers
    })
}

/// Files, each of which holds its own name.
pub(crate) fn make_files(root: &Path) {
    for name in [
        "access/x",
        "access/public",
        "access/index.html",
        "accessible",
        "master/x",
        "public/x",
        "public/access/x",
        "x/x",
    ] {
        let file = root.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, format!("/{name}")).unwrap();
    }
}

fn serve_files(protects: Protects, root: &Path) -> App {
    let files = ServeDir::new(root);
    App::new(service_fn(move |request: Request<Body>| {
        let mut files = files.clone();
        async move {
            let Ok(response) = files.call(request).await;
            if !response.status().is_success() {
                return Ok(response.map(Body::new));
            }
            let content = to_bytes(Body::new(response.into_body()), 1 << 10).await.unwrap();
            let mut answer = Response::new(Body::empty());
            if let Some(mark) = protects(std::str::from_utf8(&content).unwrap()) {
                append(answer.headers_mut(), mark);
            }
            Ok(answer)
        }
    }))
}

/// How a proxy makes the path that it asks its upstream for, of what it was given.
struct Proxy {
    name: &'static str,
    /// What the upstream's resources are below. No hostile path names it: who climbs out of the base and back in
    /// knows the upstream's own paths, and those no guard in front of the proxy can know.
    base: &'static str,
    forward: fn(&str) -> Option<String>,
}

/// These are given the path and query as they were sent, with the mount stripped.
const RAW_PROXIES: [Proxy; 6] = [
    Proxy {
        name: "hyper proxy",
        base: "",
        forward: |target| {
            let uri = Uri::builder().scheme("http").authority("upstream").path_and_query(target).build();
            uri.ok().map(|uri| uri.path().to_owned())
        },
    },
    Proxy {
        name: "Url::parse",
        base: "",
        forward: |target| Some(parse(&format!("http://upstream{target}"))?.path().to_owned()),
    },
    Proxy {
        name: "Url::parse below a base",
        base: "/base",
        forward: |target| Some(parse(&format!("http://upstream/base{target}"))?.path().to_owned()),
    },
    Proxy { name: "Url::join", base: "", forward: join },
    Proxy { name: "Url::set_path", base: "", forward: |target| set_path(target.split('?').next()?) },
    Proxy { name: "Url segments", base: "", forward: |target| push_segments(target.split('?').next()?) },
];

/// These are given what an axum `Path` makes of `/{*rest}`: decoded, and without the slash before it.
const PARAMETER_PROXIES: [Proxy; 8] = [
    Proxy { name: "parameter", base: "", forward: |rest| Some(format!("/{rest}")) },
    Proxy {
        name: "parameter, hyper proxy",
        base: "",
        forward: |rest| Some(format!("http://upstream/{rest}").parse::<Uri>().ok()?.path().to_owned()),
    },
    Proxy {
        name: "parameter, Url::parse",
        base: "",
        forward: |rest| Some(parse(&format!("http://upstream/{rest}"))?.path().to_owned()),
    },
    Proxy {
        name: "parameter, Url::parse below a base",
        base: "/base",
        forward: |rest| Some(parse(&format!("http://upstream/base/{rest}"))?.path().to_owned()),
    },
    Proxy { name: "parameter, Url::join", base: "", forward: join },
    Proxy { name: "parameter, Url::join with a slash", base: "", forward: |rest| join(&format!("/{rest}")) },
    Proxy { name: "parameter, Url::set_path", base: "", forward: set_path },
    Proxy { name: "parameter, Url segments", base: "", forward: push_segments },
];

/// As those, but nested as routes, which take no slash more than they are mounted at.
const NESTED_PROXIES: [Proxy; 3] = [
    Proxy {
        name: "nested parameter, Url::parse",
        base: "",
        forward: |rest| Some(parse(&format!("http://upstream/{rest}"))?.path().to_owned()),
    },
    Proxy { name: "nested parameter, Url::join", base: "", forward: join },
    Proxy { name: "nested parameter, Url::join with a slash", base: "", forward: |rest| join(&format!("/{rest}")) },
];

fn path_and_query(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", |target| target.as_str())
}

fn upstream() -> Url {
    Url::parse("http://upstream/").unwrap()
}

fn join(reference: &str) -> Option<String> {
    Some(upstream::join(&upstream(), reference)?.path().to_owned())
}

fn set_path(path: &str) -> Option<String> {
    let mut url = upstream();
    url.set_path(path);
    Some(url.path().to_owned())
}

fn push_segments(path: &str) -> Option<String> {
    let mut url = upstream();
    url.path_segments_mut().ok()?.pop_if_empty().extend(path.split('/'));
    Some(url.path().to_owned())
}

/// What each of the upstreams answers, all in one.
fn answer(proxy: &Proxy, protects: Protects, given: &str) -> impl IntoResponse + use<> {
    let mut headers = HeaderMap::new();
    if let Some(path) = (proxy.forward)(given) {
        for upstream in &UPSTREAMS {
            let resource = (upstream.view)(&path);
            let resource = resource.as_deref().and_then(|path| path.strip_prefix(proxy.base));
            if let Some(mark) = resource.and_then(protects) {
                append(&mut headers, &format!("{}: {mark}", upstream.name));
            }
        }
    }
    headers
}
