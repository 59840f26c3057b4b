//! `token revoke`.

use std::{
    collections::BTreeSet,
    io::{self, IsTerminal},
};

use fastauth::{
    FastAuthLayer, TokenIssuer,
    store::{Revocation, SessionEntry, SessionFilter, SessionStatus, StoreError, StoreErrorKind, TokenStore},
};

use super::{args::RevokeTokens, existing, issuer_of_existing, read};
use fastauth_core::shown::shown;

use crate::{
    ask::ask,
    config::Config,
    failure::Failure,
    output,
    runtime::block_on,
    sessions::{count, pages},
};

/// How a refusal begins.
const NOTHING: &str = "nothing was revoked";

/// A signed token has a header, a payload and a signature.
const TOKEN_PARTS: usize = 3;

pub(super) fn run(args: RevokeTokens) -> Result<(), Failure> {
    let RevokeTokens { token, client_id, session, access_only, all, yes, config } = args;
    if let Some(token) = token {
        return revoke_token(token, config);
    }
    let settings = config.settings().load()?;
    let store = existing(&settings, NOTHING)?;
    let issuer = FastAuthLayer::new(settings)?.issuer();
    let revoked = block_on(async {
        let revocations = match client_id {
            _ if all => {
                confirm(&*store, yes).await?;
                vec![Revocation::All]
            }
            Some(client_id) if session.is_empty() => {
                return revoke_client(&issuer, &*store, client_id, access_only).await;
            }
            Some(client_id) => find_of(&*store, &client_id, session).await?,
            None => find(&*store, &session).await?,
        };
        revoke(&issuer, &revocations, access_only).await
    })??;
    if access_only {
        return output::line(&format!("Revoked the access tokens of {}; the log-ins stay", count(revoked)));
    }
    report(revoked)
}

fn report(revoked: u64) -> Result<(), Failure> {
    output::line(&format!("Revoked {}", count(revoked)))
}

fn revoke_token(token: String, config: Config) -> Result<(), Failure> {
    let issuer = issuer_of_existing(config.settings(), NOTHING)?;
    let token = read(token)?;
    if token.expose().split('.').count() != TOKEN_PARTS {
        let remedy = "name a client by --client-id, or a session by --session";
        return Err(Failure::new(format!("{NOTHING}: this is not a token; {remedy}")));
    }
    if !block_on(issuer.revoke_token(token.expose()))?? {
        return Err(Failure::new(
            "nothing was revoked: the token was not signed with these keys, has expired, or was revoked or replaced before; if a running \
             application accepts it all the same, revoke its client by --client-id",
        ));
    }
    report(1)
}

async fn revoke(issuer: &TokenIssuer, revocations: &[Revocation], access_only: bool) -> Result<u64, Failure> {
    let mut revoked = 0;
    for revocation in revocations {
        revoked += match revocation {
            Revocation::Session { client_id, session } if access_only => {
                issuer.revoke_access(client_id, Some(session)).await?
            }
            revocation => issuer.revoke(revocation).await?,
        };
    }
    Ok(revoked)
}

/// Revokes the sessions of a client. One that the store does not know is most likely a slip, so that is a failure.
async fn revoke_client(
    issuer: &TokenIssuer,
    store: &dyn TokenStore,
    client_id: String,
    access_only: bool,
) -> Result<u64, Failure> {
    let revoked = match access_only {
        true => issuer.revoke_access(&client_id, None).await?,
        false => issuer.revoke(&Revocation::Client(client_id.clone())).await?,
    };
    if revoked == 0 && sessions_of(store, &client_id).await?.is_some_and(|sessions| sessions.is_empty()) {
        return Err(Failure::new(format!("{NOTHING}: the store has no session of the client `{}`", shown(&client_id))));
    }
    Ok(revoked)
}

/// Checks the names of sessions of a client, if the store can list them.
async fn find_of(store: &dyn TokenStore, client_id: &str, names: Vec<String>) -> Result<Vec<Revocation>, Failure> {
    if let Some(known) = sessions_of(store, client_id).await?
        && let Some(name) = names.iter().find(|name| !known.contains(*name))
    {
        let client_id = shown(client_id);
        return Err(Failure::new(format!(
            "{NOTHING}: no session of the client `{client_id}` is named `{}`",
            shown(name)
        )));
    }
    let revocations = names.into_iter().map(|session| Revocation::Session { client_id: client_id.to_owned(), session });
    Ok(revocations.collect())
}

/// Returns the names of a client's sessions, ended ones included, unless the store cannot list them.
async fn sessions_of(store: &dyn TokenStore, client_id: &str) -> Result<Option<BTreeSet<String>>, StoreError> {
    let filter = SessionFilter { client_id: Some(client_id.to_owned()), ..SessionFilter::default() };
    let mut names = BTreeSet::new();
    match pages(store, filter, |page| names.extend(page.sessions.into_iter().map(|entry| entry.session))).await {
        Ok(()) => Ok(Some(names)),
        Err(error) if error.kind() == StoreErrorKind::Unsupported => Ok(None),
        Err(error) => Err(error),
    }
}

async fn confirm(store: &dyn TokenStore, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::new("--all revokes every session; use --yes to confirm without a prompt"));
    }
    let mut live = 0;
    let filter = SessionFilter { status: Some(SessionStatus::Live), ..SessionFilter::default() };
    let which = match pages(store, filter, |page| live += page.sessions.len() as u64).await {
        Ok(()) => count(live),
        Err(error) if error.kind() == StoreErrorKind::Unsupported => "every session".to_owned(),
        Err(error) => return Err(error.into()),
    };
    match ask(&format!("This revokes {which}. Continue? [y/N]"))?.to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::new(NOTHING)),
    }
}

/// Finds the clients of sessions that are given by name alone.
async fn find(store: &dyn TokenStore, names: &[String]) -> Result<Vec<Revocation>, Failure> {
    let mut found: Vec<SessionEntry> = Vec::new();
    let listed = pages(store, SessionFilter::default(), |page| {
        found.extend(page.sessions.into_iter().filter(|entry| names.contains(&entry.session)));
    });
    listed.await.map_err(|error| match error.kind() {
        StoreErrorKind::Unsupported => Failure::new(format!("{error}: give --client-id as well")),
        _ => error.into(),
    })?;
    if let Some(name) = names.iter().find(|name| found.iter().all(|entry| entry.session != **name)) {
        return Err(Failure::new(format!("{NOTHING}: no session is named `{}`", shown(name))));
    }
    let revocations =
        found.into_iter().map(|SessionEntry { client_id, session, .. }| Revocation::Session { client_id, session });
    Ok(revocations.collect())
}
