//! The workers of a run on the page: a line of a table and a bar for each.

use super::chart::{Bar, Chart, Percent, Pixels, Scale, Tick, time_label};
use crate::report::text::{count, seconds};
use crate::report::workers::bytes;
use crate::report::{Report, Worker};

/// Pixels from one bar to the next, and of a bar: up to [`FEW`] workers, and beyond.
const ROOMY: (f64, f64) = (22.0, 14.0);
const TIGHT: (f64, f64) = (11.0, 8.0);
const FEW: usize = 30;

/// A line for each worker: its number, rows, calls, deaths, processor time, that of its event loop, memory and stall.
pub(super) fn lines(report: &Report) -> Vec<[String; 8]> {
    let line = |(number, worker): (u64, &Worker)| {
        [
            if worker.for_suspects { "for suspects".to_owned() } else { count(number) },
            count(worker.rows),
            count(worker.calls),
            count(worker.deaths),
            seconds(worker.processor_s),
            seconds(worker.event_loop_s),
            bytes(worker.memory_bytes),
            seconds(worker.stalled_s),
        ]
    };
    (1..).zip(&report.workers).map(line).collect()
}

/// The processor time of each worker, by who used it; `None` where none is known.
pub(super) fn processor(report: &Report) -> Option<Chart> {
    let workers = &report.workers;
    let along = Scale::up_to(workers.iter().map(|worker| worker.processor_s).fold(0.0, f64::max));
    let total: f64 = workers.iter().map(|worker| worker.processor_s).sum();
    if total <= 0.0 {
        return None;
    }
    let (pitch, thick) = if workers.len() <= FEW { ROOMY } else { TIGHT };
    let says = format!("Processor time of {} workers: {} in all.", workers.len(), seconds(total));
    let mut chart = Chart { says, height: pitch * workers.len() as f64, named: true, ..Chart::default() };
    chart.ticks_x(along, along.time_ticks(5), time_label);
    for (place, worker) in workers.iter().enumerate() {
        let top = pitch * place as f64;
        chart.y.push(Tick { at: Pixels(top + pitch / 2.0), anchor: "end", label: (place + 1).to_string() });
        let of_loop = worker.event_loop_s.min(worker.processor_s);
        let title = format!(
            "worker {}: {} of processor time, {} of it on the event loop",
            place + 1,
            seconds(worker.processor_s),
            seconds(of_loop)
        );
        let (middle, end) = (along.share(of_loop), along.share(worker.processor_s));
        for (class, from, to) in [("running", 0.0, middle), ("queued", middle, end)] {
            let (x, y) = (Percent(from), Pixels(top + (pitch - thick) / 2.0));
            let (width, height) = (Percent(to - from), Pixels(thick));
            chart.bars.push(Bar { class, x, width, y, height, title: title.clone() });
        }
    }
    let words = [("running", "its event loop"), ("queued", "its other threads")];
    chart.legend = words.map(|(class, words)| (class, words.to_owned())).to_vec();
    Some(chart)
}
