//! Every file of every corpus, once: what was found stays mended, with any toolchain.

use std::path::Path;

fn replay(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!files.is_empty(), "{}", folder.display());
    for file in files {
        println!("{}", file.display());
        let data = std::fs::read(&file).unwrap();
        target(&data);
        // And what is nearly it.
        for at in 0..data.len().min(400) {
            target(&data[..at]);
            let mut damaged = data.clone();
            damaged[at] ^= 0x15;
            target(&damaged);
        }
    }
}

macro_rules! corpora {
    ($($name:ident)*) => { $(
        #[test]
        fn $name() {
            replay(stringify!($name), switchyard_fuzz::$name);
        }
    )* };
}

corpora! { message sdp uri digest framing policy plugin_abi }

#[test]
fn what_the_fuzzed_plugin_says_reaches_the_host() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/plugin_abi/each");
    assert!(switchyard_fuzz::commands_of(&std::fs::read(corpus).unwrap()) > 3);
}
