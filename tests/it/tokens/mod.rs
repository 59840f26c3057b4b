//! Hostile tokens: what we say of them beside what `jsonwebtoken::decode` says, and what the client is told.
//!
//! `tests/fixtures/tokens.tsv` has those that have a name, each with what we say; `tests/interop` asks python-jose for its
//! view of them. A longer run over as many cases as are wanted, from a seed of its own:
//! `PROPTEST_CASES=1000000 cargo test --all-features --test it tokens -- --ignored many_more`.

use std::{collections::BTreeSet, fmt::Write as _};

use axum::Router;
use fastauth::{
    Claims, DenialReason, FastAuthLayer, Secret, TokenError,
    store::{MemoryStore, SaveOptions, TokenDigest, TokenEntry, TokenRecord, TokenStore},
};
use http::{HeaderValue, Request, StatusCode, header::WWW_AUTHENTICATE};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{RngSeed, TestRunner},
};
use tokio::runtime::{Builder, Runtime};

use self::{
    judge::{Judge, JudgedKey, Leniency, Strictness, Verdict, unix_now},
    make::{NEWEST, PREVIOUS, edit, edit_all, named, recipe},
};
use crate::app::{access_token, app, send, settings};

mod judge;
mod make;

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/tokens.tsv");

/// A guarded application whose store holds whatever it is told to.
struct Court {
    runtime: Runtime,
    store: MemoryStore,
    app: Router,
    judge: Judge,
    kid: String,
    seen: (BTreeSet<Strictness>, BTreeSet<Leniency>),
}

impl Court {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let key = |secret: &'static str| JudgedKey { secret, kid: runtime.block_on(kid_of(secret)) };
        let keys = vec![key(NEWEST), key(PREVIOUS)];
        let (store, kid) = (MemoryStore::new(), keys[0].kid.clone());
        let settings = settings().previous_cryptography_keys([PREVIOUS]).store(store.clone()).build().unwrap();
        let layer = FastAuthLayer::new(settings).unwrap();
        let judge = Judge::new(layer.issuer(), keys);
        Self { app: app(layer), runtime, store, judge, kid, seen: Default::default() }
    }

    /// Has a token judged, and shows it at the door.
    fn try_token(&mut self, token: &[u8]) -> Result<Claims, TokenError> {
        let Ok(text) = std::str::from_utf8(token) else {
            return Err(self.try_no_text(token));
        };
        let Verdict { ours, strictness, leniency } = self.judge.judge(text);
        self.seen.0.extend(strictness);
        self.seen.1.extend(leniency);
        // Some bytes cannot stand in a header, and some verdicts do not last for the way to the door.
        if let (Ok(header), false) = (HeaderValue::from_bytes(token), is_fleeting(&ours)) {
            self.runtime.block_on(self.show(&header, &ours));
        }
        ours
    }

    /// Shows what is no text at the door, the only place that takes it. What else is wrong may be told first.
    fn try_no_text(&self, token: &[u8]) -> TokenError {
        if let Ok(header) = HeaderValue::from_bytes(token) {
            let answer = self.runtime.block_on(self.ask(&header));
            // What can be told without its payload.
            let reasons = [
                TokenError::Malformed,
                TokenError::UnsupportedAlgorithm,
                TokenError::UnsupportedExtension,
                TokenError::InvalidSignature,
            ];
            assert!(reasons.iter().any(|reason| answer == invalid(*reason)), "{answer:?}");
        }
        TokenError::Malformed
    }

    async fn show(&self, token: &HeaderValue, ours: &Result<Claims, TokenError>) {
        match ours {
            Err(error) => assert_eq!(self.ask(token).await, invalid(*error)),
            Ok(claims) => {
                self.store.revoke(&fastauth::store::Revocation::All, None).await.unwrap();
                let unknown = self.ask(token).await;
                let expected = [DenialReason::UnknownClient, DenialReason::NotCurrent];
                let texts = ["Invalid Client ID", "Unauthorized Access Token"];
                let expected: Vec<_> =
                    expected.iter().zip(texts).map(|(reason, text)| Answer::refused(reason, text)).collect();
                assert!(expected.contains(&unknown), "{unknown:?}");
                self.store.save(&record(claims, token), SaveOptions::default()).await.unwrap();
                assert_eq!(self.ask(token).await.status, StatusCode::OK);
            }
        }
    }

    async fn ask(&self, token: &HeaderValue) -> Answer {
        let request = Request::get("/access/health").header("access-token", token);
        let response = send(&self.app, request.body(axum::body::Body::empty()).unwrap()).await;
        let challenge = response.headers().get(WWW_AUTHENTICATE).map(|value| value.to_str().unwrap().to_owned());
        let status = response.status();
        let others = response.headers().iter().filter(|(name, _)| *name != WWW_AUTHENTICATE);
        let headers = others.map(|(name, _)| name.to_string()).collect();
        let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
        Answer { status, challenge, headers, body: String::from_utf8(body.to_vec()).unwrap() }
    }
}

/// Whether what is said of a token may be otherwise a moment later.
fn is_fleeting(ours: &Result<Claims, TokenError>) -> bool {
    match ours {
        Ok(claims) => claims.expires_at() < unix_now() + 60,
        Err(error) => *error == TokenError::NotYetValid,
    }
}

/// The id of a key, as its tokens name it.
async fn kid_of(secret: &'static str) -> String {
    let layer = FastAuthLayer::new(settings().cryptography_key(secret).build().unwrap()).unwrap();
    let token = access_token(&layer, "c").await;
    jsonwebtoken::decode_header(token.expose()).unwrap().kid.unwrap()
}

/// What the client is told, which depends on nothing but the reason.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: StatusCode,
    challenge: Option<String>,
    headers: Vec<String>,
    body: String,
}

impl Answer {
    fn refused(reason: &DenialReason, detail: &str) -> Self {
        let reason = reason.code();
        let challenge = format!(r#"Bearer realm="demo", error="invalid_token", error_description="{detail}""#);
        Self {
            status: StatusCode::UNAUTHORIZED,
            challenge: Some(challenge),
            headers: ["content-type", "content-length", "cache-control"].map(str::to_owned).to_vec(),
            body: format!(
                r#"{{"status":"error","code":401,"reason":"{reason}","message":"{detail}","detail":"{detail}"}}"#
            ),
        }
    }
}

fn invalid(error: TokenError) -> Answer {
    Answer::refused(&DenialReason::InvalidAccessToken(error), &format!("Invalid Access Token. Error: {error}"))
}

/// A pair whose access token is this one.
fn record(claims: &Claims, token: &HeaderValue) -> TokenRecord {
    let token = std::str::from_utf8(token.as_bytes()).unwrap();
    let entry = |text: &str| TokenEntry {
        digest: TokenDigest::of(text),
        text: Secret::from(text),
        expires_at: claims.expires_at(),
    };
    TokenRecord {
        client_id: claims.client_id().to_owned(),
        session: claims.session().map_or(String::new(), |(session, _)| session.to_owned()),
        generation: 0,
        kid: String::new(),
        access: entry(token),
        refresh: entry("refresh"),
    }
}

/// Tries so many random tokens.
fn try_random(court: &mut Court, config: ProptestConfig) {
    let accepted = std::cell::Cell::new(0);
    let cases = config.cases;
    let court = std::cell::RefCell::new(court);
    let edits = prop_oneof![8 => Just(Vec::new()), 1 => vec(edit(), 1..4)];
    TestRunner::new(config)
        .run(&(recipe(), edits), |(recipe, edits)| {
            let mut court = court.borrow_mut();
            let token = edit_all(recipe.token(&court.kid).into_bytes(), &edits);
            accepted.set(accepted.get() + u32::from(court.try_token(&token).is_ok()));
            Ok(())
        })
        .unwrap();
    // Tokens that are refused for their signature alone would say nothing of the rest.
    assert!(accepted.get() > cases / 10, "{} of {cases} were accepted", accepted.get());
}

#[test]
fn random_hostile_tokens_are_judged_as_they_should_be() {
    let mut court = Court::new();
    let config =
        ProptestConfig { cases: 4_000, rng_seed: RngSeed::Fixed(7), failure_persistence: None, ..Default::default() };
    try_random(&mut court, config);
    // A reason that never made a difference would not be tried.
    assert!(court.seen.0.iter().eq(&Strictness::ALL), "{:?}", court.seen.0);
    assert!(court.seen.1.iter().eq(&Leniency::ALL), "{:?}", court.seen.1);
}

#[test]
#[ignore = "takes as long as it is told to"]
fn many_more_random_tokens() {
    try_random(&mut Court::new(), ProptestConfig { failure_persistence: None, ..Default::default() });
}

#[test]
fn named_hostile_tokens_are_judged_as_they_were() {
    let mut court = Court::new();
    let fixture = std::fs::read_to_string(FIXTURE).unwrap();
    let rows: Vec<_> = fixture.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(rows.len(), named().len(), "write the file anew: see `write_the_fixture`");
    for (row, now) in rows.into_iter().zip(file(&mut court).lines()) {
        assert_eq!(row, now);
    }
}

#[test]
#[ignore = "writes tests/fixtures/tokens.tsv: look at what changed in it"]
fn write_the_fixture() {
    const HEAD: &str = "# What becomes of hostile tokens: name, what FastAuth says, token (as JSON). Written by \
                        `cargo test --all-features --test it tokens -- --ignored write_the_fixture`.\n";
    let rows = file(&mut Court::new());
    std::fs::write(FIXTURE, format!("{HEAD}{rows}")).unwrap();
}

fn file(court: &mut Court) -> String {
    named().into_iter().fold(String::new(), |mut rows, (name, recipe)| {
        let token = recipe.token(&court.kid);
        let said = court.try_token(token.as_bytes()).map_or_else(|error| error.to_string(), |_| "accepted".to_owned());
        writeln!(rows, "{name}\t{said}\t{}", serde_json::Value::from(token)).unwrap();
        rows
    })
}
