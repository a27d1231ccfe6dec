//! The settings of section `group_pickup`, and what they say about a call and its picker.

use serde::Deserialize;
use switchyard_sdk::prelude::*;

/// Section `group_pickup` of the callee's pool.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Settings {
    pub pickers: Vec<String>,
    pub directed: Directed,
    pub directed_pickers: Vec<String>,
    pub groups_max: usize,
    pub team_calls: bool,
    pub delegated_calls: bool,
    pub pick_held: bool,
    pub pick_parked: bool,
    pub pick_recalling: bool,
    pub notify_after: Option<u64>,
    pub notify_for: u64,
    pub tell_callee: bool,
    pub missed_calls: bool,
}

/// Whose calls can be picked up at one phone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Directed {
    Members,
    Everyone,
    Off,
}

impl Settings {
    /// The groups of a user that count here, the main one first.
    pub fn groups<'a>(&self, user: &'a Party) -> impl Iterator<Item = &'a str> {
        user.pickup_groups().take(self.groups_max)
    }

    /// Why `picker` may not have this call; `group` is the number through which it is asked for.
    pub fn refuses(&self, call: &WaitingCall, group: Option<&str>, picker: &Party) -> Option<Refusal> {
        let no = |text: &str| Some(Refusal::new(Code::NOT_ALLOWED, text));
        let state = match call.state {
            WaitState::Ringing => None,
            // An answered call is not stolen; who asks for it is too late.
            WaitState::Held if !self.pick_held => {
                let text = format!("answered by {}", call.callee.label());
                return Some(Refusal::new(Code::LOST_CLAIM, text));
            }
            WaitState::Parked if !self.pick_parked => Some("parked calls are not picked up here"),
            WaitState::Recalling if !self.pick_recalling => Some("ring-backs are not picked up here"),
            WaitState::Held | WaitState::Parked | WaitState::Recalling => None,
        };
        if let Some(text) = state {
            return no(text);
        }
        if let Some(text) = self.unpickable(call) {
            return no(text);
        }
        let (protected, pickers) = match group {
            Some(group) => (!self.groups(&call.callee).any(|other| other == group), &self.pickers),
            None => {
                let protected = match self.directed {
                    Directed::Off => true,
                    Directed::Everyone => false,
                    Directed::Members => call.callee.pickup_group.is_none(),
                };
                (protected, &self.directed_pickers)
            }
        };
        if protected {
            return no(&format!("calls to {} are not picked up here", call.callee.label()));
        }
        if !pickers.iter().any(|whom| self.means(whom, picker, &call.callee)) {
            return no(&format!("{} may not pick up calls to {}", picker.label(), call.callee.label()));
        }
        None
    }

    /// Why nobody may pick up this call (GCP-09).
    pub fn unpickable(&self, call: &WaitingCall) -> Option<&'static str> {
        match call.routing {
            // Whatever else is set (facts.md §6 no. 5).
            _ if call.private => Some("calls to a private line are not picked up"),
            _ if call.excluded => Some("the callee has excluded this caller from pickup"),
            Routing::Team if !self.team_calls => Some("team calls are not picked up here"),
            Routing::Delegates if !self.delegated_calls => Some("calls to delegates are not picked up here"),
            Routing::Direct | Routing::Team | Routing::Delegates => None,
            // No setting of this version says that they may be.
            _ => Some("such calls are not picked up here"),
        }
    }

    /// Whether an entry of a list of pickers means this picker.
    fn means(&self, whom: &str, picker: &Party, callee: &Party) -> bool {
        let in_group = |group: &str| self.groups(picker).any(|other| other == group);
        match whom {
            "anyone" => true,
            "group" => self.groups(callee).any(in_group),
            whom => {
                in_group(whom)
                    || picker.user.as_deref() == Some(whom)
                    || picker.extension.as_deref() == Some(whom)
            }
        }
    }
}
