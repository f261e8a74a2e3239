//! Runs a job on disks of many sizes, which fill up during the calls or when the answers are written.

use std::collections::BTreeSet;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use tokio_asyncio_bridge::journal::{Recovered, Status};

use crate::support::job::{Job, Running};

const ROWS: usize = 200;
const CALLS: usize = 4;
/// Sizes from room for the journal's header alone to a little less than the journal and the answers need.
const SIZES: [usize; 30] = {
    let mut sizes = [0; 30];
    let mut i = 0;
    while i < 30 {
        sizes[i] = (4 + 13 * i) << 10;
        i += 1;
    }
    sizes
};
const ENOUGH: usize = 8 << 20;

const LONG_ANSWERS: &str = "
async def predict(question, row_id):
    called(row_id)
    await asyncio.sleep(0.002)
    return question + 'x' * 1000
";

/// What happened on the disks. Each was full once, and each job was complete in the end.
#[derive(Default)]
pub(crate) struct Disks {
    pub(crate) sizes: usize,
    pub(crate) calls: usize,
    pub(crate) in_run: usize,
    pub(crate) in_writing: usize,
    pub(crate) freed_in_time: usize,
}

/// A file system in memory, mounted on the directory `disk` of a job. Dropping it unmounts it.
struct Disk(std::path::PathBuf);

impl Disk {
    fn mount(job: &Job, bytes: usize) -> Self {
        let disk = Self(job.path("disk"));
        std::fs::create_dir(&disk.0).unwrap();
        disk.run("mount", &["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]);
        disk
    }

    fn grow(&self) {
        self.run("mount", &["-o", &format!("remount,size={ENOUGH}")]);
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let status = Command::new(program).args(arguments).arg(&self.0).status().unwrap();
        assert!(status.success(), "{program}: {status}; run this through `make torture`");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

fn job(grace: &str) -> Job {
    let concurrency = CALLS.to_string();
    Job::new().questions(ROWS).predictor(LONG_ANSWERS).args(["-c", &concurrency, "--grace", grace])
}

fn start(job: &Job) -> Running {
    let file = "disk/answers.csv";
    if job.path("disk/answers.csv.journal").exists() {
        return job.spawn(&["resume", file]);
    }
    job.spawn(&["process", "questions.csv", "-o", file, "--predictor", "predictor.py:predict"])
}

/// The rows whose answers the journal holds; empty if there is no journal yet.
fn recorded(job: &Job) -> BTreeSet<u64> {
    let path = job.path("disk/answers.csv.journal");
    if !path.exists() {
        return BTreeSet::new();
    }
    let index = Recovered::read(&path, |_| {}).unwrap().index;
    index.selection().rows().filter(|row| index.status(*row) == Some(Status::Ok)).collect()
}

/// The answers without the last two columns, attempts and latency.
fn lasting(job: &Job) -> Vec<String> {
    let lines = job.read("disk/answers.csv");
    lines.lines().map(|line| line.rsplitn(3, ',').nth(2).unwrap().to_owned()).collect()
}

fn called(job: &Job) -> Vec<u64> {
    job.calls().iter().map(|row| row.as_u64().unwrap()).collect()
}

/// Runs the job on a disk of every size, frees space, and resumes the job.
pub(crate) fn disks() -> Disks {
    let whole = job("1s");
    std::fs::create_dir(whole.path("disk")).unwrap();
    start(&whole).wait().expect(0);
    let whole = lasting(&whole);
    let mut disks = Disks::default();
    for (number, size) in SIZES.into_iter().enumerate() {
        fill(size, number % 2 == 1, &whole, &mut disks);
    }
    disks
}

/// With `in_time`, space comes back while the program waits for it.
fn fill(size: usize, in_time: bool, whole: &[String], disks: &mut Disks) {
    let job = job(if in_time { "30s" } else { "200ms" });
    let disk = Disk::mount(&job, size);
    let mut running = start(&job);
    let mut freed = false;
    while in_time && running.is_running() && !freed {
        if running.text(".stderr").contains("for space on the disk") {
            disk.grow();
            freed = true;
        }
        sleep(Duration::from_millis(2));
    }
    let done = running.wait().expect(1);
    let (before, calls) = (recorded(&job), called(&job));
    if done.stderr.contains("hint: free some space") {
        disks.in_run += 1;
    } else {
        disks.in_writing += 1;
        assert!(done.stderr.contains("`export` writes them"), "{size} bytes: {}", done.stderr);
        assert_eq!(before.len(), ROWS, "{size} bytes");
        assert!(!job.path("disk/answers.csv").exists(), "{size} bytes");
    }
    if freed {
        disks.freed_in_time += 1;
        assert_eq!(before.len(), calls.len(), "{size} bytes: what was called is recorded");
    }
    let unrecorded = calls.iter().filter(|row| !before.contains(row)).count();
    assert!(unrecorded <= 3 * CALLS, "{size} bytes: {unrecorded} answers were not kept");

    disk.grow();
    start(&job).wait().expect(0);
    let all = called(&job);
    assert!(all[calls.len()..].iter().all(|row| !before.contains(row)), "{size} bytes: asked again");
    assert_eq!(all.len(), ROWS + unrecorded, "{size} bytes");
    assert_eq!(lasting(&job), whole, "{size} bytes");
    disks.sizes += 1;
    disks.calls += all.len();
}
