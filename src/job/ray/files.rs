//! Chooses the files that are sent: the predictor's own package or file, and what it imports of the user's own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ignore::{DirEntry, WalkBuilder};

use super::imports::{Module, Place, above_packages, find, imported};
use super::kept::Kept;
use crate::fs::directory_of;
use crate::job::error::{ErrorKind, Explain as _, JobError};
use crate::report::text::counted;

/// The most that is sent, in bytes.
const MOST: u64 = 100 << 20;
/// What is not sent, by name.
const NOT_SENT: [&str; 7] = [".git", ".gitignore", ".hg", ".svn", ".venv", "__pycache__", "node_modules"];
/// Files by which a directory is known as a virtual environment.
const ENVIRONMENTS: [&str; 2] = ["pyvenv.cfg", "conda-meta"];
/// The largest entries that a refusal names.
const NAMED: usize = 5;

/// Files that are sent, each by its name in the directory that is sent.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Where they are here, and their sizes in bytes.
    chosen: BTreeMap<PathBuf, (PathBuf, u64)>,
}

/// Chooses files.
pub(super) struct Choosing<'a> {
    /// Where modules are looked for.
    places: Vec<Place>,
    /// Files of the user's that are not to be sent.
    kept: &'a Kept,
    files: Files,
    seen: BTreeSet<PathBuf>,
}

impl<'a> Choosing<'a> {
    /// Chooses among the modules that are found in these places.
    pub(super) fn new(places: Vec<Place>, kept: &'a Kept) -> Self {
        Self { places, kept, files: Files::default(), seen: BTreeSet::new() }
    }

    /// Adds a Python file, or the package that it is in, and the modules of the user's own that it imports.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read.
    pub(super) fn add_file(&mut self, file: &Path) -> Result<(), JobError> {
        let above = above_packages(directory_of(file));
        let below = file.strip_prefix(above).unwrap_or(file);
        let package = below.parent().and_then(|package| package.iter().next());
        let sent_as = package.map_or(below, Path::new).to_owned();
        self.add(Module { path: above.join(&sent_as), sent_as })?;
        // It is sent even if Git ignores it.
        self.add_as(file, below).map(drop)
    }

    /// Adds the module of this name, as [`Self::add_file`] does. Returns whether it is found.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be read.
    pub(super) fn add_module(&mut self, name: &str) -> Result<bool, JobError> {
        let found = find(&name.split('.').collect::<Vec<_>>(), &self.places);
        let is_found = found.is_some();
        found.map_or(Ok(()), |module| self.add(module))?;
        Ok(is_found)
    }

    /// Adds a file or a directory under a name of its own, and returns what files these are.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be read.
    pub(super) fn add_as(&mut self, path: &Path, name: &Path) -> Result<Vec<PathBuf>, JobError> {
        let files = self.files_of(path)?;
        for (file, bytes) in &files {
            let below = file.strip_prefix(path).unwrap_or(Path::new(""));
            // Joining nothing would end the name of a file with a slash.
            let name = if below.as_os_str().is_empty() { name.to_owned() } else { name.join(below) };
            self.files.chosen.entry(name).or_insert((file.clone(), *bytes));
        }
        Ok(files.into_iter().map(|(file, _)| file).collect())
    }

    /// The chosen files.
    ///
    /// # Errors
    ///
    /// Fails if they are too many bytes, and names the largest.
    pub(super) fn files(self) -> Result<Files, JobError> {
        let bytes = self.files.bytes();
        if bytes <= MOST {
            return Ok(self.files);
        }
        let text = format!(
            "{} would be sent to the Ray cluster, and at most {} are: {}\nhint: leave out what the predictor does not \
             need by a `.gitignore`, or name a `working_dir` that the nodes have, or a bucket, in `--ray-runtime-env`",
            size(bytes),
            size(MOST),
            self.files.largest().join(", ")
        );
        Err(JobError::new(ErrorKind::Predictor, text))
    }

    fn add(&mut self, first: Module) -> Result<(), JobError> {
        let mut waiting = vec![first];
        while let Some(Module { path, sent_as }) = waiting.pop() {
            if !self.seen.insert(path.clone()) {
                continue;
            }
            for file in self.add_as(&path, &sent_as)? {
                if file.extension().is_some_and(|extension| extension == "py") {
                    // A file that is no text imports nothing.
                    let code = std::fs::read_to_string(&file).unwrap_or_default();
                    waiting.extend(imported(&code).iter().filter_map(|name| find(name, &self.places)));
                }
            }
        }
        Ok(())
    }

    /// The files of a directory that are to be sent, or the file itself, with their sizes.
    fn files_of(&self, path: &Path) -> Result<Vec<(PathBuf, u64)>, JobError> {
        let unreadable =
            || format!("failed to read `{}`, which is to be sent to the Ray cluster", path.display());
        if !path.is_dir() {
            let bytes = path.metadata().explain(ErrorKind::Predictor, path, unreadable)?.len();
            return Ok(vec![(path.to_owned(), bytes)]);
        }
        let mut walk = WalkBuilder::new(path);
        walk.hidden(false).ignore(false).require_git(false).follow_links(true).filter_entry(may_be_sent);
        let mut files = Vec::new();
        for entry in walk.build() {
            // A link that leads nowhere is nothing that a predictor could read.
            let Ok(entry) = entry else { continue };
            let is_file = entry.file_type().is_some_and(|kind| kind.is_file());
            if is_file && !self.kept.has(entry.path()) {
                files.push((entry.path().to_owned(), entry.metadata().map_or(0, |file| file.len())));
            }
        }
        Ok(files)
    }
}

/// Whether what stands in a directory may be sent, judging by its name.
fn may_be_sent(entry: &DirEntry) -> bool {
    if entry.depth() == 0 {
        return true;
    }
    let name = entry.file_name().to_string_lossy();
    let is_environment = || ENVIRONMENTS.iter().any(|file| entry.path().join(file).exists());
    let is_directory = entry.file_type().is_some_and(|kind| kind.is_dir());
    // By a `.gitignore` in the copy, Ray would leave out what was chosen though Git ignores it.
    !(NOT_SENT.contains(&&*name) || name.starts_with(".env") || (is_directory && is_environment()))
}

impl Files {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.chosen.is_empty()
    }

    /// How many there are and how large, such as `3 files (12 kB)`.
    pub(super) fn told(&self) -> String {
        format!("{} ({})", counted(self.chosen.len() as u64, "file"), size(self.bytes()))
    }

    /// Where the file of this name is here.
    pub(super) fn here(&self, name: &Path) -> Option<&Path> {
        self.chosen.get(name).map(|(file, _)| &**file)
    }

    /// The name under which a file is sent.
    pub(super) fn name_of(&self, file: &Path) -> Option<&Path> {
        self.chosen.iter().find(|(_, (here, _))| here == file).map(|(name, _)| &**name)
    }

    /// Copies the files to a directory.
    ///
    /// # Errors
    ///
    /// Fails if one of them cannot be read or written.
    pub(super) fn copy_to(&self, directory: &Path) -> Result<(), JobError> {
        for (name, (file, _)) in &self.chosen {
            let copy = directory.join(name);
            let copied =
                std::fs::create_dir_all(directory_of(&copy)).and_then(|()| std::fs::copy(file, &copy));
            let failed =
                || format!("failed to copy `{}`, which is to be sent to the Ray cluster", file.display());
            copied.explain(ErrorKind::Predictor, file, failed)?;
        }
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.chosen.values().map(|(_, bytes)| bytes).sum()
    }

    /// The largest entries, each with its size: files, and directories of the second level with all that is in them.
    fn largest(&self) -> Vec<String> {
        let mut entries: BTreeMap<PathBuf, u64> = BTreeMap::new();
        for (name, (_, bytes)) in &self.chosen {
            *entries.entry(name.iter().take(2).collect()).or_default() += bytes;
        }
        let mut entries: Vec<_> = entries.into_iter().collect();
        entries.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        entries
            .iter()
            .take(NAMED)
            .map(|(name, bytes)| format!("`{}` ({})", name.display(), size(*bytes)))
            .collect()
    }
}

/// Formats a number of bytes: `812 bytes`, `12 KiB`, `104.9 MiB`.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => counted(bytes, "byte"),
        1_024..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::paths::JobPaths;

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new(files: &[(&str, &str)]) -> Self {
            let tree = Self(tempfile::tempdir().unwrap());
            for (name, text) in files {
                tree.write(name, text);
            }
            tree
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
            std::fs::write(self.path(name), text).unwrap();
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn places(&self) -> Vec<Place> {
            let place = |name: &str| Place { directory: self.path(name), sent_as: name.into() };
            vec![place(""), place("src")]
        }

        fn chosen(&self, kept: &Kept, choose: impl FnOnce(&mut Choosing)) -> Result<Files, JobError> {
            let mut choosing = Choosing::new(self.places(), kept);
            choose(&mut choosing);
            choosing.files()
        }
    }

    fn names(files: &Files) -> Vec<&str> {
        files.chosen.keys().map(|name| name.to_str().unwrap()).collect()
    }

    #[test]
    fn a_file_travels_with_the_modules_of_ones_own_that_it_imports() {
        let tree = Tree::new(&[
            ("app.py", "import json, tools.text\nfrom shared import x\nfrom helpers import y\n"),
            ("helpers.py", "import app\nimport missing\n"),
            ("unused.py", ""),
            ("tools/text.py", ""),
            ("tools/other.py", ""),
            ("src/shared/__init__.py", ""),
            ("src/shared/data/words.txt", ""),
            ("questions.csv", ""),
        ]);
        let kept = Kept::default();
        let files = tree.chosen(&kept, |choosing| choosing.add_file(&tree.path("app.py")).unwrap()).unwrap();
        let expected =
            ["app.py", "helpers.py", "src/shared/__init__.py", "src/shared/data/words.txt", "tools/text.py"];
        assert_eq!(names(&files), expected);
        assert_eq!(files.name_of(&tree.path("tools/text.py")), Some(Path::new("tools/text.py")));
        let to = tempfile::tempdir().unwrap();
        files.copy_to(to.path()).unwrap();
        assert!(expected.iter().all(|name| to.path().join(name).is_file()));
    }

    #[test]
    fn of_a_package_no_secrets_no_environments_and_none_of_the_jobs_files_travel() {
        let not = [
            ".git/config",
            ".env",
            ".env.local",
            "env/pyvenv.cfg",
            "env/bin/python",
            ".venv/x",
            "__pycache__/x.pyc",
            "ui/node_modules/x.js",
            "ignored/x",
            "sub/big.bin",
            "keys.txt",
            "questions.csv",
            "a.csv",
            "a.csv.journal",
            "a.csv.journal.2026-01-01T00.00.00Z",
            "a.csv.report.json",
            "a.csv.report.html",
            "a.csv.input",
            "a.csv.predictions",
            "a.csv.2026-01-01T00.00.00Z",
        ];
        let sent = ["__init__.py", "a.csv.py", "a.py", "data/words.txt", "sub/m.py", ".hidden"];
        let tree = Tree::new(&[("p/.gitignore", "ignored/\n"), ("p/sub/.gitignore", "*.bin\n")]);
        not.iter().chain(&sent).for_each(|name| tree.write(&format!("p/{name}"), ""));
        let own = [&*tree.path("p/questions.csv"), &*tree.path("p/keys.txt")];
        let kept = Kept::of(&own, Some(&JobPaths::of(&tree.path("p/a.csv"))));
        let files = tree.chosen(&kept, |choosing| assert!(choosing.add_module("p.a").unwrap())).unwrap();
        let mut expected: Vec<_> = sent.iter().map(|name| format!("p/{name}")).collect();
        expected.sort();
        let mut chosen = names(&files);
        chosen.sort_unstable();
        assert_eq!(chosen, expected);
    }

    #[test]
    fn too_much_is_refused_with_the_largest_entries() {
        let tree = Tree::new(&[("p/__init__.py", ""), ("p/small.txt", "x")]);
        for (name, bytes) in
            [("p/data/a.bin", 80 << 20), ("p/data/b.bin", 40 << 20), ("p/model.bin", 10 << 20)]
        {
            tree.write(name, "");
            std::fs::File::options().write(true).open(tree.path(name)).unwrap().set_len(bytes).unwrap();
        }
        let kept = Kept::default();
        let refused = tree
            .chosen(&kept, |choosing| assert!(choosing.add_module("p").unwrap()))
            .unwrap_err()
            .to_string();
        assert!(refused.starts_with("130.0 MiB would be sent"), "{refused}");
        assert!(refused.contains("`p/data` (120.0 MiB), `p/model.bin` (10.0 MiB)"), "{refused}");
        assert!(refused.contains("--ray-runtime-env"), "{refused}");
    }
}
