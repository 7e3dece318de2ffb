//! Writes a target's seeds into a folder, a file each, for the search to begin with.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [target, folder] = arguments.as_slice() else {
        eprintln!("usage: seeds TARGET FOLDER");
        return ExitCode::from(2);
    };
    for (number, seed) in freehold_fuzz::seeds(target).iter().enumerate() {
        let file = PathBuf::from(folder).join(format!("seed-{number}"));
        if let Err(error) = std::fs::write(&file, seed) {
            eprintln!("could not write {}: {error}", file.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
