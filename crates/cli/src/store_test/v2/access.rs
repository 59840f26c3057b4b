//! The revocation of access tokens alone, which a store of the second version may lack.

use http::Method;
use serde_json::json;

use super::{ROTATE, equal};
use crate::store_test::probe::{Kept, Pair, StoreProbe, Unkept, broken, digest, encode};

const ACCESS_TOKEN: &str = "v2/clients/-/access-token";

/// Revokes the access tokens of a client, and returns how many sessions that were.
async fn revoke_access(probe: &StoreProbe, id: &str, session: &str) -> Result<u64, Unkept> {
    let path = format!("{ACCESS_TOKEN}?client_id={}{session}", encode(id));
    let answer = probe.ask(Method::DELETE, path).send().await?;
    match answer.status.as_u16() {
        404 if answer.json().is_ok_and(|body| body["code"] != "unknown_client") => {
            Err(Unkept::NotOffered("the store cannot revoke access tokens alone"))
        }
        501 => Err(Unkept::NotOffered("the store cannot revoke access tokens alone")),
        _ => match answer.is(200)?.json()?["revoked"].as_u64() {
            Some(revoked) => Ok(revoked),
            None => broken("{\"revoked\":NUMBER}", "none"),
        },
    }
}

impl StoreProbe {
    async fn has_no_access_token(&self, id: &str, session: &str, pair: &Pair) -> Kept {
        let answer = self.digests(id, Some(session)).await?.is(200)?;
        let body = answer.json()?;
        let is_kept = body["refresh_sha256"] == digest(&pair.refresh);
        let names_none = body["access_sha256"].is_null() && body["previous_access_sha256"].is_null();
        if is_kept && names_none { Ok(()) } else { broken("the refresh token, and no access token", answer.shown()) }
    }
}

pub(super) async fn log_in_is_kept(probe: &StoreProbe) -> Kept {
    let id = probe.id("-access-only");
    equal(&0, &revoke_access(probe, &id, "").await?)?;
    let first = probe.begin(&id, "one").await?;
    let second = probe.pair();
    probe.rotate(&id, "one", (0, &first.refresh), 0, &second).await?.is(200)?;
    let other = probe.pair();
    let mut record = other.record("two", 0, "key");
    record["keep_others"] = true.into();
    let version = probe.issue(&id, &record).send().await?.is(200)?.version()?;
    equal(&1, &revoke_access(probe, &id, "&session=one").await?)?;
    probe.has_no_access_token(&id, "one", &second).await?;
    probe.are_digests(&id, Some("two"), &other).await?;
    equal(&2, &revoke_access(probe, &id, "").await?)?;
    probe.has_no_access_token(&id, "two", &other).await?;
    // A write that arrives again must not bring the access token back.
    let answer = probe.issue(&id, &record).send().await?.is(200)?;
    probe.has_no_access_token(&id, "two", &other).await?;
    if answer.version()? <= version {
        return broken(format!("a version after {version}"), answer.version()?);
    }
    let pair = probe.get(&id).send().await?.is(200)?;
    let data = &pair.json()?["data"];
    let is_whole = data["access_token"].is_null() && data["refresh_token"] == other.refresh;
    if is_whole { Ok(()) } else { broken("the pair without its access token", pair.shown()) }
}

pub(super) async fn claims_are_decided_on_again(probe: &StoreProbe) -> Kept {
    let id = probe.id("-decided-again");
    let held = probe.begin(&id, "f").await?;
    revoke_access(probe, &id, "").await?;
    let new = probe.pair();
    let rotate = |decided_after: u64| {
        let body = json!({
            "refresh_sha256": digest(&held.refresh), "session": "f", "generation": 0, "decided_after": decided_after,
            "new": new.record("f", 1, "key"),
        });
        probe.call(Method::POST, ROTATE, &id).json(&body).send()
    };
    let refused = rotate(0).await?;
    let version = refused.version()?;
    refused.refused(409, "access_revoked")?;
    probe.has_no_access_token(&id, "f", &held).await?;
    rotate(version).await?.is(200)?;
    probe.are_digests(&id, Some("f"), &new).await
}
