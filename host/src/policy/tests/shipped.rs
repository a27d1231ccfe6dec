//! What the project ships: default, example, library, reference.

use super::*;

#[test]
fn shipped_default_says_exactly_what_holds_without_it() {
    let bundle = Arc::new(Bundle::read(&shipped()).unwrap());
    let default = Policies::new(&[call_park(), group_pickup()], bundle.clone(), &[], 7).unwrap();
    assert_eq!(park(&default, "east"), park_defaults());
    let empty = all(&[]);
    assert_eq!(park(&empty, "east"), park_defaults());
    for section in ["group_pickup", "outbound", "resiliency"] {
        assert_eq!(default.settings("east", section), empty.settings("east", section));
    }
    // Each value is written down, so that whoever reads the file sees all there is.
    let unwritten: Vec<_> = default.explain("east").iter().filter(|value| value.file.is_none()).collect();
    assert!(unwritten.is_empty(), "{unwritten:?}");
    assert_eq!(check(&shipped(), &[call_park(), group_pickup()], &["east".into(), "west".into()]), []);
}

#[test]
fn shipped_west_differs_where_it_says_so() {
    let bundle = Arc::new(Bundle::read(&shipped()).unwrap());
    let mut policies = Policies::new(&[call_park()], bundle, &[], 7).unwrap();
    let settings = park(&policies, "west");
    assert_eq!(settings["pickup_timeout"], 180_000);
    assert_eq!(settings["recall_ring_time"], 30_000);
    let mut request = json!({ "parker": { "user": "bob", "pickup_group": "*109" } });
    let decision = policies.decide(now(), "west", "call_park.allow", &request);
    assert_eq!(
        (decision.allowed, decision.reason.as_deref()),
        (false, Some("the lobby phone does not park"))
    );
    request["parker"]["pickup_group"] = json!("*101");
    let decision = policies.decide(now(), "west", "call_park.allow", &request);
    assert_eq!((decision.allowed, &decision.settings["pickup_timeout"]), (true, &json!(180_000)));
    let sunday = Now { utc: Utc(1_767_528_000_000), ..now() };
    let decision = policies.decide(sunday, "west", "call_park.allow", &request);
    assert_eq!((decision.allowed, &decision.settings["pickup_timeout"]), (true, &json!(45_000)));
    assert_eq!(decision.settings["on_timeout_uri"], "sip:frontdesk@example.test");
}

#[test]
fn shipped_hours_know_weekdays_midnight_and_summer_time() {
    let hours = Bundle::read(&shipped()).unwrap().get("lib/hours.lua").unwrap().to_owned();
    let test = r#"
        local hours = require "lib/hours"
        return { tests = {
          seasons = function()
            -- 2026: 29 March and 25 October, 01:00 UTC; 2027: 28 March and 31 October.
            assert(not hours.is_summer_in_europe(1774746000 - 1) and hours.is_summer_in_europe(1774746000))
            assert(hours.is_summer_in_europe(1792890000 - 1) and not hours.is_summer_in_europe(1792890000))
            assert(not hours.is_summer_in_europe(1806195600 - 1) and hours.is_summer_in_europe(1806195600))
            assert(hours.is_summer_in_europe(1824944400 - 1) and not hours.is_summer_in_europe(1824944400))
          end,
          nights = function()
            local night = hours.weekly { from = "22:00", to = "06:00", days = "Fri" }
            assert(night.open(1767996000))                                  -- Fri 2026-01-09 22:00
            assert(night.open(1767996000 + 7 * 3600))                       -- Sat 05:00
            assert(not night.open(1767996000 + 8 * 3600))                   -- Sat 06:00
            assert(not night.open(1767996000 - 17 * 3600))                  -- Fri 05:00
          end,
          summers = function()
            local desk = hours.weekly { from = "08:00", to = "09:00", utc_offset = 60, summer_time = "europe" }
            assert(desk.open(1767596400) and not desk.open(1767600000))     -- January: 07:00 UTC
            assert(desk.open(1783576800) and not desk.open(1783580400))     -- July: 06:00 UTC
          end,
          mistakes = function()
            assert(not pcall(hours.weekly, { from = "8", to = "9" }))
            assert(not pcall(hours.weekly, { from = "08:00", to = "18:00", days = "Monday" }))
          end,
        } }"#;
    policies(&[("lib/hours.lua", &hours), ("default.lua", test)]);
    let wrong = "local hours = require 'lib/hours'\nlocal desk = hours.weekly { from = '8', to = '18:00' }\nreturn {}";
    let files = bundle(&[("lib/hours.lua", &hours), ("pools/west.lua", wrong)]);
    let errors = Policies::new(&[call_park()], files, &[], 7).unwrap_err();
    let error = "pools/west.lua:2: hours: expected a time such as \"08:00\", found 8";
    assert_eq!(errors[0].to_string(), error, "the file that gives the times is to blame");
}

/// The reference and the annotations for editors know every knob, with its default.
#[test]
fn readme_and_types_have_an_entry_for_every_knob() {
    let readme = std::fs::read_to_string(shipped().join("README.md")).unwrap();
    let types = std::fs::read_to_string(shipped().join("types/switchyard.lua")).unwrap();
    let policies = all(&[]);
    for Explained { path, value, .. } in policies.explain("east") {
        let (section, name) = path.split_once('.').unwrap();
        let chapter =
            readme.split(&format!("\n## `{section}`")).nth(1).unwrap_or_else(|| panic!("{section}"));
        let heading = match name.split_once('.') {
            Some((table, _)) => format!("\n### `{table}.<"),
            None => format!("\n### `{name}`"),
        };
        let entry =
            chapter.split(&heading).nth(1).unwrap_or_else(|| panic!("README.md has no entry for {path}"));
        let entry = entry.split("\n### ").next().unwrap();
        let told = entry.contains(&format!("`{value}`")) || entry.contains(&format!("default {value}."));
        assert!(told, "{path}: its default {value} is not in its entry");
        assert!(
            types.contains(&format!("---@field {}?", name.rsplit('.').next().unwrap())),
            "{path} in types/"
        );
    }
    for hook in ["allow", "allow_retrieve"] {
        assert!(readme.contains(&format!("\n### `{hook} = function(request)`")), "{hook}");
        assert!(types.contains(&format!("---@field {hook}? (fun(request: ")), "{hook}");
    }
}

/// Each Lua example of the reference is right, so that copying one never ends in an error.
#[test]
fn examples_of_the_readme_are_right() {
    let readme = std::fs::read_to_string(shipped().join("README.md")).unwrap();
    let mut checked = 0;
    for block in readme.split("```lua\n").skip(1) {
        let block = block.split("```").next().unwrap();
        let file = match block {
            whole if whole.contains("return require") => whole.to_owned(),
            tests if tests.starts_with("tests") => format!(
                "return {{ call_park = {{ pickup_timeout = '3m', allow = function(r) return r.parker.pickup_group ~= '*109' end }}, {tests} }}"
            ),
            cells if cells.starts_with("names") => format!("return {{ lamps = {{ {cells} }} }}"),
            cells if cells.starts_with("allowed") || cells.starts_with("redirect") => {
                format!("return {{ resiliency = {{ {cells} }} }}")
            }
            section if section.starts_with("outbound") => format!("return {{ {section} }}"),
            hook if hook.contains("request.picker") => format!("return {{ group_pickup = {{ {hook} }} }}"),
            hook => format!("return {{ call_park = {{ {hook} }} }}"),
        };
        all(&[("default.lua", "return {}"), ("pools/west.lua", &file)]);
        checked += 1;
    }
    assert_eq!(checked, 9);
    for example in readme.split("Example: `").skip(1) {
        let example = example.split('`').next().unwrap();
        let known = [call_park(), group_pickup()];
        let of = |section: &&Section| {
            let name = example.split(' ').next().unwrap();
            section.settings.iter().any(|setting| setting.name == name)
        };
        let ours = if example.starts_with("allow =") { "outbound" } else { "resiliency" };
        let section = known.iter().find(of).map_or(ours, |section| &section.name);
        all(&[("default.lua", &format!("return {{ {section} = {{ {example} }} }}"))]);
        checked += 1;
    }
    assert!(checked > 27, "{checked}");
}

fn all(files: &[(&str, &str)]) -> Policies {
    Policies::new(&[call_park(), group_pickup()], bundle(files), &["west".into()], 7).unwrap()
}
