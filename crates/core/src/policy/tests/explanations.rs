//! Explanations of decisions.

use super::*;

#[test]
fn an_explanation_shows_each_step() {
    let rules = rules_with(&["/master"], &["/access/", "/acc"], &["/x"], PLAIN);
    let explanation = rules.explain(&Method::GET, "/x//%2e./access?q");
    let reading = |at: usize| &explanation.readings()[at];
    assert_eq!(explanation.decision(), PathDecision::Access);
    assert_eq!(reading(0).text(), "/x//%2e./access");
    assert_eq!((reading(0).step(), reading(0).from()), (Step::AsSent, None));
    assert_eq!(reading(0).met(PathList::Public), ["/x"]);
    let by = &explanation.decided_by()[0];
    assert_eq!((by.list(), by.prefix()), (PathList::Access, "/acc"));
    assert_eq!(reading(by.reading()).text(), "/access");
    assert_eq!(reading(by.reading()).met(PathList::Access), ["/acc", "/access/"]);
    assert_eq!(reading(by.reading()).step(), Step::RemoveDotSegments);
}

#[test]
fn an_explanation_says_why() {
    let rules = rules_with(&["/master"], &["/"], &["/health"], PLAIN);
    for (method, target, decision, reason) in [
        ("GET", "/health", "public", None),
        ("GET", "/master", "master+access", None),
        ("GET", "http://h/x", "access", None),
        ("GET", "/%", "reject", Some("malformed escape")),
        ("GET", "host:1", "reject", Some("request target")),
        ("GET", "access", "reject", Some("request target")),
        ("GET", "a/b", "reject", Some("request target")),
        ("GET", "", "reject", Some("request target")),
        ("GET", "/a b", "reject", Some("request target")),
        ("CONNECT", "host:1", "access", None),
    ] {
        let explanation = rules.explain(&method.parse().unwrap(), target);
        assert_eq!(explanation.decision().to_string(), decision, "{target}");
        assert_eq!(explanation.reason().map(|reason| reason.to_string()).as_deref(), reason, "{target}");
    }
    let long = format!("/{}", "a".repeat(70_000));
    assert_eq!(rules.explain(&Method::GET, &long).reason(), Some(PathRefusal::TargetTooLong));
    let by = rules.explain(&Method::GET, "/health/x").decided_by().to_vec();
    assert_eq!((by[0].list(), by[0].prefix(), by[0].reading()), (PathList::Public, "/health", 0));
    let protect = rules_with(&[], &["/x"], &[], PROTECT).explain(&Method::GET, "/%");
    assert_eq!((protect.decision(), protect.reason()), (PathDecision::Access, Some(PathRefusal::MalformedEscape)));
}

#[test]
fn an_explanation_is_data() {
    let rules = rules(&["/master"], &["/access"]);
    let json = serde_json::to_value(rules.explain(&Method::GET, "//access")).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "decision": "access",
            "decided_by": [{"list": "access", "prefix": "/access", "reading": 1}],
            "readings": [
                {"text": "//access", "step": "as-sent", "master": [], "access": [], "public": []},
                {"text": "/access", "step": "merge-slashes", "from": 0, "master": [], "access": ["/access"], "public": []},
                {"text": "/", "step": "drop-authority", "from": 0, "master": [], "access": [], "public": []},
            ],
        })
    );
    let json = serde_json::to_value(rules.explain(&Method::GET, "/%00")).unwrap();
    assert_eq!(json["decision"], "reject");
    assert_eq!(json["reason"], "control character");
}
