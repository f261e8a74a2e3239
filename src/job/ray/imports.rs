//! Finds the modules of the user's own that a Python file imports, without running it.

use std::path::{Path, PathBuf};

/// Where modules are looked for: a directory, and its name in the directory that is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The directory here.
    pub(super) directory: PathBuf,
    /// Its name there; empty for the directory that is sent itself.
    pub(super) sent_as: PathBuf,
}

/// What a module is imported from: a file, or the directory of a package with all that is in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Module {
    /// Where it is here.
    pub(super) path: PathBuf,
    /// Its name in the directory that is sent.
    pub(super) sent_as: PathBuf,
}

/// The names that may be imported, as dotted paths in parts. The last part may be something within a module. What a
/// package imports from itself by a relative name is left out. A line of a docstring may look like an import; then a
/// name is returned that nobody imports.
pub(super) fn imported(code: &str) -> Vec<Vec<&str>> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices("import") {
        let start = code[..at].rfind(['\n', ';']).map_or(0, |end| end + 1);
        let is_joined = code[..start].ends_with("\\\n");
        let before = code[start..at].rsplit(": ").next().unwrap_or_default().trim();
        let rest = &code[at + "import".len()..];
        if rest.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        if let Some(module) = before.strip_prefix("from ") {
            names.extend(listed(rest).map(|name| parts(module).chain(parts(name)).collect()));
        } else if before.is_empty() && !is_joined {
            names.extend(listed(rest).map(|name| parts(name).collect()));
        }
    }
    names.retain(|name: &Vec<&str>| name.iter().all(|part| !part.is_empty()));
    names
}

fn parts(name: &str) -> impl Iterator<Item = &str> {
    name.trim().split('.').map(str::trim)
}

/// The names of a list such as `a, b as c`, which may be in parentheses and go over lines.
fn listed(list: &str) -> impl Iterator<Item = &str> {
    let list = list.trim_start_matches([' ', '\t']);
    let in_parentheses = list.strip_prefix('(').and_then(|list| list.split(')').next());
    let line = || list.split([';', '#']).next().unwrap_or_default();
    let until_end = |line: &str| {
        let ends = line.match_indices('\n').find(|(at, _)| !line[..*at].ends_with('\\'));
        ends.map_or(line.len(), |(at, _)| at)
    };
    let list = in_parentheses.unwrap_or_else(|| &line()[..until_end(line())]);
    let names = list.split([',', '\n']).map(|name| name.split('#').next().unwrap_or_default().trim());
    let names = names.map(|name| name.trim_start_matches('\\').split_whitespace().next().unwrap_or_default());
    names.filter(|name| !name.is_empty() && *name != "\\")
}

/// Finds what a name is imported from, in the first place that has it.
pub(super) fn find(name: &[&str], places: &[Place]) -> Option<Module> {
    places.iter().find_map(|place| {
        let path = find_in(&place.directory, name)?;
        let sent_as = place.sent_as.join(path.strip_prefix(&place.directory).ok()?);
        Some(Module { path, sent_as })
    })
}

fn find_in(directory: &Path, name: &[&str]) -> Option<PathBuf> {
    let (first, rest) = name.split_first()?;
    let package = directory.join(first);
    if package.join("__init__.py").is_file() {
        return Some(package);
    }
    let file = directory.join(format!("{first}.py"));
    if file.is_file() {
        return Some(file);
    }
    compiled(directory, first).or_else(|| find_in(&package, rest))
}

/// The compiled module of this name.
fn compiled(directory: &Path, name: &str) -> Option<PathBuf> {
    let mut files = directory.read_dir().ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    files.find(|file| {
        let is_library = file.extension().is_some_and(|extension| extension == "so");
        let text = file.file_name().and_then(|file| file.to_str()).unwrap_or_default();
        is_library && text.split('.').next() == Some(name)
    })
}

/// The directory above the outermost package that a directory is in. The predictor's loader draws the same line.
pub(super) fn above_packages(directory: &Path) -> &Path {
    let is_name = |name: &str| {
        name.chars().all(|c| c.is_alphanumeric() || c == '_')
            && !name.starts_with(|c: char| c.is_ascii_digit())
    };
    let mut above = directory;
    while above.join("__init__.py").is_file()
        && above.file_name().and_then(|name| name.to_str()).is_some_and(is_name)
    {
        let Some(parent) = above.parent() else { break };
        above = parent;
    }
    above
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_found_wherever_they_stand() {
        let code = "import a, b.c as d  # import no\nfrom e.f import (\n    g,  # first\n    h as i,\n)\nimport \\\n    j\n\
                    try: import k; from l import m\nfrom . import n\nfrom .o import p\nwhy = 'important'\n    from q import \\\n  r, \\\n  s\n\
                    reimport = 1\nfrom t import*\n";
        let names: Vec<_> = imported(code).iter().map(|name| name.join(".")).collect();
        assert_eq!(names, ["a", "b.c", "e.f.g", "e.f.h", "j", "k", "l.m", "q.r", "q.s", "t.*"]);
    }

    #[test]
    fn a_module_is_a_package_a_file_or_within_a_bare_directory() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for file in [
            "p/__init__.py",
            "p/q/r.py",
            "s.py",
            "t/u.py",
            "t/v/w.cpython-311-x86_64-linux-gnu.so",
            "x/s.py",
            "x/y.py",
        ] {
            std::fs::create_dir_all(path(file).parent().unwrap()).unwrap();
            std::fs::write(path(file), "").unwrap();
        }
        let place = |name: &str| Place { directory: path(name), sent_as: name.into() };
        let places = ["none", "", "x"].map(place);
        let find = |name: &str| Some(find(&name.split('.').collect::<Vec<_>>(), &places)?.sent_as);
        let found = ["p.q.r.name", "s", "s.name", "t.u", "t.v.w"].map(|name| find(name).unwrap());
        let files = ["p", "s.py", "s.py", "t/u.py", "t/v/w.cpython-311-x86_64-linux-gnu.so"];
        assert_eq!(found, files.map(PathBuf::from));
        assert_eq!((find("t"), find("json"), find("y")), (None, None, Some("x/y.py".into())));
        assert_eq!(above_packages(&path("p")), directory.path());
        assert_eq!(above_packages(&path("t")), path("t"));
    }
}
