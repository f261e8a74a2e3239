//! How many workers fit into the memory that is left.

use std::fs::read_to_string;
use std::path::Path;

use rustix::process::Pid;

/// The share of the memory left that workers may take, in percent. Their calls need some too.
const SHARE: u64 = 80;

/// The resident memory of a process, in bytes.
pub(super) fn resident(pid: Pid) -> Option<u64> {
    field(&read_to_string(format!("/proc/{pid}/status")).ok()?, "VmRSS:")
}

/// The memory that is left on the machine, or in the control group of this process if that is less; in bytes.
pub(super) fn available() -> Option<u64> {
    let machine = field(&read_to_string("/proc/meminfo").ok()?, "MemAvailable:");
    let group = group().unwrap_or(u64::MAX);
    machine.map(|machine| machine.min(group))
}

/// A field in kibibytes, as bytes.
fn field(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib << 10)
}

/// What is left in the control group, whichever of its ancestors leaves the least. Pages of files that are not in use
/// can be taken back.
fn group() -> Option<u64> {
    let own = read_to_string("/proc/self/cgroup").ok()?;
    let root = Path::new("/sys/fs/cgroup");
    let mut least = None;
    for line in own.lines() {
        let (limit, used, folder) = match line.split_once("::") {
            Some((_, path)) => ("memory.max", "memory.current", root.join(path.trim_start_matches('/'))),
            None => match line.split_once(":memory:") {
                Some((_, path)) => (
                    "memory.limit_in_bytes",
                    "memory.usage_in_bytes",
                    root.join("memory").join(path.trim_start_matches('/')),
                ),
                None => continue,
            },
        };
        for folder in folder.ancestors().take_while(|folder| folder.starts_with(root)) {
            let number = |name| read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
            let Some((limit, used)) = number(limit).zip(number(used)) else { continue };
            let stat = read_to_string(folder.join("memory.stat")).unwrap_or_default();
            let unused =
                stat.lines().find_map(|line| line.strip_prefix("inactive_file ")?.parse::<u64>().ok());
            let left = limit.saturating_sub(used.saturating_sub(unused.unwrap_or(0)));
            least = Some(least.map_or(left, |least: u64| least.min(left)));
        }
    }
    least
}

/// How many workers there are to be, `most` at the most, if the first takes `resident` bytes and leaves `available`; and
/// why, in words.
pub(super) fn fitting(most: usize, resident: Option<u64>, available: Option<u64>) -> (usize, String) {
    let cores = if most == 1 { "1 core".to_owned() } else { format!("{most} cores") };
    if let Some((resident, available)) = resident.zip(available) {
        let more = available / 100 * SHARE / resident.max(1);
        let fit = usize::try_from(more).unwrap_or(usize::MAX).saturating_add(1);
        if fit < most {
            let text = format!(
                "{fit} of {most} workers fit into memory: the first takes {}, and {} are left",
                size(resident),
                size(available)
            );
            return (fit, text);
        }
    }
    (most, format!("{most} worker{}, for {cores}", if most == 1 { "" } else { "s" }))
}

fn size(bytes: u64) -> String {
    if bytes < 1_000_000_000 {
        format!("{} MB", bytes / 1_000_000)
    } else {
        format!("{:.1} GB", bytes as f64 / 1e9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1_000_000_000;

    #[test]
    fn this_process_takes_memory_and_leaves_some() {
        let own = resident(rustix::process::getpid()).unwrap();
        assert!((1 << 20..1 << 36).contains(&own), "{own}");
        assert!(available().unwrap() > 1 << 20);
    }

    #[test]
    fn there_are_as_many_workers_as_cores_unless_memory_holds_fewer() {
        assert_eq!(fitting(2, Some(GB), Some(100 * GB)), (2, "2 workers, for 2 cores".to_owned()));
        assert_eq!(fitting(1, Some(GB), Some(0)).0, 1);
        assert_eq!(fitting(4, None, Some(GB)).0, 4);
        let (fit, text) = fitting(8, Some(GB), Some(4 * GB));
        assert_eq!(
            (fit, &*text),
            (4, "4 of 8 workers fit into memory: the first takes 1.0 GB, and 4.0 GB are left")
        );
        assert_eq!(fitting(8, Some(900_000_000), Some(300_000_000)).0, 1);
    }
}
