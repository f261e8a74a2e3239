//! What all charts are made of: bars, shapes, ticks and rules with their places, and the scales that give the places.
//! `page.html` draws them.

use std::fmt::{self, Write as _};

/// Units across of the grid on which shapes are drawn.
const ACROSS: f64 = 1_000.0;

/// A chart as wide as its page.
#[derive(Debug, Default)]
pub(super) struct Chart {
    /// What it shows, in a sentence, for those who cannot see it.
    pub says: String,
    /// Pixels.
    pub height: f64,
    /// Rectangles.
    pub bars: Vec<Bar>,
    /// Shapes stretched over the chart.
    pub shapes: Vec<Shape>,
    /// Along the bottom.
    pub x: Vec<Tick>,
    /// Up the side.
    pub y: Vec<Tick>,
    /// Whether `y` holds the names of lines rather than the figures of a scale.
    pub named: bool,
    /// Vertical lines with words at their tops.
    pub rules: Vec<Rule>,
    /// A dashed line across, in pixels from the top.
    pub limit: Option<f64>,
    /// What the colours mean: class and words.
    pub legend: Vec<(&'static str, String)>,
}

/// A rectangle.
#[derive(Debug)]
pub(super) struct Bar {
    /// Its colour.
    pub class: &'static str,
    /// From the left.
    pub x: Percent,
    /// Across.
    pub width: Percent,
    /// Pixels from the top.
    pub y: Pixels,
    /// Pixels.
    pub height: Pixels,
    /// The words shown when it is pointed at.
    pub title: String,
}

/// A closed outline on a grid of [`ACROSS`] by the chart's height.
#[derive(Debug)]
pub(super) struct Shape {
    /// Its colour.
    pub class: &'static str,
    /// The SVG path.
    pub path: String,
}

/// A round figure beside an axis.
#[derive(Debug)]
pub(super) struct Tick {
    /// Along x in percent, along y in pixels from the top.
    pub at: Pixels,
    /// `start`, `middle` or `end`.
    pub anchor: &'static str,
    /// The figure; empty for a line alone.
    pub label: String,
}

/// A vertical line.
#[derive(Debug)]
pub(super) struct Rule {
    /// From the left.
    pub x: Percent,
    /// `start` or `end`.
    pub anchor: &'static str,
    /// The words' distance from the line and from the top, in pixels.
    pub dx: i32,
    /// See `dx`.
    pub y: u32,
    /// The words.
    pub label: String,
}

/// Hundredths of the chart's width, from a share of 0 to 1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Percent(pub f64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", Pixels(self.0 * 100.0))
    }
}

/// Pixels to the hundredth.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pixels(pub f64);

impl fmt::Display for Pixels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", (self.0 * 100.0).round() / 100.0)
    }
}

impl Chart {
    /// Pixels, including the words below.
    pub(super) fn whole_height(&self) -> f64 {
        self.height + if self.x.is_empty() { 0.0 } else { 24.0 }
    }

    /// The class of a tick's words along x. A narrow page leaves out every other one where there are many.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "how templates pass it")]
    pub(super) fn spared(&self, index: &usize) -> &'static str {
        if self.x.len() > 4 && index % 2 == 1 { "spare" } else { "" }
    }

    /// Ticks along x, their words kept within the width.
    pub(super) fn ticks_x(&mut self, along: Scale, figures: Vec<f64>, label: fn(f64) -> String) {
        self.x = figures
            .into_iter()
            .map(|figure| {
                let share = along.share(figure);
                let anchor = match share {
                    share if share < 0.03 => "start",
                    share if share > 0.94 => "end",
                    _ => "middle",
                };
                Tick { at: Pixels(share * 100.0), anchor, label: label(figure) }
            })
            .collect();
    }

    /// Ticks up the side.
    pub(super) fn ticks_y(&mut self, up: Scale, figures: Vec<f64>, label: fn(f64) -> String) {
        let at = |figure| Pixels(self.height * (1.0 - up.share(figure)));
        let ticks =
            figures.into_iter().map(|figure| Tick { at: at(figure), anchor: "end", label: label(figure) });
        self.y = ticks.collect();
    }

    /// A vertical line at a share of the width, its words on the line's roomier side.
    pub(super) fn rule(&mut self, share: f64, row: u32, label: String) {
        let (anchor, dx) = if share > 0.75 { ("end", -5) } else { ("start", 5) };
        self.rules.push(Rule { x: Percent(share), anchor, dx, y: 11 + 14 * row, label });
    }

    /// A pile of bars from one share of the width to another, upwards: class and share of the height.
    pub(super) fn pile(&mut self, from: f64, to: f64, parts: &[(&'static str, f64)], title: &str) {
        let mut floor = 0.0;
        for (class, share) in parts.iter().filter(|(_, share)| *share > 0.0) {
            // A part that exists is at least a pixel high, so that it can be seen.
            let height = (share * self.height).max(1.0);
            self.bars.push(Bar {
                class,
                x: Percent(from),
                width: Percent((to - from) * 0.88),
                y: Pixels(self.height - floor - height),
                height: Pixels(height),
                title: title.to_owned(),
            });
            floor += height;
        }
    }

    /// Steps filled from the bottom, of equal width: shares of the height, up to a share of the width.
    pub(super) fn steps(&mut self, class: &'static str, shares: &[f64], until: f64) {
        let width = ACROSS * until / shares.len().max(1) as f64;
        let mut path = format!("M0 {}", self.height);
        for share in shares {
            let _ = write!(path, "V{}h{}", Pixels(self.height * (1.0 - share)), Pixels(width));
        }
        let _ = write!(path, "V{}z", self.height);
        self.shapes.push(Shape { class, path });
    }
}

/// Cells of a grid, those of one class in one shape.
#[derive(Debug)]
pub(super) struct Cells {
    /// Of a cell, in units across.
    width: f64,
    /// Of a cell, in pixels.
    height: f64,
    paths: Vec<String>,
}

impl Cells {
    /// A grid of `columns` up to a share of the width; cells are `height` pixels high and have one of `classes`
    /// colours.
    pub(super) fn new(columns: usize, until: f64, height: f64, classes: usize) -> Self {
        Self { width: ACROSS * until / columns.max(1) as f64, height, paths: vec![String::new(); classes] }
    }

    /// Fills a cell, counted from the left and from the top.
    pub(super) fn fill(&mut self, class: usize, column: usize, row: usize) {
        let (x, y) = (Pixels(column as f64 * self.width), Pixels(row as f64 * self.height));
        // Slightly wider than the cell, so that no seam shows between two.
        let (width, height) = (Pixels(self.width + 0.3), Pixels(self.height));
        let _ = write!(self.paths[class], "M{x} {y}h{width}v{height}h-{width}z");
    }

    /// The shapes, in these colours.
    pub(super) fn shapes(self, classes: &[&'static str]) -> Vec<Shape> {
        let shapes = classes.iter().zip(self.paths).filter(|(_, path)| !path.is_empty());
        shapes.map(|(class, path)| Shape { class, path }).collect()
    }
}

/// A stretch of an axis, which gives each figure its place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    from: f64,
    to: f64,
    /// Whether each doubling is as long as the next.
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

    /// About as many round figures within it: 1, 2 or 5 times a power of ten.
    pub(super) fn ticks(self, about: usize) -> Vec<f64> {
        if self.logarithmic {
            self.decades(about)
        } else {
            self.multiples(round_step((self.to - self.from) / about as f64))
        }
    }

    /// The same for seconds, with the steps of a clock where they are long enough.
    pub(super) fn time_ticks(self, about: usize) -> Vec<f64> {
        const CLOCK: [f64; 12] =
            [15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 7_200.0, 21_600.0, 43_200.0, 86_400.0];
        let step = (self.to - self.from) / about as f64;
        let of_clock = CLOCK.into_iter().find(|clock| step <= *clock).filter(|_| step > 10.0);
        self.multiples(of_clock.unwrap_or_else(|| round_step(step)))
    }

    fn multiples(self, step: f64) -> Vec<f64> {
        let first = (self.from / step).ceil() as u64;
        // Allows for rounding by a ten-millionth beyond its end.
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

/// The next 1, 2 or 5 times a power of ten from `step` on.
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

/// Three digits, without trailing zeros.
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
