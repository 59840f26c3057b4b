//! The eight steps of the policy and its refusals, said once more, the plain and slow way: whatever else is read into a
//! path, it is never asked for less than these ask, and refused for these alone.

use std::collections::BTreeSet;

use proptest::sample::select;

use super::*;

type Bytes = Vec<u8>;

/// Every well-formed escape decoded once, but for those that are `kept`.
fn decode(path: &[u8], kept: &[u8]) -> Bytes {
    let mut decoded = Vec::new();
    let mut at = 0;
    while at < path.len() {
        let hex = path.get(at + 1..at + 3).filter(|hex| path[at] == b'%' && hex.iter().all(u8::is_ascii_hexdigit));
        let byte = hex.map(|hex| u8::from_str_radix(std::str::from_utf8(hex).unwrap(), 16).unwrap());
        match byte.filter(|byte| !kept.contains(byte)) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(path[at]);
                at += 1;
            }
        }
    }
    decoded
}

fn cut(path: &[u8]) -> Bytes {
    path.iter().copied().take_while(|byte| !b"?#".contains(byte)).collect()
}

fn backslash_to_slash(path: &[u8]) -> Bytes {
    path.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect()
}

fn drop_parameters(path: &[u8]) -> Bytes {
    let mut in_parameters = false;
    let keep = |byte: &u8| {
        in_parameters = *byte == b';' || in_parameters && *byte != b'/';
        !in_parameters
    };
    path.iter().copied().filter(keep).collect()
}

fn merge_slashes(path: &[u8]) -> Bytes {
    let mut merged = Vec::new();
    for byte in path {
        if *byte != b'/' || merged.last() != Some(&b'/') {
            merged.push(*byte);
        }
    }
    merged
}

/// RFC 3986, section 5.2.4, as it is written there.
fn remove_dot_segments(path: &[u8]) -> Bytes {
    let mut input = path.to_vec();
    let mut output = Vec::new();
    while !input.is_empty() {
        if input.starts_with(b"../") {
            input.drain(..3);
        } else if input.starts_with(b"./") || input.starts_with(b"/./") {
            input.drain(..2);
        } else if input == b"/." {
            input = b"/".to_vec();
        } else if input.starts_with(b"/../") || input == b"/.." {
            input.splice(..(input.len().min(4)), *b"/");
            let last = output.iter().rposition(|byte| *byte == b'/');
            output.truncate(last.unwrap_or_default());
        } else if input == b"." || input == b".." {
            input.clear();
        } else {
            let next = input.iter().skip(1).position(|byte| *byte == b'/').map_or(input.len(), |at| at + 1);
            output.extend(input.drain(..next));
        }
    }
    output
}

fn drop_authority(path: &[u8]) -> Bytes {
    if !path.starts_with(b"//") {
        return path.to_vec();
    }
    let mut rest: Bytes =
        path.iter().copied().skip_while(|byte| *byte == b'/').skip_while(|byte| *byte != b'/').collect();
    if rest.is_empty() {
        rest.push(b'/');
    }
    rest
}

fn eight_steps(path: &[u8]) -> [Bytes; 8] {
    [
        decode(path, b""),
        decode(path, b"/\\"),
        cut(path),
        backslash_to_slash(path),
        drop_parameters(path),
        merge_slashes(path),
        remove_dot_segments(path),
        drop_authority(path),
    ]
}

/// The readings of a path, or `None` where it is refused.
fn sound_readings(path: &str) -> Option<BTreeSet<Bytes>> {
    let path = path.as_bytes();
    let escapes = (0..path.len()).filter(|at| path[*at] == b'%');
    for at in escapes {
        if !path.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) {
            return None;
        }
    }
    let mut round = path.to_vec();
    for rounds in 0.. {
        if std::str::from_utf8(&round).is_err() || round.iter().any(u8::is_ascii_control) {
            return None;
        }
        let next = decode(&round, b"");
        if next == round {
            break;
        }
        if rounds == 3 {
            return None;
        }
        round = next;
    }
    if !path.starts_with(b"/") {
        return None;
    }
    let mut known = BTreeSet::from([path.to_vec()]);
    let mut pending = vec![path.to_vec()];
    while let Some(reading) = pending.pop() {
        for made in eight_steps(&reading) {
            if known.insert(made.clone()) {
                pending.push(made);
            }
        }
        if known.len() > 256 {
            return None;
        }
    }
    Some(known)
}

/// What section 1.4 says of a prefix, and of an exemption.
fn meets(path: &[u8], prefix: &str, is_exemption: bool) -> bool {
    let stem = prefix.strip_suffix('/').filter(|stem| !stem.is_empty());
    let by_segment = stem.is_some() || is_exemption && prefix != "/";
    path.strip_prefix(stem.unwrap_or(prefix).as_bytes())
        .is_some_and(|rest| !by_segment || rest.is_empty() || rest.starts_with(b"/"))
}

#[derive(Debug)]
struct Lists {
    master: Vec<String>,
    access: Vec<String>,
    public: Vec<String>,
}

impl Lists {
    fn rules(&self) -> Rules {
        Rules::new(prefixes(&self.master), prefixes(&self.access), prefixes(&self.public), None, PLAIN)
    }

    /// The checks that the policy asks for, master and access, or `None` where it refuses.
    fn policy(&self, path: &str) -> Option<(bool, bool)> {
        let readings = sound_readings(path)?;
        let any = |list: &[String], path: &Bytes, exempts| list.iter().any(|prefix| meets(path, prefix, exempts));
        if readings.iter().all(|reading| any(&self.public, reading, true)) {
            return Some((false, false));
        }
        let asked = |list: &[String]| readings.iter().any(|reading| any(list, reading, false));
        Some((asked(&self.master), asked(&self.access)))
    }
}

fn lists() -> impl Strategy<Value = Lists> {
    let entry = "(/|/access/?|/master/?|/a/?|/access/a|/a/master|/a/access/|/a/b/access|/é|/x y)";
    let list = |most| vec(entry, 0..most);
    (list(4), list(4), list(3)).prop_map(|(master, access, public)| Lists { master, access, public })
}

/// Many of a few parts: where readings multiply.
fn many() -> impl Strategy<Value = String> {
    const PARTS: [&str; 34] = [
        "/",
        "//",
        "///",
        "/a",
        "/b",
        "/..",
        "/.",
        "/../",
        "//a",
        "//..",
        "/;",
        ";",
        ";/",
        ";x",
        "%2f",
        "%2F",
        "%252f",
        "%25252f",
        "%5c",
        "%255c",
        "\\",
        "%3f",
        "%23",
        "%253f",
        "%2e",
        "%2e%2e",
        "%252e%252e",
        "%3b",
        "%25",
        "access",
        "/master",
        "http:",
        "%20",
        "é",
    ];
    (vec(select(&PARTS[..]), 1..5), 1..30usize, vec(select(&PARTS[..]), 0..8), vec(select(&PARTS[..]), 0..8)).prop_map(
        |(repeated, times, before, after)| {
            format!("/{}{}{}", before.concat(), repeated.concat().repeat(times), after.concat())
        },
    )
}

/// Estimates the work on a path by what the policy reads into it. No path that a client sends by accident comes near the bound.
fn work(path: &str) -> usize {
    sound_readings(path).map_or(usize::MAX, |readings| readings.len() * (path.len() + 100))
}

const LISTS: [PathList; 2] = [PathList::Master, PathList::Access];

fn agree(lists: &Lists, path: &str) -> Result<(), TestCaseError> {
    let ours = of_path(&lists.rules(), path);
    match lists.policy(path) {
        None => prop_assert!(ours.is_err(), "the policy refuses {path}"),
        Some((master, access)) => {
            // The work is bounded as well as the number of readings; no path of some length that anybody sends comes near.
            if ours == Err(PathRefusal::TooManyReadings) {
                prop_assert!(work(path) > 2_000, "the policy does not refuse {path}");
                return Ok(());
            }
            prop_assert!(ours.is_ok(), "the policy does not refuse {path}: {ours:?}");
            let ours = ours.unwrap();
            prop_assert!(ours.needs_master() || !master, "{path}: no master token is asked for");
            prop_assert!(ours.needs_access() || !access, "{path}: no access token is asked for");
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn never_less_than_the_policy(path in hostile(), lists in lists()) {
        agree(&lists, &path)?;
    }

    #[test]
    fn nor_where_readings_are_many(path in many(), lists in lists()) {
        agree(&lists, &path)?;
    }

    /// Below no mount, and with nothing that only URL parsers know, nothing is read that the policy does not.
    #[test]
    fn nor_more_where_nothing_is_mounted(path in hostile(), master in list(), access in list()) {
        let flat = |list: Vec<String>| list.into_iter().filter(|prefix| prefix.trim_end_matches('/').matches('/').count() < 2);
        let lists = Lists { master: flat(master).collect(), access: flat(access).collect(), public: vec![] };
        if !path.contains(':') && !path.contains("%2") {
            let ours = of_path(&lists.rules(), &path);
            // Of a path beyond the bound on readings every check is asked, and no rule is the cause; or it is refused.
            let asks_all = |asked: Requirement| !asked.is_public() && LISTS.iter().all(|list| asked.rule(*list).is_none());
            if ours == Err(PathRefusal::TooManyReadings) || ours.is_ok_and(asks_all) {
                prop_assert!(work(&path) > 2_000, "{} is within the bound", path);
                return Ok(());
            }
            prop_assert_eq!(ours.ok().map(|asked| (asked.needs_master(), asked.needs_access())), lists.policy(&path));
        }
    }
}

#[test]
fn no_more_readings_than_the_policy_allows() {
    let rules = rules(&["/a/b/master"], &["/a/access"]);
    let readings = |path: &str| sound_readings(path).map(|readings| readings.len());
    let host_by_host = |runs: usize| "//a".repeat(runs);
    for (path, counted) in [
        (host_by_host(4), Some(9)),
        (host_by_host(128), None),
        ("/a//b".repeat(8), Some(2)),
        ("/a//b".repeat(1300), Some(2)),
        (["/a".repeat(300), "/..".repeat(300)].concat(), Some(2)),
        (["/a".repeat(2000), "/..".repeat(1000)].concat(), Some(2)),
        ("/a/..".repeat(1000), Some(2)),
        ("/http:".repeat(1000), Some(1)),
    ] {
        assert_eq!(readings(&path), counted, "{} bytes of {}", path.len(), &path[..8]);
        assert_eq!(of_path(&rules, &path).is_ok(), counted.is_some(), "{} bytes of {}", path.len(), &path[..8]);
    }
}

/// A ticket opens a path only if no reading leads elsewhere.
#[test]
fn paths_below_a_prefix_are_so_by_every_reading() {
    let plain = |base: Option<&str>| {
        let base = base.map(|base| Prefix::parse(base).unwrap());
        Rules::new(vec![], vec![Prefix::parse("/a").unwrap()], vec![], base.as_ref(), PathOptions::default())
    };
    let is_below = |rules: &Rules, path: &str, prefix: &str| {
        let uri = path.parse().unwrap();
        rules.are_below(&RequestLine::new(&Method::GET, &uri), &Prefix::parse(prefix).unwrap())
    };
    let rules = plain(None);
    for (path, expected) in [
        ("/a/f", true),
        ("/a/f/", true),
        ("/a/f/x%20y", true),
        ("/a/%66/x", false),
        ("/a/f?x=../..", true),
        ("/a/fx", false),
        ("/a/F", false),
        ("/a", false),
        ("/a/f/..", false),
        ("/a/f/../f/x", false),
        ("/a/f/%2e%2e/x", false),
        ("/a/f/%252e%252e/x", false),
        ("/a/f/..%2fx", false),
        ("/a/f/..%5cx", false),
        ("/a/f/x/%2e%2e", false),
        ("/a/f/./x", false),
        ("/a/f//x", false),
        ("//a/f/x", false),
        ("/x//a/f", false),
        ("/a/f/../../a/f/x", false),
        ("/a/f/;/../x", false),
        ("/a/f;x/y", false),
        ("/a/f/%00", false),
        ("/a/f/%zz", false),
        ("/a/f/http:%2f%2fx/y", false),
    ] {
        assert_eq!(is_below(&rules, path, "/a/f"), expected, "{path}");
    }
    for (path, prefix, expected) in [
        ("/a/f%20g/x", "/a/f%20g", true),
        ("/a/%C3%A9/x", "/a/%C3%A9", true),
        ("/a/%C3%A9/x", "/a/\u{e9}", true),
        ("/a/%C3%A9x", "/a/\u{e9}", false),
        ("/a/f%2520g", "/a/f%20g", false),
    ] {
        assert_eq!(is_below(&rules, path, prefix), expected, "{path} {prefix}");
    }
    let based = plain(Some("/base"));
    for (path, prefix, expected) in [
        ("/a/f/x", "/base/a/f", true),
        ("/a/f/x", "/a/f", true),
        ("/a/g", "/base/a/f", false),
        ("/../a/f", "/a/f", false),
    ] {
        assert_eq!(is_below(&based, path, prefix), expected, "{path} {prefix}");
    }
}
