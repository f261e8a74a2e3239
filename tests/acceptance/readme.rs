//! The README's commands and predictors are what the program and the repository have.

use std::fs;
use std::path::Path;

use super::support::job::Job;

fn repository(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The text of the fenced blocks of a language.
fn blocks(readme: &str, language: &str) -> Vec<String> {
    let fenced = readme.split("\n```").skip(1).step_by(2);
    let of = fenced.filter_map(|block| block.split_once('\n').filter(|(name, _)| *name == language));
    of.map(|(_, text)| format!("{text}\n")).collect()
}

/// The words of a command line, as far as the README's need quotes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), None);
    for char in line.chars() {
        match (char, quoted) {
            (quote, Some(open)) if quote == open => quoted = None,
            ('"' | '\'', None) => quoted = Some(char),
            (' ', None) => words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty())),
            _ => word.push(char),
        }
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}

#[test]
fn every_block_is_closed_and_no_merge_has_left_its_marks() {
    let readme = repository("README.md");
    assert!(readme.lines().filter(|line| line.starts_with("```")).count().is_multiple_of(2));
    for mark in ["<<<<<<<", "=======", ">>>>>>>"] {
        assert!(!readme.lines().any(|line| line == mark || line.starts_with(&format!("{mark} "))), "{mark}");
    }
}

#[test]
fn every_command_in_the_readme_is_one_the_program_takes() {
    let mut tried = 0;
    for line in blocks(&repository("README.md"), "sh").concat().lines() {
        let Some((_, command)) = line.split_once("tokio-asyncio-bridge ") else { continue };
        let command = command.split(['|', '#']).next().unwrap();
        let mut arguments = words(command);
        // Everything before it is parsed; then the help ends it.
        arguments.push("--help".to_owned());
        let done = Job::new().run(&arguments).expect(0);
        let usage = format!("Usage: tokio-asyncio-bridge {}", arguments[0]);
        assert!(done.stdout.contains(&usage), "{line}: {}", done.stdout);
        tried += 1;
    }
    assert!(tried > 10, "only {tried} commands were found");
}

#[test]
fn every_predictor_in_the_readme_is_one_of_the_samples() {
    let samples = ["echo", "streaming", "blocking", "stateful", "dspy_module"];
    let shown = blocks(&repository("README.md"), "python");
    for sample in samples {
        let code = repository(&format!("data/predictors/{sample}.py"));
        assert!(shown.iter().any(|block| code.ends_with(block)), "{sample}.py is not shown as it is");
    }
    assert_eq!(shown.len(), samples.len(), "the README shows others");
}
