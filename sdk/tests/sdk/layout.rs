//! A C compiler lays the structs of `switchyard.h` out as rustc does.

use std::fmt::Write;
use std::mem::offset_of;
use std::path::Path;
use std::process::Command;

use switchyard_sdk::abi::{
    CallV1, Event, HostTable, LogV1, MetricsV1, OrbitV1, PluginEntry, PolicyV1, RingingV1, Str, TimerV1,
};

/// C name, size, and the fields with their offsets.
struct Layout {
    c: &'static str,
    size: usize,
    fields: Vec<(&'static str, usize)>,
}

macro_rules! layouts {
    ($($rust:ident as $c:ident { $($field:ident),* $(,)? })*) => {
        vec![$(Layout {
            c: stringify!($c),
            size: size_of::<$rust>(),
            fields: {
                // No field may be left out here.
                #[expect(clippy::unneeded_field_pattern, reason = "the compiler checks the list")]
                fn _complete(it: $rust) { let $rust { $($field: _),* } = it; }
                vec![$((stringify!($field), offset_of!($rust, $field))),*]
            },
        }),*]
    };
}

fn layouts() -> Vec<Layout> {
    layouts! {
        Str as sy_str { ptr, len }
        PluginEntry as sy_plugin_entry {
            magic, abi_version, size, name, version, manifest, unwinds, reserved, create, destroy, event,
        }
        Event as sy_event {
            size, kind, token, flow, code, sip_status, now_ns, now_utc_ms, payload,
        }
        HostTable as sy_host_table { size, abi_version, extension, withdraw, flow_end, wake }
        CallV1 as sy_call_v1 { size, reserved, play, join, ring, release, watch, accept, refuse }
        OrbitV1 as sy_orbit_v1 {
            size, reserved, reserve, commit, save, claim, claimed, settled, free, unclaim,
        }
        RingingV1 as sy_ringing_v1 { size, reserved, list, take, over, tell }
        PolicyV1 as sy_policy_v1 { size, reserved, settings, decide }
        TimerV1 as sy_timer_v1 { size, reserved, at }
        LogV1 as sy_log_v1 { size, reserved, log }
        MetricsV1 as sy_metrics_v1 { size, reserved, count }
    }
}

#[test]
fn c_and_rust_lay_out_the_tables_alike() {
    let layouts = layouts();
    let (mut program, mut expected) =
        (String::from("#include <stdio.h>\n#include \"switchyard.h\"\n"), String::new());
    program.push_str("int main(void) {\n");
    for Layout { c, size, fields } in &layouts {
        writeln!(program, "    printf(\"{c} %zu\\n\", sizeof({c}));").unwrap();
        writeln!(expected, "{c} {size}").unwrap();
        for (field, offset) in fields {
            writeln!(program, "    printf(\"{c}.{field} %zu\\n\", offsetof({c}, {field}));").unwrap();
            writeln!(expected, "{c}.{field} {offset}").unwrap();
        }
    }
    program.push_str("    printf(\"%llx %d\\n\", (unsigned long long)SY_MAGIC, SY_STATUS_PANICKED);\n");
    writeln!(expected, "{:x} {}", switchyard_sdk::abi::MAGIC, switchyard_sdk::abi::status::PANICKED).unwrap();
    program.push_str("    return 0;\n}\n");

    let dir = tempfile::tempdir().unwrap();
    let (source, binary) = (dir.path().join("layout.c"), dir.path().join("layout"));
    std::fs::write(&source, program).unwrap();
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
    let compiled = Command::new("cc")
        .args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-I"])
        .args([&include, &source])
        .arg("-o")
        .arg(&binary)
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let printed = Command::new(&binary).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&printed.stdout), expected);
}
