//! Requests labelled by hand, from the text of the policy.

use super::*;

const CORPUS: &str = include_str!("../../../../../tests/fixtures/paths.tsv");

/// The rules that a line such as `--access /a /b/ --windows` stands for.
fn rules_of(written: &str) -> Rules {
    let list = |name: &str| -> Vec<&str> {
        let after = written.split(' ').skip_while(|word| *word != name).skip(1);
        after.take_while(|word| !word.starts_with("--")).collect()
    };
    let has = |option: &str| written.split(' ').any(|word| word == option);
    let options = PathOptions {
        case_insensitive: has("--case-insensitive"),
        windows: has("--windows"),
        skip_preflight: has("--skip-preflight"),
        ambiguous: if has("--ambiguous") { Ambiguous::Protect } else { Ambiguous::Refuse },
    };
    let base = list("--base").first().map(|base| Prefix::parse(base).unwrap());
    let [master, access, public] = ["--master", "--access", "--public"].map(|name| prefixes(&list(name)));
    Rules::new(master, access, public, base.as_ref(), options)
}

fn label(rules: &Rules, method: &str, target: &str) -> &'static str {
    let Ok(uri) = target.parse::<Uri>() else { return "400" };
    let (method, cors_headers) = if method == "PREFLIGHT" { ("OPTIONS", true) } else { (method, false) };
    let method = method.parse().unwrap();
    let asked = rules.requirement(&RequestLine { cors_headers, ..RequestLine::new(&method, &uri) });
    match asked.map(|asked| (asked.needs_master(), asked.needs_access())) {
        Err(_) => "400",
        Ok((true, true)) => "both",
        Ok((true, false)) => "master",
        Ok((false, true)) => "access",
        Ok((false, false)) => "public",
    }
}

#[test]
fn requests_are_asked_for_what_the_policy_says() {
    let mut rules = None;
    let (mut looked_at, mut wrong) = (0, Vec::new());
    for line in CORPUS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (first, rest) = line.split_once('\t').unwrap();
        if first.starts_with('[') {
            rules = Some((first, rules_of(rest)));
            continue;
        }
        let (name, rules) = rules.as_ref().unwrap();
        let (method, target) = rest.split_once('\t').unwrap().0.split_once(' ').unwrap();
        let ours = label(rules, method, target);
        looked_at += 1;
        if ours != first {
            wrong.push(format!("{name} {rest}: {first} by the policy, {ours} by ours"));
        }
    }
    assert!(looked_at > 500, "only {looked_at} requests were found");
    assert!(wrong.is_empty(), "{} of {looked_at} are on the wrong side:\n{}", wrong.len(), wrong.join("\n"));
}
