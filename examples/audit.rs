//! Checks answers that somebody may have edited. If anything is wrong with them, it writes the answers that the journal
//! holds to another file.
//!
//! ```sh
//! cargo run --example audit -- data/questions.csv questions.answers.csv recorded.csv
//! ```
//!
//! It calls nothing, starts no Python, and may run beside the job.
#![allow(clippy::print_stdout, reason = "an example to read")]

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use tokio_asyncio_bridge::job::export::export;
use tokio_asyncio_bridge::job::spec::FieldPatch;
use tokio_asyncio_bridge::job::verify::{Reading, verify};
use tokio_asyncio_bridge::job::{Control, Signal};

/// For how long it may take, however large the files are.
const LIMIT: Duration = Duration::from_secs(600);

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [input, answers, copy] = [0, 1, 2].map(|at| words.get(at).map(Path::new));
    let (Some(input), Some(answers), Some(copy)) = (input, answers, copy) else {
        return Err("usage: audit INPUT ANSWERS COPY".into());
    };

    let control = Control::new();
    let stop = control.clone();
    std::thread::spawn(move || {
        std::thread::sleep(LIMIT);
        stop.stop(Signal::Terminate);
    });

    let audit = verify(input, answers, &Reading::default(), &mut (), &control)?;
    println!("{} rows, faults: {}", audit.findings.rows, audit.faults());
    if audit.faults() > 0 {
        println!("lines with an altered answer: {:?}", audit.findings.altered.first);
        let exported = export(answers, Some(copy), FieldPatch::default(), false, &mut (), &control)?;
        println!("the answers as they were recorded: {}", exported.answers.display());
    }
    Ok(())
}
