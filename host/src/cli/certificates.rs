//! `switchyard cluster certificates`.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::Failure;
use crate::config::is_certified;
use crate::net::HOST_NAME_MAX;
use crate::runtime::Clock;
use crate::time::Utc;
use crate::transport::link::{Authority, Certified};

/// For everybody to read.
const OPEN: u32 = 0o644;
/// For nobody but the owner.
const SECRET: u32 = 0o600;

/// Makes the CA, if it is not there, and what it signs.
pub(super) fn make(
    dir: &Path,
    hosts: &[String],
    etcd: &[String],
    out: &mut dyn Write,
) -> Result<(), Failure> {
    // All names first, so that a typing error leaves nothing half done.
    for host in hosts {
        if host.len() > HOST_NAME_MAX || !is_certified(host) || host == "ca" {
            return Err(Failure(format!(
                "{host:?} cannot be the name of a host in a cluster: expected letters, digits, \"-\" and \".\", at most \
                 {HOST_NAME_MAX}, and not \"ca\""
            )));
        }
    }
    if let Some(odd) = etcd.iter().find(|address| address.contains(['/', '\0']) || address.is_empty()) {
        return Err(Failure(format!("{odd:?} is neither an address nor a DNS name")));
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| failed(dir, &error))?;
    let now = Clock::start().now().utc;
    let authority = authority(dir, now, out)?;
    let made = |name: &str, certified: Result<Certified, _>| match certified {
        Ok(certified) => write_pair(dir, name, &certified),
        Err(error) => Err(Failure(format!("{name}: {error}"))),
    };
    for host in hosts {
        made(host, authority.host(host, now))?;
        writeln!(
            out,
            "{host}: copy ca.pem, {host}.pem and {host}.key to the host, and name them under [cluster]"
        )?;
    }
    for address in etcd {
        let name = format!("etcd-{address}");
        made(&name, authority.member(address, now))?;
        writeln!(
            out,
            "{name}: for the member's --cert-file and --key-file, with ca.pem for --trusted-ca-file and --client-cert-auth"
        )?;
    }
    Ok(writeln!(out, "Keep {} to yourself: whoever has it can be any host.", dir.join("ca.key").display())?)
}

/// The CA of the folder, a new one if it has none.
fn authority(dir: &Path, now: Utc, out: &mut dyn Write) -> Result<Authority, Failure> {
    let read = |name: &str| match fs::read_to_string(dir.join(name)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(&dir.join(name), &error)),
    };
    match (read("ca.pem")?, read("ca.key")?) {
        (Some(certificate), Some(key)) => Authority::read(&certificate, &key, now)
            .map_err(|error| Failure(format!("{}: {error}", dir.join("ca.pem").display()))),
        (None, None) => {
            let authority = Authority::create(now).map_err(|error| Failure(error.to_string()))?;
            write_pair(dir, "ca", &authority.files())?;
            writeln!(out, "ca: a new CA, in {}", dir.display())?;
            Ok(authority)
        }
        (Some(_), None) => Err(lacks(dir, "ca.key", "ca.pem")),
        (None, Some(_)) => Err(lacks(dir, "ca.pem", "ca.key")),
    }
}

fn lacks(dir: &Path, missing: &str, there: &str) -> Failure {
    let dir = dir.display();
    Failure(format!("{dir} has {there} but not {missing}: put it there, or name another folder for a new CA"))
}

fn write_pair(dir: &Path, name: &str, certified: &Certified) -> Result<(), Failure> {
    write(&dir.join(format!("{name}.key")), &certified.key, SECRET)?;
    write(&dir.join(format!("{name}.pem")), &certified.certificate, OPEN)
}

/// Puts a whole file in the place of one that may be there.
fn write(file: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".new");
    let beside = Path::new(&beside);
    let written = || {
        // One left behind may be readable for others.
        match fs::remove_file(beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut new = OpenOptions::new().write(true).create_new(true).mode(mode).open(beside)?;
        new.write_all(text.as_bytes())?;
        new.sync_all()?;
        fs::rename(beside, file)
    };
    written().map_err(|error| failed(file, &error))
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure(format!("{}: {error}", path.display()))
}
