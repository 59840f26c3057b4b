//! The endpoints, each in a file of its own.

use super::endpoint::Endpoint;

mod health;
mod introspect;
mod new;
mod oauth;
mod openapi;
mod refresh;
mod revoke;
mod ticket;

/// All endpoints. Their paths are matched as a whole, so the order is free.
pub(super) static ENDPOINTS: &[Endpoint] = &[
    new::ENDPOINT,
    refresh::ENDPOINT,
    oauth::ENDPOINT,
    revoke::ENDPOINT,
    introspect::ENDPOINT,
    ticket::ENDPOINT,
    health::ENDPOINT,
    openapi::ENDPOINT,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        credential::TokenHeaders,
        settings::EndpointOptions,
        tokens::describe::{Facts, ParameterSet},
    };

    fn row(endpoint: &Endpoint, facts: &Facts<'_>) -> String {
        let methods = (endpoint.methods)(facts.options);
        let (others, last) = methods.rsplit_once(", ").unwrap_or(("", methods));
        let others: String =
            others.split(", ").filter(|method| !method.is_empty()).map(|m| format!("`{m}`, ")).collect();
        let parameters: Vec<_> = (endpoint.parameters)(facts).iter().map(names).collect();
        let row = [
            format!("{others}`{last} /auth{}`", endpoint.path),
            parameters.join("; or "),
            endpoint.protection.credential().to_owned(),
            endpoint.summary.to_owned(),
        ];
        format!("| {} |", row.join(" | ")).replace("|  |", "| |")
    }

    fn names(set: &ParameterSet) -> String {
        let name = |parameter: &crate::tokens::describe::Parameter| {
            if parameter.required { format!("`{}`", parameter.name) } else { format!("(`{}`)", parameter.name) }
        };
        set.parameters.iter().map(name).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn the_documentation_lists_every_endpoint() {
        let options = EndpointOptions { allow_get: true, ..EndpointOptions::default() };
        let facts = Facts {
            options: &options,
            app_name: "demo",
            sources: TokenHeaders::ALL,
            is_limited: false,
            limits_guesses: false,
            has_claims_hook: false,
        };
        let rows: Vec<_> = ENDPOINTS.iter().map(|endpoint| row(endpoint, &facts)).collect();
        let table = rows.join("\n");
        let documentation = include_str!("../../../docs/guide/endpoints.md");
        assert!(documentation.contains(&table), "docs/guide/endpoints.md lacks this table:\n{table}");
    }
}
