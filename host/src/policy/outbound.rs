//! The host's own section on calls that leave it through a trunk, where they cost money.
//!
//! The default is what holds without any policy: users of this deployment may dial what `[[routes]]` lead to, callers
//! from outside may not. The hook can refuse, not grant.

use serde_json::json;

use super::resiliency::{fields, setting};
use super::schema::{Field, Shape};

/// The section's name.
pub(crate) const NAME: &str = "outbound";

/// The decision's full name.
pub(crate) const ALLOW: &str = "outbound.allow";

/// The section.
pub(crate) fn section() -> Field {
    let mut allow = setting(Shape::Boolean, &json!(true));
    allow.hook = true;
    Field::table(fields([("allow", allow)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_may_dial_out_unless_a_policy_says_otherwise() {
        let Some(Shape::Table(fields)) = section().shape else { panic!("a section is a table") };
        assert_eq!(fields.defaults(), json!({ "allow": true }));
    }
}
