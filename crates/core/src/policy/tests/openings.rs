//! What opens a path, and what never does.

use proptest::sample::select;

use super::*;

fn rule() -> impl Strategy<Value = Rule> {
    let path = select(vec![
        "/",
        "/access",
        "/access/{x}",
        "/master",
        "/a",
        "/a/{*rest}",
        "/a/{x}/access",
        "/é",
        "/A",
        "/{x}/master",
        "/access/a",
    ]);
    let level = select(Level::ALL.to_vec());
    let methods = proptest::option::weighted(0.3, select(vec!["GET", "POST"]));
    (path, any::<bool>(), level, methods).prop_map(|(path, is_exact, level, methods)| {
        let rule = if is_exact { Rule::exact(path) } else { Rule::prefix(path) }.at(level);
        methods.map_or(rule.clone(), |method| rule.methods([method]))
    })
}

fn sources() -> impl Strategy<Value = RuleSources> {
    (vec(rule(), 0..6), list(), list(), list(), options(), proptest::option::of(select(Level::ALL.to_vec()))).prop_map(
        |(rules, master, access, public, options, default_level)| RuleSources {
            rules,
            master: prefixes(&master),
            access: prefixes(&access),
            public: prefixes(&public),
            options,
            default_level,
            ..RuleSources::default()
        },
    )
}

fn stricter(level: Level) -> Level {
    match level {
        Level::Public => Level::Optional,
        Level::Optional => Level::Access,
        Level::Access | Level::Master => Level::Both,
        Level::Both | Level::Deny => Level::Deny,
    }
}

/// Returns true if whoever gets through by `more` gets through by `less`. What is denied lets nobody through.
fn asks_no_less(more: Result<Requirement, PathRefusal>, less: Result<Requirement, PathRefusal>) -> bool {
    let (Ok(more), Ok(less)) = (more, less) else { return more.is_err() };
    more.is_denied() || covers(Ok(more), Ok(less)) && !less.is_denied() && (!more.is_public() || less.is_public())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn one_more_guard_never_opens(sources in sources(), more in list(), of_master: bool, path in hostile()) {
        let mut guarded = sources.clone();
        if of_master { guarded.master.extend(prefixes(&more)) } else { guarded.access.extend(prefixes(&more)) }
        let (Ok(less), Ok(more)) = (Rules::build(sources), Rules::build(guarded)) else { return Ok(()) };
        prop_assert!(asks_no_less(of_path(&more, &path), of_path(&less, &path)));
    }

    #[test]
    fn one_exemption_less_never_opens(sources in sources(), path in hostile()) {
        let fewer = RuleSources { public: sources.public.iter().skip(1).cloned().collect(), ..sources.clone() };
        let (Ok(less), Ok(more)) = (Rules::build(sources), Rules::build(fewer)) else { return Ok(()) };
        // Above an exemption something may be mounted, by which a path has more readings.
        if texts_for(&less, &path) == texts_for(&more, &path) {
            prop_assert!(asks_no_less(of_path(&more, &path), of_path(&less, &path)));
        }
    }

    #[test]
    fn a_stricter_level_never_opens(sources in sources(), at in any::<proptest::sample::Index>(), path in hostile()) {
        let mut strict = sources.clone();
        // By themselves, the default level would be another one.
        let default = sources.default_level.unwrap_or(Level::Access);
        let lax = RuleSources { default_level: Some(default), ..sources };
        strict.default_level = Some(default);
        match strict.rules.len() {
            0 => strict.default_level = Some(stricter(default)),
            len => {
                let rule = &mut strict.rules[at.index(len)];
                *rule = rule.clone().at(stricter(rule.level().unwrap()));
            }
        }
        let (Ok(less), Ok(more)) = (Rules::build(lax), Rules::build(strict)) else { return Ok(()) };
        prop_assert!(asks_no_less(of_path(&more, &path), of_path(&less, &path)));
    }

    #[test]
    fn one_more_demand_changes_no_winner(sources in sources(), path in hostile()) {
        let mut demanding = sources.clone();
        for rule in demanding.rules.iter_mut().filter(|rule| matches!(rule.level(), Some(Level::Access | Level::Both))) {
            *rule = rule.clone().roles_any(["admin"]);
        }
        let (Ok(less), Ok(more)) = (Rules::build(sources), Rules::build(demanding)) else { return Ok(()) };
        let by_lax = of_path(&less, &path);
        let by_strict = of_path(&more, &path);
        prop_assert_eq!(by_lax, by_strict);
        let Ok(requirement) = by_strict else { return Ok(()) };
        let ids = |rules: &Rules| rules.winners(requirement).map(|(id, _)| id).collect::<Vec<_>>();
        prop_assert_eq!(ids(&less), ids(&more));
    }

    #[test]
    fn an_opening_needs_every_reading(sources in sources(), path in hostile()) {
        let Ok(rules) = Rules::build(sources) else { return Ok(()) };
        let whole = of_path(&rules, &path);
        for text in texts_for(&rules, &path).unwrap_or_default() {
            let by_itself = rules.weigh_all(&text, &[], Methods::ALL, &Steps::unlimited());
            if !rules.iter().any(|listed| listed.list() == PathList::Public) {
                prop_assert!(whole.is_err() || asks_no_less(whole, Ok(by_itself)), "{}", text);
            }
            prop_assert!(!whole.is_ok_and(Requirement::is_public) || by_itself.is_public(), "{}", text);
        }
    }

    #[test]
    fn no_option_opens(sources in sources(), path in hostile()) {
        let refusing = PathOptions { ambiguous: Ambiguous::Refuse, ..sources.options };
        let with = RuleSources { options: refusing, ..sources.clone() };
        let without = RuleSources { options: PLAIN, ..sources };
        let (Ok(more), Ok(less)) = (Rules::build(with), Rules::build(without)) else { return Ok(()) };
        prop_assert!(asks_no_less(of_path(&more, &path), of_path(&less, &path)));
    }

    #[test]
    fn lists_alone_ask_what_they_ask_beside_rules_for_other_paths(sources in sources(), path in hostile()) {
        let lists = RuleSources { rules: vec![], default_level: None, ..sources };
        let rules = vec![Rule::prefix("/elsewhere/{x}").both()];
        let ruled = RuleSources { rules, default_level: Some(Level::Public), ..lists.clone() };
        let alone = of_path(&Rules::build(lists).unwrap(), &path);
        let beside = of_path(&Rules::build(ruled).unwrap(), &path);
        // A path that cannot be read meets all rules.
        if let (Ok(alone), Ok(beside)) = (alone, beside) && beside.won().is_some() {
            prop_assert_eq!(alone, beside);
        }
        // Parameters make a hostile path more work, so that it may be refused.
        prop_assert!(alone.is_ok() || beside.is_err());
    }
}

/// As auth-gate 0.8.5 did: its pattern for a version was not anchored at the end of the segment.
#[test]
fn patterns_are_anchored_at_segments() {
    let id = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
    let rules =
        Rules::build(RuleSources { rules: vec![Rule::exact("/docs/{v:uuid}").public()], ..RuleSources::default() });
    let rules = rules.unwrap();
    for (path, expected) in [
        (format!("/docs/{id}"), "public"),
        (format!("/docs/{id}-evil/secret"), "access"),
        (format!("/docs/{id}-evil"), "access"),
        (format!("/docs/{id}/secret"), "access"),
        (format!("/docs/x{id}"), "access"),
        (format!("/docs/{id}%2fsecret"), "access"),
        (format!("/docs/{id}/../secret"), "access"),
        (format!("/x/docs/{id}"), "access"),
        ("/docs/".to_owned(), "access"),
    ] {
        assert_eq!(of_target(&rules, "GET", &path), expected, "{path}");
    }
}
