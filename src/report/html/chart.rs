//! The one vocabulary of all charts: bars, shapes, ticks and rules, placed. `page.html` draws it; what they show is
//! said elsewhere.

use std::fmt::{self, Write as _};

/// Shapes are drawn on a grid of so many units across.
const ACROSS: f64 = 1_000.0;

/// A chart as wide as its page, so many pixels high.
#[derive(Debug, Default)]
pub(super) struct Chart {
    /// What it shows, in a sentence, for those who cannot see it.
    pub says: String,
    /// Pixels.
    pub height: f64,
    /// Rectangles, each with its own words.
    pub bars: Vec<Bar>,
    /// Shapes stretched over the chart.
    pub shapes: Vec<Shape>,
    /// Along the bottom.
    pub x: Vec<Tick>,
    /// Up the side.
    pub y: Vec<Tick>,
    /// Whether those are names of lines rather than figures of a scale.
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
    /// What it says when pointed at; nothing for a part of something larger.
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
    /// Pixels with the words below.
    pub(super) fn whole_height(&self) -> f64 {
        self.height + if self.x.is_empty() { 0.0 } else { 24.0 }
    }

    /// The class of a tick's words along x: on a narrow page every other one of many is left out.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "how templates pass it")]
    pub(super) fn spared(&self, index: &usize) -> &'static str {
        if self.x.len() > 4 && index % 2 == 1 { "spare" } else { "" }
    }

    /// A tick along x at a share of the width, its words kept within it.
    pub(super) fn tick_x(&mut self, share: f64, label: String) {
        let anchor = match share {
            share if share < 0.03 => "start",
            share if share > 0.94 => "end",
            _ => "middle",
        };
        self.x.push(Tick { at: Pixels(share * 100.0), anchor, label });
    }

    /// A tick along y at a share of the height.
    pub(super) fn tick_y(&mut self, share: f64, label: String) {
        self.y.push(Tick { at: Pixels(self.height * (1.0 - share)), anchor: "end", label });
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
            // What is there is seen.
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

    /// Steps filled from the bottom: shares of the height, equally wide up to a share of the width.
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
    /// A grid of so many columns up to a share of the width, cells so many pixels high, in so many classes.
    pub(super) fn new(columns: usize, until: f64, height: f64, classes: usize) -> Self {
        Self { width: ACROSS * until / columns.max(1) as f64, height, paths: vec![String::new(); classes] }
    }

    /// Fills a cell, counted from the left and from the top.
    pub(super) fn fill(&mut self, class: usize, column: usize, row: usize) {
        let (x, y) = (Pixels(column as f64 * self.width), Pixels(row as f64 * self.height));
        // A little more than the cell, so that no seam shows between two.
        let (width, height) = (Pixels(self.width + 0.3), Pixels(self.height));
        let _ = write!(self.paths[class], "M{x} {y}h{width}v{height}h-{width}z");
    }

    /// The shapes, in these colours.
    pub(super) fn shapes(self, classes: &[&'static str]) -> Vec<Shape> {
        let shapes = classes.iter().zip(self.paths).filter(|(_, path)| !path.is_empty());
        shapes.map(|(class, path)| Shape { class, path }).collect()
    }
}
