//! What the layer costs beside others: `cargo bench -p fastauth-bench --bench peers`, and `--bench 'peers*'` for what they allocate too.
//!
//! Everything is measured in one run, in rounds that take turns, so that ratios hold on a machine whose speed drifts.
//! "adds" is the median over the rounds of what a request through a layer takes longer than without one. Last come the
//! limits that were set, each with what was measured.

#![allow(missing_docs, clippy::unwrap_used)]

use std::thread;

mod subjects;
#[path = "../support/mod.rs"]
mod support;

use http::Uri;
use subjects::{
    CLOSURE, Case, DECODE, DECODE_TO_MAP, GUARDED, OURS, OURS_10, OURS_10_000, OURS_BY_ACCESS_TOKEN, PEERS, SHA_256,
    cases, hot,
};
use support::{Inner, header, median, time};
use tower::Layer;

const ROUNDS: usize = 61;

/// What one subject of a case adds to a request, or takes where it is no layer, in nanoseconds.
struct Result {
    case: &'static str,
    subject: &'static str,
    is_layer: bool,
    took: f64,
}

struct Results(Vec<Result>);

impl Results {
    fn get(&self, case: &str, subject: &str) -> f64 {
        self.0.iter().find(|result| (result.case, result.subject) == (case, subject)).unwrap().took
    }

    fn fastest_peer(&self, case: &str) -> f64 {
        PEERS.into_iter().map(|peer| self.get(case, peer)).min_by(f64::total_cmp).unwrap()
    }
}

fn main() {
    let results = measure(cases());
    let mut case = "";
    for result in &results.0 {
        if result.case != case {
            case = result.case;
            println!("{case}:");
        }
        let verb = if result.is_layer { "adds" } else { "takes" };
        let of_decode = result.took / results.get("token seen before", DECODE);
        println!("  {:30} {verb:5} {:8.1} ns, {of_decode:6.3} of decode", result.subject, result.took);
    }
    limits(&results, two_threads());
}

fn measure(mut cases: Vec<Case>) -> Results {
    let mut times: Vec<Vec<Vec<f64>>> = cases.iter().map(|case| vec![Vec::new(); case.subjects.len()]).collect();
    for round in 1..=ROUNDS {
        for (case, times) in cases.iter_mut().zip(&mut times) {
            let tokens = case.tokens(round);
            for (number, times) in times.iter_mut().enumerate() {
                let batch = case.batch(number, &tokens);
                let subject = &mut case.subjects[number];
                // The first time is for the processor, which has done something else before.
                let base = subject.bare.as_mut().map_or(0.0, |bare| {
                    bare(&batch);
                    bare(&batch)
                });
                times.push((subject.run)(&batch) - base);
            }
        }
    }
    let of_case = |(case, times): (Case, Vec<Vec<f64>>)| {
        let name = case.name;
        let result = move |(subject, times): (subjects::Subject, _)| Result {
            case: name,
            subject: subject.name,
            is_layer: subject.bare.is_some(),
            took: median(times),
        };
        case.subjects.into_iter().zip(times).map(result)
    };
    Results(cases.into_iter().zip(times).flat_map(of_case).collect())
}

/// How many times as long a whole request with one hot token takes when two threads send it.
fn two_threads() -> f64 {
    const CALLS: usize = 100_000;
    let (auth, token) = hot();
    let run = || {
        // Of each thread alone, as requests from different sockets are, or what is counted of them would be shared.
        let (path, headers) = (Uri::from_static(GUARDED), [header("access-token", &token)]);
        let mut service = auth.layer(Inner::<()>::new());
        time::<(), _>(&mut service, &path, &headers, CALLS)
    };
    let round = |_| {
        let one = run();
        let two = thread::scope(|scope| {
            let other = scope.spawn(run);
            (run() + other.join().unwrap()) / 2.0
        });
        two / one
    };
    median((0..15).map(round).collect())
}

fn limits(results: &Results, two_threads: f64) {
    let [open, open_without_body, master, known, new, forged, missing] = [
        "open path",
        "open path, bodies of ()",
        "master token",
        "token seen before",
        "token never seen",
        "forged token",
        "no token",
    ];
    let ours = |case| results.get(case, OURS);
    println!("wanted, and measured:");
    let print = |what: &str, unit: &str, wanted: f64, measured: f64, at_most: bool| {
        let holds = if at_most { measured <= wanted } else { measured >= wanted };
        let (word, verdict) = (if at_most { "most" } else { "least" }, if holds { "" } else { "  MISSED" });
        println!("  {what:62} at {word:5} {wanted:6.2}{unit}: {measured:7.2}{unit}{verdict}");
    };
    let at_most = |what: &str, wanted, measured| print(what, "", wanted, measured, true);
    let ns_at_most = |what: &str, wanted, measured| print(what, " ns", wanted, measured, true);
    for open in [open, open_without_body] {
        at_most(&format!("{open}, of tower-http's closure"), 1.5, ours(open) / results.get(open, CLOSURE));
        let ten = results.get(open, OURS_10);
        at_most(&format!("{open}, 10,000 prefixes, of ten"), 1.5, results.get(open, OURS_10_000) / ten);
    }
    ns_at_most("master token, over SHA-256 of the header", 30.0, ours(master) - results.get(master, SHA_256));
    for (name, decoder) in [("decode into a struct", DECODE), ("decode into a map", DECODE_TO_MAP)] {
        at_most(&format!("token seen before, of {name}"), 0.1, ours(known) / results.get(known, decoder));
        let by_access_token = results.get(known, OURS_BY_ACCESS_TOKEN);
        at_most(&format!("  by ACCESS-TOKEN, of {name}"), 0.1, by_access_token / results.get(known, decoder));
    }
    let times_less = results.fastest_peer(known) / ours(known);
    print("token seen before, times less than the fastest peer", "", 8.0, times_less, false);
    at_most("a hot token by two threads, of one", 1.25, two_threads);
    for (name, decoder) in [("decode into a struct", DECODE), ("decode into a map", DECODE_TO_MAP)] {
        at_most(&format!("token never seen, of {name}"), 0.4, ours(new) / results.get(new, decoder));
    }
    at_most("forged token, of the fastest peer", 0.5, ours(forged) / results.fastest_peer(forged));
    ns_at_most("no token", 75.0, ours(missing));
}
