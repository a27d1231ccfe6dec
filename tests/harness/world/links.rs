//! How messages get from phones to hosts and back: datagrams, and connections that phones make; and from host to host.

use super::*;

impl World {
    /// Switches a phone off; after that long it is on again, knows nothing of its calls, and registers.
    pub fn reboot(&mut self, phone: usize, off: Duration) {
        self.phones[phone].dead = true;
        self.phones[phone].forget_all();
        self.new_connection(phone);
        self.push(off, Pending::PowerOn(phone));
    }

    /// A phone that speaks TCP from now on, over a connection of its own making.
    pub fn on_tcp(&mut self, phone: usize) {
        self.next_connection += 1;
        self.phones[phone].stream = Some(ConnectionId(self.next_connection));
    }

    /// The connection of a phone on TCP has broken: the host hears of it, and what the phone says next goes over another.
    pub(super) fn new_connection(&mut self, phone: usize) {
        let Some(connection) = self.phones[phone].stream else { return };
        self.on_tcp(phone);
        if let Some(host) = self.host_at(self.phones[phone].host()) {
            self.for_host(Duration::ZERO, host, Input::ConnectionClosed { connection });
        }
    }

    /// A phone that speaks TCP finds its connection broken, and registers over another one.
    pub fn reconnect(&mut self, phone: usize) {
        if self.phones[phone].stream.is_some() {
            self.new_connection(phone);
            self.act(phone, |phone| phone.register(3600));
        }
    }

    pub(super) fn drain_phone(&mut self, index: usize) {
        while let Some((flow, bytes)) = self.phones[index].tx.poll_send() {
            if self.phones[index].dead {
                continue;
            }
            // What belongs to a connection that is gone cannot be said any more.
            if flow.protocol == Protocol::Tcp && flow.connection != self.phones[index].stream {
                continue;
            }
            self.phones[index].heard_on = flow.connection;
            self.note(index, flow.remote, true, &bytes);
            let flow = Flow { local: flow.remote, remote: self.phones[index].seen_as, ..flow };
            for delay in self.arrivals(index, true, flow.protocol) {
                self.push(delay, Pending::ToHost(flow, bytes.clone()));
                let elsewhere = self.hosts.iter().map(|host| host.address).filter(|at| *at != flow.local);
                let elsewhere: Vec<_> = elsewhere.filter(|_| self.on_both_ways).collect();
                for local in elsewhere {
                    self.push(delay, Pending::ToHost(Flow { local, ..flow }, bytes.clone()));
                }
            }
        }
    }

    /// Two hosts do not reach each other any more.
    pub fn cut_link(&mut self, hosts: (usize, usize)) {
        if self.cut_links.insert(hosts) {
            self.push(Duration::ZERO, Pending::Greet(hosts));
        }
    }

    /// … or again.
    pub fn mend_link(&mut self, hosts: (usize, usize)) {
        if self.cut_links.remove(&hosts) {
            self.greet(hosts);
        }
    }

    fn is_cut(&self, (one, other): (usize, usize)) -> bool {
        self.cut_links.contains(&(one, other)) || self.cut_links.contains(&(other, one))
    }

    /// Two hosts are told whether they reach each other.
    pub(super) fn greet(&mut self, (one, other): (usize, usize)) {
        let cut = self.is_cut((one, other));
        for (from, to) in [(one, other), (other, one)] {
            let host = HostName::new(self.hosts[to].name).unwrap();
            let failed = cut.then(|| "cut by the test".to_owned());
            self.for_host(Duration::ZERO, from, Input::Tried { host, failed });
        }
    }

    pub(super) fn arrivals(&mut self, phone: usize, to_host: bool, protocol: Protocol) -> Vec<Duration> {
        if protocol == Protocol::Tcp {
            self.network.arrival(&mut self.rng, phone, to_host, self.now).into_iter().collect()
        } else {
            self.network.arrivals(&mut self.rng, phone).collect()
        }
    }

    pub(super) fn drain_host(&mut self, host: usize) {
        loop {
            let Some(output) = self.hosts[host].engine.as_mut().and_then(Engine::poll_output) else { return };
            match output {
                Output::Send { flow, bytes } => self.send(host, flow, bytes),
                Output::Resolve { query, .. } => {
                    self.for_host(Weather::FAIR.delay, host, Input::Resolved { query, targets: Vec::new() });
                }
                Output::Store { request, transaction } => self.write(host, request, &transaction),
                Output::Read { request } => {
                    let away = self.storeless.contains_key(&host) || self.store_does == StoreDoes::Hang;
                    let result = match away {
                        true => Err(StoreError::Unavailable("switched off by the test".to_owned())),
                        false => Ok(self.store.snapshot(ROOT)),
                    };
                    self.for_host(self.reads_take, host, Input::Read { request, result });
                }
                Output::Link { to, frame, .. } => {
                    self.linked += 1;
                    let there = self.hosts.iter().position(|other| other.name == to.as_str());
                    let fits = frame.write(&mut bytes::BytesMut::new()).is_ok();
                    match there.filter(|there| {
                        fits && self.hosts[*there].engine.is_some() && !self.is_cut((host, *there))
                    }) {
                        Some(there) => {
                            let from = HostName::new(self.hosts[host].name).unwrap();
                            self.for_host(StoreDoes::SOON, there, Input::Link { from, frame });
                        }
                        None => self.for_host(StoreDoes::SOON, host, Input::Unlinked { to, frame }),
                    }
                }
                Output::Media(command) => self.on_media(host, command),
                Output::Admin { request, answer } => {
                    self.admin.insert(request.0, answer);
                }
                Output::Event(event) => self.events.push(event),
            }
        }
    }

    pub(super) fn send(&mut self, host: usize, flow: Flow, bytes: Bytes) {
        let Some(index) = self.phones.iter().position(|phone| phone.seen_as == flow.remote) else {
            self.strays.push((flow, bytes));
            return;
        };
        let from = self.hosts[host].address;
        if self.phones[index].behind_nat && self.phones[index].host() != from {
            self.strays.push((flow, bytes));
            return;
        }
        let stream = self.phones[index].stream;
        // What has no connection goes over an open one to the same address, as in the transport.
        let connection = flow.connection.or(self.phones[index].heard_on);
        let open = stream.is_some() && connection == stream;
        if flow.protocol == Protocol::Tcp && !open {
            // These phones listen on UDP only; some open a connection themselves.
            let input = Input::SendFailed { flow, reason: "connection refused".to_owned() };
            self.for_host(Duration::ZERO, host, input);
            return;
        }
        self.note(index, from, false, &bytes);
        for delay in self.arrivals(index, false, flow.protocol) {
            self.push(delay, Pending::ToPhone(index, from, bytes.clone()));
        }
    }
}
