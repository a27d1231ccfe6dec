//! The stored form of a parked call: `orbit/NUMBER`.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use switchyard_sdk::ext::orbit::{Resume, Terms};
use switchyard_sdk::types::{LegId, Party};

use super::occupant::Occupant;

/// The version written. A record of a later one is left alone; older ones are read as far as they go.
const VERSION: u32 = 1;

/// A parked call as the store holds it: enough to play, recall and end the call without its plugin.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Record {
    version: u32,
    /// The host that wrote it and serves the call.
    pub host: String,
    /// `parked`: a claim under way is not written, since its winner is in the owner's memory only.
    state: RecordState,
    /// The orbit.
    pub number: String,
    /// The range's name when the call was parked.
    pub range: String,
    /// The range's pool.
    pub pool: String,
    /// The pool's epoch when the record was written.
    #[serde(default)]
    pub epoch: u64,
    /// The range's kind.
    pub kind: String,
    /// The call's token.
    pub token: String,
    /// Who waits.
    pub parked: Party,
    /// Who parked.
    pub parker: Party,
    /// What the host must know.
    pub terms: Terms,
    /// What the plugin must know.
    #[serde(default)]
    pub plugin: Value,
    /// The waiting leg: dialog, addresses, media.
    #[serde(default)]
    pub leg: Value,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RecordState {
    Parked,
}

impl Record {
    pub(super) fn of(host: &str, epoch: u64, occupant: &Occupant) -> Record {
        Record {
            version: VERSION,
            host: host.to_string(),
            state: RecordState::Parked,
            number: occupant.number.to_string(),
            range: occupant.range.clone(),
            pool: occupant.pool.clone(),
            epoch,
            kind: occupant.kind.clone(),
            token: occupant.token.clone(),
            parked: occupant.parked.clone(),
            parker: occupant.parker.clone(),
            terms: occupant.terms.clone(),
            plugin: occupant.plugin_state.clone(),
            leg: occupant.facts.clone(),
        }
    }

    pub(super) fn to_bytes(&self) -> bytes::Bytes {
        // Every map in it has text keys, so it always has a JSON form.
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// Reads a record, or says why that is impossible.
    pub fn read(bytes: &[u8]) -> Result<Record, String> {
        let record: Record = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if record.version > VERSION {
            return Err(format!("its version {} is later than {VERSION}", record.version));
        }
        Ok(record)
    }
}

/// A parked call found in the store after a restart. It keeps its orbit until `Orbits::adopted` or
/// `Orbits::forget` says what became of it.
#[derive(Clone, PartialEq, Debug)]
pub struct RestoredCall {
    /// What was stored; `record.leg` is what the engine gave to `commit` as leg facts.
    pub record: Record,
}

impl RestoredCall {
    /// The orbit.
    pub fn number(&self) -> &str {
        &self.record.number
    }

    /// What the engine needs to take the leg up again.
    pub fn facts(&self) -> &Value {
        &self.record.leg
    }

    /// What a flow needs to go on with the call, once the leg is there.
    pub fn resume(&self, leg: LegId) -> Resume {
        let record = self.record.clone();
        Resume {
            number: record.number,
            pool: record.pool,
            token: record.token,
            leg,
            parked: record.parked,
            parker: record.parker,
            terms: record.terms,
            state: record.plugin,
        }
    }
}
