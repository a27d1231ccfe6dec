//! Which members an operator should look after. Requests go to one member at a time, so that nobody would miss another
//! before it is needed: here all are asked now and then, and one that does not answer is said once, as is that it does again.

use std::sync::Weak;
use std::time::Duration;

use futures_util::future::join_all;
use metrics::gauge;
use tokio::time::{sleep, timeout};

use super::ATTEMPT_MAX;
use super::members::{Member, Members, words};

/// How often all are asked.
const EVERY: Duration = Duration::from_secs(3);
/// So many answers in a row must be missing: one is when the members elect a leader.
const MISSING: u32 = 2;

/// Tells of the members for as long as there is a store.
pub(super) async fn tell(members: Weak<Members>) {
    let mut all = Vec::new();
    while let Some(members) = members.upgrade() {
        let answers = join_all(members.all().iter().map(ask)).await;
        all.resize_with(answers.len(), Health::default);
        for ((health, answer), member) in all.iter_mut().zip(answers).zip(members.all()) {
            let endpoint = member.endpoint();
            match health.note(answer) {
                Some(News::Silent(error)) => {
                    tracing::warn!(
                        endpoint,
                        error,
                        "an etcd member does not answer: look after it, before another fails too"
                    );
                }
                Some(News::Back) => tracing::info!(endpoint, "the etcd member answers again"),
                None => {}
            }
            gauge!("switchyard_etcd_member_up", "endpoint" => endpoint.to_owned()).set(if health.is_up() {
                1.0
            } else {
                0.0
            });
        }
        drop(members);
        sleep(EVERY).await;
    }
}

/// A member that runs answers this by itself, and says whether it has found its quorum.
async fn ask(member: &Member) -> Result<(), String> {
    match timeout(ATTEMPT_MAX, member.client.maintenance_client().status()).await {
        Ok(Ok(status)) if status.leader() == 0 => Err("it knows no leader".to_owned()),
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(member.explained(words(&error))),
        Err(_) => Err(format!("nothing within {ATTEMPT_MAX:?}")),
    }
}

/// How a member has answered of late.
#[derive(Debug, Default)]
struct Health {
    missing: u32,
}

/// What is worth a line.
#[derive(PartialEq, Eq, Debug)]
enum News {
    Silent(String),
    Back,
}

impl Health {
    fn note(&mut self, answer: Result<(), String>) -> Option<News> {
        match answer {
            Ok(()) => {
                let was_up = self.is_up();
                self.missing = 0;
                (!was_up).then_some(News::Back)
            }
            Err(error) => {
                self.missing = self.missing.saturating_add(1);
                (self.missing == MISSING).then_some(News::Silent(error))
            }
        }
    }

    fn is_up(&self) -> bool {
        self.missing < MISSING
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_member_is_told_of_once_and_an_election_is_not() {
        let mut health = Health::default();
        let silent = || Err("nothing".to_owned());
        let mut note = |answer| health.note(answer);
        assert_eq!([note(silent()), note(Ok(())), note(silent())], [None, None, None]);
        assert_eq!(note(silent()), Some(News::Silent("nothing".to_owned())));
        assert_eq!([note(silent()), note(Ok(())), note(Ok(()))], [None, Some(News::Back), None]);
    }
}
