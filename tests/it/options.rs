//! What the options of paths do to requests.

use fastauth::{FastAuthLayer, Level, PathCounts, Rule, SettingsBuilder, config::Ambiguous};
use http::{Method, StatusCode};

use crate::app::{MASTER, access_token, app, get_request, send, settings};

fn layer(settings: SettingsBuilder) -> FastAuthLayer {
    FastAuthLayer::new(settings.build().unwrap()).unwrap()
}

async fn status(layer: &FastAuthLayer, target: &str) -> u16 {
    send(&app(layer.clone()), get_request(target, &[])).await.status().as_u16()
}

#[tokio::test]
async fn exemptions_are_strict() {
    let layer = layer(
        settings().access_token_paths(["/"]).master_token_paths(["/master"]).public_paths(["/health", "/master/open"]),
    );
    for (target, expected) in [
        ("/health", 200),
        ("/health/", 404),
        ("/healthy", 401),
        ("/health/../access/health", 401),
        ("/health%2f..%2faccess", 401),
        ("/health;x", 401),
        ("/health/%zz", 400),
        ("/master/open", 404),
        ("/master/open/../health", 401),
    ] {
        assert_eq!(status(&layer, target).await, expected, "{target}");
    }
}

/// The router brings its own guard, which no list and no option opens.
#[tokio::test]
async fn issuing_is_guarded_whatever_the_options_say() {
    let exempt = layer(settings().public_paths(["/", "/auth", "/auth/token/new"]));
    let shadow = layer(settings().shadow(true));
    for layer in [exempt, shadow] {
        for target in ["/auth/token/new", "/auth/token/new?client_id=c"] {
            assert_eq!(status(&layer, target).await, 401, "{target}");
        }
    }
}

#[tokio::test]
async fn shadow_lets_everything_through_and_permits_what_it_checked() {
    let layer = layer(settings().shadow(true));
    let token = access_token(&layer, "alice").await;
    access_token(&layer, "alice").await;
    for target in ["/access/health", "/master/health"] {
        assert_eq!(status(&layer, target).await, 200, "{target}");
    }
    assert_eq!(status(&layer, "/access/%zz").await, 404);
    let superseded = get_request("/access/health", &[("access-token", token.expose())]);
    assert_eq!(send(&app(layer), superseded).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn preflights_pass_where_that_is_switched_on() {
    let preflight = || {
        let headers = [("origin", "https://a.example"), ("access-control-request-method", "GET")];
        let mut request = get_request("/access/health", &headers);
        *request.method_mut() = Method::OPTIONS;
        request
    };
    let (off, on) = (layer(settings()), layer(settings().skip_preflight(true)));
    assert_eq!(send(&app(off), preflight()).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(send(&app(on.clone()), preflight()).await.status(), StatusCode::METHOD_NOT_ALLOWED);
    let mut without_origin = preflight();
    without_origin.headers_mut().remove("origin");
    assert_eq!(send(&app(on.clone()), without_origin).await.status(), StatusCode::UNAUTHORIZED);
    let mut get = preflight();
    *get.method_mut() = Method::GET;
    assert_eq!(send(&app(on), get).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn case_windows_and_latin_1() {
    let folded = layer(settings().case_insensitive(true));
    assert_eq!(status(&folded, "/ACCESS/health").await, 401);
    assert_eq!(status(&layer(settings()), "/ACCESS/health").await, 404);
    let windows = layer(settings().access_token_paths(["/access/"]).windows(true));
    assert_eq!(status(&windows, "/access./health").await, 401);
    let latin = layer(settings().ambiguous(Ambiguous::Protect));
    assert_eq!(status(&latin, "/caf%E9").await, 401);
    assert_eq!(status(&layer(settings()), "/caf%E9").await, 400);
}

#[tokio::test]
async fn a_base_path_is_matched_with_and_without() {
    let based = layer(settings().access_token_paths(["/api/access", "/other"]).base_path("/api"));
    for (target, expected) in [("/access/x", 401), ("/api/access/x", 401), ("/other", 401), ("/health", 200)] {
        assert_eq!(status(&based, target).await, expected, "{target}");
    }
}

/// The guard sees one of the two, and cannot tell which. So what opens has to be written both ways, while a guard counts either way.
#[tokio::test]
async fn what_opens_has_to_be_written_with_and_without_the_base_path() {
    let status_with = async |settings: SettingsBuilder| status(&layer(settings.base_path("/api")), "/health").await;
    let ruled = |paths: &[&str]| {
        let rules = paths.iter().map(|path| Rule::exact(*path).public());
        settings().access_token_paths::<&str>([]).master_token_paths::<&str>([]).rules(rules)
    };
    let listed = |paths: &[&str]| settings().access_token_paths(["/"]).public_paths(paths.iter().copied());
    for settings in [ruled, listed] as [fn(&[&str]) -> SettingsBuilder; 2] {
        assert_eq!(status_with(settings(&["/health"])).await, 401);
        assert_eq!(status_with(settings(&["/api/health"])).await, 401);
        assert_eq!(status_with(settings(&["/health", "/api/health"])).await, 200);
    }
    let guarded = |path: &str| settings().default_level(Level::Public).rules([Rule::exact(path).access()]);
    for path in ["/health", "/api/health"] {
        assert_eq!(status_with(guarded(path)).await, 401, "{path}");
    }
}

/// The layer is outside of what strips the base path.
#[tokio::test]
async fn what_guards_counts_where_the_base_path_is_not_stripped() {
    let ruled = settings().default_level(Level::Public).rules([Rule::prefix("/admin").deny()]).base_path("/nest");
    let ruled = layer(ruled);
    let listed = layer(settings().access_token_paths(["/admin"]).base_path("/nest"));
    for (target, denied) in [
        ("/nest/admin", true),
        ("/nest/admin/x", true),
        ("/%6eest/admin", true),
        ("//nest/admin", true),
        ("/x/../nest/admin", true),
        ("/nest//host/admin", true),
        ("/admin", true),
        ("/nest", false),
        ("/nested/admin", false),
        ("/nest/health", false),
    ] {
        assert_eq!(status(&ruled, target).await == 403, denied, "{target}");
        assert_eq!(status(&listed, target).await == 401, denied, "{target}");
    }
}

/// There is no other way to send these paths. Any other escape may be another path to a router.
#[tokio::test]
async fn what_opens_is_met_by_the_escapes_that_it_needs() {
    let ruled = |path: &str| {
        let settings = settings().access_token_paths::<&str>([]).master_token_paths::<&str>([]);
        layer(settings.default_level(Level::Access).rules([Rule::prefix(path).public()]))
    };
    let listed = |path: &str| layer(settings().access_token_paths(["/"]).public_paths([path]));
    for make in [ruled, listed] as [fn(&str) -> FastAuthLayer; 2] {
        for (path, target, opens) in [
            ("/caf%C3%A9", "/caf%C3%A9", true),
            ("/café", "/caf%C3%A9/x", true),
            ("/sp%20ace", "/sp%20ace/x", true),
            ("/café", "/caf%c3%a9", false),
            ("/cafe", "/caf%65", false),
            ("/café", "/caf%C3%A9s", false),
            ("/café", "/caf%C3%A9/../x", false),
            ("/café", "/caf%25C3%25A9", false),
        ] {
            // The application has no such route.
            let expected = if opens { 404 } else { 401 };
            assert_eq!(status(&make(path), target).await, expected, "{path} {target}");
        }
    }
}

#[tokio::test]
async fn odd_paths_are_counted() {
    let layer = layer(settings());
    for target in ["/health", "/access/health", "//access/health", "/%61ccess/x", "/access/%zz"] {
        status(&layer, target).await;
    }
    let PathCounts { refused, only_by_other_reading, .. } = layer.path_counts();
    assert_eq!((refused, only_by_other_reading), (1, 2));
}

/// The master token is read before it is checked, and a request without one is refused by then.
#[tokio::test]
async fn odd_path_to_a_master_path_is_counted_whatever_the_request_presents() {
    let layer = layer(settings());
    for headers in [&[][..], &[("master-token", "a"), ("master-token", "b")], &[("master-token", "wrong")]] {
        let response = send(&app(layer.clone()), get_request("//master/health", headers)).await;
        assert!(response.status().is_client_error(), "{}", response.status());
    }
    assert_eq!(layer.path_counts().only_by_other_reading, 3);
}

#[tokio::test]
async fn a_path_of_more_than_8_kib_is_414() {
    let layer = layer(settings());
    assert_eq!(status(&layer, &format!("/{}", "x".repeat(8 * 1024))).await, 414);
    assert_eq!(status(&layer, &format!("/{}", "x".repeat(8 * 1024 - 1))).await, 404);
    let long_query = get_request(&format!("/master/health?{}", "x".repeat(9 * 1024)), &[("master-token", MASTER)]);
    assert_eq!(send(&app(layer), long_query).await.status(), StatusCode::OK);
}
