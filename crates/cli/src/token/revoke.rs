//! `token revoke`.

use std::io::{self, IsTerminal};

use fastauth::{
    TokenIssuer,
    store::{FamilyFilter, FamilyStatus, Revocation, StoreErrorKind, TokenStore},
};

use super::{block_on, issuer, read};
use fastauth_core::shown::shown;

use crate::{
    args::{Config, RevokeTokens},
    failure::Failure,
    families::{count, existing_store, pages},
    init::ask,
    output,
};

pub(super) fn run(args: RevokeTokens) -> Result<(), Failure> {
    let RevokeTokens { token, client_id, family, all, yes, config } = args;
    if let Some(token) = token {
        return revoke_token(token, config);
    }
    let settings = config.settings().load()?;
    let Some(store) = existing_store(&settings)? else {
        output::line(&format!("Revoked {}", count(0)))?;
        return Ok(());
    };
    let issuer = issuer_of(settings)?;
    let revoked = block_on(async {
        let revocations = match client_id {
            _ if all => {
                confirm(&*store, yes).await?;
                vec![Revocation::All]
            }
            Some(client_id) if family.is_empty() => vec![Revocation::Client(client_id)],
            Some(client_id) => {
                let named = |family| Revocation::Family { client_id: client_id.clone(), family };
                family.into_iter().map(named).collect()
            }
            None => find(&*store, &family).await?,
        };
        revoke(&issuer, &revocations).await
    })??;
    output::line(&format!("Revoked {}", count(revoked)))?;
    Ok(())
}

fn issuer_of(settings: fastauth::Settings) -> Result<TokenIssuer, Failure> {
    Ok(fastauth::FastAuthLayer::new(settings)?.issuer())
}

fn revoke_token(token: String, config: Config) -> Result<(), Failure> {
    let (issuer, token) = (issuer(config.settings())?, read(token)?);
    if !block_on(issuer.revoke_token(token.expose()))?? {
        return Err(Failure::new(
            "nothing was revoked: the token is not one of these keys, has expired, or was revoked or replaced before",
        ));
    }
    output::line(&format!("Revoked {}", count(1)))?;
    Ok(())
}

async fn revoke(issuer: &TokenIssuer, revocations: &[Revocation]) -> Result<u64, Failure> {
    let mut revoked = 0;
    for revocation in revocations {
        revoked += issuer.revoke(revocation).await?;
    }
    Ok(revoked)
}

async fn confirm(store: &dyn TokenStore, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::new("--all ends every log-in; --yes does so without asking"));
    }
    let mut live = 0;
    let filter = FamilyFilter { status: Some(FamilyStatus::Live), ..FamilyFilter::default() };
    let which = match pages(store, filter, |page| live += page.families.len() as u64).await {
        Ok(()) => count(live),
        Err(error) if error.kind() == StoreErrorKind::Unsupported => "every log-in".to_owned(),
        Err(error) => return Err(error.into()),
    };
    match ask(&format!("This ends {which}. Revoke all? [y/N]"))?.to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::new("nothing was revoked")),
    }
}

/// The clients of families of which only the name is known.
async fn find(store: &dyn TokenStore, names: &[String]) -> Result<Vec<Revocation>, Failure> {
    let mut found = Vec::new();
    pages(store, FamilyFilter::default(), |page| {
        let named = page.families.into_iter().filter(|entry| names.contains(&entry.family));
        found.extend(named.map(|entry| Revocation::Family { client_id: entry.client_id, family: entry.family }));
    })
    .await
    .map_err(|error| match error.kind() {
        StoreErrorKind::Unsupported => Failure::new(format!("{error}: say --client-id as well")),
        _ => error.into(),
    })?;
    let is_found = |name: &&String| {
        found.iter().any(|revocation| matches!(revocation, Revocation::Family { family, .. } if family == *name))
    };
    match names.iter().find(|name| !is_found(name)) {
        Some(name) => Err(Failure::new(format!("nothing was revoked: no log-in has the family `{}`", shown(name)))),
        None => Ok(found),
    }
}
