//! What rules need beside themselves.

use fastauth_core::policy::{Principal, Rule};

use super::{
    label,
    members::{ISSUERS, PRINCIPAL},
};
use crate::{draft::Draft, fault::Fault, keys::rules::RULES};

/// The issuer that there is.
const OWN: &str = "own";

impl Draft<'_> {
    /// Checks what rules need of other keys.
    pub(crate) fn check_rules(&mut self) {
        for placed in self.rules.rules.clone() {
            let demands = placed.rule.demands();
            if demands.principal != Principal::Any && !self.rules.service_test.is_set() {
                let problem = "the key `service-claim`, which tells services from users, is not set";
                let remedy = r#"set it, such as {"principal": "service"}, or leave this out"#;
                self.rule_fault(placed.place, &placed.rule, PRINCIPAL.name, problem, remedy);
            }
            for issuer in demands.issuers.iter().flatten().filter(|issuer| *issuer != OWN) {
                let problem = format!("there is no issuer {issuer:?}");
                let remedy = r#"write ["own"], which is this application, or leave this out"#;
                self.rule_fault(placed.place, &placed.rule, ISSUERS.name, problem, remedy);
            }
        }
    }

    fn rule_fault(
        &mut self,
        place: usize,
        rule: &Rule,
        member: &str,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let fault = Fault::new(RULES.name, self.source(&RULES), problem, remedy);
        self.faults.push(fault.at(format!("{}[{place}].{member}", RULES.name), label(rule)));
    }
}
