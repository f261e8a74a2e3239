//! The workers of a run on one line.

use super::text::{count, counted, figure, seconds};
use super::{Report, Worker};

/// How many workers there were, and what calls, deaths, processor time and memory they came to; `None` without workers.
pub(super) fn line(report: &Report) -> Option<String> {
    let workers = &report.workers;
    let (alone, ordinary): (Vec<&Worker>, Vec<_>) = workers.iter().partition(|worker| worker.for_suspects);
    let calls = || ordinary.iter().map(|worker| worker.calls);
    let (fewest, most) = (calls().min()?, calls().max()?);
    let each = if ordinary.len() > 1 { " each" } else { "" };
    let calls = if fewest == most {
        counted(most, "call")
    } else {
        format!("{} to {}", count(fewest), counted(most, "call"))
    };
    let mut line = format!("{} with {calls}{each}", count(ordinary.len() as u64));
    for worker in alone {
        line += &format!(", one for {} of suspects", counted(worker.calls, "call"));
    }
    let deaths: u64 = workers.iter().map(|worker| worker.deaths).sum();
    if deaths > 0 {
        line += &format!(", {}", counted(deaths, "death"));
    }
    let processor: f64 = workers.iter().map(|worker| worker.processor_s).sum();
    if processor > 0.0 {
        line += &format!(", {} of processor time", seconds(processor));
    }
    let memory = workers.iter().map(|worker| worker.memory_bytes).max()?;
    if memory > 0 {
        line += &format!(", up to {}{each}", bytes(memory));
    }
    Some(line)
}

/// Formats a size in memory: `210 MB`, `1.52 GB`, or `-` for none.
pub(super) fn bytes(size: u64) -> String {
    match size as f64 {
        0.0 => "-".to_owned(),
        size if size < 999.5e6 => format!("{} MB", count((size / 1e6).round() as u64)),
        size => format!("{} GB", figure(size / 1e9)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{sample, workers};

    #[test]
    fn workers_are_told_on_one_line_and_only_where_there_are_any() {
        let told = |workers| line(&Report { workers, ..sample() });
        assert_eq!(told(Vec::new()), None);
        assert_eq!(
            told(workers()).as_deref(),
            Some("2 with 603 to 605 calls each, 2 deaths, 1 m 02 s of processor time, up to 1.52 GB each")
        );
        let mut with_another = workers();
        with_another.push(Worker { for_suspects: true, calls: 4, ..with_another[0].clone() });
        let text = told(with_another).unwrap();
        assert!(
            text.starts_with("2 with 603 to 605 calls each, one for 4 calls of suspects, 2 deaths"),
            "{text}"
        );
        let mut one = workers();
        one.truncate(1);
        assert_eq!(
            told(one.clone()).as_deref(),
            Some("1 with 603 calls, 30.2 s of processor time, up to 210 MB")
        );
        (one[0].processor_s, one[0].memory_bytes) = (0.0, 0);
        assert_eq!(told(one).as_deref(), Some("1 with 603 calls"));
    }
}
