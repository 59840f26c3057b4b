//! What a path may cost, and what becomes of one that would cost more.

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
        match readings(&path, options.windows, 0, &|path| rules.is_above(path)) {
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
