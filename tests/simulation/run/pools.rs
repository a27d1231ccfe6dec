//! What the steps of a script do to pools that stand in for each other.

use std::time::Duration;

use switchyard_host::admin::Request;
use switchyard_host::pool::{Ask, Phase};

use super::super::probe::{POOLS, record};
use super::super::script::{Act, POLICIES, TERMS};
use super::Run;

/// How long after the last fault every pool is served in full: the lease of whoever died, both detections and the drain time.
const SETTLED: Duration = Duration::from_secs(40);

/// The policy files of a script.
pub fn policies(terms: Option<usize>, which: usize) -> Vec<(String, String)> {
    let Some(terms) = terms else {
        return vec![("pools/east.lua".to_owned(), POLICIES[which].to_owned())];
    };
    let base = POLICIES[which].trim_start_matches("return ");
    let text = format!(
        "return ({base}):extend {{ resiliency = {{ allow_fast_detection = true, failure_detection = '15s', \
         failback_detection = '10s', drain_time = '6s', {} }} }}",
        TERMS[terms]
    );
    POOLS.map(|pool| (format!("pools/{pool}.lua"), text.clone())).to_vec()
}

/// Whether a lost pool's parked calls are ended.
pub fn disconnects(terms: usize) -> bool {
    !TERMS[terms].contains("rescue")
}

impl Run {
    pub(super) fn edit_policies(&mut self, which: usize) {
        self.edited = true;
        let files = policies(self.terms, which);
        let files: Vec<(&str, &str)> =
            files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        self.world.edit_policies(&files);
    }

    pub(super) fn pools(&mut self, act: Act) {
        match act {
            Act::Move { pool, ask, host } => self.move_pool(pool, ask, host),
            Act::Drain { host, drained } => {
                self.fault("drain");
                self.drain(host, drained);
            }
            Act::Lose { pool, down } => {
                self.fault("pool lost");
                for host in self.hosts_of(pool) {
                    if self.world.hosts[host].engine.is_some() {
                        self.world.kill(host);
                        self.world.start_later(host, down);
                    }
                }
            }
            Act::Regain { pool } => {
                for host in self.hosts_of(pool) {
                    if self.world.hosts[host].engine.is_none() {
                        self.world.start(host);
                    }
                }
            }
            Act::Site { pool, cut } => {
                self.fault("site");
                let (here, there) = (self.hosts_of(pool), self.hosts_of(1 - pool));
                for host in here {
                    if self.world.hosts[host].engine.is_some() {
                        self.world.cut_from_store(host, cut);
                    }
                    for other in &there {
                        if cut {
                            self.world.cut_link((host, *other));
                        } else {
                            self.world.mend_link((host, *other));
                        }
                    }
                }
            }
            Act::Strike(strike) => self.world.strike(strike),
            Act::Probe { pool, edge } => {
                if let Err(what) = self.probe(pool, edge) {
                    self.world.broken.get_or_insert(what);
                }
            }
            _ => {}
        }
    }

    fn hosts_of(&self, pool: usize) -> Vec<usize> {
        (0..self.world.hosts.len()).filter(|host| self.world.hosts[*host].pool == POOLS[pool]).collect()
    }

    fn move_pool(&mut self, pool: usize, ask: Ask, host: usize) {
        if self.world.hosts[host].engine.is_some() {
            self.world.network.count(match ask {
                Ask::Failover => "failover",
                Ask::Failback { .. } => "failback",
            });
            let pool = POOLS[pool].to_owned();
            self.world.asks(host, Request::MovePool { pool, ask, by: "ana".to_owned(), dry_run: false });
        }
    }

    fn drain(&mut self, host: usize, drained: bool) {
        if let Some(somebody) = self.world.somebody() {
            let host = self.world.hosts[host].name.to_owned();
            self.world.asks(somebody, Request::DrainHost { host, drained, by: "ana".to_owned() });
        }
    }

    /// Whether anything could be said.
    fn probe(&mut self, pool: usize, edge: usize) -> Result<bool, String> {
        let Some(probe) = self.probe.as_ref().filter(|_| !self.edited) else { return Ok(false) };
        let phase = record(&self.world, POOLS[pool]).phase;
        let told = probe.look(&mut self.world, pool, edge)?;
        if told {
            self.world.network.count(match phase {
                Phase::Active => "tried: active",
                Phase::Outage => "tried: outage",
                Phase::Resilient => "tried: resilient",
                Phase::FailingOver => "tried: failing over",
                Phase::FailedOver => "tried: failed over",
                Phase::FailingBack => "tried: failing back",
            });
        }
        Ok(told)
    }

    pub(super) fn resume_all(&mut self) {
        if self.terms.is_some() {
            for host in 0..self.world.hosts.len() {
                self.drain(host, false);
            }
        }
    }

    /// All hosts live and reach each other: both pools are served in full, at home or by the other, and can be brought home.
    pub(super) fn pools_in_the_end(&mut self) -> Result<(), String> {
        if self.terms.is_none() {
            return Ok(());
        }
        self.world.run_for(SETTLED);
        self.probe_both()?;
        for (index, pool) in POOLS.into_iter().enumerate() {
            if record(&self.world, pool).phase == Phase::FailedOver {
                self.move_pool(index, Ask::Failback { disaster: false }, 0);
                self.world.run_for(Duration::from_secs(3));
                self.probe_both()?;
            }
            if record(&self.world, pool).phase != Phase::Active {
                return Err(format!("{pool} does not come home: {:?}", record(&self.world, pool)));
            }
        }
        self.look()
    }

    fn probe_both(&mut self) -> Result<(), String> {
        for (index, pool) in POOLS.into_iter().enumerate() {
            let record = record(&self.world, pool);
            if record.running().is_some() || !matches!(record.phase, Phase::Active | Phase::FailedOver) {
                return Err(format!("{pool} does not settle: {record:?}"));
            }
            self.probe(index, 0)?;
        }
        self.look()
    }
}
