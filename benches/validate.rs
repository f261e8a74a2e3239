//! How fast a file is validated: generates a temporary file of each format and prints MB/s. Not a statistical benchmark.
//!
//! `cargo bench --bench validate` writes and reads some 300 MB a format; the first reading warms the page cache.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::io::{BufWriter, Write};
use std::time::Instant;

use tokio_asyncio_bridge::input::{Format, Parameter, Source, Wanted, validate};

const BYTES: usize = 300_000_000;

fn main() {
    let question = "Which river is longer, the Nile or the Amazon, and who measured it?";
    measure("csv, short rows", Format::Csv, "id,question,lang\n", &|id| {
        format!("{id},What is {id} plus one?,en\n")
    });
    measure("csv, quoted", Format::Csv, "id,question,lang\n", &|id| {
        format!("{id},\"{question} ({id})\",en\n")
    });
    measure("csv, long quoted", Format::Csv, "id,question\n", &|id| {
        format!("{id},\"{}\"\n", "A \"\"line\"\", and\nanother of Zürich. ".repeat(50))
    });
    measure("jsonl, short rows", Format::Jsonl, "", &|id| {
        format!("{{\"id\": {id}, \"question\": \"{question}\", \"lang\": \"en\"}}\n")
    });
    measure("jsonl, long rows", Format::Jsonl, "", &|id| {
        format!(
            "{{\"id\": {id}, \"question\": \"{}\"}}\n",
            "A \\\"line\\\", and\\nanother of Zürich. ".repeat(50)
        )
    });
}

fn measure(name: &str, format: Format, header: &str, row: &dyn Fn(usize) -> String) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let mut writer = BufWriter::new(&mut file);
    writer.write_all(header.as_bytes()).unwrap();
    let mut written = 0;
    for id in 0.. {
        let row = row(id);
        writer.write_all(row.as_bytes()).unwrap();
        written += row.len();
        if written > BYTES {
            break;
        }
    }
    writer.flush().unwrap();
    drop(writer);
    let source = Source::new(file.path(), format);
    let parameters = vec![Parameter { name: "question".to_owned(), required: true }];
    let wanted = Wanted { parameters, ..Wanted::default() };
    for _ in 0..3 {
        let started = Instant::now();
        let validated = validate(&source, &wanted, 0..u64::MAX).unwrap();
        let seconds = started.elapsed().as_secs_f64();
        let (rows, speed) = (validated.rows, validated.bytes as f64 / 1e6 / seconds);
        println!("{name}: {rows} rows, {speed:.0} MB/s");
    }
}
