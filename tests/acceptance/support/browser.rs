//! A real browser that is shown a page, and what it made of it.

use std::path::Path;
use std::process::Command;

/// The names a browser may have.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// A page as a browser sees it.
pub(crate) struct Shown {
    /// Its elements, written anew.
    pub(crate) dom: String,
    /// What the console says: errors, violations of the page's policy.
    pub(crate) console: Vec<String>,
}

/// Opens a page.
pub(crate) fn show(page: &Path) -> Shown {
    let profile = tempfile::tempdir().unwrap();
    let output = NAMES.iter().find_map(|name| {
        Command::new(name)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", "--enable-logging=stderr"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(page)
            .output()
            .ok()
    });
    let output = output.expect("a browser: install Chromium (Debian: `apt install chromium`)");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    Shown {
        dom: String::from_utf8(output.stdout).unwrap(),
        console: said.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned).collect(),
    }
}
