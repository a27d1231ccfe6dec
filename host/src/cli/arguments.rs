//! What can be typed.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};

use crate::config::KIND_CALL_PARK;
use crate::directory::CallRules;
use crate::near::did_you_mean;

/// A plugin-based SIP feature host: registrar, back-to-back user agent, Call Park, Group Call Pickup.
#[derive(Parser, Clone, PartialEq, Debug)]
#[command(
    name = "switchyard",
    version,
    arg_required_else_help = true,
    propagate_version = true,
    after_help = "Examples:\n  \
        switchyard check                       look over the configuration, the policies and the plugins\n  \
        switchyard run                         start the host\n  \
        switchyard orbit occupants             which calls are parked, and where\n  \
        switchyard call park 7 --parker bob    park the far end of call 7\n\n\
        Verbs other than run, check, policy check, plugin info FILE, cluster certificates, completions and manpage speak to a running host: the one at \
        --admin URL, or the one whose --config FILE is given. If it asks for a token that is not in that file, put the token into \
        SWITCHYARD_TOKEN.\n\
        Exit status: 0 done, 1 refused or failed, 2 wrong usage."
)]
pub(super) struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Args, Clone, PartialEq, Debug)]
pub(super) struct Global {
    /// The configuration file.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "SWITCHYARD_CONFIG",
        default_value = "switchyard.toml",
        help_heading = "Everywhere"
    )]
    pub config: PathBuf,
}

/// Of the verbs that speak to a running host.
#[derive(Args, Clone, PartialEq, Debug)]
pub(super) struct Remote {
    /// The running host's administrative address. Without it, what admin.listen of --config says (and its token, unless
    /// SWITCHYARD_TOKEN has one); without either http://127.0.0.1:8080.
    #[arg(long, global = true, value_name = "URL", env = "SWITCHYARD_ADMIN", help_heading = "Running host")]
    pub admin: Option<String>,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Args, Clone, PartialEq, Debug)]
pub(super) struct Output {
    /// Print JSON instead of a table.
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Subcommand, Clone, PartialEq, Debug)]
pub(super) enum Command {
    /// Start the host.
    #[command(
        after_help = "Example:\n  switchyard run --config /etc/switchyard/switchyard.toml --log-format json\n\n\
        SIGTERM or Ctrl-C drains: new calls and parks are refused, calls live on, for host.drain_max (15m) at most; a second \
        one stops at once."
    )]
    Run(Run),
    /// Look over the configuration, the plugins and the policies, and start nothing.
    Check(Check),
    /// Ranges of orbits, and the calls parked in them.
    Orbit {
        #[command(flatten)]
        remote: Remote,
        #[command(subcommand)]
        verb: OrbitCommand,
    },
    /// Users and their phones.
    User {
        #[command(flatten)]
        remote: Remote,
        #[command(subcommand)]
        verb: UserCommand,
    },
    /// Pools and their hosts: which phase they are in, failover and failback.
    Pool {
        #[command(flatten)]
        remote: Remote,
        #[command(subcommand)]
        verb: PoolCommand,
    },
    /// Calls.
    Call {
        #[command(flatten)]
        remote: Remote,
        #[command(subcommand)]
        verb: CallCommand,
    },
    /// Try a running host or pair of pools with phones and calls of our own.
    Drill {
        #[command(flatten)]
        remote: Remote,
        #[command(subcommand)]
        verb: DrillCommand,
    },
    /// Policies.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Plugins.
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Clusters of hosts.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Write shell completions to standard output.
    #[command(after_help = "Example:\n  switchyard completions bash > /etc/bash_completion.d/switchyard")]
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Write a man page for each command into a folder.
    #[command(after_help = "Example:\n  switchyard manpage /usr/local/share/man/man1")]
    Manpage {
        /// The folder; made if it is not there.
        dir: PathBuf,
    },
}

#[derive(Args, Clone, PartialEq, Debug)]
pub(super) struct Run {
    /// Take the plugins from this folder instead of the configured one.
    #[arg(long, value_name = "DIR")]
    pub plugins: Option<PathBuf>,
    #[command(flatten)]
    pub logging: Logging,
}

#[derive(Args, Clone, PartialEq, Debug)]
pub(super) struct Check {
    #[command(flatten)]
    pub output: Output,
    /// Take the plugins from this folder instead of the configured one.
    #[arg(long, value_name = "DIR")]
    pub plugins: Option<PathBuf>,
}

#[derive(Args, Clone, PartialEq, Debug)]
pub(super) struct Logging {
    /// What to log: a level, or levels per module such as "info,switchyard_host::sip=debug".
    #[arg(long, value_name = "FILTER", env = "RUST_LOG", default_value = "info")]
    pub log: String,
    /// How a log line looks.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Human)]
    pub log_format: LogFormat,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LogFormat {
    /// One line for people.
    Human,
    /// One JSON object per line.
    Json,
}

#[derive(Subcommand, Clone, PartialEq, Debug)]
pub(super) enum OrbitCommand {
    /// List the ranges.
    List,
    /// Add a range.
    #[command(after_help = "Example:\n  switchyard orbit add reception 7200 7219 --pool east")]
    Add {
        /// Its name, for good: a range cannot be renamed.
        name: String,
        /// First number.
        from: String,
        /// Last number.
        to: String,
        /// Which plugin's numbers these are.
        #[arg(long, default_value = KIND_CALL_PARK)]
        kind: String,
        /// The pool that owns it; without it the host's own.
        #[arg(long)]
        pool: Option<String>,
    },
    /// Change a range's numbers, kind or pool.
    #[command(
        group = ArgGroup::new("change").required(true).multiple(true),
        after_help = "Example:\n  switchyard orbit set reception --to 7239"
    )]
    Set {
        /// The range.
        name: String,
        /// First number.
        #[arg(long, group = "change")]
        from: Option<String>,
        /// Last number.
        #[arg(long, group = "change")]
        to: Option<String>,
        /// Which plugin's numbers these are.
        #[arg(long, group = "change")]
        kind: Option<String>,
        /// The pool that owns it.
        #[arg(long, group = "change")]
        pool: Option<String>,
    },
    /// Remove a range; its numbers are free for another.
    Remove {
        /// The range.
        name: String,
        /// Even while calls wait in it.
        #[arg(long)]
        force: bool,
    },
    /// List the calls that wait in orbits.
    Occupants,
    /// Print the ranges as they would stand in the configuration file.
    #[command(after_help = "Example:\n  switchyard orbit export > orbits.toml")]
    Export,
}

#[derive(Subcommand, Clone, PartialEq, Debug)]
pub(super) enum UserCommand {
    /// List the users.
    List,
    /// Show one user and the phones registered.
    Show {
        /// The user.
        name: String,
    },
    /// Add a user.
    #[command(after_help = "Examples:\n  switchyard user add erin --extension 1005 --may-park true\n  \
        pass show sip/erin | switchyard user add erin --password-stdin")]
    Add {
        /// Its name, for good: what phones register with, and others dial.
        name: String,
        /// The pool; without it the host's own.
        #[arg(long)]
        pool: Option<String>,
        #[command(flatten)]
        settings: UserSettings,
        /// Read the password from the first line of standard input instead of asking for it.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Remove a user and its registrations; its calls go on.
    Remove {
        /// The user.
        name: String,
    },
    /// Change a user.
    #[command(
        group = ArgGroup::new("change").required(true).multiple(true).args([
            "may_park", "may_retrieve", "pickup_group", "extension", "display", "rule", "password", "password_stdin",
        ]),
        after_help = "Examples:\n  switchyard user set alice --may-park true --pickup-group '*101'\n  \
            switchyard user set alice --rule forward_no_answer=1004 --rule no_answer_after=15s\n  \
            switchyard user set alice --password"
    )]
    Set {
        /// The user.
        name: String,
        #[command(flatten)]
        settings: UserSettings,
        /// Ask for a new password. It is never an argument: those stand in process lists and shell histories.
        #[arg(long)]
        password: bool,
        /// Read a new password from the first line of standard input.
        #[arg(long, conflicts_with = "password")]
        password_stdin: bool,
    },
    /// Take a user out of the pickup group.
    UnsetPickup {
        /// The user.
        name: String,
    },
}

#[derive(Args, Clone, PartialEq, Debug)]
pub(super) struct UserSettings {
    /// Whether the user may park calls.
    #[arg(long, value_name = "BOOL")]
    pub may_park: Option<bool>,
    /// Whether the user may retrieve parked calls.
    #[arg(long, value_name = "BOOL")]
    pub may_retrieve: Option<bool>,
    /// The number of the pickup group; '' for none.
    #[arg(long, value_name = "NUMBER")]
    pub pickup_group: Option<String>,
    /// The number others dial; '' for none.
    #[arg(long, value_name = "NUMBER")]
    pub extension: Option<String>,
    /// The name shown on phones; '' for none.
    #[arg(long, value_name = "NAME")]
    pub display: Option<String>,
    /// A rule for calls, KEY=VALUE; an empty value takes it away. Keys: forward_always, forward_busy, forward_no_answer,
    /// forward_unregistered, no_answer_after, also_ring, team, delegates, private_number, not_pickable_from.
    #[arg(long, value_name = "KEY=VALUE", value_parser = rule)]
    pub rule: Vec<(String, String)>,
}

/// `forward_busy=1004`. A key alone is more likely half a rule than the wish to take one away.
fn rule(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unzip();
    let key = key.unwrap_or(text).trim();
    if !CallRules::KEYS.contains(&key) {
        return Err(format!("there is no rule {key}{}", did_you_mean(key, CallRules::KEYS)));
    }
    let value = value.ok_or_else(|| format!("expected {key}=VALUE, or {key}= to take it away"))?;
    Ok((key.to_owned(), value.to_owned()))
}

#[derive(Subcommand, Clone, PartialEq, Debug)]
pub(super) enum PoolCommand {
    /// List the pools.
    List {
        /// Also those that were replaced.
        #[arg(long)]
        all: bool,
    },
    /// Show one pool: its phase, its hosts, and the procedure that runs or ran last.
    Show {
        /// The pool.
        name: String,
    },
    /// Have the backup serve the users of a pool, lost or alive.
    #[command(
        after_help = "Examples:\n  switchyard pool failover east --dry-run\n  switchyard pool failover east\n\n\
        Waits and tells each step. The pool named is always the home of the users who are moved."
    )]
    Failover {
        /// The pool whose users are moved.
        name: String,
        #[command(flatten)]
        moving: Moving,
    },
    /// Bring the users of a pool home.
    #[command(after_help = "Example:\n  switchyard pool failback east")]
    Failback {
        /// The pool whose users come home.
        name: String,
        /// Also when the backup is dead (what its users did there meanwhile is lost with it), and when it cannot reach the
        /// hosts of the pool.
        #[arg(long)]
        disaster: bool,
        #[command(flatten)]
        moving: Moving,
    },
    /// Take a host out of service: it passes its users to the next host of its pool.
    #[command(after_help = "Example:\n  switchyard pool drain fe1")]
    Drain {
        /// The host.
        host: String,
    },
    /// Let a drained host serve again.
    Resume {
        /// The host.
        host: String,
    },
    /// Put another pool in the place of one that is gone: its ranges, its users and its part in the pair go there.
    #[command(after_help = "Example:\n  switchyard pool reassign east --to north --users --dry-run\n\n\
        Settings and music are files of the new pool's hosts and do not come along.")]
    Reassign {
        /// The pool that is gone.
        name: String,
        /// The pool in its place.
        #[arg(long, value_name = "POOL")]
        to: String,
        /// Its users, too: needed where it has any.
        #[arg(long)]
        users: bool,
        #[command(flatten)]
        moving: Moving,
    },
}

#[derive(Args, Clone, PartialEq, Debug)]
pub(super) struct Moving {
    /// Tell what each step would do, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Begin, and do not wait for the end.
    #[arg(long)]
    pub no_wait: bool,
    /// Who wants it, for the journal.
    #[arg(
        long,
        value_name = "NAME",
        env = "USER",
        default_value = "an administrator",
        hide_env_values = true
    )]
    pub by: String,
}

#[derive(Subcommand, Clone, PartialEq, Debug)]
pub(super) enum CallCommand {
    /// List the calls.
    List,
    /// Show one call and its legs.
    Show {
        /// The call's id as listed.
        id: u64,
    },
    /// Park the far end of a call.
    #[command(after_help = "Example:\n  switchyard call park 7 --parker bob --orbit 7001")]
    Park {
        /// The call's id as listed.
        id: u64,
        /// Whose parking it is: a user in this call. The other party is parked.
        #[arg(long, value_name = "USER")]
        parker: String,
        /// A certain orbit; without it the policy chooses.
        #[arg(long, value_name = "NUMBER")]
        orbit: Option<String>,
    },
    /// List the calls that ring at users, the longest first.
    Ringing {
        /// Only those of this pickup group.
        #[arg(long, value_name = "NUMBER")]
        group: Option<String>,
    },
    /// Ring a user's phones for a call that rings at somebody else.
    #[command(after_help = "Example:\n  switchyard call pickup 9 --user carol --group '*101'")]
    Pickup {
        /// The call's id as listed.
        id: u64,
        /// Who is to have it.
        #[arg(long, value_name = "USER")]
        user: String,
        /// The group through which it is picked up; without it as by **EXTENSION.
        #[arg(long, value_name = "NUMBER")]
        group: Option<String>,
    },
    /// Ring a user's phone and connect it with a parked call.
    #[command(after_help = "Example:\n  switchyard call retrieve 7001 --user carol")]
    Retrieve {
        /// The orbit.
        number: String,
        /// Whose phone.
        #[arg(long, value_name = "USER")]
        user: String,
        /// The parked call's token: another call that came into the orbit meanwhile is then left alone.
        #[arg(long)]
        token: Option<String>,
    },
    /// End a call.
    Hangup {
        /// The call's id as listed.
        id: u64,
    },
}

/// Of every drill.
#[derive(Args, Clone, PartialEq, Debug)]
pub(super) struct Drilling {
    /// Where the drill's phones find the host, HOST:PORT for UDP; several are used in turn. Without it the host is asked.
    #[arg(long, value_name = "ADDRESS")]
    pub sip: Vec<String>,
    /// How long a phone waits for something, in seconds: 5 to 120. What works takes two at most.
    #[arg(long, value_name = "SECONDS", default_value_t = 8, value_parser = clap::value_parser!(u64).range(5..=120))]
    pub patience: u64,
}

#[derive(Subcommand, Clone, PartialEq, Debug)]
pub(super) enum DrillCommand {
    /// Park a call, listen to its music, retrieve it.
    #[command(after_help = DRILLS)]
    Park(Drilling),
    /// Let a phone ring, and pick its call up from another.
    #[command(after_help = DRILLS)]
    Pickup(Drilling),
    /// Lose a pool, fail over, fail back, and try at each stage what its users can do.
    #[command(after_help = DRILL_FAILOVER)]
    Failover(DrillFailover),
}

const DRILLS: &str = "Users whose names begin with drill- and, for pickup, the numbers *99990 and *99991 are added for the drill \
    and removed at its end, also after Ctrl-C. Nobody else's phone rings.\n\
    Exit status: 0 all as expected, 1 something was not, 2 wrong usage.";

const DRILL_FAILOVER: &str = "Examples:\n  \
    switchyard drill failover east --dry-run\n  \
    switchyard drill failover east --admin http://fw1:8080\n  \
    switchyard drill failover east --admin http://fw1:8080 \\\n    \
    --lose 'ssh fe1 systemctl kill -s KILL switchyard' --restore 'ssh fe1 systemctl start switchyard'\n\n\
    THIS MOVES ALL USERS OF THE POOL, not only the drill's. Without --lose it is a planned failover: calls parked by others are \
    waited for up to the policy's drain_time and end then, unless the policy rescues them, and nobody parks or picks up while \
    users are being moved. With --lose it is a disaster: calls that ring are lost, parked ones, too, unless rescued.\n\n\
    --admin must name a host of the backup: the pool's own hosts are gone in between. Users whose names begin with drill- and a \
    range of pickup groups are added for the drill and removed at its end. If it is interrupted the pool stays where it is: \
    switchyard pool failback brings it home. docs/drill.md tells what the columns mean.\n\
    Exit status: 0 all as expected, 1 something was not, 2 wrong usage.";

#[derive(Args, Clone, PartialEq, Debug)]
pub(super) struct DrillFailover {
    /// The pool that is lost.
    pub pool: String,
    /// A shell command that kills all hosts of the pool.
    #[arg(long, value_name = "COMMAND", requires = "restore")]
    pub lose: Option<String>,
    /// A shell command that starts them again.
    #[arg(long, value_name = "COMMAND", requires = "lose")]
    pub restore: Option<String>,
    /// The policy of the pool says parked_on_outage = "rescue": parked calls are to survive its loss.
    #[arg(long)]
    pub rescue: bool,
    /// How long the pool may take to be noticed as lost, or to be back, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    pub phase_patience: u64,
    /// Print the steps, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub drilling: Drilling,
}

#[derive(Subcommand, Clone, PartialEq, Debug)]
pub(super) enum PolicyCommand {
    /// Look over policy files, and change nothing.
    #[command(after_help = "Example:\n  switchyard policy check policies")]
    Check(PolicyCheck),
    /// Show which policies run.
    Status(Remote),
}

#[derive(Args, Clone, PartialEq, Debug)]
pub(super) struct PolicyCheck {
    #[command(flatten)]
    pub output: Output,
    /// The folder with default.lua and pools/; without it the configured one.
    pub dir: Option<PathBuf>,
    /// Take the plugins, whose sections the policies hold, from this folder instead of the configured one.
    #[arg(long, value_name = "DIR")]
    pub plugins: Option<PathBuf>,
}

#[derive(Subcommand, Clone, PartialEq, Debug)]
pub(super) enum ClusterCommand {
    /// Make the certificates by which the hosts of a cluster know each other.
    #[command(after_help = "Example:\n  switchyard cluster certificates tls fe1 fe2 fe3\n\n\
        The first time this makes a CA: tls/ca.pem and tls/ca.key. Then, and whenever it finds that CA there, it makes a certificate \
        and a key for each host, named as in its host.name: tls/fe1.pem and tls/fe1.key, good for two years, in place of those \
        that may be there.\n\n\
        Each host gets ca.pem and its own two files, and names them in its configuration:\n\n  \
        [cluster]\n  listen = \"tls:10.0.0.1:5071\"\n  cert = \"tls/fe1.pem\"\n  key = \"tls/fe1.key\"\n  ca = \"tls/ca.pem\"\n\n\
        ca.key stays where it is, off the hosts and out of reach: whoever has it can be any host. To renew certificates run \
        this again, copy, and send each host a SIGHUP.")]
    Certificates {
        /// Where the files go; made if it is not there.
        dir: PathBuf,
        /// The hosts, each as its host.name.
        #[arg(value_name = "HOST", required_unless_present = "etcd")]
        hosts: Vec<String>,
        /// Also make etcd-ADDRESS.pem and etcd-ADDRESS.key for an etcd member that hosts reach at this address or DNS name, once for
        /// each member; for store.endpoints with https://.
        #[arg(long, value_name = "ADDRESS")]
        etcd: Vec<String>,
    },
}

#[derive(Subcommand, Clone, PartialEq, Debug)]
pub(super) enum PluginCommand {
    /// List the running host's plugins.
    List(Remote),
    /// Put the newest file of a plugin in the place of the running one; parked calls stay parked.
    #[command(after_help = "Example:\n  switchyard plugin reload call-park\n\n\
        Calls that wait go on with the new file; what is just being parked or fetched ends with the old one. A file that is no \
        plugin, or does not start, changes nothing.")]
    Reload {
        #[command(flatten)]
        remote: Remote,
        /// Its name as listed.
        name: String,
    },
    /// Show what a plugin declares: one of the running host by its name, or a library by its file.
    #[command(
        after_help = "Examples:\n  switchyard plugin info call-park\n  switchyard plugin info ./libcall_park.so"
    )]
    Info {
        #[command(flatten)]
        remote: Remote,
        /// A name, or a file (with a / in it, or ending in .so).
        #[arg(value_name = "NAME|FILE")]
        plugin: String,
    },
}
