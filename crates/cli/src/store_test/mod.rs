//! `store test`: the promises of the wire contract, tried on a live store.

use std::process::ExitCode;

use fastauth::Secret;
use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};
use serde_json::{Value, json};

use self::probe::{Kept, Pair, ProbeResponse, StoreProbe, Unkept};
use fastauth_core::shown::shown;

use crate::{
    args::StoreTest,
    bearer::{BEARER_VARIABLE, FILE_VARIABLE, bearer_token},
    failure::{Failure, chain},
    output,
    runtime::block_on,
};

mod probe;
mod v1;
mod v2;

pub(crate) fn run(args: &StoreTest) -> Result<ExitCode, Failure> {
    let headers = headers(args, bearer_token()?)?;
    let probe = StoreProbe::new(&args.url, headers).map_err(|error| Failure::new(chain(&error)))?;
    let suite = block_on(test(&probe))??;
    if args.json {
        output::json(&suite.json())?;
    } else {
        suite.print()?;
    }
    Ok(if suite.is_broken() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn headers(args: &StoreTest, bearer: Option<Secret>) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    for header in &args.header {
        // The error does not show the header: there may be a secret in it.
        let unread = || Failure::new("--header must be \"NAME: VALUE\"");
        let (name, value) = header.split_once(':').ok_or_else(unread)?;
        let mut value = HeaderValue::try_from(value.trim()).map_err(|_| unread())?;
        value.set_sensitive(true);
        headers.append(HeaderName::try_from(name.trim()).map_err(|_| unread())?, value);
    }
    if let Some(bearer) = bearer {
        let mut value = HeaderValue::try_from(format!("Bearer {}", bearer.expose()))?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(headers)
}

/// The verdicts on all promises.
pub(super) struct Suite {
    speaks_v2: bool,
    findings: Vec<(&'static str, &'static str, Kept)>,
}

async fn test(probe: &StoreProbe) -> Result<Suite, Failure> {
    let speaks_v2 = speaks_v2(&first_answer(probe).await?);
    let mut suite = Suite { speaks_v2, findings: Vec::new() };
    v1::run(&mut suite, probe).await;
    if speaks_v2 {
        v2::run(&mut suite, probe).await;
    } else {
        for promise in v2::PROMISES {
            suite.v2(promise, Err(Unkept::NotOffered("the store speaks the first version")));
        }
    }
    let cleaned = if speaks_v2 { v2::clean_up(probe).await } else { void(probe).await };
    if cleaned.is_err() {
        output::note(&format!(
            "fastauth: not all clients of the test could be revoked: their ids begin with {}",
            probe.run()
        ));
    }
    Ok(suite)
}

/// Returns the first response. A store that gives none cannot be tested.
async fn first_answer(probe: &StoreProbe) -> Result<ProbeResponse, Failure> {
    match probe.get(&probe.id("-first")).send().await {
        Ok(answer) if matches!(answer.status.as_u16(), 401 | 403) => Err(Failure::new(format!(
            "the store refused with status {}: set {BEARER_VARIABLE} to its bearer token or {FILE_VARIABLE} to the \
             file with it, or add its --header",
            answer.status.as_u16()
        ))),
        Ok(answer) if matches!(answer.status.as_u16(), 502 | 504) => Err(Failure::new(format!(
            "a proxy answered {}, for it does not reach the store: look at the proxy's log, and whether the store runs",
            answer.status.as_u16()
        ))),
        Ok(answer) => Ok(answer),
        Err(Unkept::Broken { found, .. }) => Err(Failure::new(format!("the store cannot be reached: {found}"))),
        Err(Unkept::NotOffered(why)) => Err(Failure::new(why)),
    }
}

fn speaks_v2(answer: &ProbeResponse) -> bool {
    let announced = answer.header("fastauth-store").unwrap_or_default();
    announced.split(';').any(|parameter| parameter.trim() == "v=2")
}

/// Overwrites the tokens of the run in a store of the first version, which cannot delete them.
async fn void(probe: &StoreProbe) -> Kept {
    let void = Pair { access: "revoked".to_owned(), refresh: "revoked".to_owned() };
    for id in probe.made() {
        if probe.get(&id).send().await?.status == 200 {
            probe.post(&id, &void).send().await?.is(200)?;
        }
    }
    Ok(())
}

impl Suite {
    fn v1(&mut self, promise: &'static str, verdict: Kept) {
        self.findings.push(("v1", promise, verdict));
    }

    fn v2(&mut self, promise: &'static str, verdict: Kept) {
        self.findings.push(("v2", promise, verdict));
    }

    fn is_broken(&self) -> bool {
        self.findings.iter().any(|(_, _, verdict)| matches!(verdict, Err(Unkept::Broken { .. })))
    }

    fn speaks(&self) -> &'static str {
        if self.speaks_v2 { "v2" } else { "v1" }
    }

    fn print(&self) -> Result<(), Failure> {
        for (version, promise, verdict) in &self.findings {
            output::line(&match verdict {
                Ok(()) => format!("kept         {version}  {promise}"),
                Err(Unkept::Broken { expected, found }) => {
                    format!("broken       {version}  {promise}: expected {expected}; got {}", shown(found))
                }
                Err(Unkept::NotOffered(why)) => format!("not offered  {version}  {promise}: {}", shown(why)),
            })?;
        }
        let count = |is: fn(&Kept) -> bool| self.findings.iter().filter(|(_, _, verdict)| is(verdict)).count();
        output::line(&format!(
            "The store speaks {}: {} kept, {} broken, {} not offered.",
            self.speaks(),
            count(Result::is_ok),
            count(|verdict| matches!(verdict, Err(Unkept::Broken { .. }))),
            count(|verdict| matches!(verdict, Err(Unkept::NotOffered(_)))),
        ))
    }

    fn json(&self) -> Value {
        let findings = self.findings.iter().map(|(version, promise, verdict)| match verdict {
            Ok(()) => json!({ "version": version, "promise": promise, "verdict": "kept" }),
            Err(Unkept::Broken { expected, found }) => json!({
                "version": version, "promise": promise, "verdict": "broken", "expected": expected, "found": found,
            }),
            Err(Unkept::NotOffered(why)) => {
                json!({ "version": version, "promise": promise, "verdict": "not-offered", "why": why })
            }
        });
        json!({ "ok": !self.is_broken(), "speaks": self.speaks(), "promises": findings.collect::<Vec<_>>() })
    }
}
