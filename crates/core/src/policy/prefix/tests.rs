use proptest::prelude::*;

use super::*;

fn text_and_form(written: &str) -> (String, Form) {
    let prefix = Prefix::parse(written).unwrap();
    (prefix.text().to_owned(), prefix.form())
}

#[test]
fn forms() {
    assert_eq!(text_and_form("/access"), ("/access".into(), Form::Plain));
    assert_eq!(text_and_form("/access/"), ("/access".into(), Form::Segment));
    assert_eq!(text_and_form("/"), ("/".into(), Form::Plain));
    assert_eq!(text_and_form("/a.b/.well-known/x"), ("/a.b/.well-known/x".into(), Form::Plain));
    assert_eq!(text_and_form("/caf%C3%A9"), text_and_form("/café"));
    assert_eq!(text_and_form("/a%20b"), ("/a b".into(), Form::Plain));
}

/// Returns true if a path meets a guard with this text.
fn guards(written: &str, path: &str) -> bool {
    let prefix = Prefix::parse(written).unwrap();
    path.strip_prefix(prefix.text())
        .is_some_and(|rest| prefix.form() == Form::Plain || rest.is_empty() || rest.starts_with('/'))
}

/// Returns the text that an error says to write.
fn spelling(remedy: &str) -> String {
    serde_json::from_str(&remedy[remedy.find('"').unwrap()..]).unwrap()
}

#[test]
fn errors_say_what_to_write() {
    const LIST: &str = "is a list of paths in one text; make each path an entry of its own, the first";
    const ROOT: &str = "must begin with `/`; write";
    const WITHIN: &str = "has white space within, which is written `%20`; write";
    const QUERY: &str = "has a `?` or `#`, but only the path is matched; write";
    const CONTROL: &str = "has a control character; write";
    const PERCENT: &str = "has a `%` without two hex digits after it; write";
    const DOTS: &str = "has a dot segment; write";
    // With a path that what is to be written has to guard.
    for (name, written, message, remedy, guarded) in [
        ("empty", "", "is empty; to guard everything write", "/", "/x"),
        ("no slash", "access", ROOT, "/access", "/access/7"),
        ("a URL", "https://example.com/access", ROOT, "/access", "/access/7"),
        ("a host", "https://example.com", ROOT, "/", "/x"),
        ("a host without a scheme", "example.com", ROOT, "/", "/x"),
        ("a host and a path", "app.example/api", ROOT, "/", "/api/7"),
        ("a host and a port", "localhost:8080/api", ROOT, "/", "/api/7"),
        ("a host after slashes", "//app.example/api", "has a doubled slash; write", "/", "/api/7"),
        ("a method", "GET /api", ROOT, "/api", "/api/7"),
        ("a method and a colon", "POST:/api", ROOT, "/api", "/api/7"),
        ("a kind", "REGEX:/api", ROOT, "/api", "/api/7"),
        ("half a scheme", "http:/api", ROOT, "/api", "/api/7"),
        ("quoted", "\"/api\"", ROOT, "/api", "/api/7"),
        ("quoted by one", "'/api'", ROOT, "/api", "/api/7"),
        ("quoted by others", "\u{201c}/api\u{201d}", ROOT, "/api", "/api/7"),
        ("of a list", "- /api", ROOT, "/api", "/api/7"),
        ("negated", "!/api", ROOT, "/api", "/api/7"),
        ("relative", "./api", ROOT, "/api", "/api/7"),
        ("from above", "../api", ROOT, "/api", "/api/7"),
        ("with a mark before", "\u{feff}/api", ROOT, "/api", "/api/7"),
        ("with nothing before", "\u{200b}/api", ROOT, "/api", "/api/7"),
        ("a method without a slash", "GET api", ROOT, "/", "/api/7"),
        ("list by comma", "/api,/admin", LIST, "/api", "/api/7"),
        ("list by comma and space", "/api, /admin", LIST, "/api", "/api/7"),
        ("list by semicolon", "/api;/admin", LIST, "/api", "/api/7"),
        ("list by colon", "/api:/admin", LIST, "/api", "/api/7"),
        ("list by space", "/api /admin", LIST, "/api", "/api/7"),
        ("list by line", "/api\n/admin", LIST, "/api", "/api/7"),
        ("list by tab", "/api\t/admin", LIST, "/api", "/api/7"),
        ("list that ends early", "/api,", LIST, "/api", "/api/7"),
        ("list without a slash", "api,/admin", ROOT, "/", "/api/7"),
        ("space before", " /access", "has white space around it; write", "/access", "/access/7"),
        ("newline after", "/access\n", "has white space around it; write", "/access", "/access/7"),
        ("space within", "/my files", WITHIN, "/my", "/my files"),
        (
            "a wide space",
            "/my\u{3000}files",
            "has white space within, which is written `%E3%80%80`; write",
            "/my",
            "/my\u{3000}files",
        ),
        (
            "not seen",
            "/api/\u{200b}x",
            "has an invisible character, which is written `%E2%80%8B`; write",
            "/api/",
            "/api/x",
        ),
        ("doubled slash", "/a//b", "has a doubled slash; write", "/a/b", "/a/b/7"),
        ("two at the start", "//access", "has a doubled slash; write", "/access", "/access/7"),
        ("dot", "/./access", DOTS, "/access", "/access/7"),
        ("dots", "/x/../access", DOTS, "/access", "/access/7"),
        ("escaped dots", "/x/%2e%2E/access", DOTS, "/access", "/access/7"),
        ("dot last", "/access/.", DOTS, "/access/", "/access/7"),
        ("parameters", "/access;v=1/x", "has a path parameter (`;`); write", "/access", "/access/x"),
        ("backslash", r"/access\x", "has a backslash; write", "/access/x", "/access/x/7"),
        ("query", "/access?x", QUERY, "/access", "/access/7"),
        ("fragment", "/access#x", QUERY, "/access", "/access/7"),
        ("control", "/acc\u{1}ess", CONTROL, "/acc", "/access"),
        ("lone percent", "/100%", PERCENT, "/100", "/100%25"),
        ("half an escape", "/a%2", PERCENT, "/a", "/a/7"),
        ("Latin-1", "/caf%E9", "has escapes that are not UTF-8; write", "/caf", "/caf\u{e9}"),
    ] {
        let error = Prefix::parse(written).expect_err(name);
        assert_eq!(format!("{error}; {}", error.remedy(Use::Guard)), format!("{message} {remedy:?}"), "{name}");
        assert!(guards(remedy, guarded), "{name}: {guarded}");
    }
}

#[test]
fn ambiguous_escapes_are_errors() {
    for escape in ["%2F", "%2f", "%5C", "%25", "%3B", "%3F", "%23", "%00", "%09", "%7F"] {
        let error = Prefix::parse(&format!("/a{escape}b")).unwrap_err();
        assert_eq!((error.fault, &*error.accepted), (PrefixFault::AmbiguousEscape, "/a"), "{escape}");
    }
}

#[test]
fn patterns_are_errors_that_say_what_to_write() {
    for (written, guard) in [
        ("/api/*", "/api/"),
        ("/api/**", "/api/"),
        ("/api/*/x", "/api/"),
        ("/api*", "/api"),
        ("*", "/"),
        ("/*", "/"),
        ("**/api", "/"),
        ("/api/{id}", "/api/"),
        ("/api/{*rest}", "/api/"),
        ("/api/:id", "/api/"),
        ("/:tenant/api", "/"),
        (":tenant", "/"),
        ("/api/<id>", "/api/"),
        ("/api/<int:id>/x", "/api/"),
        ("/api/[id]", "/api/"),
        ("/api/[0-9]+", "/api/"),
        ("/api/(v1|v2)", "/api/"),
        ("/api/(?P<id>x)", "/api/"),
        ("/api/v1|/api/v2", "/api/"),
        ("^/api", "/api"),
        ("^/api/.*$", "/api/"),
        ("~ ^/api", "/api"),
        ("/api$", "/api"),
        ("/api/$id", "/api/"),
        ("/api/${id}", "/api/"),
        ("/api/.+", "/api/"),
        ("/api/\\d+", "/api/"),
        ("/api/+", "/api/"),
        ("/api/...", "/api/"),
        ("/...", "/"),
        ("/api/.../x", "/api/"),
        ("/api...", "/api"),
        ("/api/\u{2026}", "/api/"),
        ("/api/\u{ff0a}", "/api/"),
        ("/api/\u{2217}", "/api/"),
        ("/api/\u{2039}id\u{203a}", "/api/"),
        ("/api/\u{3008}id\u{3009}", "/api/"),
        ("/api/\u{ff5b}id\u{ff5d}", "/api/"),
        ("/api/\u{ff1a}id", "/api/"),
        ("/api/file.:ext", "/api/file."),
        ("/flights/:from-:to", "/flights/"),
        ("/flights/from-:from", "/flights/from-"),
        ("/api/x:id.json", "/api/x"),
        ("/api/.%2B", "/api/"),
        ("/api\"", "/api"),
        ("/api`", "/api"),
        ("/\"/api\"", "/"),
        ("*/api", "/"),
        ("{tenant}/api", "/"),
        ("(?i)/api", "/"),
        ("/api/%2A", "/api/"),
        ("/api/%2a%2a", "/api/"),
        ("/api/%7Bid%7D", "/api/"),
        ("/api/%3Cid%3E", "/api/"),
        ("/api/%3Aid", "/api/"),
        ("/api%2A", "/api"),
    ] {
        let error = Prefix::parse(written).expect_err(written);
        assert!(error.to_string().contains("pattern") || written.contains('\\'), "{written}: {error}");
        assert_eq!(error.remedy(Use::Guard), format!("write {guard:?}"), "{written}");
        // To be told to open more than was meant would be bad advice.
        let of_exemption = error.remedy(Use::Exemption);
        assert!(!of_exemption.contains(&format!("write {guard:?}")), "{written}: {of_exemption}");
    }
}

#[test]
fn what_only_looks_like_a_pattern_is_taken() {
    for (written, text) in [
        ("/v1/users:batch", "/v1/users:batch"),
        ("/a:", "/a:"),
        ("/odata/%24metadata", "/odata/$metadata"),
        ("/wiki/Rust_%28language%29", "/wiki/Rust_(language)"),
        ("/c%2B%2B", "/c++"),
        ("/~user/@scope/it's,a=b&c!", "/~user/@scope/it's,a=b&c!"),
        ("/.well-known/x", "/.well-known/x"),
        ("/a.../b", "/a.../b"),
        ("/a/%2E%2E%2E", "/a/..."),
        ("/v1/users%3Abatch/x", "/v1/users:batch/x"),
        ("/time/12:30/x", "/time/12:30/x"),
        ("/my%20files", "/my files"),
        ("/a%2C/b", "/a,/b"),
        ("/a%E2%80%A6", "/a\u{2026}"),
        ("/a/%EF%BC%8A", "/a/\u{ff0a}"),
        ("/日本/ダウンロード", "/日本/ダウンロード"),
        ("/me\u{301}moire", "/me\u{301}moire"),
    ] {
        assert_eq!(Prefix::parse(written).expect(written).text(), text);
    }
    for written in ["/odata/$metadata", "/wiki/Rust_(language)", "/c++"] {
        let error = Prefix::parse(written).expect_err(written);
        assert!(error.to_string().contains("%24") || error.to_string().contains("%2"), "{written}: {error}");
    }
}

proptest! {
    #[test]
    fn the_spelling_in_an_error_is_accepted(written in "[ -~é\t]{0,3}([/.;,:…%?#\\\\ a-c2F\u{e9}\u{1}]|%2[ef]|://){0,8}") {
        if let Err(error) = Prefix::parse(&written) {
            let remedy = error.remedy(Use::Guard);
            let spelling = spelling(&remedy);
            prop_assert!(Prefix::parse(&spelling).is_ok(), "{:?}: {}", written, remedy);
        }
    }
}
