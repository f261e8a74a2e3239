//! `make torture` runs the long forms of the acceptance tests' faults, and faults that need a mount or gigabytes. Each
//! part panics if an answer is lost or a row is called again. The rest is printed as one table.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
#![allow(clippy::print_stdout, reason = "the table")]
#![allow(dead_code, unused_imports, reason = "the acceptance tests use the rest of what is shared")]

mod full_disk;
#[path = "../acceptance/kill.rs"]
mod kill;
mod many_rows;
#[path = "../acceptance/support/mod.rs"]
mod support;

const KILLS: usize = 200;
const RACES: usize = 50;

fn main() {
    let mut table = vec![["fault", "times", "calls", "lost", "asked again", "else"].map(str::to_owned)];
    let mut none_lost = |fault: &str, times: String, calls: usize, other: String| {
        table.push([fault.to_owned(), times, calls.to_string(), "0".to_owned(), "0".to_owned(), other]);
    };
    let killed = kill::kills(KILLS);
    none_lost(
        "kill -9",
        format!("{} in {} jobs", killed.kills, killed.jobs),
        killed.calls,
        format!(
            "at most {} calls a kill left no record (bound {})",
            killed.most_unrecorded,
            kill::MOST_UNRECORDED
        ),
    );
    let calls = kill::races(RACES);
    none_lost(
        "two processes",
        RACES.to_string(),
        calls,
        "one winner each, the other called nothing".to_owned(),
    );
    let disks = full_disk::disks();
    none_lost(
        "full disk",
        format!("{} sizes", disks.sizes),
        disks.calls,
        format!(
            "full in {} runs and {} writings of the answers; space came back in time {} times",
            disks.in_run, disks.in_writing, disks.freed_in_time
        ),
    );
    let many = many_rows::answered();
    none_lost(
        "many rows",
        many.rows.to_string(),
        many.rows,
        format!(
            "{:.0} rows/s, {:.0} s in all, peak memory {} MB, {:.1} bytes a row",
            many.rows_per_s,
            many.took.as_secs_f64(),
            many.peak_memory / 1_000_000,
            many.bytes_a_row
        ),
    );
    for [fault, times, calls, lost, again, other] in table {
        println!("{fault:14} {times:>16} {calls:>10} {lost:>5} {again:>12}  {other}");
    }
}
