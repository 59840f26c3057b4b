//! Measurements, which are run by hand.

use std::{hint::black_box, time::Instant};

use super::*;

/// `cargo test --release --lib rule -- --ignored --nocapture`
#[test]
#[ignore = "measures"]
fn figures() {
    let many = |count: usize| (0..count).map(|at| format!("/svc{at}/v{}/private", at % 7)).collect::<Vec<_>>();
    let lists = [
        ("2+2", vec!["/access".into(), "/admin/".into()], vec!["/master".into(), "/internal".into()]),
        ("10", many(5), many(5)),
        ("1000", many(500), many(500)),
        ("10000", many(5000), many(5000)),
    ];
    for path in ["/api/v1/items/42", "/access/health", "/svc4321/v2/public/items"] {
        println!("{path}");
        println!("  scan alone                {:8.1} ns", nanoseconds(|| is_plain(black_box(path), false)));
        for (name, access, master) in &lists {
            let rules = Rules::new(prefixes(master), prefixes(access), vec![], None, PLAIN);
            let uri: Uri = path.parse().unwrap();
            let linear =
                || access.iter().chain(master).filter(|prefix| black_box(path).starts_with(&***prefix)).count();
            println!(
                "  {name:>6} prefixes: match {:8.1} ns, all {:8.1} ns, linear starts_with {:8.1} ns",
                nanoseconds(|| rules.ask(black_box(path))),
                nanoseconds(|| rules.requirement(&RequestLine::new(black_box(&Method::GET), black_box(&uri)))),
                nanoseconds(linear),
            );
        }
    }
    let strict = PathOptions { windows: true, case_insensitive: true, ..PLAIN };
    let all_options = rules_with(&["/master"], &["/access"], &["/public"], strict);
    for path in ["/a%20b/c", "/files/caf%C3%A9/%61bc", "//a/../b%2Fc;d"] {
        println!("{path}: {:.0} ns", nanoseconds(|| of_path(&all_options, black_box(path))));
    }
    let defaults = rules(&["/master"], &["/access"]);
    let nested = rules_with(&["/a/a/a/a/a/master"], &["/a/access"], &["/a/a/public"], strict);
    for (name, rules) in [("defaults", defaults), ("all options", all_options), ("nested", nested)] {
        let milliseconds = |path: &str| {
            let start = Instant::now();
            let _ = black_box(of_path(&rules, path));
            start.elapsed().as_secs_f64() * 1e3
        };
        let mut worst = (0.0, String::new(), String::new());
        for (made_of, path) in hostile_8_kib() {
            // What other programs took does not count.
            if milliseconds(&path) > worst.0 {
                let took = (0..5).map(|_| milliseconds(&path)).fold(f64::MAX, f64::min);
                worst = if took > worst.0 { (took, made_of, path) } else { worst };
            }
        }
        let (took, made_of, path) = worst;
        let (count, answer) = (texts(&path, false).map(|texts| texts.len()), said(of_path(&rules, &path)));
        println!(
            "worst of 8 KiB, {name}: {took:.2} ms ({made_of}, {} bytes, {count:?} readings, {answer})",
            path.len()
        );
    }
}

/// `cargo test --release -p fastauth-core --lib rule_figures -- --ignored --nocapture`
#[test]
#[ignore = "measures"]
fn rule_figures() {
    let many = |count: usize| {
        let rules = (0..count / 5).flat_map(|number| {
            [
                Rule::prefix(format!("/area{number}")).access(),
                Rule::prefix(format!("/area{number}/open")).public(),
                Rule::prefix(format!("/area{number}/{{part}}/admin")).access().roles_any(["admin"]),
                Rule::exact(format!("/area{number}/items/{{id:int}}")).methods(["GET"]).public(),
                Rule::exact(format!("/area{number}/files/{{id:uuid}}")).methods(["POST", "PUT"]).both(),
            ]
        });
        let sources =
            RuleSources { rules: rules.collect(), default_level: Some(Level::Public), ..RuleSources::default() };
        Rules::build(sources).unwrap()
    };
    let sets = [10, 1_000, 10_000].map(many);
    for path in ["/api/v1/items/42", "/area1/open/page", "/area1/items/42", "/area1/x/admin"] {
        let uri: Uri = path.parse().unwrap();
        let times = sets.each_ref().map(|rules| {
            nanoseconds(|| rules.requirement(&RequestLine::new(black_box(&Method::GET), black_box(&uri))))
        });
        println!("{path}: {:.0} ns by 10 rules, {:.0} ns by 1,000, {:.0} ns by 10,000", times[0], times[1], times[2]);
    }
}

/// `cargo test --release -p fastauth-core --lib rule_bounds -- --ignored --nocapture`: the dearest of many hostile paths, for
/// many rules that begin alike, and what it takes to build these.
#[test]
#[ignore = "measures"]
fn rule_bounds() {
    let paths = [256, 1024, 8 * 1024 - 20].map(|length| hostile_to_patterns(length).collect::<Vec<_>>());
    for (options_name, options) in [("plain", PLAIN), ("all options", PathOptions { windows: true, ..NO_CASE })] {
        for (name, path_of) in alike() {
            for count in [10, 500, 10_000] {
                let rules = (0..count).map(|number| Rule::prefix(path_of(number)).access()).collect();
                let sources =
                    RuleSources { rules, options, default_level: Some(Level::Public), ..RuleSources::default() };
                let start = Instant::now();
                let rules = Rules::build(sources).unwrap();
                let built = start.elapsed().as_secs_f64() * 1e3;
                let start = Instant::now();
                let warnings = rules.overlaps().warnings.len();
                let described = start.elapsed().as_secs_f64() * 1e3;
                let honest = "/acme/a/a/area7/x".parse::<Uri>().unwrap();
                let line = RequestLine::new(&Method::GET, &honest);
                let honest = nanoseconds(|| rules.requirement(black_box(&line)));
                println!(
                    "{options_name}, {count} of {name}: built in {built:.1} ms, described in {described:.1} ms ({warnings}), honest {honest:.0} ns"
                );
                for paths in &paths {
                    let (took, path) = dearest(&rules, paths);
                    let answer = said(of_path(&rules, path));
                    println!("    {} bytes: {took:.0} µs, {path:.60} ({answer})", path.len());
                }
            }
        }
    }
}

type PathOf = fn(usize) -> String;

/// Ways to write many rules that begin alike.
fn alike() -> [(&'static str, PathOf); 8] {
    [
        ("/area7/{x}", |number| format!("/area{number}/{{x}}")),
        ("/{tenant}/area7", |number| format!("/{{tenant}}/area{number}")),
        ("/a/{b}/area7/{x}/y", |number| format!("/a/{{b}}/area{number}/{{x}}/y")),
        ("/{a}/{b}/{c}/area7", |number| format!("/{{a}}/{{b}}/{{c}}/area{number}")),
        ("/{tenant}/é7/{*rest}", |number| format!("/{{tenant}}/é{number}/{{*rest}}")),
        ("/{tenant}/a/a… by length", |number| {
            format!("/{{tenant}}{}", "/a".repeat(number % 1_000) + &format!("/{}", number / 1_000))
        }),
        ("/{x}/{x}… by length", |number| format!("{}/area{number}", "/{x}".repeat(1 + number % 100))),
        // A path of nothing but `/a` begins as all of them do.
        ("/a/{x}/{x}/a/… in all ways", |number| {
            let segments = (0..14).map(|bit| if number >> bit & 1 == 0 { "/{x}" } else { "/a" });
            segments.collect::<String>() + &format!("/area{number}/{{y}}")
        }),
    ]
}

/// Paths of this length that have many readings, made of names that rules have.
fn hostile_to_patterns(length: usize) -> impl Iterator<Item = String> {
    const PARTS: [&str; 14] = [
        "/a",
        "/area7",
        "//",
        "//a",
        "/..",
        "/.",
        ";v",
        "%2f",
        "%5C",
        "/%61",
        "%3f",
        "/http:",
        "/%C3%A97",
        "/%E1%BA%9E",
    ];
    let blocks =
        PARTS.iter().flat_map(|a| PARTS.iter().flat_map(move |b| PARTS.iter().map(move |c| [*a, *b, *c].concat())));
    blocks.step_by(11).flat_map(move |block| {
        let filled = |before: String, part: &str| {
            let left = length.saturating_sub(before.len() + block.len());
            format!("/{before}{}{block}", part.repeat(left / part.len()))
        };
        [
            filled(String::new(), &block),
            filled("//a".repeat(12), "/x"),
            filled(block.repeat(5), "/a"),
            filled(block.repeat(3), "x"),
            filled("a/;v%2f..%3f//".repeat(3), &block),
        ]
    })
}

/// Returns the path that takes the longest, and its time in microseconds.
fn dearest<'a>(rules: &Rules, paths: &'a [String]) -> (f64, &'a str) {
    let microseconds = |path: &str| {
        let start = Instant::now();
        let _ = black_box(of_path(rules, path));
        start.elapsed().as_secs_f64() * 1e6
    };
    let mut worst = (0.0, "");
    for path in paths {
        // What other programs took does not count.
        if microseconds(path) > worst.0 {
            let took = (0..5).map(|_| microseconds(path)).fold(f64::MAX, f64::min);
            worst = if took > worst.0 { (took, path) } else { worst };
        }
    }
    worst
}

/// Paths of up to 8 KiB, with what they are made of.
fn hostile_8_kib() -> impl Iterator<Item = (String, String)> {
    const PARTS: [&str; 15] =
        ["/a", "/..", "/.", "//", ";v", "%2f", "%252f", "\\", "%3f", "%2e%2e", " ", "%41", "/http:", "%252525", "//a"];
    let shapes = PARTS.iter().flat_map(|a| PARTS.iter().flat_map(move |b| PARTS.iter().map(move |c| (*a, *b, *c))));
    // Four has no factor in common with their number, so that each part comes in each place.
    shapes.step_by(4).flat_map(|(a, b, c)| {
        let block = [a, b, c].concat();
        // Hosts before a long rest: as many readings as there may be.
        let hosts = |count: usize| "//a".repeat(count);
        let paths = [
            block.repeat(8191 / block.len()),
            format!("{}{}{}", a.repeat(2730 / a.len()), b.repeat(2730 / b.len()), c.repeat(2730 / c.len())),
            format!("{a}/{b}{c}/{}", "x".repeat(8000)),
            format!("{}/{block}{block}", "x".repeat(7900)),
            format!("{}/{}", hosts(25), block.repeat(8000 / block.len())),
            format!("{}/{}/{block}", hosts(40), "/x".repeat(3900)),
            format!("{}/{}/{block}", hosts(12), "x".repeat(7900)),
            format!("{}/{block}", hosts(2700)),
        ];
        (1..).zip(paths).map(move |(shape, path)| (format!("{a} {b} {c} in shape {shape}"), format!("/{path}")))
    })
}

fn nanoseconds<T>(mut run: impl FnMut() -> T) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..10 {
        let start = Instant::now();
        for _ in 0..20_000 {
            black_box(run());
        }
        best = best.min(start.elapsed().as_secs_f64() * 1e9 / 20_000.0);
    }
    best
}
