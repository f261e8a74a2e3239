//! From figures to places on a chart, and the round figures beside its axes. Not the charts.

/// A stretch of an axis.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    from: f64,
    to: f64,
    /// Each doubling is as long as the next.
    logarithmic: bool,
}

impl Scale {
    /// From zero to a greatest figure; never empty.
    pub(super) fn up_to(most: f64) -> Self {
        Self::between(0.0, most)
    }

    /// Between two figures; never empty.
    pub(super) fn between(from: f64, to: f64) -> Self {
        Self { from, to: if to > from { to } else { from + 1.0 }, logarithmic: false }
    }

    /// Between two figures above zero, in doublings.
    pub(super) fn logarithmic(from: f64, to: f64) -> Self {
        Self { from, to: to.max(from * 2.0), logarithmic: true }
    }

    /// Where a figure lies, from 0 to 1.
    pub(super) fn share(self, figure: f64) -> f64 {
        let share = if self.logarithmic {
            (figure / self.from).log2() / (self.to / self.from).log2()
        } else {
            (figure - self.from) / (self.to - self.from)
        };
        share.clamp(0.0, 1.0)
    }

    /// Some round figures within it, 1, 2 or 5 times a power of ten, about so many.
    pub(super) fn ticks(self, about: usize) -> Vec<f64> {
        if self.logarithmic {
            self.decades(about)
        } else {
            self.multiples(round_step((self.to - self.from) / about as f64))
        }
    }

    /// The same for seconds: beyond a minute, steps that clocks have.
    pub(super) fn time_ticks(self, about: usize) -> Vec<f64> {
        const CLOCK: [f64; 12] =
            [15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 7_200.0, 21_600.0, 43_200.0, 86_400.0];
        let step = (self.to - self.from) / about as f64;
        let of_clock = CLOCK.into_iter().find(|clock| step <= *clock).filter(|_| step > 10.0);
        self.multiples(of_clock.unwrap_or_else(|| round_step(step)))
    }

    fn multiples(self, step: f64) -> Vec<f64> {
        let first = (self.from / step).ceil() as u64;
        // A ten-millionth beyond its end is rounding.
        let last = (self.to / step + 1e-7).floor() as u64;
        (first..=last).map(|number| number as f64 * step).collect()
    }

    fn decades(self, about: usize) -> Vec<f64> {
        let (first, last) = (self.from.log10().floor() as i32, self.to.log10().ceil() as i32);
        let of = |steps: &[f64]| -> Vec<f64> {
            let figures =
                (first..=last).flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power)));
            figures.filter(|figure| (self.from..=self.to).contains(figure)).collect()
        };
        [&[1.0, 2.0, 5.0][..], &[1.0, 3.0], &[1.0]]
            .into_iter()
            .map(of)
            .find(|figures| figures.len() <= about + 2)
            .unwrap_or_else(|| of(&[1.0]))
    }
}

/// 1, 2 or 5 times a power of ten, not less than a step.
fn round_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0]
        .into_iter()
        .map(|round| round * power)
        .find(|round| step <= *round * 1.000_001)
        .unwrap_or(10.0 * power)
}

/// Seconds in the unit of their size, as short as can be: `250 ms`, `1.5 s`, `30 m`.
pub(super) fn time_label(seconds: f64) -> String {
    match seconds {
        0.0 => "0".to_owned(),
        s if s < 0.9995e-3 => format!("{} µs", short(s * 1e6)),
        s if s < 0.9995 => format!("{} ms", short(s * 1e3)),
        s if s < 119.95 => format!("{} s", short(s)),
        s if s < 7_199.5 => format!("{} m", short(s / 60.0)),
        s if s < 172_799.5 => format!("{} h", short(s / 3_600.0)),
        s => format!("{} d", short(s / 86_400.0)),
    }
}

/// A figure as short as can be: `0.25`, `20`, `1.5k`, `2M`.
pub(super) fn label(figure: f64) -> String {
    match figure {
        f if f < 1e4 => short(f),
        f if f < 1e6 => format!("{}k", short(f / 1e3)),
        f if f < 1e9 => format!("{}M", short(f / 1e6)),
        f => format!("{}G", short(f / 1e9)),
    }
}

/// Three digits, without zeros that say nothing.
fn short(figure: f64) -> String {
    let digits = if figure < 1.0 {
        3
    } else if figure < 10.0 {
        2
    } else {
        usize::from(figure < 100.0)
    };
    let text = format!("{figure:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(figures: &[f64], label: impl Fn(f64) -> String) -> String {
        figures.iter().map(|figure| label(*figure)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ticks_are_round_figures_within_the_scale() {
        assert_eq!(labels(&Scale::up_to(24.9).ticks(4), label), "0 10 20");
        assert_eq!(labels(&Scale::up_to(0.31).ticks(3), label), "0 0.2");
        assert_eq!(labels(&Scale::up_to(2_500_000.0).ticks(4), label), "0 1M 2M");
        assert_eq!(
            labels(&Scale::logarithmic(0.8e-3, 2.5).ticks(6), time_label),
            "1 ms 3 ms 10 ms 30 ms 100 ms 300 ms 1 s"
        );
        assert_eq!(labels(&Scale::logarithmic(1e-6, 4e5).ticks(6), time_label).split(' ').count(), 24);
    }

    #[test]
    fn time_goes_by_the_clock() {
        assert_eq!(labels(&Scale::up_to(48.0).time_ticks(5), time_label), "0 10 s 20 s 30 s 40 s");
        assert_eq!(labels(&Scale::up_to(400.0).time_ticks(5), time_label), "0 2 m 4 m 6 m");
        assert_eq!(labels(&Scale::up_to(0.045).time_ticks(5), time_label), "0 10 ms 20 ms 30 ms 40 ms");
        assert_eq!(labels(&Scale::up_to(20_000.0).time_ticks(5), time_label), "0 2 h 4 h");
    }

    #[test]
    fn an_empty_stretch_has_a_place_for_its_figure() {
        assert!((Scale::between(5.0, 5.0).share(5.0)).abs() < 1e-9);
        assert!((Scale::logarithmic(4.0, 4.0).share(8.0) - 1.0).abs() < 1e-9);
        assert_eq!(Scale::up_to(0.0).ticks(3).first(), Some(&0.0));
    }
}
