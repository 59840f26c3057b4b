//! Rules: which wins, what it asks, and what is wrong with some.

use super::*;

fn built(rules: Vec<Rule>) -> Rules {
    with_lists(rules, &[], &[])
}

fn with_lists(rules: Vec<Rule>, access: &[&str], public: &[&str]) -> Rules {
    build(RuleSources { rules, access: prefixes(access), public: prefixes(public), ..RuleSources::default() })
}

#[track_caller]
fn build(sources: RuleSources) -> Rules {
    Rules::build(sources).unwrap()
}

/// The faults of rules, in words.
fn faults_of(rules: Vec<Rule>) -> Vec<String> {
    let faults = Rules::build(RuleSources { rules, ..RuleSources::default() }).map_or_else(|faults| faults, |_| vec![]);
    faults
        .iter()
        .map(|fault| format!("{} {:?} {} {}; {}", fault.place, fault.name, fault.member, fault.problem, fault.remedy))
        .collect()
}

/// The answer to a request, with the rules whose demands count.
fn answer(rules: &Rules, method: &str, target: &str) -> String {
    let method: Method = method.parse().unwrap();
    let uri: Uri = target.parse().unwrap();
    let answer = rules.requirement(&RequestLine::new(&method, &uri));
    let glance = rules.glance(&method, uri.path());
    assert!(glance.is_none() || glance == answer.ok(), "{method} {target}");
    let Ok(requirement) = answer else { return said(answer) };
    let winners: Vec<_> = rules.winners(requirement).map(|(id, _)| rules.name(id).to_owned()).collect();
    let by = if winners.is_empty() { String::new() } else { format!(" by {}", winners.join(", ")) };
    let report = requirement.reported().map(|id| format!(", reports {}", rules.name(id))).unwrap_or_default();
    format!("{}{by}{report}", said(answer))
}

#[track_caller]
fn check_requests(rules: &Rules, rows: &[(&str, &str, &str, &str)]) {
    for (name, method, target, expected) in rows {
        assert_eq!(answer(rules, method, target), *expected, "{name}: {method} {target}");
    }
}

#[test]
fn the_most_specific_rule_wins() {
    let id = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
    let rules = built(vec![
        Rule::exact("/health").public(),
        Rule::prefix("/api").access(),
        Rule::prefix("/api/admin").access().roles_any(["admin"]),
        Rule::exact("/api/hooks/{id:uuid}").methods(["POST"]).public(),
        Rule::prefix("/products").methods(["GET"]).optional(),
        Rule::prefix("/internal").both(),
        Rule::prefix("/old").deny(),
        Rule::prefix("/files/{owner}/{*rest}").master().name("files"),
        Rule::exact("/files/{owner}/list").public(),
    ]);
    check_requests(
        &rules,
        &[
            ("exact", "GET", "/health", "public"),
            ("exact, below", "GET", "/health/x", "access"),
            ("exact, with a slash", "GET", "/health/", "access"),
            ("prefix", "GET", "/api", "access by /api"),
            ("longer prefix", "GET", "/api/admin/x", "access by /api/admin"),
            ("whole segments", "GET", "/api/administration", "access by /api"),
            ("not at all", "GET", "/apis", "access"),
            ("typed parameter", "POST", &format!("/api/hooks/{id}"), "public"),
            ("another method", "PUT", &format!("/api/hooks/{id}"), "access by /api"),
            ("a rest that is not of the type", "POST", &format!("/api/hooks/{id}-evil"), "access by /api"),
            ("anchored", "POST", &format!("/api/hooks/{id}-evil/secret"), "access by /api"),
            ("anchored at the end", "POST", &format!("/api/hooks/{id}/secret"), "access by /api"),
            ("HEAD goes with GET", "HEAD", "/products/1", "optional by GET /products"),
            ("what no rule matches", "POST", "/products/1", "access"),
            ("unknown methods", "BREW", "/products/1", "access"),
            ("both", "GET", "/internal/x", "master+access by /internal"),
            ("deny", "GET", "/old/x", "deny by /old"),
            ("rest", "GET", "/files/me/a/b", "master by files"),
            ("no rest", "GET", "/files/me", "access"),
            ("exact end", "GET", "/files/me/list", "public"),
            ("another reading", "GET", "/files/me/list/../x", "master by files"),
            ("a reading asks for more", "GET", "/health/../api/admin", "access by /api/admin"),
            ("an escape", "GET", "/%68ealth", "access"),
        ],
    );
}

#[test]
fn lists_ask_on_top() {
    let rules = vec![
        Rule::prefix("/api/open").public(),
        Rule::prefix("/public/inner").access().scopes(["read"]),
        Rule::exact("/public").deny(),
    ];
    let rules = with_lists(rules, &["/api"], &["/public", "/api/open/too"]);
    check_requests(
        &rules,
        &[
            ("no rule opens what a list guards", "GET", "/api/open", "access"),
            ("an exemption does", "GET", "/api/open/too", "public"),
            ("exemptions open below the default level", "GET", "/public/x", "public"),
            ("longer rules win over exemptions", "GET", "/public/inner", "access by /public/inner"),
            ("of the same path, too", "GET", "/public", "deny by /public"),
            ("default level", "GET", "/x", "access"),
        ],
    );
}

#[test]
fn what_only_reports_never_decides() {
    let rules = built(vec![
        Rule::prefix("/api").access(),
        Rule::prefix("/api").access().roles_any(["admin"]).report_only(true).name("dry"),
        Rule::prefix("/api/x").public(),
        Rule::prefix("/y").deny().report_only(true),
    ]);
    check_requests(
        &rules,
        &[
            ("beside the same path", "GET", "/api/1", "access by /api, reports dry"),
            ("less specific than what decides", "GET", "/api/x", "public"),
            ("alone", "GET", "/y", "access, reports /y"),
        ],
    );
}

#[test]
fn faults_of_all_rules_are_told_at_once() {
    let names = |texts: &[&str]| texts.iter().map(|text| Rule::prefix(*text).access()).collect::<Vec<_>>();
    for (path, problem) in [
        ("", "is empty; write a path such as \"/api\", or \"/\" for all paths"),
        ("api", "must begin with `/`; write \"/api\""),
        ("/api/", "has a slash at its end; write \"/api\", which is met with a slash at the end, too"),
        ("/a//{b}", "has a doubled slash; write \"/a/{b}\""),
        ("/a/../{b}", "has a dot segment; write \"/{b}\""),
        (
            "/a/*",
            "has a `*`, which stands for nothing here; write {name} for one segment, or {*rest} at the end for all that follows",
        ),
        (
            "/a/:id",
            "has a `:`, which stands for nothing here; write {name} for one segment, or `%3A` for the colon itself",
        ),
        (
            "/a/x{b}",
            "\"x{b}\" has a parameter as a part of a segment; make the parameter a whole segment, such as \"/files/{name}\"",
        ),
        ("/{a:date}", "\"date\" is not a type of parameters; write {a:uuid} or {a:int}, or {a} for any segment"),
        ("/{*rest}/x", "{*rest} is not at the end; put {*rest} at the end of the path"),
        ("/{}", "\"{}\" has no name for its parameter; write a name of letters, digits and `_`, such as {id}"),
        (
            "/a%2fb",
            "has an escape of `/`, `\\`, `%`, `;`, `?`, `#` or a control character, which servers read in different ways; write the plain text of the path, with {name} for a segment that varies",
        ),
    ] {
        assert_eq!(faults_of(names(&[path])), [format!("0 {path:?} path {problem}")]);
    }
    let texts = |rule: Rule| {
        faults_of(vec![rule]).into_iter().map(|fault| fault.split(';').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        texts(Rule::prefix("/a").access().methods(["get"])),
        [r#"0 "get /a" methods "get" is not how the method is written"#]
    );
    assert_eq!(
        texts(Rule::prefix("/a").access().methods(["QUERY"])),
        [r#"0 "QUERY /a" methods "QUERY" is not a known method"#]
    );
    assert_eq!(texts(Rule::prefix("/a")), [r#"0 "/a" level is missing"#]);
    assert_eq!(
        texts(Rule::prefix("/a").public().scopes(["x"])),
        [r#"0 "/a" level is "public", which asks for no access token that could meet `scopes`"#]
    );
    assert_eq!(
        texts(Rule::exact("/a/").name("both").access().roles_any([""; 0])),
        [r#"0 "both" path has a slash at its end"#, r#"0 "both" roles-any is empty"#]
    );
    assert_eq!(
        texts(Rule::prefix("/a").access().principal(Principal::Service).issuers(["https://x"])),
        [
            r#"0 "/a" issuers has "https://x", and only "own" is known, which is this application"#,
            r#"0 "/a" principal is "service", and nothing tells users from services"#,
        ]
    );
}

#[test]
fn ties_are_faults_that_name_both() {
    let tied = |a: Rule, b: Rule| !faults_of(vec![a.access(), b.public()]).is_empty();
    for (a, b) in
        [("/a", "/a"), ("/{x}/b", "/a/{y}"), ("/{x}", "/{y}"), ("/caf%C3%A9", "/café"), ("/a/{*r}", "/a/{*s}")]
    {
        assert!(tied(Rule::prefix(a), Rule::prefix(b)), "{a} {b}");
    }
    for (a, b) in
        [("/a", "/b"), ("/{x}/b", "/{x}/c"), ("/{x:int}", "/{y:uuid}"), ("/{x:int}", "/{y}"), ("/a/{*r}", "/a/{s}")]
    {
        assert!(!tied(Rule::prefix(a), Rule::prefix(b)), "{a} {b}");
    }
    assert!(!tied(Rule::prefix("/a"), Rule::exact("/a")));
    assert!(!tied(Rule::prefix("/a"), Rule::prefix("/a").methods(["GET"])));
    assert!(!tied(Rule::prefix("/a").methods(["POST"]), Rule::prefix("/a").methods(["GET"])));
    assert!(tied(Rule::prefix("/a").methods(["HEAD"]), Rule::prefix("/a").methods(["GET"])));
    assert_eq!(
        faults_of(vec![
            Rule::prefix("/a").access().name("one"),
            Rule::prefix("/b").access(),
            Rule::prefix("/a").deny()
        ]),
        [
            r#"2 "/a" path is as specific as rules[0] ("one", path "/a"), and some requests match both; merge the two, give them different `methods`, or make one path more specific"#
        ]
    );
}

#[test]
fn rules_without_effect_are_warned_of() {
    let sources = RuleSources {
        access: prefixes(&["/guarded"]),
        rules: vec![
            Rule::prefix("/a").access(),
            Rule::prefix("/a").methods(["GET", "POST"]).access(),
            Rule::prefix("/a/b/{x:int}").access(),
            Rule::prefix("/a/b/{x}").access(),
            Rule::prefix("/a/b/5").public().name("five"),
            Rule::prefix("/guarded/{x}").optional(),
            Rule::prefix("/r").public().report_only(true),
        ],
        ..RuleSources::default()
    };
    assert_eq!(
        build(sources).overlaps().warnings,
        [
            r#"rules[4] "five" has no effect: rules[2] "/a/b/{x:int}" wins all of its requests"#,
            r#"rules[5] "/guarded/{x}" is optional, but "/guarded" of `access-token-paths` guards its paths all the same: shorten that list, or put the path into `public-paths`, too"#,
            r#"rules[6] "/r" only reports, and refuses no request that it could report"#,
        ]
    );
}

#[test]
fn case_and_a_slash_at_the_end_count_where_they_ask_for_more() {
    let options = PathOptions { case_insensitive: true, ..PLAIN };
    let rules =
        vec![Rule::prefix("/Straße/{x}/Admin").master(), Rule::exact("/open").public(), Rule::exact("/deny").deny()];
    let rules = build(RuleSources { options, rules, ..RuleSources::default() });
    check_requests(
        &rules,
        &[
            ("as written", "GET", "/Stra%C3%9Fe/1/Admin", "master by /Straße/{x}/Admin"),
            ("a guard by capitals", "GET", "/STRASSE/1/ADMIN", "master+access by /Straße/{x}/Admin"),
            ("a guard by another case", "GET", "/stra%E1%BA%9Ee/1/ADMIN", "master+access by /Straße/{x}/Admin"),
            ("open", "GET", "/open", "public"),
            ("not open by another case", "GET", "/OPEN", "access"),
            ("not open with a slash", "GET", "/open/", "access"),
            ("denied with a slash", "GET", "/DENY/", "deny by /deny"),
        ],
    );
    let rules = built(vec![Rule::exact("/open").public(), Rule::prefix("/open").public()]);
    assert_eq!(answer(&rules, "GET", "/open/"), "public");
}

#[test]
fn extended_connect_counts_as_get() {
    let rules = built(vec![Rule::prefix("/ws").methods(["GET"]).public(), Rule::exact("/").deny()]);
    let uri = Uri::from_static("/ws");
    let line = RequestLine::new(&Method::CONNECT, &uri);
    assert_eq!(said(rules.requirement(&line)), "access");
    let of = |connect| said(rules.requirement(&RequestLine { connect, ..line }));
    assert_eq!([Connect::Tunnel, Connect::WebSocket, Connect::Unknown].map(of), ["access", "public", "access"]);
    assert_eq!(rules.glance(&Method::CONNECT, "/ws"), None);
    assert_eq!(of_target(&rules, "CONNECT", "host:443"), "deny");
    assert_eq!(rules.explain(&Method::CONNECT, "/ws").decision(), PathDecision::Access);
    assert_eq!(rules.explain(&Method::GET, "/ws").decision(), PathDecision::Public);
}

#[test]
fn what_cannot_be_read_meets_all_rules() {
    let options = PathOptions { ambiguous: Ambiguous::Protect, ..PLAIN };
    let rules = vec![
        Rule::prefix("/a").access().scopes(["s"]),
        Rule::prefix("/b").master(),
        Rule::prefix("/c").deny().report_only(true),
    ];
    let rules = build(RuleSources { options, rules, default_level: Some(Level::Public), ..RuleSources::default() });
    assert_eq!(answer(&rules, "GET", "/x%E9"), "master+access by /a, /b");
    assert_eq!(answer(&rules, "GET", "/x"), "public");
}

#[test]
fn default_level_counts_without_rules() {
    for level in Level::ALL {
        let rules = build(RuleSources { default_level: Some(level), ..RuleSources::default() });
        let expected = if level == Level::Both { "master+access" } else { level.as_str() };
        check_requests(&rules, &[("alone", "GET", "/x", expected), ("with readings", "GET", "//x%20", expected)]);
    }
    assert_eq!(answer(&build(RuleSources::default()), "GET", "/x"), "public");
}

#[test]
fn explanations_name_winners_and_runners_up() {
    let rules = with_lists(
        vec![
            Rule::prefix("/api").access(),
            Rule::prefix("/api/admin").access().roles_any(["admin"]).name("admins"),
            Rule::exact("/api/admin/x").deny().report_only(true),
            Rule::prefix("/api/{part}").methods(["POST"]).master(),
        ],
        &[],
        &["/api/open"],
    );
    let shown = |target: &str| {
        let explanation = rules.explain(&Method::GET, target);
        let rows = explanation.readings().iter().flat_map(ExplainedReading::contests).map(|contest| {
            let contenders = contest.contenders().iter().map(|contender| {
                format!(
                    "{} {:?} {:?}",
                    contender.name(),
                    contender.standing(),
                    contender.ahead_by().unwrap_or_default()
                )
            });
            format!("{}: {}", contest.text(), contenders.collect::<Vec<_>>().join(", "))
        });
        let rows: Vec<_> = rows.collect();
        let by: Vec<_> = explanation.decided_by_rules().iter().map(|by| (by.name().to_owned(), by.reading())).collect();
        let prefixes: Vec<_> = explanation.decided_by().iter().map(DecidingPrefix::prefix).collect();
        format!(
            "{} {by:?} {prefixes:?} {:?} | {}",
            explanation.decision(),
            explanation.default_level(),
            rows.join(" | ")
        )
    };
    assert_eq!(
        shown("/api/admin/x"),
        r#"access [("admins", 0)] [] None | /api/admin/x: /api/admin/x Reports "exact", admins Wins "longer", /api Loses "", default-level Loses """#
    );
    assert_eq!(
        shown("/api/open"),
        r#"public [] ["/api/open"] None | /api/open: /api/open Wins "longer", /api Loses "", default-level Loses """#
    );
    let opened = "/api/open Wins \"longer\", /api Loses \"\", default-level Loses \"\"";
    let guarded = "/x: default-level Wins \"\"";
    let below = "/api/x: /api Wins \"\", default-level Loses \"\"";
    assert_eq!(
        shown("/api/open/../../x"),
        format!(
            "access [(\"/api\", 3)] [] Some(Access) | /api/open/../../x: {opened} | {guarded} | /api/open/x: {opened} | {below}"
        )
    );
    let json = serde_json::to_value(rules.explain(&Method::POST, "/api/x")).unwrap();
    assert_eq!(
        json["decided_by_rules"],
        serde_json::json!([{"place": 3, "name": "POST /api/{part}", "level": "master", "reading": 0}])
    );
    let winner = serde_json::json!({"kind": "rule", "name": "POST /api/{part}", "place": 3, "level": "master", "standing": "wins", "ahead_by": "pattern over prefix"});
    assert_eq!(json["readings"][0]["contests"][0]["contenders"][0], winner);
}

/// axum takes `//access` for `/{tenant}/access`, and `/files//` for `/files/{*rest}`.
#[test]
fn parameters_of_guards_stand_for_empty_segments() {
    let rules = vec![
        Rule::prefix("/{tenant}/access").access(),
        Rule::prefix("/files/{*rest}").master(),
        Rule::exact("/{tenant}/only").access(),
    ];
    let rules = build(RuleSources { rules, default_level: Some(Level::Public), ..RuleSources::default() });
    check_requests(
        &rules,
        &[
            ("empty at the root", "GET", "//access", "access by /{tenant}/access"),
            ("by another reading", "GET", "/%2faccess", "access by /{tenant}/access"),
            ("empty rest", "GET", "/files//", "master by /files/{*rest}"),
            ("no rest", "GET", "/files/", "public"),
            ("of an exact path", "GET", "//only", "access by /{tenant}/only"),
            ("not below it", "GET", "//only/x", "public"),
            ("mounted at a parameter", "GET", "/x//host/access", "access by /{tenant}/access"),
        ],
    );
    let rules = built(vec![Rule::prefix("/{tenant}/open").public()]);
    check_requests(&rules, &[("opens none", "GET", "//open", "access"), ("opens one", "GET", "/x/open", "public")]);
}

#[test]
fn of_more_winners_than_are_kept_all_rules_count() {
    let winners = |count: usize| {
        let parameters = [
            Rule::prefix("/{a}"),
            Rule::prefix("/{a}/{b}"),
            Rule::prefix("/{a}/k"),
            Rule::exact("/{a}/{b}"),
            Rule::exact("/{a}/k"),
        ];
        let met = parameters.into_iter().take(count).map(Rule::access);
        let rules = built(met.chain([Rule::exact("/elsewhere").access().scopes(["s"])]).collect());
        rules.winners(of_path(&rules, "//k").unwrap()).count()
    };
    assert_eq!((winners(4), winners(5)), (4, 6));
}
