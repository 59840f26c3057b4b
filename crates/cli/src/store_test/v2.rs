//! The promises that a store makes by announcing the second version.

use fastauth_core::store::HTTP_PATIENCE;
use futures_util::future::try_join_all;
use http::{
    Method,
    header::{IF_MATCH, IF_NONE_MATCH},
};
use serde_json::{Value, json};

use super::{
    Suite,
    probe::{Kept, Pair, ProbeRequest, ProbeResponse, StoreProbe, Unkept, broken, digest, encode, end},
    v1::ENDINGS,
};

mod access;
mod feed;

const TOKEN: &str = "v2/clients/-/token";
const ROTATE: &str = "v2/clients/-/rotate";
const TICKETS: &str = "v2/tickets";
const RIVALS: usize = 32;

pub(super) const PROMISES: [&str; 28] = [
    "every answer announces the version",
    "each write gives a greater version, as ETag",
    "If-None-Match: 304 without a body, until the next write",
    "If-Match and If-None-Match: * guard a write: 412, and nothing changes",
    "a save that arrives twice or late changes nothing: 200 with the version, or 412",
    "digests are returned, and no token",
    "the client may be in the path or in the query, and is any text",
    "a pair is found by its session",
    "a rotation replaces the old pair by the new one",
    "of 32 concurrent rotations one succeeds, and the others get its pair within the grace",
    "of 32 concurrent rotations without grace one succeeds, and the session is revoked",
    "a used refresh token revokes its session: 409, then 410",
    "the access token before a rotation is known, with its age, until the next one or a revocation",
    "an unknown refresh token changes nothing: 409, or 404 for an unknown client",
    "revoking a client leaves a tombstone: 404, and versions go on",
    "revoking one session leaves the others",
    "revoking access tokens alone keeps the log-ins: no digest of them, and a retried save brings none back",
    "a rotation decided on before a revocation of access tokens is 409 access_revoked, and succeeds with its version",
    "a list is in order, page by page, and has no token",
    "a list is filtered",
    "of 32 concurrent uses of a ticket one succeeds, and none after it",
    "the change feed begins with a heartbeat, tells each change within a second, and beats each second",
    "the change feed goes on after a point, and a point of another log is a reset",
    "a long poll waits for changes and returns them",
    "the snapshot has the live sessions, between its point and its end",
    "many sessions are looked up at once, and answered in their order",
    "refusals are problem JSON, and 405 says Allow",
    "the API is described at v2/openapi.json",
];

pub(super) async fn run(suite: &mut Suite, probe: &StoreProbe) {
    let verdicts = [
        announced(probe).await,
        versions(probe).await,
        not_modified(probe).await,
        preconditions(probe).await,
        repeated_saves(probe).await,
        digests(probe).await,
        ids(probe).await,
        sessions(probe).await,
        rotation(probe).await,
        race_with_grace(probe).await,
        race_without_grace(probe).await,
        reuse(probe).await,
        previous_access(probe).await,
        superseded(probe).await,
        tombstone(probe).await,
        one_session(probe).await,
        access::log_in_is_kept(probe).await,
        access::claims_are_decided_on_again(probe).await,
        pages(probe).await,
        filters(probe).await,
        tickets(probe).await,
        feed::changes_are_told(probe).await,
        feed::goes_on_where_it_was(probe).await,
        feed::polls(probe).await,
        feed::snapshot(probe).await,
        feed::many_at_once(probe).await,
        problems(probe).await,
        description(probe).await,
    ];
    for (promise, verdict) in PROMISES.into_iter().zip(verdicts) {
        suite.v2(promise, verdict);
    }
}

/// Revokes every client of the run.
pub(super) async fn clean_up(probe: &StoreProbe) -> Kept {
    for id in probe.made() {
        probe.call(Method::DELETE, "token", &id).send().await?.is(204)?;
    }
    Ok(())
}

impl StoreProbe {
    fn issue(&self, id: &str, record: &Value) -> ProbeRequest<'_> {
        self.call(Method::POST, TOKEN, id).json(record)
    }

    /// Issues the first pair of a session.
    async fn begin(&self, id: &str, session: &str) -> Result<Pair, Unkept> {
        let pair = self.pair();
        self.issue(id, &pair.record(session, 0, "key")).send().await?.is(200)?;
        Ok(pair)
    }

    /// Exchanges a refresh token for the pair of the next generation.
    async fn rotate(
        &self,
        id: &str,
        session: &str,
        (generation, presented): (u64, &str),
        grace_ms: u64,
        new: &Pair,
    ) -> Result<ProbeResponse, Unkept> {
        let body = json!({
            "refresh_sha256": digest(presented), "session": session, "generation": generation, "grace_ms": grace_ms,
            "new": new.record(session, generation + 1, "key"),
        });
        self.call(Method::POST, ROTATE, id).json(&body).send().await
    }

    async fn digests(&self, id: &str, session: Option<&str>) -> Result<ProbeResponse, Unkept> {
        let session = session.map(|session| format!("&session={}", encode(session))).unwrap_or_default();
        self.ask(Method::GET, format!("{TOKEN}?client_id={}{session}", encode(id))).send().await
    }

    async fn are_digests(&self, id: &str, session: Option<&str>, pair: &Pair) -> Kept {
        let answer = self.digests(id, session).await?.is(200)?;
        let body = answer.json()?;
        let is_held = body["access_sha256"] == digest(&pair.access) && body["refresh_sha256"] == digest(&pair.refresh);
        if is_held { Ok(()) } else { broken("the digests of the pair that was written", answer.shown()) }
    }

    /// Checks which access token a rotation has replaced, and returns its age in milliseconds.
    async fn previous_age(&self, id: &str, expected: Option<&Pair>) -> Result<u64, Unkept> {
        let answer = self.digests(id, Some("f")).await?.is(200)?;
        let body = answer.json()?;
        let age = body["previous_access_age_ms"].as_u64();
        match expected {
            Some(pair) if body["previous_access_sha256"] == digest(&pair.access) => match age {
                Some(age) => Ok(age),
                None => broken("previous_access_age_ms beside previous_access_sha256", answer.shown()),
            },
            Some(_) => broken("previous_access_sha256 of the pair that was replaced", answer.shown()),
            None if body["previous_access_sha256"].is_null() => Ok(0),
            None => broken("no previous_access_sha256", answer.shown()),
        }
    }

    async fn is_unknown(&self, id: &str) -> Kept {
        self.get(id).send().await?.is(404)?;
        self.digests(id, None).await?.refused(404, "unknown_client")
    }

    async fn page(&self, query: &str) -> Result<Value, Unkept> {
        let answer = self.ask(Method::GET, format!("v2/clients?{query}")).send().await?.is(200)?;
        match answer.json()? {
            page if page["sessions"].is_array() => Ok(page),
            _ => broken("{\"sessions\":[…],\"next\":…}", answer.shown()),
        }
    }

    /// Returns the clients and sessions of one page, by this filter.
    async fn listed(&self, filter: &str) -> Result<Vec<(String, String)>, Unkept> {
        Ok(names(&self.page(&format!("prefix={}&{filter}&limit=1000", self.run())).await?))
    }
}

fn names(page: &Value) -> Vec<(String, String)> {
    let text = |entry: &Value, name| entry[name].as_str().unwrap_or_default().to_owned();
    let sessions = page["sessions"].as_array().into_iter().flatten();
    sessions.map(|entry| (text(entry, "client_id"), text(entry, "session"))).collect()
}

fn equal<T: PartialEq + std::fmt::Debug>(expected: &T, found: &T) -> Kept {
    if expected == found { Ok(()) } else { broken(format!("{expected:?}"), format!("{found:?}")) }
}

async fn announced(probe: &StoreProbe) -> Kept {
    let id = probe.id("-announced");
    let asks = [
        (probe.get(&id), 404),
        (probe.post(&id, &probe.pair()), 200),
        (probe.get(&id), 200),
        (probe.call(Method::POST, "token", &id).json(&json!({})), 422),
        (probe.call(Method::GET, TOKEN, &id), 200),
        (probe.call(Method::DELETE, "token", &id), 204),
        (probe.call(Method::GET, TOKEN, &id), 404),
    ];
    for (ask, status) in asks {
        let answer = ask.send().await?.is(status)?;
        if !answer.header("fastauth-store").unwrap_or_default().starts_with("v=2") {
            return broken("FastAuth-Store: v=2", format!("none in an answer with status {status}"));
        }
    }
    let unknown = probe.get(&id).send().await?.is(404)?;
    if unknown.json()?["detail"].is_string() { Ok(()) } else { broken("{\"detail\":…} with a 404", unknown.shown()) }
}

async fn versions(probe: &StoreProbe) -> Kept {
    let id = probe.id("-versions");
    let mut last = 0;
    for _ in 0..5 {
        let version = probe.post(&id, &probe.pair()).send().await?.is(200)?.version()?;
        if version <= last {
            return broken(format!("a version after {last}"), version);
        }
        equal(&version, &probe.get(&id).send().await?.is(200)?.version()?)?;
        let digests = probe.digests(&id, None).await?.is(200)?;
        equal(&version, &digests.version()?)?;
        equal(&Some(version), &digests.json()?["version"].as_u64())?;
        last = version;
    }
    Ok(())
}

async fn not_modified(probe: &StoreProbe) -> Kept {
    let id = probe.id("-not-modified");
    probe.put(&id).await?;
    for path in ["token", TOKEN] {
        let tag = format!("\"{}\"", probe.call(Method::GET, path, &id).send().await?.is(200)?.version()?);
        let again = || probe.call(Method::GET, path, &id).header(IF_NONE_MATCH, &tag);
        let answer = again().send().await?.is(304)?;
        if !answer.body.is_empty() {
            return broken("no body", answer.shown());
        }
        probe.put(&id).await?;
        again().send().await?.is(200)?;
    }
    Ok(())
}

async fn preconditions(probe: &StoreProbe) -> Kept {
    let id = probe.id("-preconditions");
    let pair = probe.pair();
    let write = |pair: &Pair, path: &str| match path {
        "token" => probe.post(&id, pair),
        _ => probe.issue(&id, &pair.record("f", 0, "key")),
    };
    for path in ["token", TOKEN] {
        probe.call(Method::DELETE, "token", &id).send().await?.is(204)?;
        write(&pair, path).header(IF_MATCH, "\"1\"").send().await?.is(412)?;
        probe.is_unknown(&id).await?;
        let first = write(&pair, path).header(IF_NONE_MATCH, "*").send().await?.is(200)?.version()?;
        write(&probe.pair(), path).header(IF_NONE_MATCH, "*").send().await?.is(412)?;
        probe.is_held(&id, &pair).await?;
        let second = probe.pair();
        write(&second, path).header(IF_MATCH, &format!("\"{first}\"")).send().await?.is(200)?;
        write(&probe.pair(), path).header(IF_MATCH, &format!("\"{first}\"")).send().await?.is(412)?;
        probe.call(Method::DELETE, "token", &id).header(IF_MATCH, &format!("\"{first}\"")).send().await?.is(412)?;
        probe.is_held(&id, &second).await?;
    }
    Ok(())
}

async fn repeated_saves(probe: &StoreProbe) -> Kept {
    let id = probe.id("-repeated");
    let first = probe.pair();
    let save = || probe.issue(&id, &first.record("f", 0, "key")).send();
    let version = save().await?.is(200)?.version()?;
    equal(&version, &save().await?.is(200)?.version()?)?;
    let second = probe.pair();
    probe.rotate(&id, "f", (0, &first.refresh), 0, &second).await?.is(200)?;
    save().await?.refused(412, "precondition_failed")?;
    probe.are_digests(&id, Some("f"), &second).await?;
    probe.call(Method::DELETE, "token", &id).send().await?.is(204)?;
    save().await?.refused(412, "precondition_failed")?;
    probe.is_unknown(&id).await
}

async fn digests(probe: &StoreProbe) -> Kept {
    let id = probe.id("-digests");
    let pair = probe.put(&id).await?;
    probe.are_digests(&id, None, &pair).await?;
    // Of an encrypted token, the digest that the caller gives counts.
    let sealed = probe.pair();
    let open = probe.pair();
    let mut record = sealed.record("f", 0, "key");
    record["access_sha256"] = digest(&open.access).into();
    record["refresh_sha256"] = digest(&open.refresh).into();
    probe.issue(&id, &record).send().await?.is(200)?;
    probe.are_digests(&id, None, &open).await?;
    probe.is_held(&id, &sealed).await?;
    let answer = probe.digests(&id, None).await?;
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    let has_token = [&sealed.access, &sealed.refresh].into_iter().any(|token| body.contains(token));
    if has_token { broken("no token", answer.shown()) } else { Ok(()) }
}

async fn ids(probe: &StoreProbe) -> Kept {
    let ids: Vec<_> = ENDINGS.iter().map(|ending| probe.id(&format!("-v2-{ending}"))).collect();
    let mut pairs = Vec::new();
    for id in &ids {
        pairs.push(probe.begin(id, id).await?);
    }
    for (id, pair) in ids.iter().zip(&pairs) {
        probe
            .are_digests(id, Some(id), pair)
            .await
            .or_else(|_| broken(format!("what was issued to {id:?}"), "else"))?;
    }
    // Both spellings are one client, as long as the id can be in a path.
    let answer = probe.ask(Method::GET, format!("v2/clients/{}/token", encode(&ids[0]))).send().await?.is(200)?;
    equal(&Some(digest(&pairs[0].access).as_str()), &answer.json()?["access_sha256"].as_str())
}

async fn sessions(probe: &StoreProbe) -> Kept {
    let id = probe.id("-sessions");
    let first = probe.begin(&id, "one").await?;
    let second = probe.pair();
    let mut record = second.record("two", 0, "key");
    record["keep_others"] = true.into();
    probe.issue(&id, &record).send().await?.is(200)?;
    probe.are_digests(&id, Some("one"), &first).await?;
    probe.are_digests(&id, Some("two"), &second).await?;
    probe.are_digests(&id, None, &second).await?;
    probe.are_digests(&id, Some("none"), &second).await?;
    let third = probe.begin(&id, "three").await?;
    probe.are_digests(&id, Some("one"), &third).await
}

async fn rotation(probe: &StoreProbe) -> Kept {
    let id = probe.id("-rotation");
    let mut held = probe.begin(&id, "f").await?;
    for generation in 0..3 {
        let new = probe.pair();
        let answer = probe.rotate(&id, "f", (generation, &held.refresh), 0, &new).await?.is(200)?;
        equal(&Some("rotated"), &answer.json()?["outcome"].as_str())?;
        probe.are_digests(&id, Some("f"), &new).await?;
        probe.is_held(&id, &new).await?;
        equal(&answer.version()?, &probe.digests(&id, None).await?.version()?)?;
        held = new;
    }
    Ok(())
}

/// Sends concurrent rotations of one token, and returns each response with the pair that was to be held.
async fn race(probe: &StoreProbe, id: &str, grace_ms: u64) -> Result<Vec<(ProbeResponse, Pair)>, Unkept> {
    let held = probe.begin(id, "f").await?;
    let rotations = (0..RIVALS).map(|_| async {
        let new = probe.pair();
        probe.rotate(id, "f", (0, &held.refresh), grace_ms, &new).await.map(|answer| (answer, new))
    });
    try_join_all(rotations).await
}

fn winner(outcomes: &[(ProbeResponse, Pair)]) -> Result<&Pair, Unkept> {
    let winners = outcomes
        .iter()
        .filter(|(answer, _)| answer.status == 200 && answer.json().is_ok_and(|body| body["outcome"] == "rotated"));
    let winners: Vec<_> = winners.map(|(_, pair)| pair).collect();
    match winners[..] {
        [winner] => Ok(winner),
        _ => broken("one rotation that succeeds", winners.len()),
    }
}

async fn race_with_grace(probe: &StoreProbe) -> Kept {
    let id = probe.id("-race-with-grace");
    let outcomes = race(probe, &id, 60_000).await?;
    let winner = winner(&outcomes)?;
    let others = outcomes.iter().filter(|(_, pair)| pair != winner);
    for (answer, _) in others {
        if answer.status != 200 || answer.json()?["outcome"] != "repeated" {
            return broken("200 repeated for the others", answer.shown());
        }
        answer.holds(winner)?;
    }
    probe.are_digests(&id, Some("f"), winner).await
}

async fn race_without_grace(probe: &StoreProbe) -> Kept {
    let id = probe.id("-race-without-grace");
    let outcomes = race(probe, &id, 0).await?;
    winner(&outcomes)?;
    let count =
        |code: &str| outcomes.iter().filter(|(answer, _)| answer.json().is_ok_and(|body| body["code"] == code)).count();
    let found = (count("reuse_detected"), count("revoked"));
    equal(&(1, RIVALS - 2), &found)
        .or_else(|_| broken("one reuse_detected, then revoked", format!("(reuse_detected, revoked) = {found:?}")))?;
    probe.is_unknown(&id).await
}

async fn reuse(probe: &StoreProbe) -> Kept {
    let id = probe.id("-reuse");
    let first = probe.begin(&id, "f").await?;
    let second = probe.pair();
    let third = probe.pair();
    probe.rotate(&id, "f", (0, &first.refresh), 0, &second).await?.is(200)?;
    probe.rotate(&id, "f", (1, &second.refresh), 0, &third).await?.is(200)?;
    probe.rotate(&id, "f", (0, &first.refresh), 60_000, &probe.pair()).await?.refused(409, "reuse_detected")?;
    probe.rotate(&id, "f", (2, &third.refresh), 0, &probe.pair()).await?.refused(410, "revoked")?;
    probe.is_unknown(&id).await?;
    equal(&vec![(id.clone(), "f".to_owned())], &probe.listed(&format!("client_id={id}&status=reused")).await?)
}

async fn previous_access(probe: &StoreProbe) -> Kept {
    let id = probe.id("-previous-access");
    let pairs = [probe.begin(&id, "f").await?, probe.pair(), probe.pair(), probe.pair()];
    let rotate =
        |generation: usize, new| probe.rotate(&id, "f", (generation as u64, &pairs[generation].refresh), 60_000, new);
    probe.previous_age(&id, None).await?;
    rotate(0, &pairs[1]).await?.is(200)?;
    let age = probe.previous_age(&id, Some(&pairs[0])).await?;
    // The grace of an access token must not begin again with each repeated answer.
    rotate(0, &pairs[3]).await?.is(200)?;
    let later = probe.previous_age(&id, Some(&pairs[0])).await?;
    if later < age || u128::from(later) > HTTP_PATIENCE.as_millis() {
        return broken(format!("an age in milliseconds of {age} or more"), later);
    }
    rotate(1, &pairs[2]).await?.is(200)?;
    probe.previous_age(&id, Some(&pairs[1])).await?;
    let mut other = probe.pair().record("other", 0, "key");
    other["keep_others"] = true.into();
    probe.issue(&id, &other).send().await?.is(200)?;
    probe.previous_age(&id, Some(&pairs[1])).await?;
    let session = format!("v2/clients/-/sessions/-?client_id={id}&session=f");
    probe.ask(Method::DELETE, session).send().await?.is(200)?;
    probe.previous_age(&id, None).await.map(drop)
}

async fn superseded(probe: &StoreProbe) -> Kept {
    let id = probe.id("-superseded");
    let other = probe.pair();
    let rotate = |generation| probe.rotate(&id, "f", (generation, &other.refresh), 0, &other);
    rotate(0).await?.refused(404, "unknown_client")?;
    let held = probe.begin(&id, "f").await?;
    // A later generation than what is held is no sign of theft: the store was restored from a backup.
    for generation in [0, 7] {
        rotate(generation).await?.refused(409, "lost_race")?;
        probe.is_held(&id, &held).await?;
    }
    Ok(())
}

async fn tombstone(probe: &StoreProbe) -> Kept {
    let id = probe.id("-tombstone");
    let version = probe.post(&id, &probe.pair()).send().await?.is(200)?.version()?;
    for _ in 0..2 {
        probe.call(Method::DELETE, "token", &id).send().await?.is(204)?;
        probe.is_unknown(&id).await?;
    }
    let after = probe.post(&id, &probe.pair()).send().await?.is(200)?.version()?;
    if after > version { Ok(()) } else { broken(format!("a version after {version}"), after) }
}

async fn one_session(probe: &StoreProbe) -> Kept {
    let id = probe.id("-one-session");
    let first = probe.begin(&id, "one").await?;
    let second = probe.pair();
    let mut record = second.record("two", 0, "key");
    record["keep_others"] = true.into();
    probe.issue(&id, &record).send().await?.is(200)?;
    for count in [1, 0] {
        let path = format!("v2/clients/-/sessions/-?client_id={id}&session=two");
        let answer = probe.ask(Method::DELETE, path).send().await?.is(200)?;
        equal(&Some(count), &answer.json()?["revoked"].as_u64())?;
    }
    probe.is_held(&id, &first).await?;
    let presented = (0, second.refresh.as_str());
    probe.rotate(&id, "two", presented, 0, &probe.pair()).await?.refused(410, "revoked")
}

async fn pages(probe: &StoreProbe) -> Kept {
    let ids: Vec<_> = (0..7).map(|n| probe.id(&format!("-page-{n}"))).collect();
    let mut tokens = Vec::new();
    for id in ids.iter().rev() {
        tokens.push(probe.begin(id, "f").await?);
    }
    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = probe.page(&format!("prefix={}-page-&limit=3{cursor}", probe.run())).await?;
        let text = page.to_string();
        if tokens.iter().any(|pair| text.contains(&pair.access) || text.contains(&pair.refresh)) {
            return broken("no token", "one in a list");
        }
        let names = names(&page);
        if names.len() > 3 {
            return broken("at most 3", names.len());
        }
        found.extend(names);
        match page["next"].as_str() {
            Some(next) if found.len() <= ids.len() => cursor = format!("&cursor={}", encode(next)),
            _ => break,
        }
    }
    equal(&ids.iter().map(|id| (id.clone(), "f".to_owned())).collect::<Vec<_>>(), &found)
}

async fn filters(probe: &StoreProbe) -> Kept {
    let id = probe.id("-filter-a%b");
    let other = probe.id("-filter-A_b");
    let kid = format!("kid{}", probe.run());
    probe.issue(&id, &probe.pair().record("f", 0, &kid)).send().await?.is(200)?;
    probe.begin(&other, "f").await?;
    let one = |id: &str| vec![(id.to_owned(), "f".to_owned())];
    equal(&one(&id), &probe.listed(&format!("kid={kid}")).await?)?;
    equal(&one(&id), &probe.listed(&format!("client_id={}", encode(&id))).await?)?;
    equal(&one(&id), &probe.listed(&format!("q={}", encode("filter-a%"))).await?)?;
    equal(&one(&other), &probe.listed("q=filter-A_").await?)?;
    probe.call(Method::DELETE, "token", &other).send().await?.is(204)?;
    equal(&one(&other), &probe.listed("q=-filter-&status=revoked").await?)?;
    equal(&one(&id), &probe.listed("q=-filter-&status=live").await?)?;
    for query in ["status=dead", "limit=0", "limit=x", "cursor=%00"] {
        probe.ask(Method::GET, format!("v2/clients?{query}")).send().await?.refused(400, "bad_request")?;
    }
    Ok(())
}

async fn tickets(probe: &StoreProbe) -> Kept {
    let id = format!("{}-ticket", probe.run());
    let spend = || probe.ask(Method::POST, TICKETS.to_owned()).json(&json!({ "id": id, "expires_at": end() })).send();
    let outcomes = try_join_all((0..RIVALS).map(|_| spend())).await?;
    let (first, others): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(|answer| answer.status == 201);
    equal(&1, &first.len()).or_else(|_| broken("one 201", first.len()))?;
    for answer in others {
        answer.refused(409, "spent")?;
    }
    spend().await?.refused(409, "spent")?;
    let other = json!({ "id": format!("{id}-2"), "expires_at": end() });
    probe.ask(Method::POST, TICKETS.to_owned()).json(&other).send().await?.is(201).map(drop)
}

async fn problems(probe: &StoreProbe) -> Kept {
    let id = probe.id("-problems");
    probe.call(Method::POST, TOKEN, &id).json(&json!({})).send().await?.refused(422, "invalid_body")?;
    probe.call(Method::POST, ROTATE, &id).json(&json!([])).send().await?.refused(422, "invalid_body")?;
    probe.call(Method::POST, TOKEN, &id).text("{}").send().await?.refused(415, "unsupported_media_type")?;
    probe.call(Method::GET, TOKEN, "").send().await?.refused(400, "bad_request")?;
    // Not so long that the connection is closed before the answer is read.
    let long = "x".repeat(96 * 1024);
    let answer = probe.call(Method::POST, TOKEN, &id).json(&json!({ "kid": long })).send().await?;
    answer.refused(413, "too_large")?;
    let answer = probe.call(Method::GET, ROTATE, &id).send().await?;
    let allow = answer.header("allow").unwrap_or_default().to_owned();
    answer.refused(405, "method_not_allowed")?;
    // It is not called, for it revokes every client.
    let options = probe.ask(Method::OPTIONS, "v2/revoke-all").send().await?;
    for allow in [allow.as_str(), options.header("allow").unwrap_or_default()] {
        if !allow.split(',').any(|method| method.trim() == "POST") {
            return broken("Allow: POST", format!("Allow: {allow}"));
        }
    }
    probe.is_unknown(&id).await
}

async fn description(probe: &StoreProbe) -> Kept {
    let answer = probe.ask(Method::GET, "v2/openapi.json").send().await?;
    if answer.status == 404 {
        return Err(Unkept::NotOffered("it may be left out"));
    }
    let answer = answer.is(200)?;
    match answer.json()?["openapi"].as_str() {
        Some(version) if version.starts_with("3.") => Ok(()),
        _ => broken("an OpenAPI document", answer.shown()),
    }
}
