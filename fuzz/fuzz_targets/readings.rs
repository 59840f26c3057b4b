//! Bytes as a request target: what is explained of it is sound, and the guard does as it is explained.

#![no_main]

use std::{convert::Infallible, sync::LazyLock};

use fastauth::{
    DenialReason, FastAuthLayer, Secret, Settings,
    config::Report,
    path::{Explanation, PathDecision, PathList},
    store::MemoryStore,
};
use http::{Method, Request, Response, Uri};
use libfuzzer_sys::fuzz_target;
use tower::{Layer, ServiceExt, service_fn};

struct Rules {
    report: Report,
    guard: FastAuthLayer,
}

impl Rules {
    fn new(access: &[&str], master: &[&str]) -> Self {
        let settings = Settings::builder()
            .environment([("", ""); 0])
            .directory("/nonexistent")
            .cryptography_key(Secret::generate())
            .master_token(Secret::generate())
            .access_token_paths(access.iter().copied())
            .master_token_paths(master.iter().copied())
            .store(MemoryStore::new());
        let guard = FastAuthLayer::new(settings.clone().build().expect("sound settings")).expect("a layer");
        Self { report: settings.report(), guard }
    }

    fn explain(&self, method: &Method, target: &str) -> Explanation {
        self.report.explain(method, target).expect("sound rules")
    }
}

/// Each asks for at least what the one before it asks for.
static GROWING: LazyLock<[Rules; 3]> = LazyLock::new(|| {
    [
        Rules::new(&["/access"], &["/master/"]),
        Rules::new(&["/access", "/api/access"], &["/master/", "/x/y/"]),
        Rules::new(&["/", "/api/access"], &["/m", "/x/y/"]),
    ]
});

fuzz_target!(|target: &str| {
    for method in [Method::GET, Method::OPTIONS, Method::CONNECT] {
        let explanations = GROWING.each_ref().map(|rules| rules.explain(&method, target));
        for pair in explanations.windows(2) {
            let (fewer, more) = (pair[0].decision(), pair[1].decision());
            assert!(asks(fewer, PathList::Access) <= asks(more, PathList::Access), "{target:?}: {fewer}, then {more}");
            assert!(asks(fewer, PathList::Master) <= asks(more, PathList::Master), "{target:?}: {fewer}, then {more}");
            assert_eq!(fewer == PathDecision::Reject, more == PathDecision::Reject, "{target:?}");
        }
        for (rules, explanation) in GROWING.iter().zip(&explanations) {
            never_less_than_starts_with(explanation, target);
            if let Ok(uri) = target.parse::<Uri>() {
                agrees(rules, explanation, &method, uri);
            }
        }
    }
});

fn asks(decision: PathDecision, list: PathList) -> bool {
    match decision {
        PathDecision::Public => false,
        PathDecision::Access => list == PathList::Access,
        PathDecision::Master => list == PathList::Master,
        _ => true,
    }
}

fn never_less_than_starts_with(explanation: &Explanation, target: &str) {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    if path.starts_with("/access") {
        assert!(asks(explanation.decision(), PathList::Access), "{target:?}");
    }
    if path.starts_with("/master/") {
        assert!(asks(explanation.decision(), PathList::Master), "{target:?}");
    }
}

/// The guard lets through what is public, and refuses all else for the reason that was explained.
fn agrees(rules: &Rules, explanation: &Explanation, method: &Method, uri: Uri) {
    let request = Request::builder().method(method).uri(uri).body(()).expect("a request");
    let inner = service_fn(async |_| Ok::<_, Infallible>(Response::new(String::new())));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let Ok(response) = runtime.block_on(rules.guard.layer(inner).oneshot(request));
    let reason = response.extensions().get::<fastauth::Denial>().map(fastauth::Denial::reason);
    let agree = match (explanation.decision(), reason) {
        (PathDecision::Public, None) => true,
        (PathDecision::Access, Some(DenialReason::MissingAccessToken)) => true,
        (PathDecision::Master | PathDecision::MasterAndAccess, Some(DenialReason::MissingMasterToken)) => true,
        (PathDecision::Reject, Some(DenialReason::Path(refusal))) => explanation.reason() == Some(*refusal),
        _ => false,
    };
    assert!(agree, "{explanation:?}: {reason:?}");
}
