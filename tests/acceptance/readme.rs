//! What the README and the pages of `docs/` show is what the program and the repository have.

use std::fs;
use std::path::Path;

use super::support::job::{Job, called};

fn repository(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The paths of the pages for people, from the root of the repository.
fn pages() -> Vec<String> {
    let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")).unwrap();
    let docs = entries.map(|entry| format!("docs/{}", entry.unwrap().file_name().to_str().unwrap()));
    docs.chain(["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(str::to_owned)).collect()
}

/// The text of the fenced blocks of a language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let fenced = page.split("\n```").skip(1).step_by(2);
    let of = fenced.filter_map(|block| block.split_once('\n').filter(|(name, _)| *name == language));
    of.map(|(_, text)| format!("{text}\n")).collect()
}

/// The words of a command line, as far as those of the pages need quotes.
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

/// What a link's `#fragment` is for each heading of a page.
fn fragments(page: &str) -> Vec<String> {
    let headings = page.lines().filter_map(|line| line.strip_prefix('#'));
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let slug =
        |heading: &str| heading.trim_start_matches(['#', ' ']).chars().filter(kept).collect::<String>();
    headings.map(|heading| slug(heading).to_lowercase().replace(' ', "-")).collect()
}

#[test]
fn every_block_is_closed_and_no_merge_has_left_its_marks() {
    for path in pages() {
        let page = repository(&path);
        assert!(page.lines().filter(|line| line.starts_with("```")).count().is_multiple_of(2), "{path}");
        for mark in ["<<<<<<<", "=======", ">>>>>>>"] {
            let left = page.lines().any(|line| line == mark || line.starts_with(&format!("{mark} ")));
            assert!(!left, "{path}: {mark}");
        }
    }
}

#[test]
fn every_link_leads_to_a_file_and_to_a_heading_in_it() {
    for path in pages() {
        let page = repository(&path);
        for link in page.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") {
                continue;
            }
            let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
            let file = match file {
                "" => path.clone(),
                file => Path::new(&path).with_file_name(file).to_str().unwrap().to_owned(),
            };
            assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(&file).exists(), "{path}: {link}");
            let leads =
                fragment.is_empty() || fragments(&repository(&file)).iter().any(|one| one == fragment);
            assert!(leads, "{path}: {link}");
        }
    }
}

#[test]
fn every_command_that_is_shown_is_one_the_program_takes() {
    let name = called().file_name().unwrap().to_str().unwrap().to_owned();
    let mut tried = 0;
    for path in pages() {
        for line in blocks(&repository(&path), "sh").concat().lines() {
            let Some((_, command)) = line.split_once("tokio-asyncio-bridge ") else { continue };
            let command = command.split(" |").next().unwrap().split('#').next().unwrap();
            let mut arguments = words(command);
            // A process substitution is the path of a pipe.
            if let Some(at) = arguments.iter().position(|word| word.starts_with("<(")) {
                let end = arguments.iter().position(|word| word.ends_with(')')).unwrap();
                arguments.splice(at..=end, ["pipe".to_owned()]);
            }
            // Everything before it is parsed; then the help ends it.
            arguments.push("--help".to_owned());
            let done = Job::new().run(&arguments).expect(0);
            let usage = format!("Usage: {name} {}", arguments[0]);
            assert!(done.stdout.contains(&usage), "{path}: {line}: {}", done.stdout);
            tried += 1;
        }
    }
    assert!(tried > 10, "only {tried} commands were found");
}

#[test]
fn every_fault_in_the_table_has_a_test_of_that_name() {
    let table = repository("docs/faults.md");
    let names: Vec<_> = table.lines().filter_map(|line| line.strip_suffix("` |")?.rsplit_once('`')).collect();
    assert!(names.len() > 20, "only {} tests were found", names.len());
    for (_, name) in names {
        if let Some(file) = name.strip_prefix("cargo test --test ") {
            repository(&format!("tests/{file}.rs"));
            continue;
        }
        let (module, test) = name.rsplit_once("::").unwrap_or((name, ""));
        // Of the library where it stands in a file of tests there.
        let root = if module.ends_with("::tests") { "src" } else { "tests/acceptance" };
        let code = repository(&format!("{root}/{}.rs", module.replace("::", "/")));
        let code = code.replace("\n    ", "\n");
        assert!(code.contains(&format!("#[test]\nfn {test}")), "no test is named {name}");
    }
}

#[test]
fn every_predictor_in_the_readme_is_one_of_the_samples_and_the_predictors_page_shows_them_all() {
    let samples = ["echo", "streaming", "blocking", "stateful", "dspy_module"];
    let samples = samples.map(|name| repository(&format!("data/predictors/{name}.py")));
    let page = blocks(&repository("docs/predictors.md"), "python");
    for sample in &samples {
        assert!(page.iter().any(|block| sample.ends_with(block)), "this is not shown as it is: {sample}");
    }
    let blocks = blocks(&repository("README.md"), "python");
    // The lines that call the package are run by `tests/wheel/test_examples.py`.
    for block in blocks.iter().filter(|block| !block.contains("import tokio_asyncio_bridge")) {
        assert!(samples.iter().any(|sample| sample.ends_with(block.as_str())), "this is no sample: {block}");
    }
}
