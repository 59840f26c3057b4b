//! `token new`.

use std::{collections::BTreeSet, time::Duration};

use fastauth::{
    FastAuthLayer, TokenIssuer,
    config::TokensPerClient,
    store::{SessionFilter, SessionStatus, StoreError, StoreErrorKind},
};
use fastauth_core::{random::random_uuid, shown::shown};

use super::print;
use crate::{
    config::Config,
    failure::Failure,
    output,
    runtime::block_on,
    sessions::{count, length, may_be_valid, unix_now},
};

pub(super) fn run(client_id: Option<String>, config: Config) -> Result<(), Failure> {
    let client_id = client_id.unwrap_or_else(random_uuid);
    let settings = config.settings().load()?;
    let has_many = settings.tokens_per_client() == TokensPerClient::Many;
    let refresh_ttl = match settings.session_ttl() {
        Duration::ZERO => settings.refresh_ttl(),
        session_ttl => settings.refresh_ttl().min(session_ttl),
    };
    let issuer = FastAuthLayer::new(settings)?.issuer();
    let (before, issued, after) = block_on(async {
        let before = live_sessions(&issuer, &client_id).await?;
        let issued = issuer.issue(&client_id).await?;
        let after = if before.as_ref().is_none_or(BTreeSet::is_empty) {
            None
        } else {
            live_sessions(&issuer, &client_id).await?
        };
        Ok::<_, Failure>((before, issued, after))
    })??;
    print(&issued)?;
    output::note(&format!(
        "The access token expires in {}, the refresh token in {}",
        length(issued.expires_in.as_secs()),
        length(refresh_ttl.as_secs())
    ));
    match (before, after) {
        (Some(before), Some(after)) => {
            let ended = before.difference(&after).count() as u64;
            if ended > 0 {
                output::note(&format!("Ended {} of {}{}", count(ended), shown(&client_id), why(has_many)));
            }
        }
        (None, _) if !has_many => {
            output::note(&format!("A session that {} had before has ended{}", shown(&client_id), why(has_many)));
        }
        _ => {}
    }
    Ok(())
}

fn why(has_many: bool) -> &'static str {
    if has_many { ": it had as many as `max-tokens-per-client` allows" } else { ": `tokens-per-client` is \"one\"" }
}

/// Returns the sessions of a client whose tokens are accepted, unless the store cannot list them.
async fn live_sessions(issuer: &TokenIssuer, client_id: &str) -> Result<Option<BTreeSet<String>>, StoreError> {
    let mut filter = SessionFilter {
        client_id: Some(client_id.to_owned()),
        status: Some(SessionStatus::Live),
        ..SessionFilter::default()
    };
    let now = unix_now();
    let mut live = BTreeSet::new();
    loop {
        let page = match issuer.list(&filter).await {
            Ok(page) => page,
            Err(error) if error.kind() == StoreErrorKind::Unsupported => return Ok(None),
            Err(error) => return Err(error),
        };
        live.extend(page.sessions.into_iter().filter(|entry| may_be_valid(entry, now)).map(|entry| entry.session));
        match page.next {
            Some(next) => filter.after = Some(next),
            None => return Ok(Some(live)),
        }
    }
}
