//! SIPp: a phone that follows a script to the letter, and fails if the host departs from it.

use std::collections::BTreeSet;
use std::process::Command;

use tempfile::TempDir;

use super::audio::{Ear, Heard, Sound};
use super::host::{DOMAIN, Host};
use super::ports::free_port;
use super::program::{Program, printable, wait_for};

/// SIPp's own limit for a whole script of one call, in seconds; it then says what it waited for. Below ours.
const SCRIPT_MAX_S: usize = 80;

/// A registered phone: user, port, and an ear for the RTP that is sent to it.
pub struct Line {
    host: String,
    user: String,
    port: u16,
    transport: Transport,
    ear: Ear,
}

/// What a phone speaks over, in SIPp's words: one socket, or one connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Transport {
    Udp,
    Tcp,
}

impl Line {
    fn new(host: &Host, user: &str, transport: Transport) -> Self {
        Self { host: host.sip(), user: user.to_owned(), port: free_port(), transport, ear: Ear::open() }
    }

    /// Registers a user's phone with digest.
    pub fn register(host: &Host, user: &str) -> Self {
        let line = Self::new(host, user, Transport::Udp);
        line.run(Script::new(user).register("200")).succeeds();
        line
    }

    /// The same over TCP. Each script has a connection of its own, so the host opens one to the phone's port.
    pub fn register_over_tcp(host: &Host, user: &str) -> Self {
        let line = Self::new(host, user, Transport::Tcp);
        line.run(Script::new(user).register("200")).succeeds();
        line
    }

    /// A gateway: it registers nowhere; whoever wants to reach it must know the port.
    pub fn gateway(host: &Host, port: u16) -> Self {
        Self { port, ..Self::new(host, "gateway", Transport::Udp) }
    }

    /// A registration with a wrong password is refused as often as it is tried.
    pub fn is_refused(host: &Host, user: &str, password: &str) {
        let line = Self::new(host, user, Transport::Udp);
        let script = Script { password: password.to_owned(), ..Script::new(user) };
        line.run(script.register("401")).succeeds();
    }

    /// Follows a script in the background.
    pub fn run(&self, script: Script) -> Sipp {
        Sipp::start(self, &script, 1, 1)
    }

    /// The same in so many calls, of which so many begin each second.
    pub fn run_many(&self, script: Script, calls: usize, rate: usize) -> Sipp {
        Sipp::start(self, &script, calls, rate)
    }

    /// Waits until so many streams of RTP have come that are not among those `before`.
    pub fn hear_streams(&self, count: usize, before: &BTreeSet<u32>) -> Heard {
        self.ear.hear_streams(count, before)
    }

    /// Listens to what is sent to its RTP port.
    pub fn listen(&self) -> Sound {
        self.ear.listen()
    }
}

/// Waits until all scripts have been followed to their end; the first that fails ends the test.
pub fn all_succeed<const N: usize>(mut scripts: [Sipp; N]) {
    wait_for("the end of all scripts", || {
        let mut ended = 0;
        for script in &mut scripts {
            ended += usize::from(script.has_succeeded());
        }
        (ended == N).then_some(())
    });
}

/// A script under way.
pub struct Sipp {
    name: String,
    program: Program,
    dir: TempDir,
    done: bool,
}

impl Sipp {
    fn start(line: &Line, script: &Script, calls: usize, rate: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("script.xml"), script.xml()).unwrap();
        let port = line.port.to_string();
        let rtp = line.ear.port().to_string();
        let control = free_port().to_string();
        let longest = format!("{}s", SCRIPT_MAX_S + calls / 5);
        let mut command = Command::new("sipp");
        command.args([&line.host, "-sf", "script.xml", "-i", "127.0.0.1", "-p", &port]);
        command.args(["-m", &calls.to_string(), "-r", &rate.to_string(), "-l", &calls.to_string()]);
        command.args(["-cp", &control, "-nostdin", "-timeout", &longest, "-timeout_error"]);
        command.args(["-t", if line.transport == Transport::Tcp { "t1" } else { "u1" }]);
        command.args(["-au", &line.user, "-ap", &script.password]);
        command.args(["-key", "user", &line.user, "-key", "rtp", &rtp]);
        // Without it SIPp signs the proxy's address, which is not what it sends in the request line.
        command.args(["-auth_uri", DOMAIN]);
        command.args(["-trace_err", "-error_file", "errors", "-trace_msg", "-message_file", "messages"]);
        command.current_dir(dir.path()).env("TERM", "dumb");
        let name = format!("sipp of {}", line.user);
        let program = Program::start(&name, "sip-tester", &mut command);
        Self { name, program, dir, done: false }
    }

    /// Waits until the script has been followed to its end. Returns its messages.
    pub fn succeeds(mut self) -> String {
        wait_for("the end of a script", || self.has_succeeded().then_some(()));
        self.messages()
    }

    /// Waits until some text has come for the `times`th time.
    pub fn hears(&mut self, text: &str, times: usize) {
        wait_for(&format!("{text} at {}, {times} times", self.name), || {
            assert!(self.program.ended().is_none() || self.has_succeeded());
            (self.messages().matches(text).count() >= times).then_some(())
        });
    }

    /// Waits until the last it was told of a lamp is this.
    pub fn sees(&mut self, state: &str) {
        wait_for(&format!("a lamp that is {state} at {}", self.name), || {
            assert!(self.program.ended().is_none() || self.has_succeeded());
            let messages = self.messages();
            let last = messages.rsplit("<state>").next().unwrap_or_default();
            last.starts_with(state).then_some(())
        });
    }

    fn has_succeeded(&mut self) -> bool {
        let Some(status) = self.program.ended() else { return false };
        assert!(status.success(), "{} was not followed to its end: {status}", self.name);
        self.done = true;
        true
    }

    /// All messages sent and received.
    fn messages(&self) -> String {
        let text = std::fs::read(self.dir.path().join("messages")).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl Drop for Sipp {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.done {
            let errors = std::fs::read_to_string(self.dir.path().join("errors")).unwrap_or_default();
            eprintln!(
                "──── sipp's messages ────\n{}\n──── its errors ────\n{errors}",
                printable(&self.messages())
            );
        }
    }
}

/// What a phone does, in one dialog.
pub struct Script {
    user: String,
    steps: String,
    cseq: u32,
    password: String,
    role: Role,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Caller,
    Callee,
}

/// Where in the dialog the far end can be reached, and who it is.
const LEARN: &str = r#"<action>
<ereg regexp="sip:[^>]*" search_in="hdr" header="Contact:" check_it="true" assign_to="target"/>
<ereg regexp=".*" search_in="hdr" header="From:" check_it="true" assign_to="from"/>
<ereg regexp=".*" search_in="hdr" header="To:" check_it="true" assign_to="to"/>
</action>"#;

/// Every header of an answer that comes from its request.
const ECHO: &str =
    "[last_Via:]\n[last_Record-Route:]\n[last_From:]\n[last_To:]\n[last_Call-ID:]\n[last_CSeq:]\n";

const CONTACT: &str = "Contact: <sip:[user]@[local_ip]:[local_port];transport=[transport]>\n\
    Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, NOTIFY, REFER\n";

const SDP: &str = "Content-Type: application/sdp\nContent-Length: [len]\n\n\
    v=0\no=[user] 1 1 IN IP4 [local_ip]\ns=-\nc=IN IP4 [local_ip]\nt=0 0\n\
    m=audio [rtp] RTP/AVP 0 101\na=rtpmap:0 PCMU/8000\na=rtpmap:101 telephone-event/8000\n";

const EMPTY: &str = "Content-Length: 0\n\n";

impl Script {
    pub fn new(user: &str) -> Self {
        Self {
            user: user.to_owned(),
            steps: String::new(),
            cseq: 0,
            password: format!("{user}-secret"),
            role: Role::Caller,
        }
    }

    fn xml(&self) -> String {
        let uses = if self.steps.contains("assign_to=\"target\"") {
            "<Reference variables=\"target,from,to\"/>"
        } else {
            ""
        };
        format!(
            "<?xml version=\"1.0\" encoding=\"ISO-8859-1\" ?>\n<scenario name=\"{}\">\n{}{uses}\n</scenario>\n",
            self.user, self.steps
        )
    }

    fn step(mut self, step: &str) -> Self {
        self.steps.push_str(step);
        self.steps.push('\n');
        self
    }

    fn send(self, message: &str) -> Self {
        self.step(&format!("<send><![CDATA[\n{message}\n]]></send>"))
    }

    /// Repeated until something comes back, as RFC 3261 §17.1 wants it over UDP.
    fn send_request(self, message: &str) -> Self {
        self.step(&format!("<send retrans=\"500\"><![CDATA[\n{message}\n]]></send>"))
    }

    fn receive(self, what: &str) -> Self {
        self.step(&format!("<recv {what}/>"))
    }

    /// The headers of a request that begins something: REGISTER, INVITE.
    fn outside(&mut self, method: &str, uri: &str, to: &str) -> String {
        self.cseq += 1;
        format!(
            "{method} {uri} SIP/2.0\nVia: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]\n\
             Max-Forwards: 70\nFrom: <sip:[user]@{DOMAIN}>;tag=[pid]-[call_number]\nTo: <{to}>\n\
             Call-ID: [call_id]\nCSeq: {} {method}\n",
            self.cseq
        )
    }

    /// The headers of a request within the dialog.
    fn inside(&mut self, method: &str, cseq: u32) -> String {
        let (from, to) = match self.role {
            Role::Caller => ("[$from]", "[$to]"),
            Role::Callee => ("[$to];tag=[pid]-[call_number]", "[$from]"),
        };
        self.cseq = cseq;
        format!(
            "{method} [$target] SIP/2.0\nVia: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]\n\
             Max-Forwards: 70\nFrom:{from}\nTo:{to}\nCall-ID: [call_id]\nCSeq: {cseq} {method}\n"
        )
    }

    /// Registers; the credentials are answered with `status`.
    fn register(mut self, status: &str) -> Self {
        let uri = format!("sip:{DOMAIN}");
        let to = format!("sip:[user]@{DOMAIN}");
        let rest = format!("{CONTACT}Expires: 600\n");
        let first = self.outside("REGISTER", &uri, &to);
        let second = self.outside("REGISTER", &uri, &to);
        self.send_request(&format!("{first}{rest}{EMPTY}"))
            .receive("response=\"100\" optional=\"true\"")
            .receive("response=\"401\" auth=\"true\"")
            .send_request(&format!("{second}{rest}[authentication]\n{EMPTY}"))
            .receive("response=\"100\" optional=\"true\"")
            .receive(&format!("response=\"{status}\""))
    }

    /// Calls, with digest, as far as the last INVITE.
    fn invite(mut self, number: &str) -> Self {
        let uri = format!("sip:{number}@{DOMAIN}");
        let first = self.outside("INVITE", &uri, &uri);
        // The ACK of a refusal has the INVITE's own Via (RFC 3261 §17.1.1.3), which the refusal repeats.
        let ack = format!(
            "ACK {uri} SIP/2.0\n[last_Via:]\nMax-Forwards: 70\n[last_From:]\n[last_To:]\n[last_Call-ID:]\n\
             CSeq: {} ACK\n",
            self.cseq
        );
        let second = self.outside("INVITE", &uri, &uri);
        self.send_request(&format!("{first}{CONTACT}{SDP}"))
            .receive("response=\"100\" optional=\"true\"")
            .receive("response=\"401\" auth=\"true\"")
            .send(&format!("{ack}{EMPTY}"))
            .send_request(&format!("{second}{CONTACT}[authentication]\n{SDP}"))
    }

    /// Calls, and is answered.
    pub fn call(self, number: &str) -> Self {
        let mut script = self
            .invite(number)
            .receive("response=\"100\" optional=\"true\"")
            .receive("response=\"180\" optional=\"true\"")
            .receive("response=\"183\" optional=\"true\"")
            .step(&format!("<recv response=\"200\">{LEARN}</recv>"));
        let ack = script.inside("ACK", script.cseq);
        script.send(&format!("{ack}{EMPTY}"))
    }

    /// Calls, and is refused with this status and a Warning that holds this code.
    pub fn call_refused(self, number: &str, status: u16, code: u16) -> Self {
        let warned = format!(
            "<action><ereg regexp=\"{code}\" search_in=\"hdr\" header=\"Warning:\" check_it=\"true\" assign_to=\"code\"/></action>"
        );
        let script = self
            .invite(number)
            .receive("response=\"100\" optional=\"true\"")
            .receive("response=\"180\" optional=\"true\"")
            .step(&format!("<recv response=\"{status}\">{warned}</recv>"))
            .step("<Reference variables=\"code\"/>");
        let ack = format!(
            "ACK sip:{number}@{DOMAIN} SIP/2.0\n[last_Via:]\nMax-Forwards: 70\n[last_From:]\n[last_To:]\n\
             [last_Call-ID:]\nCSeq: {} ACK\n",
            script.cseq
        );
        script.send(&format!("{ack}{EMPTY}"))
    }

    /// Is called, rings, answers.
    pub fn answer(mut self) -> Self {
        self.role = Role::Callee;
        let tagged = ECHO.replace("[last_To:]", "[last_To:];tag=[pid]-[call_number]");
        self.step(&format!("<recv request=\"INVITE\">{LEARN}</recv>"))
            .send(&format!("SIP/2.0 180 Ringing\n{tagged}{CONTACT}{EMPTY}"))
            .send_request(&format!("SIP/2.0 200 OK\n{tagged}{CONTACT}{SDP}"))
            .receive("request=\"ACK\"")
    }

    /// Is called and rings, until it is told that somebody else has answered (RFC 3326).
    pub fn ring_until_answered_elsewhere(mut self) -> Self {
        self.role = Role::Callee;
        let tagged = ECHO.replace("[last_To:]", "[last_To:];tag=[pid]-[call_number]");
        let reason = "<action><ereg regexp=\"SIP;cause=200\" search_in=\"hdr\" header=\"Reason:\" check_it=\"true\" assign_to=\"reason\"/></action>";
        self.receive("request=\"INVITE\"")
            .send(&format!("SIP/2.0 180 Ringing\n{tagged}{CONTACT}{EMPTY}"))
            .step(&format!("<recv request=\"CANCEL\">{reason}</recv>"))
            .step("<Reference variables=\"reason\"/>")
            .send(&format!("SIP/2.0 200 OK\n{tagged}{EMPTY}"))
            // The INVITE has the Via of its CANCEL (RFC 3261 §9.1).
            .send_request(&format!(
                "SIP/2.0 487 Request Terminated\n{}{EMPTY}",
                tagged.replace("[last_CSeq:]", "CSeq: 1 INVITE")
            ))
            .receive("request=\"ACK\"")
    }

    /// Is called by a ring-back that says so, and is busy.
    pub fn decline_recall(mut self, shown: &str) -> Self {
        self.role = Role::Callee;
        let tagged = ECHO.replace("[last_To:]", "[last_To:];tag=[pid]-[call_number]");
        let from = format!(
            "<action><ereg regexp=\"{shown}\" search_in=\"hdr\" header=\"From:\" check_it=\"true\" assign_to=\"shown\"/></action>"
        );
        self.step(&format!("<recv request=\"INVITE\">{from}</recv>"))
            .step("<Reference variables=\"shown\"/>")
            .send_request(&format!("SIP/2.0 486 Busy Here\n{tagged}{EMPTY}"))
            .receive("request=\"ACK\"")
    }

    /// Is offered other media in the dialog (music, another phone) and accepts.
    pub fn accept_offer(self) -> Self {
        self.receive("request=\"INVITE\"")
            .send_request(&format!("SIP/2.0 200 OK\n{ECHO}{CONTACT}{SDP}"))
            .receive("request=\"ACK\"")
    }

    /// Is offered other media in the dialog and knows nothing of it: 481.
    pub fn deny_offer(self) -> Self {
        self.receive("request=\"INVITE\"")
            .send_request(&format!("SIP/2.0 481 Call/Transaction Does Not Exist\n{ECHO}{EMPTY}"))
            .receive("request=\"ACK\"")
    }

    /// Transfers the far end blindly; the transfer is taken.
    pub fn refer(mut self, target: &str) -> Self {
        let cseq = self.cseq + 1;
        let refer = self.inside("REFER", cseq);
        self.send_request(&format!("{refer}{CONTACT}Refer-To: <sip:{target}@{DOMAIN}>\n{EMPTY}"))
            .receive("response=\"100\" optional=\"true\"")
            .receive("response=\"202\"")
    }

    /// Is told how the transfer went: a pattern for the NOTIFY's body.
    pub fn notified(self, pattern: &str) -> Self {
        let matches = format!(
            "<action><ereg regexp=\"{pattern}\" search_in=\"body\" check_it=\"true\" assign_to=\"told\"/></action>"
        );
        self.step(&format!("<recv request=\"NOTIFY\">{matches}</recv>"))
            .step("<Reference variables=\"told\"/>")
            .send(&format!("SIP/2.0 200 OK\n{ECHO}{EMPTY}"))
    }

    /// Subscribes to somebody's dialogs (RFC 4235), with digest, and is told that there are none.
    pub fn watch(mut self, number: &str) -> Self {
        let uri = format!("sip:{number}@{DOMAIN}");
        let rest = format!("{CONTACT}Event: dialog\nAccept: application/dialog-info+xml\nExpires: 600\n");
        let first = self.outside("SUBSCRIBE", &uri, &uri);
        let second = self.outside("SUBSCRIBE", &uri, &uri);
        self.send_request(&format!("{first}{rest}{EMPTY}"))
            .receive("response=\"401\" auth=\"true\"")
            .send_request(&format!("{second}{rest}[authentication]\n{EMPTY}"))
            .step(&format!("<recv response=\"200\">{LEARN}</recv>"))
            .notified("idle")
    }

    /// From now on answers each NOTIFY, until the test ends.
    pub fn notified_on_and_on(self) -> Self {
        self.step("<label id=\"1\"/>")
            .receive("request=\"NOTIFY\"")
            .step(&format!("<send next=\"1\"><![CDATA[\nSIP/2.0 200 OK\n{ECHO}{EMPTY}\n]]></send>"))
    }

    pub fn hang_up(mut self) -> Self {
        let cseq = self.cseq + 1;
        let bye = self.inside("BYE", cseq);
        self.send_request(&format!("{bye}{EMPTY}")).receive("response=\"200\"")
    }

    /// The far end hangs up.
    pub fn hung_up(self) -> Self {
        self.receive("request=\"BYE\"").send(&format!("SIP/2.0 200 OK\n{ECHO}{EMPTY}"))
    }

    /// Talks for a while.
    pub fn pause(self, milliseconds: u32) -> Self {
        self.step(&format!("<pause milliseconds=\"{milliseconds}\"/>"))
    }
}
