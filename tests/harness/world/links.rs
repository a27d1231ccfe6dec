//! How messages get from phones to the host and back: datagrams, and connections that phones make.

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
        if self.engine.is_some() {
            self.push(Duration::ZERO, Pending::Host(Input::ConnectionClosed { connection }));
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
            self.note(index, true, &bytes);
            let flow = Flow { local: flow.remote, remote: self.phones[index].seen_as, ..flow };
            for delay in self.arrivals(index, true, flow.protocol) {
                self.push(delay, Pending::ToHost(flow, bytes.clone()));
            }
        }
    }

    pub(super) fn arrivals(&mut self, phone: usize, to_host: bool, protocol: Protocol) -> Vec<Duration> {
        if protocol == Protocol::Tcp {
            self.network.arrival(&mut self.rng, phone, to_host, self.now).into_iter().collect()
        } else {
            self.network.arrivals(&mut self.rng, phone).collect()
        }
    }

    pub(super) fn drain_host(&mut self) {
        loop {
            let Some(output) = self.engine.as_mut().and_then(Engine::poll_output) else { return };
            match output {
                Output::Send { flow, bytes } => {
                    let Some(index) = self.phones.iter().position(|phone| phone.seen_as == flow.remote)
                    else {
                        self.strays.push((flow, bytes));
                        continue;
                    };
                    let stream = self.phones[index].stream;
                    if flow.protocol == Protocol::Tcp && (stream.is_none() || flow.connection != stream) {
                        // These phones listen on UDP only; some open a connection themselves.
                        let input = Input::SendFailed { flow, reason: "connection refused".to_owned() };
                        self.push(Duration::ZERO, Pending::Host(input));
                        continue;
                    }
                    self.note(index, false, &bytes);
                    for delay in self.arrivals(index, false, flow.protocol) {
                        self.push(delay, Pending::ToPhone(index, bytes.clone()));
                    }
                }
                Output::Resolve { query, .. } => {
                    let pause = Weather::FAIR.delay;
                    self.push(pause, Pending::Host(Input::Resolved { query, targets: Vec::new() }));
                }
                Output::Store { request, transaction } => self.write(request, &transaction),
                Output::Read { request } => {
                    let result = Ok(self.store.snapshot(ROOT));
                    self.push(Duration::from_millis(1), Pending::Host(Input::Read { request, result }));
                }
                Output::Link { to, .. } => panic!("a host alone has nothing to say to {to}"),
                Output::Media(command) => self.on_media(command),
                Output::Admin { request, answer } => {
                    self.admin.insert(request.0, answer);
                }
                Output::Event(event) => self.events.push(event),
            }
        }
    }
}
