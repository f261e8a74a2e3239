//! Opens a page in a real browser and returns what the browser made of it.

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

/// The browser that `make test` chose, or else one that is found here.
static BROWSER: LazyLock<String> = LazyLock::new(|| {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/browser");
    let output = Command::new(script).output().unwrap();
    assert!(output.status.success(), "no browser renders a page: run `make test`, which installs one");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
});

/// A page as a browser sees it.
pub(crate) struct Shown {
    /// The elements of the page, serialized by the browser.
    pub(crate) dom: String,
    /// The messages on the console, such as errors and violations of the page's content security policy.
    pub(crate) console: Vec<String>,
}

/// Opens a page.
pub(crate) fn show(page: &Path) -> Shown {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new(&*BROWSER)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", "--enable-logging=stderr"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(page)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    Shown {
        dom: String::from_utf8(output.stdout).unwrap(),
        console: said.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned).collect(),
    }
}
