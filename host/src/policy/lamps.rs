//! The host's own section on lamps: who sees more of a call than that there is one.
//!
//! The defaults are facts.md §8 no. 11: names for one's own group, "busy" for others.

use serde_json::json;

use super::resiliency::{fields, setting};
use super::schema::{Field, Shape};

/// The section's name.
pub(crate) const NAME: &str = "lamps";

/// Whom is watched, and whether the watcher sees who calls there unless a policy says otherwise.
const NAMES: [(&str, bool); 3] = [("own_group", true), ("others", false), ("orbits", true)];

/// The section.
pub(crate) fn section() -> Field {
    let cells = NAMES.map(|(whom, seen)| {
        let mut cell = setting(Shape::Boolean, &json!(seen));
        cell.hook = true;
        (whom, cell)
    });
    Field::table(fields([("names", Field::table(fields(cells)))]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_the_facts() {
        let Some(Shape::Table(fields)) = section().shape else { panic!("a section is a table") };
        assert_eq!(
            fields.defaults(),
            json!({ "names": { "own_group": true, "others": false, "orbits": true } })
        );
    }
}
