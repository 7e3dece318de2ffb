//! Replays what the search found: every committed input of every target, and the seeds that follow from our tables.

use std::path::Path;

use freehold_fuzz::{TARGETS, seeds};

#[test]
fn every_known_input_keeps_every_promise() {
    for (name, run) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let mut files: Vec<_> = std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        assert!(!files.is_empty(), "{name} has no corpus");
        for file in &files {
            println!("{}", file.display());
            run(&std::fs::read(file).unwrap());
        }
        let seeds = seeds(name);
        assert!(!seeds.is_empty(), "{name} has no seeds");
        for seed in &seeds {
            println!("{}", String::from_utf8_lossy(seed));
            run(seed);
        }
    }
}
