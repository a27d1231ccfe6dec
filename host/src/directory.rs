//! Who the users are: the mirror of the store's `user/` records that calls and registrations look into.

mod change;
mod rules;
pub mod target;

use std::collections::{BTreeMap, BTreeSet};

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

pub use self::rules::{CallRules, Cause};

use crate::config::{Credential, Secret, User as ConfigUser};
use crate::registrar::digest::{Algorithm, ha1};
use crate::store::{Change, Operation, ROOT, Record, Snapshot};

/// A user, as the store's `user/NAME` holds it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct User {
    /// The user part of the address of record, and the digest user name. Case counts in both.
    pub name: String,
    /// The number others dial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extension: Option<String>,
    /// The name shown on phones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display: Option<String>,
    /// The home pool.
    pub pool: String,
    /// The number of the user's pickup group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pickup_group: Option<String>,
    /// Further groups, for policies that allow more than one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub further_pickup_groups: Vec<String>,
    /// Whether the user may park calls (POL-01).
    pub may_park: bool,
    /// Whether the user may retrieve parked calls (POL-02).
    pub may_retrieve: bool,
    /// Who rings along, and where unanswered calls go.
    #[serde(flatten)]
    pub rules: CallRules,
    /// `MD5(name:realm:password)` in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ha1_md5: Option<String>,
    /// `SHA-256(name:realm:password)` in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ha1_sha256: Option<String>,
    /// The same for phones that give the extension as their digest user name: the hash covers that name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extension_ha1: Option<ExtensionHa1>,
}

/// The hashes for one extension. They are of no use for another, so they name theirs.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ExtensionHa1 {
    /// The extension that was hashed.
    pub extension: String,
    /// MD5, in hexadecimal.
    pub md5: String,
    /// SHA-256, in hexadecimal.
    pub sha256: String,
}

impl User {
    /// The user that the configuration describes, for an empty store.
    pub fn from_config(user: &ConfigUser, realm: &str) -> Self {
        let mut out = Self {
            name: user.name.clone(),
            extension: user.extension.clone(),
            display: user.display.clone(),
            pool: user.pool.clone(),
            pickup_group: user.pickup_group.clone(),
            further_pickup_groups: user.further_pickup_groups.clone(),
            rules: user.rules.clone(),
            may_park: user.may_park,
            may_retrieve: user.may_retrieve,
            ..Self::default()
        };
        match &user.credential {
            Credential::Password(password) => out.set_password(realm, password.reveal()),
            Credential::Ha1 { md5, sha256 } => {
                let text = |secret: &Option<Secret>| secret.as_ref().map(|s| s.reveal().to_ascii_lowercase());
                out.ha1_md5 = text(md5);
                out.ha1_sha256 = text(sha256);
            }
        }
        out
    }

    /// Keeps what is needed to check `password`, but not the password.
    pub fn set_password(&mut self, realm: &str, password: &str) {
        self.ha1_md5 = Some(ha1(Algorithm::Md5, &self.name, realm, password));
        self.ha1_sha256 = Some(ha1(Algorithm::Sha256, &self.name, realm, password));
        self.extension_ha1 = self.extension.as_ref().map(|extension| ExtensionHa1 {
            extension: extension.clone(),
            md5: ha1(Algorithm::Md5, extension, realm, password),
            sha256: ha1(Algorithm::Sha256, extension, realm, password),
        });
    }

    /// The hash to check credentials with that name `username`: the user's name or extension, case included.
    pub fn ha1(&self, username: &str, algorithm: Algorithm) -> Option<&str> {
        if username == self.name {
            return match algorithm {
                Algorithm::Md5 => self.ha1_md5.as_deref(),
                Algorithm::Sha256 => self.ha1_sha256.as_deref(),
            };
        }
        let hashes = self.extension_ha1.as_ref()?;
        let valid = hashes.extension == username && self.extension.as_deref() == Some(username);
        valid.then_some(match algorithm {
            Algorithm::Md5 => &hashes.md5,
            Algorithm::Sha256 => &hashes.sha256,
        })
    }

    /// The user's pickup groups, in the order in which they were configured.
    pub fn pickup_groups(&self) -> impl Iterator<Item = &str> {
        self.pickup_group.iter().chain(&self.further_pickup_groups).map(String::as_str)
    }

    fn numbers(&self) -> impl Iterator<Item = &String> {
        self.extension.iter().chain(&self.rules.private_number)
    }

    /// Where the store keeps a user.
    pub fn key(name: &str) -> String {
        format!("{ROOT}user/{name}")
    }

    /// The write that stores this user.
    pub fn put(&self) -> Operation {
        // A struct of strings and flags always has a JSON form.
        let value = serde_json::to_vec(self).unwrap_or_default();
        Operation::Put { key: Self::key(&self.name), value: value.into() }
    }
}

/// All users.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    users: BTreeMap<String, User>,
    /// Of their records.
    revisions: BTreeMap<String, u64>,
    /// Extension to names. Where several users claim one extension, the first by name has it.
    extensions: Index,
    /// Name in lower case to names, likewise.
    folded: Index,
}

/// Followed user by user: thousands may change at once.
type Index = BTreeMap<String, BTreeSet<String>>;

fn first<'a>(index: &'a Index, key: &str) -> Option<&'a String> {
    index.get(key)?.first()
}

impl Directory {
    /// The users in `snapshot`. A record that cannot be read is reported and left out.
    pub fn load(snapshot: &Snapshot) -> Self {
        let mut directory = Self::default();
        let prefix = User::key("");
        for (key, record) in
            snapshot.records.range(prefix.clone()..).take_while(|(k, _)| k.starts_with(&prefix))
        {
            directory.insert(key, record);
        }
        directory
    }

    /// Follows a change of the store; true if it was about a user.
    pub fn apply(&mut self, change: &Change) -> bool {
        let Some(name) = change.key.strip_prefix(&User::key("")) else { return false };
        match &change.record {
            Some(record) => self.insert(&change.key, record),
            None => self.remove(name),
        }
        true
    }

    fn insert(&mut self, key: &str, record: &Record) {
        let name = key.strip_prefix(&User::key("")).unwrap_or_default();
        match serde_json::from_slice::<User>(&record.value) {
            Ok(user) if user.name == name => {
                self.remove(name);
                self.index(&user);
                self.revisions.insert(user.name.clone(), record.revision);
                self.users.insert(user.name.clone(), user);
            }
            // A user whose record went bad keeps working as before rather than vanish.
            Ok(user) => tracing::error!(key, name = user.name, "a user's record names another user; ignored"),
            Err(error) => tracing::error!(key, %error, "a user's record cannot be read; ignored"),
        }
    }

    fn index(&mut self, user: &User) {
        self.folded.entry(user.name.to_ascii_lowercase()).or_default().insert(user.name.clone());
        for extension in user.numbers() {
            self.extensions.entry(extension.clone()).or_default().insert(user.name.clone());
        }
    }

    fn remove(&mut self, name: &str) {
        self.revisions.remove(name);
        let Some(user) = self.users.remove(name) else { return };
        let forget = |index: &mut Index, key: &str| {
            if let Some(names) = index.get_mut(key) {
                names.remove(name);
                if names.is_empty() {
                    index.remove(key);
                }
            }
        };
        forget(&mut self.folded, &user.name.to_ascii_lowercase());
        for extension in user.numbers() {
            forget(&mut self.extensions, extension);
        }
    }

    /// The user a change is about, as it was before.
    pub fn user_of(&self, change: &Change) -> Option<&User> {
        self.users.get(change.key.strip_prefix(&User::key(""))?)
    }

    /// The user of exactly this name.
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name)
    }

    /// The revision of a user's record: what a write of it expects that is to lose nothing.
    pub fn revision(&self, name: &str) -> Option<u64> {
        self.revisions.get(name).copied()
    }

    /// Whom the user part of a SIP URI means: a name or an extension, escaped or not, with or without parameters
    /// (`1001;phone-context=…`). A name in another case is found if nobody has exactly that name.
    pub fn resolve(&self, user_part: &str) -> Option<&User> {
        let bare = user_part.split(';').next().unwrap_or_default();
        let name = percent_decode_str(bare).decode_utf8().ok()?;
        self.users
            .get(&*name)
            .or_else(|| self.users.get(first(&self.extensions, &name)?))
            .or_else(|| self.users.get(first(&self.folded, &name.to_ascii_lowercase())?))
    }

    /// Whose a digest user name is: a name or an extension. Case counts, as the hash covers it.
    pub fn login(&self, username: &str) -> Option<&User> {
        self.users.get(username).or_else(|| self.users.get(first(&self.extensions, username)?))
    }

    /// The members of a pickup group, by name.
    pub fn members<'a>(&'a self, group: &'a str) -> impl Iterator<Item = &'a User> {
        self.users.values().filter(move |user| user.pickup_groups().any(|other| other == group))
    }

    /// All users, by name.
    pub fn iter(&self) -> impl Iterator<Item = &User> {
        self.users.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, extension: &str) -> User {
        User {
            name: name.into(),
            extension: Some(extension.into()).filter(|e: &String| !e.is_empty()),
            pool: "east".into(),
            may_retrieve: true,
            ..User::default()
        }
    }

    fn change(user: &User) -> Change {
        let Operation::Put { key, value } = user.put() else { panic!() };
        Change { key, record: Some(Record { value, revision: 1 }) }
    }

    fn office() -> Directory {
        let mut snapshot = Snapshot::default();
        for user in [user("alice", "1001"), user("bob", "1002"), user("Bob", ""), user("carol", "")] {
            let Operation::Put { key, value } = user.put() else { panic!() };
            snapshot.records.insert(key, Record { value, revision: 1 });
        }
        for (key, value) in [("user/mallory", "{"), ("user/dave", r#"{"name":"eve"}"#), ("range/x", "{}")] {
            let record = Record { value: value.into(), revision: 1 };
            snapshot.records.insert(format!("{ROOT}{key}"), record);
        }
        Directory::load(&snapshot)
    }

    #[test]
    fn users_are_found_by_name_and_extension() {
        let office = office();
        let found = |part: &str| office.resolve(part).map(|user| user.name.as_str());
        assert_eq!(found("alice"), Some("alice"));
        assert_eq!(found("1001"), Some("alice"));
        assert_eq!(found("%31001"), Some("alice"));
        assert_eq!(found("1001;phone-context=x"), Some("alice"));
        assert_eq!(found("ALICE"), Some("alice"));
        assert_eq!(
            (found("bob"), found("Bob")),
            (Some("bob"), Some("Bob")),
            "whose exact name it is, has it"
        );
        assert_eq!((found("1009"), found(""), found("dave"), found("eve")), (None, None, None, None));
        assert_eq!(
            office.iter().map(|user| user.name.as_str()).collect::<Vec<_>>(),
            ["Bob", "alice", "bob", "carol"]
        );
    }

    /// Targets are looked at when they are set. What the store has is taken as it is.
    #[test]
    fn a_rule_that_would_be_refused_today_is_no_reason_to_lose_a_user() {
        let mut alice = user("alice", "1001");
        alice.rules.forward_always = Some("sip:7001@elsewhere.test".into());
        alice.rules.also_ring = vec!["".into()];
        let mut office = office();
        office.apply(&change(&alice));
        assert_eq!(office.user("alice"), Some(&alice));
    }

    #[test]
    fn logins_are_case_sensitive() {
        let office = office();
        assert_eq!(office.login("1001").map(|u| u.name.as_str()), Some("alice"));
        assert!(office.login("Alice").is_none());
    }

    #[test]
    fn changes_are_followed() {
        let mut office = office();
        assert!(office.apply(&change(&user("alice", "1005"))));
        assert!(office.resolve("1001").is_none());
        assert_eq!(office.resolve("1005").unwrap().name, "alice");
        // Two users, one number: the first by name; when he lets go, the other.
        office.apply(&change(&user("zoe", "1005")));
        assert_eq!(office.resolve("1005").unwrap().name, "alice");
        office.apply(&Change { key: User::key("alice"), record: None });
        assert_eq!(office.resolve("1005").unwrap().name, "zoe");
        assert!(office.user("alice").is_none());
        let broken = Record { value: "?".into(), revision: 9 };
        office.apply(&Change { key: User::key("zoe"), record: Some(broken) });
        assert!(office.user("zoe").is_some());
        assert!(!office.apply(&Change { key: format!("{ROOT}range/x"), record: None }));
    }

    #[test]
    fn a_password_is_kept_as_hashes_of_name_and_extension() {
        let mut alice = user("alice", "1001");
        alice.set_password("example.test", "secret");
        assert_eq!(
            alice.ha1("alice", Algorithm::Md5),
            Some(ha1(Algorithm::Md5, "alice", "example.test", "secret").as_str())
        );
        assert_eq!(
            alice.ha1("1001", Algorithm::Sha256),
            Some(ha1(Algorithm::Sha256, "1001", "example.test", "secret").as_str())
        );
        assert_eq!(alice.ha1("Alice", Algorithm::Md5), None);
        let json = String::from_utf8(serde_json::to_vec(&alice).unwrap()).unwrap();
        assert!(!json.contains("secret"));
        assert_eq!(serde_json::from_str::<User>(&json).unwrap(), alice);
        alice.extension = Some("1002".into());
        assert_eq!(alice.ha1("1001", Algorithm::Md5), None, "a number that was given back");
        assert_eq!(alice.ha1("1002", Algorithm::Md5), None, "nobody has hashed that yet");
    }

    #[test]
    fn the_configuration_seeds_users() {
        let mut config = ConfigUser {
            name: "alice".into(),
            extension: Some("1001".into()),
            display: Some("Alice".into()),
            credential: Credential::Password(Secret::new("secret")),
            pool: "east".into(),
            pickup_group: Some("*101".into()),
            further_pickup_groups: Vec::new(),
            rules: CallRules::default(),
            may_park: true,
            may_retrieve: false,
        };
        let alice = User::from_config(&config, "example.test");
        assert_eq!(
            (alice.display.as_deref(), alice.may_park, alice.may_retrieve),
            (Some("Alice"), true, false)
        );
        assert!(alice.ha1("1001", Algorithm::Md5).is_some());
        config.credential = Credential::Ha1 { md5: Some(Secret::new("ABCD")), sha256: None };
        let alice = User::from_config(&config, "example.test");
        assert_eq!(alice.ha1("alice", Algorithm::Md5), Some("abcd"));
        assert_eq!((alice.ha1("alice", Algorithm::Sha256), alice.ha1("1001", Algorithm::Md5)), (None, None));
    }
}
