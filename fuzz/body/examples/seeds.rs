//! Writes the seeds as files for cargo-fuzz: `fuzz/corpus/TARGET/NUMBER`.

use std::fs;
use std::path::Path;

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("corpus");
    for target in body::TARGETS {
        let directory = corpus.join(target.name);
        fs::create_dir_all(&directory)?;
        for (number, bytes) in (target.seeds)().into_iter().enumerate() {
            fs::write(directory.join(number.to_string()), bytes)?;
        }
    }
    Ok(())
}
