use super::*;

#[test]
fn every_header_of_a_scheme_leads_to_it() {
    for (place, scheme) in SCHEMES.iter().enumerate() {
        if let Some(header) = &scheme.header {
            assert_eq!(place_of(header), Some(place), "{}", scheme.name);
        }
    }
    assert_eq!(place_of(&UPGRADE), None);
}

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

#[test]
fn access_token_stands_in_one_place() {
    const REPEATED: CredentialError = CredentialError::Repeated("ACCESS-TOKEN");
    const REPEATED_AUTHORIZATION: CredentialError = CredentialError::Repeated("Authorization");
    type Row = (&'static str, &'static [(&'static str, &'static str)], Result<Option<&'static str>, CredentialError>);
    let table: [Row; 14] = [
        ("nothing", &[], Ok(None)),
        ("header", &[("access-token", "t")], Ok(Some("t"))),
        ("empty header", &[("access-token", "")], Ok(Some(""))),
        ("bearer", &[("authorization", "Bearer t")], Ok(Some("t"))),
        ("any case", &[("authorization", "bEARER  t")], Ok(Some("t"))),
        ("bearer of nothing", &[("authorization", "Bearer")], Ok(Some(""))),
        ("basic is not ours", &[("authorization", "Basic dDp0")], Ok(None)),
        ("basic beside ours", &[("access-token", "t"), ("authorization", "Basic dDp0")], Ok(Some("t"))),
        ("bearerish", &[("authorization", "Bearert")], Ok(None)),
        ("the same twice", &[("access-token", "t"), ("authorization", "Bearer t")], Ok(Some("t"))),
        (
            "two",
            &[("access-token", "t"), ("authorization", "Bearer u")],
            Err(CredentialError::Conflicting("ACCESS-TOKEN", "Authorization")),
        ),
        ("repeated", &[("access-token", "t"), ("access-token", "t")], Err(REPEATED)),
        ("bearer twice", &[("authorization", "Bearer t"), ("authorization", "Bearer t")], Err(REPEATED_AUTHORIZATION)),
        (
            "bearer behind basic",
            &[("authorization", "Basic dDp0"), ("authorization", "Bearer t")],
            Err(REPEATED_AUTHORIZATION),
        ),
    ];
    for (name, lines, expected) in table {
        let headers = headers(lines);
        assert_eq!(
            Presented::read(&headers, TokenHeaders::ALL).access_token(),
            expected.map(|token| token.map(str::as_bytes)),
            "{name}"
        );
    }
}

#[test]
fn tokens_are_looked_for_where_they_may_be() {
    let both = headers(&[("access-token", "t"), ("authorization", "Bearer u"), ("authorization", "Bearer v")]);
    for (names, expected) in [(&["ACCESS-TOKEN"][..], Some("t")), (&["access-token"], Some("t")), (&[], None)] {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let found = Presented::read(&both, TokenHeaders::named(&names).unwrap()).access_token();
        assert_eq!(found, Ok(expected.map(str::as_bytes)), "{names:?}");
    }
    let own = headers(&[("access-token", "t"), ("access-token", "u"), ("authorization", "Bearer v")]);
    let sources = TokenHeaders::named(&["Authorization".to_owned()]).unwrap();
    assert_eq!(Presented::read(&own, sources).access_token(), Ok(Some(b"v".as_slice())));
    assert_eq!(TokenHeaders::named(&["ACCESS-TOKEN".to_owned(), "Cookie".to_owned()]), Err("Cookie"));
    assert_eq!(TokenHeaders::named(&["Authorization".to_owned(), "access-token".to_owned()]), Ok(TokenHeaders::ALL));
}

#[test]
fn master_token_stands_in_one_place() {
    const REPEATED: CredentialError = CredentialError::Repeated("MASTER-TOKEN");
    for (lines, expected) in [
        (&[("authorization", "Bearer m")][..], Ok(None)),
        (&[("master-token", "m")], Ok(Some(b"m".as_slice()))),
        (&[("master-token", "m"), ("master-token", "m")], Err(REPEATED)),
        (&[("master-token", "m"), ("access-token", "t"), ("master-token", "m"), ("master-token", "m")], Err(REPEATED)),
    ] {
        assert_eq!(Presented::read(&headers(lines), TokenHeaders::ALL).master_token(), expected, "{lines:?}");
    }
}

#[test]
fn every_credential_is_hidden() {
    let mut headers = headers(&[
        ("master-token", "hush-1"),
        ("access-token", "hush-2"),
        ("access-token", "hush-3"),
        ("authorization", "Bearer hush-4"),
        ("cookie", "__Host-fastauth-refresh=hush-5"),
        ("sec-websocket-protocol", "fastauth, hush-6"),
        ("accept", "seen"),
    ]);
    assert_eq!(mark_sensitive(&mut headers), Marked { cookie: true, upgrade: false });
    let shown = format!("{headers:?}");
    assert!(!shown.contains("hush") && shown.contains("seen"), "{shown}");
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    assert!(mark_sensitive(&mut headers).upgrade);
}

fn request(method: Method, headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder().method(method);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

fn handshake(protocols: &[&str]) -> Request<()> {
    let mut headers = vec![("upgrade", "websocket"), ("connection", "keep-alive, Upgrade")];
    headers.extend(protocols.iter().map(|protocols| ("sec-websocket-protocol", *protocols)));
    request(Method::GET, &headers)
}

#[test]
fn handshakes_are_recognised() {
    for (expected, method, headers) in [
        (true, Method::GET, &[("upgrade", "websocket"), ("connection", "upgrade")][..]),
        (true, Method::GET, &[("upgrade", "h2c, WebSocket/13")]),
        (true, Method::GET, &[("upgrade", "h2c"), ("upgrade", "\"WEBSOCKET\"")]),
        (true, Method::POST, &[("upgrade", "xwebsockets")]),
        (true, Method::CONNECT, &[]),
        (false, Method::GET, &[("upgrade", "h2c"), ("connection", "upgrade")]),
        (false, Method::GET, &[("connection", "upgrade"), ("sec-websocket-protocol", "websocket")]),
    ] {
        let request = request(method, headers);
        assert_eq!(is_handshake(request.method(), request.headers()), expected, "{headers:?}");
    }
}

#[test]
fn token_among_the_protocols_has_to_be_that_of_the_header() {
    let proof = |protocols: &[&str], header: Option<&'static str>| {
        let taken = Credentials::take(&mut handshake(protocols));
        let line = header.map(|token| (HeaderName::from_static("access-token"), HeaderValue::from_static(token)));
        let headers: HeaderMap = line.into_iter().collect();
        taken.read(&headers, TokenHeaders::ALL).proof().map(|proof| match proof {
            Some(Proof::Token(token)) => token.to_vec(),
            Some(Proof::Ticket(_)) | None => Vec::new(),
        })
    };
    let token = |text: &[u8]| Ok(text.to_vec());
    assert_eq!(proof(&["fastauth, t"], None), token(b"t"));
    assert_eq!(proof(&["fastauth, t"], Some("t")), token(b"t"));
    assert_eq!(proof(&["fastauth, t"], Some("u")), Err(CredentialError::ConflictingProtocol));
    assert_eq!(proof(&["fastauth, t, fastauth, t"], Some("t")), Err(CredentialError::RepeatedProtocol));
    assert_eq!(proof(&[], Some("u")), token(b"u"));
    assert_eq!(proof(&[], None), token(b""));
}

#[test]
fn protocols_stay_if_there_is_no_handshake() {
    let mut request = request(Method::GET, &[("sec-websocket-protocol", "fastauth, t")]);
    assert!(!Credentials::take(&mut request).are_of_handshake());
    assert_eq!(request.headers()[SEC_WEBSOCKET_PROTOCOL], "fastauth, t");
}
