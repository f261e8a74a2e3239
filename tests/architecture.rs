//! Checks the layers that `src/lib.rs` describes: each module uses only modules of its own layer and of those below,
//! and no files use each other in a circle.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The modules of each layer, from 1 upwards, as the map in `src/lib.rs` has them.
const LAYERS: [&[&str]; 7] = [
    &["row", "call", "outcome", "usage", "error", "matching", "prompt", "selection", "fs", "environment"],
    &["event", "observe", "policy", "secret"],
    &["input", "output", "journal", "bridge", "local_model"],
    &["engine", "stats"],
    &["run", "report"],
    &["job"],
    &["cli", "main", "lib"],
];

/// The module path of a file, without `crate`, such as `["journal", "record"]`.
type Module = Vec<String>;

struct Sources {
    /// The text of each file, without comments and tests.
    files: BTreeMap<Module, String>,
}

impl Sources {
    fn read() -> Self {
        let mut sources = Self { files: BTreeMap::new() };
        sources.add(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &[]);
        sources
    }

    fn of(files: &[(&str, &str)]) -> Self {
        let module = |path: &str| path.split("::").map(str::to_owned).collect();
        Self { files: files.iter().map(|(path, text)| (module(path), (*text).to_owned())).collect() }
    }

    fn add(&mut self, directory: &Path, parent: &[String]) {
        for path in directory.read_dir().unwrap().map(|entry| entry.unwrap().path()) {
            let module = [parent, &[path.file_stem().unwrap().to_str().unwrap().to_owned()]].concat();
            if path.is_dir() {
                self.add(&path, &module);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
                let code: String =
                    text.lines().map(|line| line.split("//").next().unwrap().to_owned() + "\n").collect();
                let is_mod = module.last().is_some_and(|name| name == "mod");
                self.files.insert(if is_mod { parent.to_vec() } else { module }, code);
            }
        }
    }

    /// The files that a file names by `crate::`, `super::`, `self::` or the name of a child. Re-exported names are
    /// followed to their files.
    fn used_by(&self, module: &Module) -> BTreeSet<Module> {
        let text = &self.files[module];
        let mut used = BTreeSet::new();
        let below = self.files.keys().filter_map(|file| file.strip_prefix(&module[..]));
        let children = below.filter(|below| below.len() == 1).map(|child| format!("{}::", child[0]));
        let roots = ["crate::", "super::", "self::"].map(str::to_owned);
        for root in roots.into_iter().chain(children) {
            for (at, _) in text.match_indices(&root) {
                // `pub(in crate::engine)` uses nothing: it says who may use what.
                let is_visibility = text[..at].ends_with("pub(in ");
                let before = text[..at].chars().next_back();
                if !is_visibility && before.is_none_or(|c| !(c.is_alphanumeric() || c == '_' || c == ':')) {
                    used.extend(paths(&text[at..]).0.iter().map(|path| self.file_of(module, path)));
                }
            }
        }
        used.retain(|other| other != module && self.files.contains_key(other));
        used
    }

    /// Imports of a module of a higher layer.
    fn upward(&self) -> Vec<String> {
        let upward = self.files.keys().flat_map(|file| {
            let used = self.used_by(file).into_iter().filter(|used| layer(&used[0]) > layer(&file[0]));
            used.map(|used| format!("{} uses {}", file.join("::"), used.join("::")))
        });
        upward.collect()
    }

    /// The files that use each other in circles, a text for each group.
    fn circles(&self) -> BTreeSet<String> {
        let direct: BTreeMap<_, _> = self.files.keys().map(|file| (file, self.used_by(file))).collect();
        let mut reached = direct.clone();
        loop {
            let further: BTreeMap<_, BTreeSet<_>> = reached
                .iter()
                .map(|(file, used)| {
                    (*file, used.iter().flat_map(|next| &reached[next]).chain(used).cloned().collect())
                })
                .collect();
            if further == reached {
                break;
            }
            reached = further;
        }
        let circle = |file: &Module| {
            let members = reached[file].iter().filter(|other| reached[*other].contains(file));
            members.map(|member| member.join("::")).collect::<Vec<_>>().join(" ")
        };
        direct.keys().map(|file| circle(file)).filter(|circle| !circle.is_empty()).collect()
    }

    /// The file that defines the item at a path.
    fn file_of(&self, from: &Module, path: &[String]) -> Module {
        let mut path = path.iter().peekable();
        let mut base = from.clone();
        while let Some(root) = path.next_if(|name| ["crate", "super", "self"].contains(&name.as_str())) {
            match root.as_str() {
                "crate" => base.clear(),
                "super" => drop(base.pop()),
                _ => {}
            }
        }
        while let Some(name) =
            path.next_if(|name| self.files.contains_key(&[&base[..], &[(*name).clone()]].concat()))
        {
            base.push(name.clone());
        }
        path.next().and_then(|name| self.re_exported(&base, name)).unwrap_or(base)
    }

    /// The file below `module` that defines `name`, if `module` re-exports it with `pub use child::name`.
    fn re_exported(&self, module: &Module, name: &str) -> Option<Module> {
        let text = self.files.get(module)?;
        let exports = text.match_indices("use ").flat_map(|(at, _)| paths(&text[at + 4..]).0);
        let mut exports =
            exports.filter(|path| path.len() > 1 && path.last().is_some_and(|last| last == name));
        exports.find_map(|path| {
            let path = path.strip_prefix(&["self".to_owned()]).unwrap_or(&path);
            let child = [&module[..], &path[..1]].concat();
            self.files.contains_key(&child).then(|| self.file_of(&child, &path[1..]))
        })
    }
}

/// The paths in a use-tree such as `a::{b, c::D}`, and the text after the tree.
fn paths(text: &str) -> (Vec<Module>, &str) {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        let mut all = Vec::new();
        while !rest.trim_start().starts_with('}') && !rest.trim().is_empty() {
            let (some, after) = paths(rest);
            all.extend(some);
            rest = after.find([',', '}']).map_or("", |at| after[at..].trim_start_matches(','));
        }
        return (all, rest.trim_start().strip_prefix('}').unwrap_or(rest));
    }
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let name = vec![name.to_owned()];
    match rest.strip_prefix("::") {
        Some(rest) => {
            let (below, rest) = paths(rest);
            (below.into_iter().map(|path| [&name[..], &path].concat()).collect(), rest)
        }
        None => (vec![name], rest),
    }
}

fn layer(module: &str) -> usize {
    let layer = LAYERS.iter().position(|modules| modules.contains(&module));
    layer.unwrap_or_else(|| panic!("`{module}` has no layer: add it here and to the map in `src/lib.rs`"))
}

#[test]
fn every_module_uses_only_its_own_layer_and_those_below() {
    let upward = Sources::read().upward();
    assert!(upward.is_empty(), "{}", upward.join("\n"));
}

#[test]
fn an_import_that_points_up_is_found() {
    let sources = Sources::of(&[
        ("outcome", ""),
        ("policy", "mod pace;"),
        ("input", "mod csv; mod text;"),
        ("job", "mod run;"),
        ("policy::pace", "use crate::input::csv::Row;"),
        ("input::csv", "use crate::outcome::Outcome; use super::text::Text;"),
        ("input::text", "fn run() { super::super::job::run::run() }"),
        ("job::run", "use crate::{policy::pace::Pace, input::csv};"),
    ]);
    assert_eq!(sources.upward(), ["input::text uses job::run", "policy::pace uses input::csv"]);
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let circles = Sources::read().circles();
    assert!(circles.is_empty(), "{circles:?}");
}

#[test]
fn a_circle_is_found() {
    let sources = Sources::of(&[
        ("input", "pub use self::csv::Row; mod csv; mod text;"),
        ("input::csv", "use super::text::Text;"),
        ("input::text", "use crate::output::Blocks;"),
        ("output", "use crate::input::Row;"),
        ("journal", "use crate::output::Blocks;"),
    ]);
    assert_eq!(sources.circles(), ["input::csv input::text output".to_owned()].into());
}

#[test]
fn the_pages_of_the_journal_and_of_the_python_bridge_list_every_file() {
    for folder in ["src/journal", "src/bridge/python"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let page = std::fs::read_to_string(folder.join("mod.rs")).unwrap();
        // Python leaves a folder of its own beside files that it has imported.
        let files =
            folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
        for file in files {
            let name = file.file_name().unwrap().to_str().unwrap();
            let listed =
                page.lines().any(|line| line.starts_with("//! |") && line.contains(&format!("`{name}`")));
            assert!(listed || name == "mod.rs", "{name} has no line on the page of {}", folder.display());
        }
    }
}

/// Words that would fit many types. Each names one.
const OF_ONE_TYPE: [&str; 9] =
    ["Usage", "Record", "Run", "Outcome", "Header", "Batch", "Rows", "Found", "State"];

#[test]
fn a_word_that_would_fit_many_types_names_one() {
    let sources = Sources::read();
    for name in OF_ONE_TYPE {
        let defines = |text: &str| {
            ["struct", "enum", "trait", "type"].iter().any(|kind| {
                let definition = format!("{kind} {name}");
                text.match_indices(&definition).any(|(at, found)| {
                    !text[at + found.len()..]
                        .starts_with(|after: char| after.is_alphanumeric() || after == '_')
                })
            })
        };
        let of: Vec<_> = sources
            .files
            .iter()
            .filter(|(_, text)| defines(text))
            .map(|(module, _)| module.join("::"))
            .collect();
        assert_eq!(of.len(), 1, "{name}: {of:?}");
    }
}

/// What only the command line may do: read options from the environment, handle signals, end the process, change what
/// all threads share, and use the process's standard streams.
const OF_THE_PROCESS: [&str; 18] = [
    "args_os",
    "env::args",
    "environment::variable",
    "env::set_var",
    "set_current_dir",
    "process::exit",
    "process::abort",
    "panic::set_hook",
    "tracing_subscriber",
    "tokio::signal",
    "io::stdout",
    "io::stderr",
    "print!",
    "println!",
    "eprint!",
    "eprintln!",
    "dup2",
    "sigaction",
];

/// The exceptions, each with its reason.
const ALLOWED: [(&str, &str); 8] = [
    // Every variable that looks like a key holds a secret, whoever uses it.
    ("secret", "environment::variable"),
    // The user names variables whose values are to be sent.
    ("job::ray::variables", "environment::variable"),
    // Finds the active virtual environment as Python itself does.
    ("bridge::python::which", "environment::variable"),
    // The option itself asks for the variable of a scheduler.
    ("job::spec::shard", "environment::variable"),
    // Runs on the process's first thread, and passes on the exit code of the command line.
    ("bridge::python::main_thread", "process::exit"),
    // Ends a forked child, which must not go on as a second run.
    ("bridge::python::forked", "process::abort"),
    // A worker's standard input is the socket, and not what the predictor reads.
    ("bridge::workers::child", "dup2"),
    // Ends a worker whose coordinator is gone, if even a SIGKILL does not.
    ("bridge::lease", "process::abort"),
];

#[test]
fn only_the_command_line_does_what_concerns_the_whole_process() {
    let above = layer("cli");
    let mut faults = Vec::new();
    for (module, text) in Sources::read().files.iter().filter(|(module, _)| layer(&module[0]) < above) {
        let module = module.join("::");
        for word in OF_THE_PROCESS {
            let found = text.match_indices(word).any(|(at, _)| {
                !text[..at]
                    .chars()
                    .next_back()
                    .is_some_and(|before| before.is_alphanumeric() || before == '_')
            });
            if found && !ALLOWED.contains(&(&*module, word)) {
                faults.push(format!("{module} uses {word}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What reads the environment, as the start of a program does too.
const OF_THE_ENVIRONMENT: [&str; 5] =
    ["env::var", "env::temp_dir", "tempfile::tempdir()", ".spawn()", ".output()"];

/// These do it while no Python code can change it.
const LOCKED: [&str; 2] = ["environment", "cli::command::env_file"];

#[test]
fn the_environment_is_read_while_no_python_code_can_change_it() {
    let mut faults = Vec::new();
    for (module, text) in &Sources::read().files {
        let (is_test, module) = (module.last().is_some_and(|name| name == "tests"), module.join("::"));
        if !is_test && !LOCKED.contains(&&*module) {
            let found = OF_THE_ENVIRONMENT.iter().filter(|word| text.contains(*word));
            faults.extend(found.map(|word| format!("{module} uses {word}")));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn only_the_command_line_has_errors_without_a_type() {
    let sources = Sources::read();
    let below = sources.files.iter().filter(|(module, _)| layer(&module[0]) < layer("cli"));
    let faults: Vec<_> =
        below.filter(|(_, text)| text.contains("anyhow")).map(|(module, _)| module.join("::")).collect();
    assert!(faults.is_empty(), "these use anyhow: {}", faults.join(", "));
}
