//! Measures designs in turn, so that a busy machine is unfair to none, and prints one table of medians and ratios.

use std::process::Command;

/// Times each is measured.
pub(crate) const ROUNDS: usize = 5;

/// One design: its name and what measures it once, given a column, in microseconds a row.
pub(crate) type Design<'a> = (&'static str, Box<dyn Fn(&Column) -> f64 + 'a>);

/// What all designs are measured on.
pub(crate) struct Column {
    /// `asyncio` or `uvloop`.
    pub(crate) event_loop: &'static str,
    /// A function of `benches/script.py`.
    pub(crate) predictor: &'static str,
}

/// Measures every design on every column and prints the table; ratios are to the design `base`.
pub(crate) fn compare(title: &str, base: usize, columns: &[Column], designs: &[Design]) {
    let medians: Vec<Vec<f64>> = columns.iter().map(|column| medians(column, designs)).collect();
    println!("\n{title}");
    println!("median of {ROUNDS}, measured in turn; in brackets: times `{}`\n", designs[base].0);
    let heads =
        columns.iter().map(|column| format!("{:>22}", format!("{} {}", column.event_loop, column.predictor)));
    println!("{:32}{}", "", heads.collect::<String>());
    for (i, (name, _)) in designs.iter().enumerate() {
        let cells = medians.iter().map(|of| format!("{:>14.2} ({:>5.2})", of[i], of[i] / of[base]));
        println!("{name:32}{}", cells.collect::<String>());
    }
}

fn medians(column: &Column, designs: &[Design]) -> Vec<f64> {
    let mut figures = vec![Vec::new(); designs.len()];
    for _ in 0..ROUNDS {
        for ((_, measure), figures) in designs.iter().zip(&mut figures) {
            figures.push(measure(column));
        }
    }
    let median = |mut figures: Vec<f64>| {
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    figures.into_iter().map(median).collect()
}

/// Runs `benches/script.py` and returns what it prints.
pub(crate) fn script(arguments: &[&str]) -> String {
    let output = Command::new(".venv/bin/python").arg("benches/script.py").args(arguments).output();
    let output = output.expect("`.venv` is missing: run `make setup`");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
