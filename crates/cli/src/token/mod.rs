//! `token`.

use std::{io::Read, process::ExitCode, sync::Arc};

use fastauth::{
    FastAuthLayer, Introspection, IssuedTokens, Secret, Settings, SettingsBuilder, TokenError, TokenIssuer, TokenType,
    store::{MemoryStore, TokenStore},
};
use serde_json::json;

use crate::{
    failure::Failure,
    output,
    runtime::block_on,
    sessions::{absent, existing_store},
};

pub(crate) mod args;
mod list;
mod new;
mod revoke;

use args::{Token, TokenCommand};

pub(crate) fn run(args: Token) -> Result<ExitCode, Failure> {
    match args.command {
        TokenCommand::New { client_id, config } => new::run(client_id, config)?,
        TokenCommand::Refresh { token, config } => {
            let issuer = issuer_of_existing(config.settings(), "nothing was refreshed")?;
            let token = read(token)?;
            print(&block_on(issuer.refresh(token.expose()))??)?;
        }
        TokenCommand::Decode { token, config } => {
            // Only the keys are needed, so the configured store is not opened.
            let issuer = issuer(config.settings().store(MemoryStore::new()))?;
            let token = read(token)?;
            let claims = match issuer.verify(token.expose(), TokenType::Access) {
                Err(TokenError::WrongType) => issuer.verify(token.expose(), TokenType::Refresh),
                verified => verified,
            };
            output::json(&serde_json::Value::Object(claims?.as_object().clone()))?;
        }
        TokenCommand::Introspect { token, config } => {
            let issuer = issuer_of_existing(config.settings(), "nothing can be asked of it")?;
            let token = read(token)?;
            let mut answer = json!({ "active": false });
            if let Introspection::Active { claims, expires_at } = block_on(issuer.introspect(token.expose()))?? {
                answer = serde_json::Value::Object(claims.as_object().clone());
                answer["active"] = true.into();
                answer["exp"] = expires_at.into();
            }
            output::json(&answer)?;
        }
        TokenCommand::List(args) => list::run(args)?,
        TokenCommand::Revoke(args) => revoke::run(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn issuer(settings: SettingsBuilder) -> Result<TokenIssuer, Failure> {
    Ok(FastAuthLayer::new(settings.load()?)?.issuer())
}

/// Returns the issuer of a store that exists: a token cannot be in a database that this command would create.
fn issuer_of_existing(settings: SettingsBuilder, consequence: &str) -> Result<TokenIssuer, Failure> {
    let settings = settings.load()?;
    existing(&settings, consequence)?;
    Ok(FastAuthLayer::new(settings)?.issuer())
}

/// Opens the configured store, or says that its file does not exist, what follows from that, and what to do.
fn existing(settings: &Settings, consequence: &str) -> Result<Arc<dyn TokenStore>, Failure> {
    existing_store(settings)?.ok_or_else(|| {
        let problem = absent(settings);
        Failure::new(format!("{problem}: {consequence}; name the database of the application in `database-api-url`"))
    })
}

/// Returns the token, read from standard input if it is `-`.
fn read(token: String) -> Result<Secret, Failure> {
    if token != "-" {
        return Ok(Secret::from(token));
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(Secret::from(text.trim()))
}

/// Prints a pair: the only time that the program shows it.
fn print(issued: &IssuedTokens) -> Result<(), Failure> {
    output::json(&json!({
        "client_id": issued.client_id,
        "session": issued.session,
        "access_token": issued.tokens.access_token.expose(),
        "refresh_token": issued.tokens.refresh_token.expose(),
        "expires_in": issued.expires_in.as_secs(),
    }))
}
