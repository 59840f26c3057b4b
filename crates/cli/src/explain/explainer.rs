//! What explains requests, by the code that decides on them.

use fastauth::{
    DenialReason, Secret, SettingsBuilder,
    path::{EndpointRequirement, Explanation, PathDecision, PathRefusal},
    store::MemoryStore,
};
use fastauth_config::demands_as_object;
use fastauth_core::{
    policy::{Demands, RequestLine, Requirement, Rule, Rules, ServiceTest},
    settings::EndpointOptions,
};
use http::{Method, Uri};
use serde::Serialize;
use serde_json::{Map, Value};

use super::answer::{Answer, Judge, Presented};
use crate::{config::Config, failure::Failure};

/// What explains requests.
pub(crate) struct Explainer {
    rules: Rules,
    service: ServiceTest,
    issuer: Option<String>,
    audience: Option<String>,
    options: EndpointOptions,
    auth_prefix: String,
}

/// What the layer and the token router require of a request, and what the layer answers.
pub(crate) struct Explained {
    pub(crate) layer: Explanation,
    /// The rules that decide.
    pub(crate) rules: Vec<RuleFields>,
    pub(crate) answer: Answer,
    pub(crate) endpoint: Option<EndpointRequirement>,
}

/// A rule that decides.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct RuleFields {
    pub(crate) place: usize,
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) level: &'static str,
    /// What it demands, as a rule of the configuration has it.
    #[serde(rename = "demands", skip_serializing_if = "Map::is_empty")]
    pub(crate) members: Map<String, Value>,
    #[serde(skip)]
    pub(crate) demands: Demands,
    /// The first reading that it wins.
    #[serde(skip)]
    pub(crate) reading: usize,
}

impl Explainer {
    /// Reads a configuration.
    ///
    /// # Errors
    ///
    /// The faults that concern paths. Others do not matter here: paths can be explained before there are secrets.
    pub(crate) fn new(config: Config, auth_prefix: String) -> Result<Self, Failure> {
        let settings = config.settings();
        let report = settings.clone().report();
        let text_of = |key: &str| {
            let entry = report.entries().iter().find(|entry| entry.key == key)?;
            entry.json.as_str().map(str::to_owned)
        };
        Ok(Self {
            rules: report.compiled_rules()?.clone(),
            service: report.service_test().clone(),
            issuer: text_of("issuer"),
            audience: text_of("audience"),
            options: endpoint_options(settings),
            auth_prefix,
        })
    }

    /// Returns the rules.
    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Explains one request.
    pub(crate) fn explain(&self, method: &Method, target: &str, presented: &Presented<'_>) -> Explained {
        let layer = self.rules.explain(method, target);
        let refusal = match self.requirement(method, target) {
            Ok(requirement) => self.judge().refusal(requirement, presented),
            Err(refusal) => Some(DenialReason::Path(refusal)),
        };
        let endpoint = self.endpoint(target).filter(|_| layer.decision() != PathDecision::Reject);
        Explained { rules: self.deciding_rules(&layer), layer, answer: Answer::new(refusal.as_ref()), endpoint }
    }

    /// Returns what the token router requires, if the target is one of its endpoints.
    pub(crate) fn endpoint(&self, target: &str) -> Option<EndpointRequirement> {
        EndpointRequirement::find(&self.auth_prefix, &target.parse().ok()?, &self.options)
    }

    fn judge(&self) -> Judge<'_> {
        let Self { rules, service, issuer, audience, .. } = self;
        Judge { rules, service, issuer: issuer.as_deref(), audience: audience.as_deref() }
    }

    fn requirement(&self, method: &Method, target: &str) -> Result<Requirement, PathRefusal> {
        // As `Rules::explain` takes it.
        if target.len() >= usize::from(u16::MAX) {
            return Err(PathRefusal::TargetTooLong);
        }
        let uri: Uri = target.parse().map_err(|_| PathRefusal::RequestTarget)?;
        self.rules.requirement(&RequestLine::new(method, &uri))
    }

    fn deciding_rules(&self, layer: &Explanation) -> Vec<RuleFields> {
        let rules: Vec<&Rule> = self.rules.ids().filter_map(|id| self.rules.rule(id)).collect();
        let fields = layer.decided_by_rules().iter().filter_map(|deciding| {
            let rule = rules.get(deciding.place())?;
            Some(RuleFields {
                place: deciding.place(),
                name: deciding.name().to_owned(),
                path: rule.path().to_owned(),
                level: deciding.level().as_str(),
                members: demands_as_object(rule),
                demands: rule.demands().clone(),
                reading: deciding.reading(),
            })
        });
        fields.collect()
    }
}

/// Returns what the configuration says of the endpoints. Faults in it that concern paths are reported with the explanation.
fn endpoint_options(settings: SettingsBuilder) -> EndpointOptions {
    // Paths can be explained before there are secrets.
    let settings = settings.master_token(Secret::generate()).cryptography_key(Secret::generate());
    match settings.store(MemoryStore::new()).load() {
        Ok(settings) => settings.into_deployment().endpoints,
        Err(_) => EndpointOptions { allow_get: true, ..EndpointOptions::default() },
    }
}
