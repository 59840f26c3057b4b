use http::{Method, Uri};
use proptest::{collection::vec, prelude::*};

use super::{case::fold_char, *};

mod bound;
mod corpus;
mod exemptions;
mod explanations;
mod figures;
mod model;
mod openings;
mod policy;
mod properties;
mod rules;

const PLAIN: PathOptions =
    PathOptions { case_insensitive: false, windows: false, skip_preflight: false, ambiguous: Ambiguous::Refuse };
const NO_CASE: PathOptions = PathOptions { case_insensitive: true, ..PLAIN };
const WINDOWS: PathOptions = PathOptions { windows: true, ..PLAIN };
const PROTECT: PathOptions = PathOptions { ambiguous: Ambiguous::Protect, ..PLAIN };

fn prefixes<S: AsRef<str>>(written: &[S]) -> Vec<Prefix> {
    written.iter().map(|written| Prefix::parse(&written.as_ref().replace(' ', "%20")).unwrap()).collect()
}

fn rules_with(master: &[&str], access: &[&str], public: &[&str], options: PathOptions) -> Rules {
    Rules::new(prefixes(master), prefixes(access), prefixes(public), None, options)
}

fn rules(master: &[&str], access: &[&str]) -> Rules {
    rules_with(master, access, &[], PLAIN)
}

/// Decides on a path, also on one that the http crate would not take.
fn of_path(rules: &Rules, path: &str) -> Result<Requirement, PathRefusal> {
    rules.consider_path(path, Methods::ALL, false, &mut ())
}

fn of_target(rules: &Rules, method: &str, target: &str) -> String {
    said(rules.requirement(&RequestLine::new(&method.parse().unwrap(), &target.parse().unwrap())))
}

fn said(answer: Result<Requirement, PathRefusal>) -> String {
    answer.map_or_else(|refusal| refusal.to_string(), |requirement| PathDecision::from(requirement).to_string())
}

fn texts(path: &str, windows: bool) -> Result<Vec<String>, PathRefusal> {
    Ok(readings(path, windows, 0, &|_| true)?.list.iter().map(|reading| reading.text.to_string()).collect())
}

/// Returns a reading as it is compared, as far as the paths of these tests go: no URI has these characters but escaped, and
/// browsers write capitals.
fn without_needed_escapes(reading: &str) -> String {
    reading.replace("%C3%A9", "é").replace("%20", " ")
}

/// Returns the readings of a path that these rules look at: what is mounted where no prefix and no rule goes on has nothing
/// below it that is guarded otherwise.
fn texts_for(rules: &Rules, path: &str) -> Result<Vec<String>, PathRefusal> {
    let readings = readings(path, rules.options.windows, 0, &|path| rules.is_above(path, &Steps::unlimited()))?;
    Ok(readings.list.into_iter().map(|reading| reading.text.to_string()).collect())
}

#[track_caller]
fn check(rules: &Rules, rows: &[(&str, &str, &str)]) {
    for (name, path, expected) in rows {
        assert_eq!(said(of_path(rules, path)), *expected, "{name}: {path}");
    }
}

#[test]
fn prefixes_mean_what_they_are_documented_to_mean() {
    check(
        &rules(&["/master"], &["/access/", "/files.json"]),
        &[
            ("plain, itself", "/master", "master"),
            ("plain, below", "/master/x", "master"),
            ("plain, longer name", "/mastered", "master"),
            ("plain, extension", "/master.json", "master"),
            ("plain, shorter", "/maste", "public"),
            ("plain, elsewhere", "/x/master", "public"),
            ("segment, itself", "/access", "access"),
            ("segment, with a slash", "/access/", "access"),
            ("segment, below", "/access/x", "access"),
            ("segment, longer name", "/accessible", "public"),
            ("segment, extension", "/access.json", "public"),
            ("case counts", "/MASTER", "public"),
            ("dot in the middle", "/files.json", "access"),
            ("dot is no wildcard", "/filesxjson", "public"),
            ("root", "/", "public"),
        ],
    );
    check(&rules(&[], &["/"]), &[("root", "/", "access"), ("everything", "/x", "access")]);
    check(&rules(&[], &[]), &[("no rules", "/x", "public"), ("refused all the same", "/%", "malformed escape")]);
    check(&rules(&["/a/b"], &["/a"]), &[("one", "/a/c", "access"), ("both", "/a/b", "master+access")]);
    check(&rules(&["/a"], &["/a"]), &[("in both lists", "/a", "master+access")]);
    check(
        &rules(&[], &["/caf%C3%A9", "/a%20b"]),
        &[
            ("as text", "/café/x", "access"),
            ("escaped", "/caf%c3%a9/x", "access"),
            ("no normal form of Unicode", "/cafe\u{301}", "public"),
            ("space", "/a%20b", "access"),
            ("plus is plus", "/a+b", "public"),
        ],
    );
}

#[test]
fn no_spelling_gets_around() {
    let rules = rules(&[], &["/access"]);
    for path in [
        // Slashes.
        "//access/x",
        "///access/f",
        "/access//x",
        "//access/health",
        "/x//../access",
        "/x///..//../access",
        // Dots.
        "/./access/health",
        "/x/../access/health",
        "/../access",
        "/x/y/../../access",
        "/x/../../access",
        "/access/..",
        "/access/..//",
        "//access/..",
        "/access/../public",
        "/access/.",
        "/access/f/.",
        // Escapes.
        "/%61ccess/health",
        "/access%2fhealth",
        "/%2561ccess/health",
        "/%252561ccess",
        "/%2faccess",
        "/%2Faccess",
        "/%2f%2faccess",
        "/%2e/access/f",
        "/.%2faccess/f",
        "/%2e%2faccess/f",
        "/access%2f.%2ff",
        "/x%2f..%2faccess",
        "/x/%2e%2e/access",
        "/x/.%2E/access",
        "/access/%2e%2e",
        "/access/..%2fpublic",
        "/x%2fy/%2e%2e/access",
        "/proxy/%2e%2e/access",
        "/x%252f..%252faccess",
        "/%25%36%31ccess",
        // Backslashes.
        r"/\access/health",
        r"/x\..\access",
        r"/%5caccess",
        r"\access",
        r"/x%5C..%5Caccess",
        r"/\\access",
        // Path parameters.
        "/access;x=1/health",
        "/x/..;/access",
        "/x/..;a=b/access",
        "/;/access",
        "/.;/access",
        "/;x/access",
        "/x/..%3b/access",
        "/x;/..;/..;/access",
        // Cut as a query or a fragment.
        "/access%23f",
        "/access%3fx",
        "/x/%2e%2e/access%3f/../y",
        "/x/../access%2523",
        // A URL again.
        "//x/access",
        r"/\x/access",
        "//x//access",
        "/%2f/x/access",
        "/http:/access",
        "/HTTPS:access",
        "/http://x/access",
        "/http%3a/access",
        "/x/../ws:/access",
        "/https:x/access",
        "/http:/x/access",
        // Beyond.
        "/access/health/",
        "/access/",
        "/accessible",
    ] {
        assert_eq!(said(of_path(&rules, path)), "access", "{path}");
    }
}

#[test]
fn the_segment_form_is_not_gotten_around_either() {
    let rules = rules(&[], &["/access/"]);
    for path in ["/access;v=1", "/access%3fx", "/access%23", "/access%2f", r"/access\", "/access/.", "//access"] {
        assert_eq!(said(of_path(&rules, path)), "access", "{path}");
    }
}

/// A service nested at `/api/v1` takes the rest of a path for a whole one, and climbs no higher than that.
#[test]
fn what_is_mounted_has_a_root_of_its_own() {
    let rules = rules(&[], &["/api/v1/admin"]);
    for path in [
        "/api/v1/../admin",
        "/api/v1/../../admin",
        "/api/v1/x/../../admin",
        "/api/v1/%2e%2e/admin",
        r"/api/v1/..\admin",
        "/api/v1/..;/admin",
        "/api/v1/./x/../../admin",
        "/api/v1//../../admin",
        "/api/v1/..%2fadmin",
        "/api/v1/../admin/../",
        "/api/v1//host/admin",
        "/api//v1///host/admin",
        r"/api/v1/\/host/admin",
        "/api/v1/https:host/admin",
        "/api/v1/http://host/admin",
    ] {
        assert_eq!(said(of_path(&rules, path)), "access", "{path}");
    }
    check(&rules, &[("another root", "/api/v2/../admin", "public"), ("no dots", "/api/v1/x/admin", "public")]);
}

#[test]
fn what_is_read_beyond_the_eight_steps_is_no_reason_to_refuse() {
    let path = format!("/api/v1{}", "//host".repeat(300));
    check(&rules(&["/master"], &["/access"]), &[("nothing is mounted", &path, "public")]);
    let nested = rules_with(&["/master"], &["/api/v1/admin"], &["/api/v1/host"], PLAIN);
    check(&nested, &[("more than can be looked at", &path, "master+access")]);
    assert_eq!(nested.explain(&Method::GET, &path).reason(), Some(PathRefusal::TooManyReadings));
    let below_one_segment = ["/x/http:/access", "/foo//bar/access", "/public//access", "/proxy/https://host/access"];
    for path in below_one_segment {
        assert_eq!(said(of_path(&rules(&[], &["/access"]), path)), "public", "{path}");
    }
}

#[test]
fn what_cannot_be_read_is_refused() {
    check(
        &rules(&[], &["/access"]),
        &[
            ("not hex", "/access/%zz", "malformed escape"),
            ("cut short", "/access%", "malformed escape"),
            ("one digit", "/x%2", "malformed escape"),
            ("UTF-16", "/%u0061ccess", "malformed escape"),
            ("a sign is no digit", "/%+1", "malformed escape"),
            ("lone percent after decoding", "/100%25", "public"),
            ("and before a letter", "/100%25zz", "public"),
            ("overlong slash", "/%c0%afaccess", "not UTF-8"),
            ("overlong dot", "/%c0%ae%c0%ae/access", "not UTF-8"),
            ("Latin-1", "/caf%E9", "not UTF-8"),
            ("surrogate", "/%ed%a0%80", "not UTF-8"),
            ("in the second round", "/%25ff", "not UTF-8"),
            ("UTF-8", "/caf%C3%A9", "public"),
            ("NUL", "/access/health%00", "control character"),
            ("CR LF", "/x%0d%0a", "control character"),
            ("TAB", "/acc%09ess", "control character"),
            ("DEL", "/x%7f", "control character"),
            ("in the second round", "/x%2500", "control character"),
            ("in the third round", "/x%252500", "control character"),
            ("plain", "/x\u{1}", "control character"),
            ("DEL, plain", "/x\u{7f}", "control character"),
            ("encoded three times", "/%252561ccess", "access"),
            ("encoded four times", "/%25252561ccess", "encoded too often"),
            ("encoded five times", "/%2525252561ccess", "encoded too often"),
            ("percent, three times", "/%252525", "public"),
        ],
    );
    let long = |len: usize| format!("/{}", "a".repeat(len - 1));
    let rules = rules(&[], &["/access"]);
    assert_eq!(said(of_path(&rules, &long(8192))), "public");
    assert_eq!(said(of_path(&rules, &long(8193))), "target too long");
    assert_eq!(said(of_path(&rules, &"//a".repeat(128))), "too many readings");
}

#[test]
fn targets() {
    let rules = rules(&["/access/health"], &["/access"]);
    for (name, method, target, expected) in [
        ("origin form", "GET", "/access/health", "master+access"),
        ("query does not count", "GET", "/x?/access", "public"),
        ("nor hides", "GET", "/access?x", "access"),
        ("fragment is cut", "GET", "/access/health#f", "master+access"),
        ("and does not count", "GET", "/x#/access/health", "public"),
        ("absolute form", "GET", "http://host/access/health", "master+access"),
        ("any scheme", "GET", "ftp://user:word@host:1/access", "access"),
        ("upper-case scheme", "GET", "HTTP://host/access", "access"),
        ("absolute, empty path", "GET", "http://host", "public"),
        ("absolute, only a query", "GET", "http://host?/access", "public"),
        ("host does not count", "GET", "http://access/x", "public"),
        ("asterisk", "OPTIONS", "*", "public"),
        ("asterisk elsewhere", "GET", "*", "request target"),
        ("asterisk, CONNECT", "CONNECT", "*", "request target"),
        ("authority", "CONNECT", "host:443", "public"),
        ("authority elsewhere", "GET", "host:443", "request target"),
        ("authority, OPTIONS", "OPTIONS", "host:443", "request target"),
        ("authority, no port", "GET", "host", "request target"),
        ("CONNECT with a path", "CONNECT", "/access/health", "master+access"),
        ("HEAD", "HEAD", "/access", "access"),
        ("OPTIONS", "OPTIONS", "/access", "access"),
        ("unknown method", "BREW", "/access", "access"),
        ("raw UTF-8", "GET", "/é/../access", "access"),
    ] {
        assert_eq!(of_target(&rules, method, target), expected, "{name}");
    }
    let everything = super::tests::rules(&[], &["/"]);
    for (method, target) in [("OPTIONS", "*"), ("CONNECT", "host:443"), ("GET", "http://host")] {
        assert_eq!(of_target(&everything, method, target), "access", "{method} {target}");
    }
}

#[test]
fn exemptions_are_segments_and_hold_for_every_reading() {
    let rules = rules_with(&["/admin"], &["/"], &["/health", "/docs/"], PLAIN);
    check(
        &rules,
        &[
            ("itself", "/health", "public"),
            ("below", "/health/live", "public"),
            ("slash at the end", "/docs", "public"),
            ("not a longer name", "/healthy", "access"),
            ("not an extension", "/health.json", "access"),
            ("all readings below", "/health//live", "public"),
            ("escaped", "/%68ealth", "access"),
            ("out by dots", "/health/../admin", "master+access"),
            ("out by escaped dots", "/health/%2e%2e/admin", "master+access"),
            ("out by escaped dots alone", "/health/%2e%2e/he%61lth", "access"),
            ("out by a cut", "/health%3f/../../admin", "master+access"),
            ("in by dots", "/admin/../health", "master+access"),
            ("refused", "/health/%00", "control character"),
        ],
    );
    let all = rules_with(&["/x"], &["/y"], &["/"], PLAIN);
    check(
        &all,
        &[("an exemption of everything", "/x", "master"), ("whatever the reading", "/x/../y%2f", "master+access")],
    );
    let no_case = rules_with(&["/"], &[], &["/health"], NO_CASE);
    check(&no_case, &[("case counts", "/HEALTH", "master"), ("as it is", "/health", "public")]);
    check(&rules_with(&["/"], &[], &["/health"], PROTECT), &[("ambiguous", "/health/%ff", "master")]);
}

#[test]
fn case_may_not_count() {
    check(
        &rules_with(&["/Straße"], &["/access/"], &[], NO_CASE),
        &[
            ("capitals", "/ACCESS/x", "access"),
            ("as written", "/access/x", "access"),
            ("escaped", "/%41CCESS", "access"),
            ("long s", "/acce\u{17f}s", "access"),
            ("sharp s", "/STRASSE", "master"),
            ("capital sharp s", "/stra\u{1e9e}e", "master"),
            ("as written", "/Straße", "master"),
            ("another", "/accession", "public"),
        ],
    );
    check(&rules_with(&[], &["/k"], &[], NO_CASE), &[("Kelvin", "/\u{212a}", "access")]);
}

#[test]
fn each_character_is_folded_over_its_capital() {
    for char in '\0'..=char::MAX {
        let folded: String = fold_char(char).collect();
        assert_eq!(fold(&char.to_string()), folded, "{char:?}");
    }
}

#[test]
fn names_may_be_those_of_windows() {
    let rules = rules_with(&[], &["/access/"], &[], WINDOWS);
    for path in [
        "/access.",
        "/access./x",
        "/access...",
        "/access%20/x",
        "/access%20.%20/x",
        "/access::$DATA",
        "/x/.. /access",
        "/access::$INDEX_ALLOCATION/x",
        "/x/..%20/access",
        "/.../access",
        "/access.%2fx",
    ] {
        assert_eq!(said(of_path(&rules, path)), "access", "{path}");
    }
    check(&rules, &[("dots within a name", "/access.x", "public"), ("plain", "/x", "public")]);
    // What a name is short for only the disk knows.
    let both = rules_with(&["/master"], &["/private-files"], &["/x"], WINDOWS);
    for path in ["/PRIVAT~1/x", "/privat~1", "/PR1A2B~1", "/x/PRIVAT~1.TXT", "/x/%50RIVAT%7e1", "/x/..\\PRIVAT~12"] {
        assert_eq!(said(of_path(&both, path)), "master+access", "{path}");
        assert_eq!(both.explain(&Method::GET, path).reason(), Some(PathRefusal::ShortName), "{path}");
    }
    check(&both, &[("no number", "/~user/x~", "public"), ("at the start", "/x~y", "public")]);
    check(&super::tests::rules(&["/master"], &["/private"]), &[("off", "/PRIVAT~1/x", "public")]);
    check(&super::tests::rules(&[], &["/access/"]), &[("off", "/access./x", "public")]);
}

#[test]
fn ambiguity_may_ask_for_everything() {
    check(
        &rules_with(&["/master"], &["/access"], &[], PROTECT),
        &[
            ("malformed", "/x/%zz", "master+access"),
            ("not UTF-8", "/caf%E9", "master+access"),
            ("control", "/x%00", "control character"),
            ("both", "/x%zz%00", "control character"),
            ("too often", "/x%zz%25252561", "encoded too often"),
            ("sound", "/x", "public"),
        ],
    );
    check(&rules_with(&[], &["/access"], &[], PROTECT), &[("only what there is", "/%", "access")]);
    check(&rules_with(&[], &[], &[], PROTECT), &[("nothing", "/%", "public")]);
}

#[test]
fn preflights_may_be_skipped() {
    let rules = rules_with(&[], &["/access"], &[], PathOptions { skip_preflight: true, ..PLAIN });
    let said_of = |rules: &Rules, method: Method, path: &str, cors_headers| {
        let uri = path.parse().unwrap();
        said(rules.requirement(&RequestLine { cors_headers, ..RequestLine::new(&method, &uri) }))
    };
    assert_eq!(said_of(&rules, Method::OPTIONS, "/access", true), "public");
    assert_eq!(said_of(&rules, Method::OPTIONS, "/access", false), "access");
    assert_eq!(said_of(&rules, Method::POST, "/access", true), "access");
    assert_eq!(said_of(&rules, Method::OPTIONS, "/access/%00", true), "control character");
    assert_eq!(said_of(&super::tests::rules(&[], &["/access"]), Method::OPTIONS, "/access", true), "access");
    let options = PathOptions { skip_preflight: true, ..PLAIN };
    let denied = [Rule::prefix("/old").deny(), Rule::prefix("/api").methods(["OPTIONS"]).deny()];
    let rules = Rules::build(RuleSources { rules: denied.to_vec(), options, ..RuleSources::default() }).unwrap();
    for (path, expected) in [("/old", "deny"), ("/api/x", "deny"), ("/x/../old", "deny"), ("/x", "public")] {
        assert!(said_of(&rules, Method::OPTIONS, path, true).contains(expected), "{path}");
    }
}

#[test]
fn stripped_prefixes_count() {
    let nested = |rules: &Rules, path: &str, original: &str| {
        let (uri, original) = (path.parse().unwrap(), original.parse().unwrap());
        let line = RequestLine { original_uri: Some(&original), ..RequestLine::new(&Method::GET, &uri) };
        said(rules.requirement(&line))
    };
    assert_eq!(nested(&rules(&["/x"], &["/api/x"]), "/x", "/api/x"), "master+access");
    assert_eq!(nested(&rules(&[], &["/api/x"]), "/x", "/api/x"), "access");
    assert_eq!(nested(&rules(&[], &["/x"]), "/x", "/api/x"), "access");
    assert_eq!(nested(&rules(&[], &["/x"]), "/y", "/api/%00"), "control character");

    let base = Prefix::parse("/api/").unwrap();
    let based = |master: &[&str], access: &[&str], public: &[&str]| {
        Rules::new(prefixes(master), prefixes(access), prefixes(public), Some(&base), PLAIN)
    };
    assert_eq!(of_target(&based(&[], &["/api/x"], &[]), "GET", "/x"), "access");
    assert_eq!(of_target(&based(&["/x"], &["/api/"], &[]), "GET", "/x"), "master+access");
    assert_eq!(of_target(&based(&[], &["/x"], &[]), "GET", "/../x"), "access");
    assert_eq!(of_target(&based(&[], &["/api/"], &["/api/health"]), "GET", "/health"), "public");
    assert_eq!(of_target(&based(&[], &["/api/"], &["/api/health"]), "GET", "/health/../x"), "access");
}

#[test]
fn what_only_another_reading_asks_for_is_told() {
    let rules = rules(&["/master"], &["/access"]);
    let told = |path| of_path(&rules, path).unwrap().only_by_other_reading();
    assert!(!told("/access"));
    assert!(!told("/access/../x"));
    assert!(!told("/public"));
    assert!(told("//access"));
    assert!(told("/access/../master"));
}

#[test]
fn ordinary_paths_have_few_readings() {
    for (path, expected) in [
        ("/access/x", vec!["/access/x"]),
        ("/a%20b", vec!["/a%20b", "/a b"]),
        ("/%61%2Fb", vec!["/%61%2Fb", "/a/b", "/a%2Fb"]),
        ("//a/b", vec!["//a/b", "/a/b", "/b"]),
        ("/.well-known/x", vec!["/.well-known/x"]),
        ("/v1/x:cancel", vec!["/v1/x:cancel"]),
    ] {
        assert_eq!(texts(path, false).unwrap(), expected, "{path}");
    }
}

/// Tries every byte at every place of a word, and where words meet.
#[test]
fn a_path_is_calm_when_none_of_its_bytes_can_be_trouble() {
    for length in 1..=70 {
        for at in 1..length {
            for byte in 0..=u8::MAX {
                for before in [b'a', b'/'] {
                    let mut path = vec![b'x'; length];
                    path[0] = b'/';
                    path[at - 1] = if at == 1 { b'/' } else { before };
                    path[at] = byte;
                    let rare = matches!(byte, b'!' | b'"' | b'$' | b'>') || !byte.is_ascii();
                    let trouble =
                        matches!(byte, b'%' | b'\\' | b':' | b';' | b'?' | b'#' | b' ') || byte.is_ascii_control();
                    let after_slash = path[at - 1] == b'/' && matches!(byte, b'.' | b'/');
                    let doubled = before == b'/' && at == 2;
                    assert_eq!(
                        is_calm(&path),
                        !(rare || trouble || after_slash || doubled),
                        "{byte:#x} at {at} of {length}"
                    );
                }
            }
        }
    }
}

/// Tests that the short way is taken.
#[test]
fn a_glance_tells_of_ordinary_paths() {
    let rules = rules_with(&["/master"], &["/access/", "/admin/tools"], &["/access/public"], NO_CASE);
    for path in [
        "/",
        "/health",
        "/api/v1",
        "/api/v1/items/42",
        "/Static/App-1.2.3.min.js",
        "/a/path/of/several/blocks/of/bytes",
    ] {
        assert_eq!(rules.glance(&Method::GET, path), Some(Requirement::NOTHING), "{path}");
    }
    for (path, asked) in
        [("/access/x", "access"), ("/ACCESS/", "access"), ("/master/x", "master"), ("/access/public", "public")]
    {
        assert_eq!(rules.glance(&Method::GET, path).map(|glance| said(Ok(glance))).as_deref(), Some(asked), "{path}");
    }
    for path in ["", "*", "x", "//", "/%61", "/é"] {
        assert_eq!(rules.glance(&Method::GET, path), None, "{path}");
    }
    let long = format!("/{}", "x".repeat(MAX_PATH));
    assert!(rules.glance(&Method::GET, &long).is_none() && rules.glance(&Method::GET, &long[..MAX_PATH]).is_some());
}

/// Generates paths made of what trips parsers up.
fn hostile() -> impl Strategy<Value = String> {
    const PARTS: &str =
        r"(/|/|//|\.\.|\.|access|master|a|%2[fFeE5]|%25|%252f|%5[cC]|\\|;|;v=1|%3[bBfF]|%23|%61|%C3%A9|é|%20|:|http:)";
    proptest::string::string_regex(&format!("/{PARTS}{{0,9}}")).unwrap()
}

fn options() -> impl Strategy<Value = PathOptions> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(case_insensitive, windows, protect)| PathOptions {
        case_insensitive,
        windows,
        skip_preflight: false,
        ambiguous: if protect { Ambiguous::Protect } else { Ambiguous::Refuse },
    })
}

fn list() -> impl Strategy<Value = Vec<String>> {
    vec("(/|/access/?|/master/?|/a|/a/|/access/a|/a/master|/é|/A)", 0..4)
}

/// Returns true if every check of `less` is one of `more`, which may also refuse.
fn covers(more: Result<Requirement, PathRefusal>, less: Result<Requirement, PathRefusal>) -> bool {
    match (more, less) {
        (Err(_), _) => true,
        (Ok(_), Err(_)) => false,
        (Ok(more), Ok(less)) => {
            (more.needs_master() || !less.needs_master()) && (more.needs_access() || !less.needs_access())
        }
    }
}
