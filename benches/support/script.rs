//! Runs the hand-written script that designs are measured against.

use std::process::Command;

/// Runs `benches/script.py` and returns the two numbers it prints: seconds of the wall and of the processor.
pub(crate) fn script(arguments: &[&str]) -> (f64, f64) {
    let output = Command::new(".venv/bin/python").arg("benches/script.py").args(arguments).output();
    let output = output.expect("`.venv` is missing: run `make setup`");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut numbers = told.split_whitespace().map(|number| number.parse().expect("script.py prints numbers"));
    (numbers.next().expect("the wall"), numbers.next().expect("the processor"))
}
