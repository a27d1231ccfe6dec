//! Programs that run beside a test, and patience with them.

use std::fmt::Write as _;
use std::io::{BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{panicking, sleep};
use std::time::Duration;

/// How often [`wait_for`] looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Some ten times what the slowest step took while both cores were busy with other things.
const PATIENCE: Duration = Duration::from_secs(90);

/// Looks until there is something to see.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..PATIENCE.as_millis() / LOOK_EVERY.as_millis() {
        if let Some(found) = look() {
            return found;
        }
        sleep(LOOK_EVERY);
    }
    panic!("waited {PATIENCE:?} in vain for {what}")
}

/// A running program. Ends with the test; if the test fails, what it printed is printed.
pub struct Program {
    name: String,
    child: Child,
    said: Arc<Mutex<Vec<u8>>>,
    exit: Option<ExitStatus>,
}

impl Program {
    /// Starts `command`, which the Debian package `package` brings (empty: it is ours).
    pub fn start(name: &str, package: &str, command: &mut Command) -> Self {
        let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = started.unwrap_or_else(|error| {
            let program = command.get_program().display();
            match package {
                "" => panic!("{program}: {error}"),
                _ => panic!(
                    "{program}: {error}. It is in the Debian package {package}: apt-get install {package}"
                ),
            }
        });
        let said = Arc::<Mutex<Vec<u8>>>::default();
        collect(child.stdout.take().unwrap(), Arc::clone(&said));
        collect(child.stderr.take().unwrap(), Arc::clone(&said));
        Self { name: name.to_owned(), child, said, exit: None }
    }

    /// What it printed so far.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.said.lock().unwrap()).into_owned()
    }

    /// Its exit status, if it has ended.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.exit.is_none() {
            self.exit = self.child.try_wait().unwrap();
        }
        self.exit
    }

    /// Waits for its end.
    pub fn exit(&mut self) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        wait_for(&what, || self.ended())
    }

    /// Sends a signal by its name: `TERM`.
    pub fn signal(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success(), "{kill}");
    }

    /// `kill -9`: no time for last words.
    pub fn kill(&mut self) {
        if self.ended().is_none() {
            self.child.kill().unwrap();
            self.exit = Some(self.child.wait().unwrap());
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let ended = self.ended();
        let _ = self.child.kill();
        let _ = self.child.wait();
        if panicking() {
            let state = ended.map_or("running".to_owned(), |status| status.to_string());
            eprintln!("──── {} ({state}) ────\n{}", self.name, printable(&self.said()));
        }
    }
}

fn collect(source: impl Read + Send + 'static, said: Arc<Mutex<Vec<u8>>>) {
    std::thread::spawn(move || {
        let mut source = BufReader::new(source);
        let mut some = [0; 4096];
        while let Ok(count @ 1..) = source.read(&mut some) {
            said.lock().unwrap().extend_from_slice(&some[..count]);
        }
    });
}

/// Without the control characters of programs that draw screens.
pub fn printable(text: &str) -> String {
    let mut shown = String::new();
    for character in text.chars() {
        match character {
            '\n' | '\t' => shown.push(character),
            '\r' => {}
            control if control.is_control() => {
                let _ = write!(shown, "{}", control.escape_default());
            }
            other => shown.push(other),
        }
    }
    shown
}
