//! The layers of `src/lib.rs`: each module uses only what is below it, or beside it. Not for what a module does.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::path::Path;

/// The modules of each layer, from 1 upwards, as the map in `src/lib.rs` has them.
const LAYERS: [&[&str]; 7] = [
    &["row", "call", "matching"],
    &["event", "policy", "secret"],
    &["input", "output", "journal", "bridge", "model"],
    &["engine", "stats"],
    &["run", "report"],
    &["config", "command"],
    &["cli", "main", "lib"],
];

fn layer(module: &str) -> usize {
    let layer = LAYERS.iter().position(|modules| modules.contains(&module));
    layer.unwrap_or_else(|| panic!("`{module}` has no layer: add it here and to the map in `src/lib.rs`"))
}

/// Every `crate::module` in the sources below `path` that points up, as a sentence.
fn upward(path: &Path, module: &str) -> Vec<String> {
    if path.is_dir() {
        let entries = path.read_dir().unwrap().map(|entry| entry.unwrap().path());
        return entries.flat_map(|entry| upward(&entry, module)).collect();
    }
    if path.extension().is_none_or(|extension| extension != "rs") {
        return Vec::new();
    }
    let source = std::fs::read_to_string(path).unwrap();
    let name_end = |c: char| !(c.is_ascii_lowercase() || c == '_');
    let used = source.split("crate::").skip(1).map(|rest| rest.split(name_end).next().unwrap());
    let points_up = |used: &&str| layer(used) > layer(module);
    used.filter(points_up).map(|used| format!("{} uses `{used}`", path.display())).collect()
}

#[test]
fn every_module_uses_only_its_own_layer_and_those_below() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let modules = source.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let faults: Vec<_> =
        modules.flat_map(|path| upward(&path, path.file_stem().unwrap().to_str().unwrap())).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
