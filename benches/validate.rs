//! Measures how fast files are validated, in MB/s, and what checking types adds for a million rows.
//!
//! `cargo bench --bench validate` writes and reads temporary files of about 300 MB in each format; the first reading
//! warms the page cache. `cargo bench --bench validate -- types` measures only the types.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::io::{BufWriter, Write};
use std::time::Instant;

use tokio_asyncio_bridge::bridge::python::PythonBridge;
use tokio_asyncio_bridge::bridge::python::event_loop::LoopKind;
use tokio_asyncio_bridge::bridge::python::interpreter::{Interpreter, choose};
use tokio_asyncio_bridge::bridge::python::predictor::Request;
use tokio_asyncio_bridge::bridge::{Bridge, Secrets};
use tokio_asyncio_bridge::input::{Format, Parameter, Source, Wanted, validate, validate_until};

const BYTES: usize = 300_000_000;
const TYPED_ROWS: usize = 1_000_000;

fn main() {
    typed();
    if std::env::args().any(|word| word == "types") {
        return;
    }
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

/// Measures a million rows with this many typed columns.
fn typed() {
    let mut file = tempfile::Builder::new().suffix(".csv").tempfile().unwrap();
    let mut writer = BufWriter::new(&mut file);
    writer.write_all(b"question,n,on,tags\n").unwrap();
    for id in 0..TYPED_ROWS {
        writeln!(writer, "What is {id} plus one?,{id},2026-01-02,\"[\"\"a\"\", \"\"b\"\"]\"").unwrap();
    }
    writer.flush().unwrap();
    drop(writer);
    let source = Source::new(file.path(), Format::Csv);
    Interpreter::start(&choose(None)).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _entered = runtime.enter();
    let base = seconds(|| drop(validate(&source, &wanted(&["question"]), 0..u64::MAX).unwrap()));
    println!("{TYPED_ROWS} rows without types: {base:.2} s");
    for parameters in ["n: int", "on: date", "tags: list[str]", "n: int, on: date, tags: list[str]"] {
        let mut code = tempfile::Builder::new().suffix(".py").tempfile().unwrap();
        writeln!(
            code,
            "from datetime import date\nasync def predict(question: str, {parameters}): return ''"
        )
        .unwrap();
        let request = Request::of_spec(format!("{}:predict", code.path().display()), 1);
        let bridge = PythonBridge::start(LoopKind::Asyncio, request, Secrets::default()).unwrap();
        let mut wanted = wanted(&[]);
        wanted.parameters.clone_from(&bridge.describe().parameters);
        let types = bridge.types().unwrap();
        let took =
            seconds(|| drop(validate_until(&source, &wanted, 0..u64::MAX, Some(types), &|| false).unwrap()));
        println!("{TYPED_ROWS} rows with `{parameters}`: {took:.2} s, {:.2} s more", took - base);
        bridge.close(std::time::Duration::from_secs(3));
    }
}

/// The shortest of three runs.
fn seconds(work: impl Fn()) -> f64 {
    let once = |()| {
        let started = Instant::now();
        work();
        started.elapsed().as_secs_f64()
    };
    [(), (), ()].map(once).into_iter().fold(f64::INFINITY, f64::min)
}

fn wanted(parameters: &[&str]) -> Wanted {
    let parameter = |name: &&str| Parameter { name: (*name).to_owned(), required: true, kind: None };
    Wanted { parameters: parameters.iter().map(parameter).collect(), ..Wanted::default() }
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
    let wanted = wanted(&["question"]);
    for _ in 0..3 {
        let started = Instant::now();
        let validated = validate(&source, &wanted, 0..u64::MAX).unwrap();
        let seconds = started.elapsed().as_secs_f64();
        let (rows, speed) = (validated.rows, validated.bytes as f64 / 1e6 / seconds);
        println!("{name}: {rows} rows, {speed:.0} MB/s");
    }
}
