//! What a path may cost, and what becomes of one that would cost more.

use std::{hint::black_box, time::Instant};

use super::*;

/// So many bytes are in all readings together, at the most: each of them was looked at a few times.
fn most_bytes(path: &str) -> usize {
    40 * 1024 + 16 * path.len()
}

/// Paths of any length, made of what multiplies readings.
fn long_and_hostile() -> impl Strategy<Value = String> {
    let part = proptest::sample::select(vec![
        "/a", "/..", "/.", "//", ";v", "%2f", "%252f", "\\", "%3f", "%2e%2e", " ", "%41", "/http:", "%252525", "//a",
        "é", "%c3%a9", "/api/v1", "%25", ";", "/access",
    ]);
    let run = (vec(part, 1..5), prop_oneof![1..4_usize, 1..300_usize, Just(9_000)]);
    (vec(run, 1..6), prop_oneof![Just(256), Just(1024), Just(8192)]).prop_map(|(runs, len)| {
        let mut path = String::from("/");
        for part in runs.iter().flat_map(|(parts, times)| parts.iter().cycle().take(parts.len() * times)) {
            if path.len() + part.len() > len {
                break;
            }
            path.push_str(part);
        }
        path
    })
}

proptest! {
    #[test]
    fn readings_are_bounded_in_bytes(path in long_and_hostile(), windows: bool) {
        // Those of a path that is refused for them were not more.
        if let Ok(found) = readings(&path, windows, 0, &|_| true) {
            let bytes: usize = found.list.iter().map(|reading| reading.text.len()).sum();
            prop_assert!(bytes <= most_bytes(&path), "{} bytes of {}", bytes, path.len());
        }
    }

    /// Past the bound, whatever is configured is asked for or the path refused: what was not looked at opens nothing.
    #[test]
    fn nothing_is_open_for_the_bound(path in long_and_hostile(), options in options()) {
        let rules = rules_with(&["/master"], &["/access"], &["/"], options);
        match readings(&path, options.windows, 0, &|path| rules.is_above(path, &Steps::unlimited())) {
            Ok(found) if found.complete => {}
            _ => if let Ok(asked) = of_path(&rules, &path) {
                prop_assert!(asked.needs_master() && asked.needs_access(), "{}", path);
            }
        }
    }
}

#[test]
fn what_is_past_the_bound_is_refused_or_asked_everything() {
    let hosts = "//a".repeat(2_000);
    check(&rules(&["/master"], &["/access"]), &[("refused", &hosts, "too many readings")]);
    let protect = rules_with(&["/master"], &["/access"], &[], PROTECT);
    check(&protect, &[("asked everything", &hosts, "master+access")]);
    assert_eq!(protect.explain(&Method::GET, &hosts).reason(), Some(PathRefusal::TooManyReadings));
}

/// Long paths that are made of nothing but what applications have in theirs.
#[test]
fn long_paths_are_read_to_their_end() {
    let of = |part: &str, len: usize| part.repeat(len / part.len());
    let rules = rules_with(&["/master"], &["/access"], &[], PLAIN);
    for len in [1_000, 4_000, 8_000] {
        for part in [
            "abc",
            "word/",
            "%E4%B8%AD%E6%96%87/",
            "caf%C3%A9-menu/",
            "a%20b/",
            "a;v=1/",
            "abcd%2Befg%2Fhij%3D",
            "x.y/",
            "a:b/",
            "a+b/",
            "item%2C",
            "%5B1%5D/",
        ] {
            let path = of(part, len);
            check(&rules, &[(part, &format!("/{path}"), "public"), (part, &format!("/access/{path}"), "access")]);
            // Nor are a few of the other things too many, but with all of an 8 KiB path in escapes of separators.
            if !part.contains("%2F") {
                check(&rules, &[(part, &format!("//x/{path}"), "public")]);
                check(&rules, &[(part, &format!("//access/{path}"), "access")]);
            }
        }
        let url = format!("/proxy/https%3A%2F%2Fexample.com%2F{}", of("caf%C3%A9%2F", len));
        check(&rules, &[("a URL in a path", &url[..8192.min(url.len())], "public")]);
    }
}

/// What people have in paths, with long guards that are compared without case: most of all, what is not ASCII.
const ORDINARY: [&str; 14] = [
    "/r/caf%C3%A9%3Bv%3D1%2Fx%3Fy//z",
    "/files/M%C3%BCller%20%26%20S%C3%B6hne/Angebot%20%231%3B%20final//v2.pdf",
    "/proxy/https%3A%2F%2Fexample.com%2F%C3%A9%2Fb%3Fc%3Dd%26e%3D",
    "/t%C3%A9l%C3%A9chargements/r%C3%A9sum%C3%A9%20final.pdf",
    "/t%C3%A9l%C3%A9chargements//r%C3%A9sum%C3%A9%20final.pdf",
    "/%D0%97%D0%B0%D0%B3%D1%80%D1%83%D0%B7%D0%BA%D0%B8/%D0%9E%D1%82%D1%87%D1%91%D1%82%D1%8B/%D0%98%D1%82%D0%BE%D0%B3%D0%B8%202024.pdf",
    "/%E3%83%80%E3%82%A6%E3%83%B3%E3%83%AD%E3%83%BC%E3%83%89/%E5%A0%B1%E5%91%8A%E6%9B%B8/%E6%9C%80%E7%B5%82%E7%89%88.pdf",
    "/s/%D0%9C%D0%BE%D1%81%D0%BA%D0%B2%D0%B0%3B%D0%9F%D0%B8%D1%82%D0%B5%D1%80/%D1%83%D0%BB%D0%B8%D1%86%D0%B0//%D0%B4%D0%BE%D0%BC",
    "/wiki/%D0%9A%D0%B0%D1%82%D0%B5%D0%B3%D0%BE%D1%80%D0%B8%D1%8F%3A%D0%9D%D0%B0%D1%81%D0%B5%D0%BB%D1%91%D0%BD%D0%BD%D1%8B%D0%B5%2F%D0%A0%D0%BE%D1%81%D1%81%D0%B8%D1%8F",
    "/search/c%23%2F%C3%BCnic%C3%B6de%3F",
    "/search/50%25%20%C3%A9t%C3%A9/x",
    "/a/%C3%A9/../b;v=1/c%20d.pdf",
    "/K%C3%B6ln;jsessionid=1A2B//Stra%C3%9Fe",
    "/login/https%3A%2F%2Fm%C3%BCnchen.example%2Fb%C3%BCro%2F%3Fweiter%3D%252Fa%252F%25C3%25A9",
];

#[test]
fn ordinary_paths_are_read_to_their_end_without_case() {
    let deep = "/api/v1/administration/customers/confidential/contracts/archive/2024/";
    let long = format!("/{}", "x".repeat(200));
    let other = format!("/{}", "é".repeat(100));
    let strict = PathOptions { windows: true, ..NO_CASE };
    for guard in ["/ggggggggg", "/files/of/customers/only", "/api/v1/administration/customers", deep, &long, &other] {
        for options in [PLAIN, NO_CASE, strict] {
            for base in [None, Some("/base/path")] {
                let base = base.map(|base| Prefix::parse(base).unwrap());
                let rules = Rules::new(vec![], prefixes(&[guard]), vec![], base.as_ref(), options);
                for path in ORDINARY {
                    let outer: Uri = format!("/outer{path}").parse().unwrap();
                    let uri = path.parse().unwrap();
                    let line = RequestLine { original_uri: Some(&outer), ..RequestLine::new(&Method::GET, &uri) };
                    assert_eq!(said(rules.requirement(&line)), "public", "{guard} {options:?} {path}");
                }
            }
        }
    }
}

/// Rules that differ in their last names, after all ways to have a name or a parameter before these.
fn in_all_ways(level: Level) -> Vec<Rule> {
    let way = |number: usize| {
        let segments = (0..10).map(|bit| if number >> bit & 1 == 0 { "/{x}" } else { "/a" });
        Rule::prefix(format!("{}/area{number}", segments.collect::<String>())).at(level)
    };
    (0..1024).map(way).collect()
}

#[test]
fn many_rules_are_no_reason_to_ask_more() {
    let rules = |count: usize, options| {
        let tenants = (0..count).map(|number| Rule::prefix(format!("/{{tenant}}/area{number}")).access());
        let tails = (0..count).map(|number| Rule::prefix(format!("/{{a}}/{{b}}/é{number}/{{*rest}}")).access());
        let rules = tenants.chain(tails).chain(in_all_ways(Level::Access).into_iter().take(count)).collect();
        Rules::build(RuleSources { rules, options, default_level: Some(Level::Public), ..RuleSources::default() })
            .unwrap()
    };
    for options in [PLAIN, PathOptions { windows: true, ..NO_CASE }] {
        let few = rules(2, options);
        let many = rules(2_000, options);
        for path in ORDINARY {
            check(&many, &[("ordinary", path, &said(of_path(&few, path)))]);
        }
        check(&many, &[("ordinary", ORDINARY[0], "public"), ("a rule", "/x%20y/area7/../area7", "access")]);
    }
}

#[test]
fn what_takes_too_many_steps_is_asked_everything() {
    let hostile = "/a".repeat(12) + ";v";
    let rules = |rules: Vec<Rule>| {
        let never = Rule::exact("/never").master();
        let rules = rules.into_iter().chain([never]).collect();
        Rules::build(RuleSources { rules, default_level: Some(Level::Public), ..RuleSources::default() }).unwrap()
    };
    let few = rules(in_all_ways(Level::Public).split_off(1_000));
    check(&few, &[("few", &hostile, "public")]);
    let many = rules(in_all_ways(Level::Public));
    check(&many, &[("many", &hostile, "master")]);
    let explained = many.explain(&Method::GET, &hostile);
    assert_eq!((explained.decision(), explained.reason()), (PathDecision::Master, Some(PathRefusal::TooManyReadings)));
    // A path that has no other reading is not limited.
    check(&many, &[("plain", &"/a".repeat(40), "public")]);
}

/// `cargo test --release --lib bound -- --ignored --nocapture`: what the dearest paths found take, with the case of letters
/// that no table folds, by the number of paths that a request is looked at by.
#[test]
#[ignore = "measures"]
fn folding_figures() {
    let strict = PathOptions { windows: true, ..NO_CASE };
    let base = Prefix::parse("/base").unwrap();
    let guard = format!("/a/a/a/{}", "x".repeat(200));
    for (name, options, base) in [("plain", PLAIN, None), ("no case", NO_CASE, None), ("all", strict, Some(&base))] {
        let rules = Rules::new(vec![], prefixes(&[&guard]), vec![], base, options);
        for len in [256, 1024, 8 * 1024 - 20] {
            let mut worst = (0.0, String::new());
            for part in [
                "%C3%A9",
                "%C3%9F",
                "%E1%BA%9E",
                "%E3%83%80",
                "A",
                "A%5Ca",
                "%E1%BA%9E//a",
                "%C3%A9;v",
                "//a",
                "/a/..;/.",
            ] {
                for before in ["", "//a//a//a", "/a%2F..%3Fx;v//", "/%252Fa//..;x%3F%5C", "/a/a/a//..//.;x%5C%2F"] {
                    let path = format!("/x{before}{}", part.repeat((len - before.len()) / part.len()));
                    let uri: Uri = path.parse().unwrap();
                    let outer: Uri = format!("/outer{path}").parse().unwrap();
                    let mut line = RequestLine::new(&Method::GET, &uri);
                    line.original_uri = base.map(|_| &outer);
                    let took = (0..9).map(|_| {
                        let start = Instant::now();
                        let _ = black_box(rules.requirement(&line));
                        start.elapsed().as_secs_f64() * 1e6
                    });
                    let took = took.fold(f64::MAX, f64::min);
                    if took > worst.0 {
                        worst = (took, format!("{path:.50}"));
                    }
                }
            }
            println!("{name}, {len} bytes: {:.0} µs, {}", worst.0, worst.1);
        }
    }
}
