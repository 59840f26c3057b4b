//! How often the layer and others allocate for a request: `cargo bench -p fastauth-bench --bench peers_allocations`.
//!
//! It is a program of its own because counting takes time.

#![allow(missing_docs, clippy::unwrap_used)]

mod subjects;
#[path = "../support/mod.rs"]
mod support;

use allocation_counter::measure;

fn main() {
    for mut case in subjects::cases() {
        println!("{}:", case.name);
        let tokens = case.tokens(1);
        for number in 0..case.subjects.len() {
            let batch = case.batch(number, &tokens);
            let subject = &mut case.subjects[number];
            let base = subject
                .bare
                .as_mut()
                .map(|bare| {
                    measure(|| {
                        bare(&batch);
                    })
                })
                .unwrap_or_default();
            let with = measure(|| {
                (subject.run)(&batch);
            });
            let of = |count: u64, base: u64| count.saturating_sub(base) as f64 / batch.count as f64;
            let (calls, bytes) = (of(with.count_total, base.count_total), of(with.bytes_total, base.bytes_total));
            println!("  {:30} {calls:6.2} allocations, {bytes:8.0} bytes", subject.name);
        }
    }
}
