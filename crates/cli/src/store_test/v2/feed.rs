//! The change feed with its snapshot, and the look-up of many sessions, which a store of the second version may lack.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::equal;
use crate::store_test::probe::{EventProbe, Kept, Pair, StoreProbe, Unkept, broken, digest};

const CHANGES: &str = "v2/changes";
const NO_FEED: Unkept = Unkept::NotOffered("the store has no change feed");
/// How long a change may take to be told, and how long a heartbeat may be late.
const PROMPT: Duration = Duration::from_secs(1);
const LATE: Duration = Duration::from_secs(2);

/// Returns nothing if the store announces a feed.
async fn is_offered(probe: &StoreProbe) -> Kept {
    let answer = probe.get(&probe.id("-feed")).send().await?;
    let announced = answer.header("fastauth-store").unwrap_or_default();
    if announced.split(';').any(|parameter| parameter.trim() == "feed=v2/changes") { Ok(()) } else { Err(NO_FEED) }
}

impl StoreProbe {
    /// Reads the feed to the first event of this name that concerns the client.
    async fn told(&self, events: &mut EventProbe, name: &str, id: &str) -> Result<(String, Value), Unkept> {
        let read = async {
            loop {
                let event = events.next().await?;
                if event.name == name && (name != "change" || event.data["client_id"] == id) {
                    return Ok((event.id, event.data));
                }
            }
        };
        timeout(LATE + PROMPT, read).await.unwrap_or_else(|_| broken(format!("the event {name}"), "none"))
    }

    /// Polls the feed.
    async fn poll(&self, since: &str, wait: u32) -> Result<Value, Unkept> {
        let since = if since.is_empty() { String::new() } else { format!("&since={since}") };
        self.ask(Method::GET, format!("{CHANGES}?wait={wait}{since}")).send().await?.is(200)?.json()
    }
}

pub(super) async fn changes_are_told(probe: &StoreProbe) -> Kept {
    is_offered(probe).await?;
    let id = probe.id("-told");
    let mut events = probe.events(&format!("{CHANGES}?detail=digest")).await?;
    let first = events.next().await?;
    equal(&"hb", &first.name.as_str())?;
    equal(&first.id.as_str(), &first.data["point"].as_str().unwrap_or_default())?;
    let begun = Instant::now();
    let first = probe.begin(&id, "one").await?;
    let (_, change) = probe.told(&mut events, "change", &id).await?;
    if begun.elapsed() > PROMPT {
        return broken("a change within a second", format!("one after {:?}", begun.elapsed()));
    }
    let is_told = change["session"] == "one" && change["access_sha256"] == digest(&first.access);
    if !is_told || change["version"].as_u64().is_none() || change["number"].as_u64().is_none() {
        return broken("the session, its version and its digests", change);
    }
    let second = probe.pair();
    probe.rotate(&id, "one", (0, &first.refresh), 0, &second).await?.is(200)?;
    let (_, change) = probe.told(&mut events, "change", &id).await?;
    equal(&json!([digest(&second.access), digest(&first.access)]), &digests(&change))?;
    probe.call(Method::DELETE, "token", &id).send().await?.is(204)?;
    let (_, change) = probe.told(&mut events, "change", &id).await?;
    equal(&json!([null, null]), &digests(&change))?;
    for _ in 0..2 {
        let waited = Instant::now();
        let (_, beat) = probe.told(&mut events, "hb", &id).await?;
        if waited.elapsed() > LATE || beat["db_ok_ms"].as_u64().is_none_or(|age| age > 3000) {
            return broken("a heartbeat each second, with the age of what it knows", beat);
        }
    }
    Ok(())
}

fn digests(change: &Value) -> Value {
    json!([change["access_sha256"], change["previous_access_sha256"]])
}

pub(super) async fn goes_on_where_it_was(probe: &StoreProbe) -> Kept {
    is_offered(probe).await?;
    let ids = ["-one", "-two", "-three"].map(|name| probe.id(name));
    let mut events = probe.events(CHANGES).await?;
    let mut points = vec![events.next().await?.id];
    for id in &ids {
        probe.put(id).await?;
        points.push(probe.told(&mut events, "change", id).await?.0);
    }
    drop(events);
    for (place, point) in points.iter().enumerate() {
        let mut events = probe.events(&format!("{CHANGES}?since={point}")).await?;
        for id in &ids[place..] {
            probe.told(&mut events, "change", id).await?;
        }
    }
    let mut events = probe.events(&format!("{CHANGES}?since=unknown-1")).await?;
    let (point, data) = probe.told(&mut events, "reset", "").await?;
    equal(&point.as_str(), &data["point"].as_str().unwrap_or_default())
}

pub(super) async fn polls(probe: &StoreProbe) -> Kept {
    is_offered(probe).await?;
    let id = probe.id("-polled");
    let start = probe.poll("", 0).await?;
    let point = start["point"].as_str().unwrap_or_default();
    let is_whole = start["reset"] == false && start["changes"] == json!([]) && start["db_ok_ms"].as_u64().is_some();
    if point.is_empty() || !is_whole {
        return broken("a point, and no change", start);
    }
    let waiting = probe.poll(point, 5);
    let (polled, _) = tokio::try_join!(waiting, probe.put(&id))?;
    let changes = polled["changes"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !changes.iter().any(|change| change["client_id"] == id) {
        return broken("the change that was waited for", polled);
    }
    let unknown = probe.poll("unknown-1", 5).await?;
    if unknown["reset"] == true { Ok(()) } else { broken("a reset for a point of another log", unknown) }
}

pub(super) async fn snapshot(probe: &StoreProbe) -> Kept {
    is_offered(probe).await?;
    let (id, gone) = (probe.id("-snapshot"), probe.id("-snapshot-gone"));
    let pair = probe.begin(&id, "one").await?;
    probe.put(&gone).await?;
    probe.call(Method::DELETE, "token", &gone).send().await?.is(204)?;
    let answer = probe.ask(Method::GET, "v2/snapshot").send().await?.is(200)?;
    let text = String::from_utf8_lossy(&answer.body);
    let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let [first, sessions @ .., last] = &lines[..] else { return broken("at least two lines", answer.shown()) };
    if !first["point"].is_string() || last["end"] != sessions.len() {
        return broken("a point first, and the number of sessions last", format!("{first} and {last}"));
    }
    let of = |id: &str| sessions.iter().filter(|line| line["client_id"] == id).collect::<Vec<_>>();
    match of(&id)[..] {
        [one] if one["session"] == "one" && one["access_sha256"] == digest(&pair.access) => {}
        _ => return broken("one line of a live session, with its digests", format!("{:?}", of(&id))),
    }
    if of(&gone).is_empty() { Ok(()) } else { broken("no line of a revoked session", "one") }
}

pub(super) async fn many_at_once(probe: &StoreProbe) -> Kept {
    let (id, gone) = (probe.id("-batch"), probe.id("-batch-none"));
    let pair: Pair = probe.begin(&id, "one").await?;
    let body = json!({ "tokens": [
        { "client_id": id, "session": "one" }, { "client_id": gone, "session": null }, { "client_id": id, "session": null },
    ] });
    let answer = probe.ask(Method::POST, "v2/tokens:batchGet").json(&body).send().await?;
    if matches!(answer.status.as_u16(), 404 | 501) {
        return Err(Unkept::NotOffered("the store looks up one session at a time"));
    }
    let answer = answer.is(200)?;
    let found = answer.json()?;
    let access = |place: usize| &found["tokens"][place]["access_sha256"];
    let is_right = *access(0) == digest(&pair.access) && *access(2) == *access(0) && found["tokens"][1].is_null();
    if is_right { Ok(()) } else { broken("digests, null and digests", answer.shown()) }
}
