//! Guards below exemptions, and exemptions below guards.

use super::*;

#[test]
fn a_guard_below_an_exemption_guards() {
    let rules =
        rules_with(&["/m/open/keys"], &["/access", "/access/open/secret", "/m"], &["/access/open", "/m/open"], PLAIN);
    check(
        &rules,
        &[
            ("above both", "/access/x", "access"),
            ("the exemption", "/access/open", "public"),
            ("below the exemption", "/access/open/x", "public"),
            ("the guard below it", "/access/open/secret", "access"),
            ("what it begins", "/access/open/secrets", "access"),
            ("below that", "/access/open/secret/x", "access"),
            ("escaped", "/access/open/%73ecret", "access"),
            ("in by dots", "/access/open/x/../secret", "access"),
            ("out by dots", "/access/open/secret/../x", "access"),
            ("with a slash", "/access/open//secret", "access"),
            ("of another list", "/m/open/keys", "master+access"),
            ("beside it", "/m/open/x", "public"),
        ],
    );
}

#[test]
fn of_the_same_length_the_guard_wins() {
    for guard in ["/access/open", "/access/open/"] {
        for exemption in ["/access/open", "/access/open/"] {
            let rules = rules_with(&[], &["/access", guard], &[exemption], PLAIN);
            check(&rules, &[("itself", "/access/open", "access"), ("below", "/access/open/x", "access")]);
        }
    }
    check(&rules_with(&["/"], &[], &["/"], PLAIN), &[("everything", "/x", "master"), ("root", "/", "master")]);
}

#[test]
fn a_guard_that_ends_within_a_segment_is_as_long_as_its_text() {
    let rules = rules_with(&["/access/open/se"], &["/access/op"], &["/access/open"], PLAIN);
    check(
        &rules,
        &[
            ("shorter", "/access/open/x", "public"),
            ("longer", "/access/open/secret", "master+access"),
            ("no segment of the exemption", "/access/openly", "access"),
        ],
    );
}

#[test]
fn an_exemption_below_a_guard_below_an_exemption_opens() {
    let rules = rules_with(&[], &["/a", "/a/b/c"], &["/a/b", "/a/b/c/d"], PLAIN);
    check(
        &rules,
        &[
            ("guarded", "/a/x", "access"),
            ("open", "/a/b/x", "public"),
            ("guarded again", "/a/b/c/x", "access"),
            ("open again", "/a/b/c/d/x", "public"),
            ("not by every reading", "/a/b/c/d/../x", "access"),
        ],
    );
}

#[test]
fn exemptions_lose_in_any_case_and_below_a_base_path() {
    let no_case = rules_with(&[], &["/access", "/access/open/SECRET"], &["/access/open"], NO_CASE);
    check(
        &no_case,
        &[("a guard of another case", "/access/open/secret", "access"), ("beside", "/access/open/x", "public")],
    );
    // Folded, the guard is shorter than the exemption: both are as long as what they stand for.
    let folded = rules_with(&[], &["/\u{1e9e}"], &["/\u{1e9e}"], NO_CASE);
    check(&folded, &[("folded", "/\u{1e9e}/x", "access")]);
    let windows = rules_with(&[], &["/access", "/access/open/secret/"], &["/access/open"], WINDOWS);
    check(&windows, &[("dots at the end", "/access/open/secret./x", "access")]);
    let base = Prefix::parse("/api").unwrap();
    let [access, public] = [&["/api", "/api/open/secret"], &["/api/open"][..]].map(prefixes);
    let based = Rules::new(vec![], access, public, Some(&base), PLAIN);
    assert_eq!(of_target(&based, "GET", "/open/secret"), "access");
    assert_eq!(of_target(&based, "GET", "/open/x"), "public");
}

/// With many prefixes the tree is asked, and not each prefix.
#[test]
fn exemptions_lose_among_many_prefixes() {
    let many: Vec<_> = (0..100).map(|number| format!("/access/open/{number}/secret")).collect();
    let open: Vec<_> = (0..100).map(|number| format!("/access/open/{number}")).collect();
    let rules = Rules::new(vec![], prefixes(&[&many[..], &["/access".into()]].concat()), prefixes(&open), None, PLAIN);
    check(
        &rules,
        &[
            ("guard", "/access/open/42/secret/x", "access"),
            ("exemption", "/access/open/42/x", "public"),
            ("neither", "/access/open/420/x", "access"),
        ],
    );
    assert_eq!(rules.glance(&Method::GET, "/access/open/42/secret").map(Requirement::needs_access), Some(true));
    assert_eq!(rules.glance(&Method::GET, "/access/open/42/x"), Some(Requirement::NOTHING));
}

#[test]
fn what_as_sent_would_be_exempt_is_asked_only_by_another_reading() {
    let rules = rules_with(&[], &["/access", "/access/open/secret"], &["/access/open"], PLAIN);
    assert!(of_path(&rules, "/access/open/%73ecret").unwrap().only_by_other_reading());
    assert!(!of_path(&rules, "/access/open/secret").unwrap().only_by_other_reading());
}

#[test]
fn an_explanation_names_what_won_and_what_lost() {
    let rules = rules_with(&[], &["/access", "/access/open/secret"], &["/access/open"], PLAIN);
    let named = |met: &[DecidingPrefix]| -> Vec<_> {
        met.iter().map(|by| format!("{:?} {} {}", by.list(), by.prefix(), by.reading())).collect()
    };
    let explanation = rules.explain(&Method::GET, "/access/open/%73ecret");
    assert_eq!(named(explanation.decided_by()), ["Access /access/open/secret 1"]);
    assert_eq!(named(explanation.overruled()), ["Public /access/open 1"]);
    let explanation = rules.explain(&Method::GET, "/access/open/x");
    assert_eq!(named(explanation.decided_by()), ["Public /access/open 0"]);
    assert_eq!(named(explanation.overruled()), ["Access /access 0"]);
    let explanation = rules.explain(&Method::GET, "/access/x");
    assert_eq!((named(explanation.decided_by()).len(), explanation.overruled().len()), (1, 0));
}

#[test]
fn overlaps_are_told_in_words() {
    let rules = rules_with(&["/m"], &["/access", "/access/open/secret"], &["/access/open", "/m", "/nothing"], PLAIN);
    let overlaps = rules.overlaps();
    assert_eq!(
        overlaps.notes,
        [
            "`access-token-paths`: \"/access/open/secret\" stays guarded, though it is below \"/access/open\" of `public-paths`",
            "`public-paths`: \"/access/open\" stays open, though it is below \"/access\" of `access-token-paths`",
        ]
    );
    assert_eq!(
        overlaps.warnings,
        [
            "`public-paths`: \"/m\" has no effect: `master-token-paths` has the same path, and the guard wins",
            "`public-paths`: \"/nothing\" has no effect: it is below no guarded prefix",
        ]
    );
    let files =
        rules_with(&["/a/Index.html", "/b/default.aspx"], &["/c/index.php", "/c/", "/café"], &[], PLAIN).overlaps();
    let opens = |written: &str, directory: &str| {
        format!(
            "`master-token-paths`: {written:?} leaves {directory:?} open, which file servers answer with that file: guard {directory:?}"
        )
    };
    assert_eq!(files.warnings, [opens("/a/Index.html", "/a/"), opens("/b/default.aspx", "/b/")]);
    assert!(files.notes.len() == 1 && files.notes[0].contains("\"/café\" is guarded as it is written"), "{files:?}");
    let no_case = rules_with(&[], &["/ACCESS", "/access/open/SECRET"], &["/access/Open"], NO_CASE).overlaps();
    assert_eq!((no_case.notes.len(), no_case.warnings.len()), (2, 0), "{no_case:?}");
}

/// A directory that is answered with a guarded file is warned of, unless it asks for the same check.
#[test]
fn the_directory_of_a_guarded_index_asks_for_what_the_index_does() {
    for (name, master, access, public, written, directory) in [
        (
            "below an exemption",
            "",
            "/access /access/open/index.html",
            "/access/open",
            "/access/open/index.html",
            "/access/open/",
        ),
        ("below another check", "/access/index.html", "/access", "", "/access/index.html", "/access/"),
        ("any ending", "", "/access/index", "", "/access/index", "/access/"),
        ("at the root", "", "/index.html", "", "/index.html", "/"),
        ("guarded", "", "/access /access/index.html", "", "", ""),
        ("guarded again", "", "/a /a/open/index.html /a/open/", "/a/open", "", ""),
        ("guarded by both", "/access/index.html /access/", "/access", "", "", ""),
    ] {
        let [master, access, public] = [master, access, public].map(|list| list.split_whitespace().collect::<Vec<_>>());
        let warnings = rules_with(&master, &access, &public, PLAIN).overlaps().warnings;
        let told: Vec<_> = warnings.iter().filter(|warning| warning.contains("file servers")).collect();
        assert_eq!(told.len(), usize::from(!written.is_empty()), "{name}: {warnings:?}");
        for warning in told {
            assert!(warning.contains(&format!("{written:?}")), "{name}: {warning}");
            assert!(warning.ends_with(&format!("guard {directory:?}")), "{name}: {warning}");
        }
    }
}

#[test]
fn a_colon_within_a_name_is_warned_of() {
    let warnings = |access: &[&str]| rules_with(&[], access, &[], PLAIN).overlaps().warnings;
    let told = warnings(&["/api/v:version", "/v1/users:batch"]);
    assert!(told.len() == 2 && told[0].contains("\"/api/v:version\"") && told[0].contains("\"/api/v\""), "{told:?}");
    assert!(told[1].contains("`/v1/users%3Abatch`"), "{told:?}");
    assert_eq!(warnings(&["/v1/users%3Abatch", "/a:", "/time/12:30"]), [""; 0]);
}

/// What is said of exemptions, the plain and slow way: of all that a reading meets, the longest wins, the guard where both
/// are as long; and a path is exempt if every reading is.
fn model(readings: &[String], guards: &[String], exemptions: &[String]) -> bool {
    let text = |prefix: &String| if prefix == "/" { prefix.clone() } else { prefix.trim_end_matches('/').to_owned() };
    let meets = |reading: &str, prefix: &String, is_exemption: bool| {
        let by_segment = prefix != "/" && (prefix.ends_with('/') || is_exemption);
        reading.strip_prefix(&*text(prefix)).is_some_and(|rest| !by_segment || rest.is_empty() || rest.starts_with('/'))
    };
    let longest = |reading: &str, prefixes: &[String], is_exemption| {
        prefixes.iter().filter(|p| meets(reading, p, is_exemption)).map(|p| text(p).len()).max().unwrap_or_default()
    };
    let is_met = readings.iter().any(|reading| longest(reading, guards, false) > 0);
    is_met && !readings.iter().all(|reading| longest(reading, exemptions, true) > longest(reading, guards, false))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn the_longest_wins(
        path in "(/(a|b|ab|\\.\\.|%61|/)){1,5}/?",
        guards in vec("/|(/(a|b|ab)){1,4}/?", 0..6),
        exemptions in vec("/|(/(a|b|ab)){1,4}/?", 0..5),
        many: bool,
    ) {
        let others: Vec<_> = (0..if many { 20 } else { 0 }).map(|number| format!("/x{number}")).collect();
        let listed = [&guards[..], &others].concat();
        let rules = Rules::new(vec![], prefixes(&listed), prefixes(&exemptions), None, PLAIN);
        let found = readings(&path, false, 0, &|above| rules.is_above(above, &Steps::unlimited())).unwrap();
        prop_assert!(found.complete);
        let texts: Vec<_> = found.list.iter().map(|reading| reading.text.to_string()).collect();
        let expected = model(&texts, &guards, &exemptions);
        prop_assert_eq!(of_path(&rules, &path).unwrap().needs_access(), expected);
        if let Some(glanced) = rules.glance(&Method::GET, &path) {
            prop_assert_eq!(glanced.needs_access(), expected);
        }
        let uri: Uri = path.parse().unwrap();
        let asked = rules.requirement(&RequestLine::new(&Method::GET, &uri)).unwrap();
        prop_assert_eq!(asked.needs_access(), expected);
        if expected {
            // What is logged and counted is a guard that no exemption beats.
            let guard = rules.name(asked.rule(PathList::Access).unwrap()).to_owned();
            let alone = model(&texts, &[guard], &exemptions);
            prop_assert!(alone);
        }
    }

    /// One more guard opens nothing, and one more exemption guards nothing.
    #[test]
    fn more_guards_never_open(
        path in hostile(), access in list(), more in list(), public in list(), options in options(),
    ) {
        let rules = |access: &[String]| Rules::new(vec![], prefixes(access), prefixes(&public), None, options);
        let more = [&access[..], &more].concat();
        prop_assert!(covers(of_path(&rules(&more), &path), of_path(&rules(&access), &path)));
    }
}
