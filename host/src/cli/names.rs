//! `switchyard check`: where the names lead that phones are told in Contacts.

use std::net::IpAddr;
use std::time::Duration;

use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

use crate::config::Config;
use crate::net::Protocol;
use crate::transport::dns::Dns;
use crate::transport::locate::{Query, Reach, locate};

/// NAPTR, SRV and addresses together.
const PATIENCE: Duration = Duration::from_secs(8);

/// One name, over one protocol.
pub(super) struct Led {
    /// `east.example.test (udp)`.
    pub name: String,
    /// Addresses and ports, best first.
    pub to: Vec<String>,
    /// What is wrong with that.
    pub wrong: Option<String>,
}

/// Asks DNS as a phone would (RFC 3263), for each pool that phones know by name.
///
/// # Errors
/// When no resolver can be had, in words.
pub(super) fn look_up(config: &Config) -> Result<Vec<Led>, String> {
    let names: Vec<(&str, &str)> = config
        .pools
        .iter()
        .filter_map(|pool| Some((pool.name.as_str(), config.contact_name(&pool.name)?)))
        .collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let dns = Dns::new(&config.sip.nameservers).map_err(|error| error.to_string())?;
        let listens = config.sip.listen.iter().map(|listen| (listen.protocol, listen.address));
        let reach = Reach::new(listens.clone());
        let mut protocols: Vec<Protocol> = listens.map(|(protocol, _)| protocol).collect();
        protocols.dedup();
        // Whom it leads to first is left to chance among equals (RFC 2782); all are told.
        let mut rng = ChaCha12Rng::from_seed([0; 32]);
        let mut found = Vec::new();
        for (pool, host) in names {
            for protocol in &protocols {
                let query = Query {
                    host: host.to_owned(),
                    port: None,
                    protocol: Some(*protocol),
                    secure: false,
                };
                let asked = tokio::time::timeout(PATIENCE, locate(&dns, &reach, &query, &mut rng)).await;
                let to = asked.unwrap_or_default();
                let own = pool == config.host.pool;
                let here: Vec<String> = own_addresses(config, *protocol);
                let to: Vec<String> = to.iter().map(|(_, address)| address.to_string()).collect();
                let wrong = if to.is_empty() {
                    Some(format!(
                        "{host} leads nowhere over {protocol}: who is told it could not hold, move or end a call"
                    ))
                } else if own && !here.is_empty() && !here.iter().any(|here| to.contains(here)) {
                    Some(format!("{host} does not lead to this host over {protocol} ({})", here.join(", ")))
                } else {
                    None
                };
                found.push(Led { name: format!("{host} ({protocol})"), to, wrong });
            }
        }
        Ok(found)
    })
}

/// Where phones reach this host, as far as it is an address.
fn own_addresses(config: &Config, protocol: Protocol) -> Vec<String> {
    let listens = config.sip.listen.iter().filter(|listen| listen.protocol == protocol);
    let advertised = listens.map(|listen| config.sip.advertised(protocol, listen.address));
    advertised.filter(|told| told.rsplit_once(':').is_some_and(|(host, _)| is_address(host))).collect()
}

fn is_address(host: &str) -> bool {
    host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
}
