//! Properties of all rules and all paths.

use std::collections::HashSet;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn one_more_rule_removes_no_check(
        path in hostile(), master in list(), access in list(), more in list(), options in options(),
    ) {
        let rules = |master: &[String], access: &[String]| {
            Rules::new(prefixes(master), prefixes(access), vec![], None, options)
        };
        let less = of_path(&rules(&master, &access), &path);
        let (more_master, more_access) = ([&master[..], &more].concat(), [&access[..], &more].concat());
        prop_assert!(covers(of_path(&rules(&more_master, &more_access), &path), less));
    }

    #[test]
    fn no_option_removes_a_check(path in hostile(), master in list(), access in list(), public in list(), options in options()) {
        let rules = |options| Rules::new(prefixes(&master), prefixes(&access), prefixes(&public), None, options);
        let refusing = PathOptions { ambiguous: Ambiguous::Refuse, ..options };
        prop_assert!(covers(of_path(&rules(refusing), &path), of_path(&rules(PLAIN), &path)));
    }

    #[test]
    fn no_reading_asks_for_more_than_the_path(path in hostile(), access in list(), windows: bool) {
        let rules = Rules::new(vec![], prefixes(&access), vec![], None, PathOptions { windows, ..PLAIN });
        let whole = of_path(&rules, &path);
        for text in texts_for(&rules, &path).unwrap_or_default() {
            prop_assert!(covers(whole, Ok(rules.weigh_lists(&text))), "{}", text);
        }
    }

    #[test]
    fn what_upstream_guards_is_guarded(path in hostile(), access in list(), options in options()) {
        let rules = Rules::new(vec![], prefixes(&access), vec![], None, options);
        let upstream = access.iter().any(|prefix| path.starts_with(prefix));
        let ours = of_path(&rules, &path);
        prop_assert!(!upstream || ours.is_err() || ours.unwrap().needs_access());
    }

    #[test]
    fn closures_are_closed(path in hostile(), windows: bool) {
        // Where everything may be a mount, there may be more readings than are looked at.
        let Some(whole) = readings(&path, windows, 0, &|_| true).ok().filter(|whole| whole.complete) else { return Ok(()) };
        let whole: HashSet<_> = whole.list.into_iter().map(|reading| reading.text).collect();
        for text in &whole {
            let of_reading: HashSet<_> = texts(text, windows).unwrap().into_iter().collect();
            prop_assert!(of_reading.is_subset(&whole), "{}", text);
            prop_assert!(text.starts_with('/') && !text.contains(|c: char| c.is_ascii_control()));
        }
    }

    #[test]
    fn plain_is_what_has_no_other_reading(path in hostile(), windows: bool) {
        if is_plain(&path, windows) {
            prop_assert_eq!(texts(&path, windows), Ok(vec![path.clone()]));
            prop_assert_eq!(faults(&path).count(), 0);
        }
    }

    #[test]
    fn a_glance_tells_what_all_readings_ask_for(
        path in prop_oneof![hostile(), "/[aA]?(access|MASTER|a|\u{212a})?[a-zA-Z0-9/.]{0,40}"],
        master in list(), access in list(), public in list(), options in options(), based: bool,
    ) {
        let base = Prefix::parse("/a").unwrap();
        let base = based.then_some(&base);
        let rules = Rules::new(prefixes(&master), prefixes(&access), prefixes(&public), base, options);
        if let Some(requirement) = rules.glance(&Method::GET, &path) {
            prop_assert!(is_plain(&path, options.windows));
            prop_assert_eq!(of_path(&rules, &path), Ok(requirement));
        }
    }

    #[test]
    fn what_a_glance_leaves_open_starts_with_no_prefix(
        numbers in vec(0..1_000_u32, 1..300), number in 0..1_000_u32, rest in "(/[aA][rR]?[eE]?[aA]?|/open)?",
        case_insensitive: bool,
    ) {
        let access: Vec<_> = numbers.iter().map(|number| format!("/access{number}/area")).collect();
        let rules = Rules::new(vec![], prefixes(&access), vec![], None, PathOptions { case_insensitive, ..PLAIN });
        let path = format!("/access{number}{rest}");
        let cased = if case_insensitive { path.to_lowercase() } else { path.clone() };
        let guarded = access.iter().any(|prefix| cased.starts_with(&**prefix));
        prop_assert_eq!(of_path(&rules, &path).unwrap().needs_access(), guarded);
        prop_assert_eq!(rules.glance(&Method::GET, &path).map(Requirement::needs_access), Some(guarded), "{}", path);
    }

    #[test]
    fn exempt_is_what_is_exempt_by_every_reading(path in hostile(), public in list(), options in options()) {
        let rules = Rules::new(prefixes(&["/"]), vec![], prefixes(&public), None, options);
        if of_path(&rules, &path).is_ok_and(Requirement::is_public) {
            for text in texts_for(&rules, &path).unwrap() {
                let text = without_needed_escapes(&text);
                let below = |stem: &str| text.strip_prefix(stem).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
                prop_assert!(public.iter().any(|prefix| below(prefix.trim_end_matches('/'))), "{}", text);
            }
        }
    }

    #[test]
    fn explanations_agree(
        path in hostile(), master in list(), access in list(), public in list(), options in options(), based: bool,
    ) {
        let base = Prefix::parse("/a").unwrap();
        let base = based.then_some(&base);
        let rules = Rules::new(prefixes(&master), prefixes(&access), prefixes(&public), base, options);
        let Ok(uri) = path.parse::<Uri>() else { return Ok(()) };
        let explanation = rules.explain(&Method::GET, &path);
        let required = rules.requirement(&RequestLine::new(&Method::GET, &uri));
        prop_assert_eq!(explanation.decision(), required.map_or(PathDecision::Reject, PathDecision::from));
        for by in explanation.decided_by().iter().filter(|by| by.list() != PathList::Public) {
            let rule = rules.listed(required.unwrap().rule(by.list()).unwrap()).unwrap();
            prop_assert_eq!((rule.list(), rule.prefix()), (by.list(), by.prefix()));
        }
        for reading in explanation.readings() {
            let from = reading.from().map(|from| explanation.readings()[from].text());
            prop_assert_ne!(from, Some(reading.text()));
        }
        if explanation.reason().is_none() {
            for (list, asked) in [(PathList::Master, "master"), (PathList::Access, "access")] {
                let asked = explanation.decision().to_string().contains(asked);
                prop_assert_eq!(asked, explanation.decided_by().iter().any(|by| by.list() == list));
            }
        }
    }

    #[test]
    fn nothing_panics(bytes in vec(any::<u8>(), 0..200), text in "\\PC{0,50}", options in options()) {
        let rules = rules_with(&["/a"], &["/%C3%A9/"], &["/x"], options);
        let lossy = String::from_utf8_lossy(&bytes);
        for path in [&*lossy, &text, &format!("/{lossy}"), &format!("/{text}")] {
            let _ = of_path(&rules, path);
            let _ = rules.explain(&Method::GET, path);
            let _ = texts(path, true);
            let _ = Prefix::parse(path);
        }
        if let Ok(uri) = Uri::try_from(&bytes[..]) {
            let _ = rules.requirement(&RequestLine::new(&Method::CONNECT, &uri));
        }
    }
}
