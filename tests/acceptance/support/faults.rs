//! Makes a disk fail, or a process die, at a chosen system call. `faults.c` does so when preloaded into the program.

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use super::job::Job;

static LIBRARY: LazyLock<String> = LazyLock::new(|| {
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/acceptance/support/faults.c");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
    assert!(compiled.unwrap().success(), "`cc` is needed, as it is to link Rust");
    library.into_os_string().into_string().unwrap()
});

impl Job {
    /// Kills later runs right after their `nth` change to the job's files, of which a write is half done.
    pub(crate) fn killed_at_change(self, nth: usize) -> Self {
        self.preloaded().env("FAULTS_KILL_AT", &nth.to_string())
    }

    /// Makes every sync of later runs fail once there is a file `broken`.
    pub(crate) fn disk_may_break(self) -> Self {
        let broken = self.path("broken");
        self.preloaded().env("FAULTS_NO_SYNC", broken.to_str().unwrap())
    }

    /// Makes later runs hang in their first write to the job's files (with `syncs`, in their first sync) once there is
    /// a file `hang`. Then there is a file `hang.met`.
    pub(crate) fn disk_may_hang(self, syncs: bool) -> Self {
        let hang = self.path("hang");
        let job = self.preloaded().env("FAULTS_HANG", hang.to_str().unwrap());
        if syncs { job.env("FAULTS_HANG_SYNC", "1") } else { job }
    }

    /// Sets the time of day of later runs, in seconds since 1970.
    pub(crate) fn clock(self, seconds: i64) -> Self {
        self.preloaded().env("FAULTS_CLOCK", &seconds.to_string())
    }

    /// Interrupts later runs when they first read a file without a name again from its beginning.
    pub(crate) fn interrupted_at_rewind(self) -> Self {
        self.preloaded().env("FAULTS_REWIND", "0")
    }

    /// Makes later runs wait when they first read a file without a name again from its beginning.
    pub(crate) fn waits_at_rewind(self, time: Duration) -> Self {
        self.preloaded().env("FAULTS_REWIND", &time.as_millis().to_string())
    }

    /// Lets later runs meet no fault.
    pub(crate) fn without_faults(self) -> Self {
        self.env("LD_PRELOAD", "")
    }

    fn preloaded(self) -> Self {
        let directory = self.path("");
        let directory = directory.to_str().unwrap().trim_end_matches('/').to_owned();
        self.env("LD_PRELOAD", &LIBRARY).env("FAULTS_IN", &directory)
    }
}
