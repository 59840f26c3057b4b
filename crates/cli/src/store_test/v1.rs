//! The promises of every store.

use futures_util::future::try_join_all;
use serde_json::Value;

use super::{
    Suite,
    probe::{Kept, Pair, StoreProbe, Unkept, broken},
};

/// Ends of ids that are easily altered on the way, or confused with another.
pub(super) const ENDINGS: [&str; 22] = [
    "",
    "-A",
    "-a",
    "a b",
    "a+b",
    "a%20b",
    "a&b=c",
    "a#b",
    "a/b",
    "a%2Fb",
    "a;b",
    "a?b",
    "/..",
    "/.",
    "%",
    "%zz",
    "'--",
    "é",
    "e\u{301}",
    "日本語",
    "🦀",
    " ",
];

pub(super) async fn run(suite: &mut Suite, probe: &StoreProbe) {
    suite.v1("an unknown client is 404", an_unknown_client(probe).await);
    suite.v1("a pair that was written is read back", read_back(probe).await);
    suite.v1("a write takes the place of the pair before it", replaces(probe).await);
    suite.v1("a client id is any text, and is kept exactly", ids(probe).await);
    suite.v1("tokens of 8 KiB are kept whole", long_tokens(probe).await);
    suite.v1("tokens of two pairs are never seen together", whole_pairs(probe).await);
    suite.v1("an acknowledged write is seen on every connection", acknowledged(probe).await);
    suite.v1("32 concurrent writes are all kept", many_writes(probe).await);
    suite.v1("requests without the configured headers are refused", strangers(probe).await);
}

async fn an_unknown_client(probe: &StoreProbe) -> Kept {
    let answer = probe.get(&probe.id("-nobody")).send().await?.is(404)?;
    let is_refusal = serde_json::from_slice::<Value>(&answer.body).is_ok_and(|body| body["detail"].is_string());
    match answer.body.is_empty() || is_refusal {
        true => Ok(()),
        // It could be the page of a proxy, and clients would not believe it.
        false => broken("404 without a body, or with {\"detail\":\"…\"}", answer.shown()),
    }
}

async fn read_back(probe: &StoreProbe) -> Kept {
    let id = probe.id("-read-back");
    let pair = probe.put(&id).await?;
    probe.is_held(&id, &pair).await
}

async fn replaces(probe: &StoreProbe) -> Kept {
    let id = probe.id("-replaces");
    for _ in 0..3 {
        let pair = probe.put(&id).await?;
        probe.is_held(&id, &pair).await?;
    }
    Ok(())
}

async fn ids(probe: &StoreProbe) -> Kept {
    let mut ids: Vec<String> = ENDINGS.iter().map(|ending| probe.id(ending)).collect();
    ids.push(probe.id(&"x".repeat(150)));
    ids.push(probe.id(&"🦀".repeat(150)));
    let mut pairs = Vec::new();
    for id in &ids {
        let answer = probe.get(id).send().await?;
        if answer.status != 404 {
            return broken(format!("404 for {id:?}, which was not written"), answer.shown());
        }
        pairs.push(probe.put(id).await?);
    }
    for (id, pair) in ids.iter().zip(&pairs) {
        let answer = probe.get(id).send().await?;
        if answer.status != 200 || answer.holds(pair).is_err() {
            return broken(format!("the pair that was written for {id:?}"), answer.shown());
        }
    }
    Ok(())
}

async fn long_tokens(probe: &StoreProbe) -> Kept {
    let id = probe.id("-long");
    let short = probe.pair();
    let long = |token: &str| format!("{token}{}", "x".repeat(8 * 1024 - token.len()));
    let pair = Pair { access: long(&short.access), refresh: long(&short.refresh) };
    probe.post(&id, &pair).send().await?.is(200)?;
    probe.is_held(&id, &pair).await
}

async fn whole_pairs(probe: &StoreProbe) -> Kept {
    let id = probe.id("-whole");
    let mut pairs = vec![probe.put(&id).await?];
    pairs.resize_with(25, || probe.pair());
    let write = async {
        for pair in &pairs {
            probe.post(&id, pair).send().await?.is(200)?;
        }
        Ok(())
    };
    let read = async {
        for _ in 0..25 {
            let answer = probe.get(&id).send().await?.is(200)?;
            if !pairs.iter().any(|pair| answer.holds(pair).is_ok()) {
                return broken("one of the pairs that were written", answer.shown());
            }
        }
        Ok::<_, Unkept>(())
    };
    tokio::try_join!(write, read).map(drop)
}

async fn acknowledged(probe: &StoreProbe) -> Kept {
    let id = probe.id("-acknowledged");
    for _ in 0..8 {
        let pair = probe.put(&id).await?;
        probe.get(&id).send_apart().await?.is(200)?.holds(&pair)?;
    }
    Ok(())
}

async fn many_writes(probe: &StoreProbe) -> Kept {
    let ids: Vec<_> = (0..32).map(|n| probe.id(&format!("-many-{n}"))).collect();
    let pairs = try_join_all(ids.iter().map(|id| probe.put(id))).await?;
    try_join_all(ids.iter().zip(&pairs).map(|(id, pair)| probe.is_held(id, pair))).await.map(drop)
}

async fn strangers(probe: &StoreProbe) -> Kept {
    if probe.headers.is_empty() {
        return Err(Unkept::NotOffered("no header or bearer token was given"));
    }
    let id = probe.id("-strangers");
    let pair = probe.put(&id).await?;
    for ask in [probe.get(&id), probe.post(&id, &probe.pair())] {
        let answer = ask.without_headers().send().await?;
        if !matches!(answer.status.as_u16(), 401 | 403) {
            return broken("401 or 403", format!("status {}", answer.status.as_u16()));
        }
    }
    probe.is_held(&id, &pair).await
}
