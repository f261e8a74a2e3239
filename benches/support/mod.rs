//! Measures designs in turn, so that a busy machine affects all alike, and prints medians and ratios.

mod script;

pub(crate) use self::script::script;

/// How often each design is measured.
pub(crate) const ROUNDS: usize = 5;

/// What a row costs, in microseconds.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    /// Wall time.
    pub(crate) wall: f64,
    /// Processor time of all threads.
    pub(crate) cpu: f64,
}

impl Cost {
    /// The cost of one of `rows`, from the seconds that all of them took.
    pub(crate) fn of(wall_s: f64, cpu_s: f64, rows: usize) -> Self {
        Self { wall: wall_s / rows as f64 * 1e6, cpu: cpu_s / rows as f64 * 1e6 }
    }
}

/// A design: its name, and what measures it once under a condition.
pub(crate) type Design<'a, C> = (&'static str, Box<dyn Fn(&C) -> Cost + 'a>);

/// The conditions whose text contains every word given on the command line.
pub(crate) fn chosen<C: std::fmt::Display>(conditions: impl Iterator<Item = C>) -> Vec<C> {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let has = |text: &str, word: &String| text.split_whitespace().any(|part| part == word);
    conditions.filter(|condition| words.iter().all(|word| has(&condition.to_string(), word))).collect()
}

/// Measures every design under every condition, and prints a table of wall times and one of processor times. The figure
/// in brackets is the ratio to the design `base`.
pub(crate) fn compare<C: std::fmt::Display>(
    title: &str,
    base: usize,
    conditions: &[C],
    designs: &[Design<C>],
) {
    let mut wall = heading(&format!("{title}: wall"), base, designs);
    let mut cpu = heading(&format!("{title}: processor"), base, designs);
    for condition in conditions {
        let costs = medians(condition, designs);
        wall.push_str(&line(condition, &costs.iter().map(|cost| cost.wall).collect::<Vec<_>>(), base));
        cpu.push_str(&line(condition, &costs.iter().map(|cost| cost.cpu).collect::<Vec<_>>(), base));
        eprint!(".");
    }
    eprintln!();
    println!("{wall}{cpu}");
}

fn heading<C>(title: &str, base: usize, designs: &[Design<C>]) -> String {
    let names: Vec<String> = designs.iter().map(|(name, _)| format!("{name:>21}")).collect();
    format!(
        "\n{title}, microseconds a row\nmedian of {ROUNDS}, measured in turn; in brackets: times `{}`\n\n{:28}{}\n",
        designs[base].0,
        "",
        names.concat()
    )
}

fn line<C: std::fmt::Display>(condition: &C, figures: &[f64], base: usize) -> String {
    let cell = |figure: &f64| format!("{figure:>12.2} ({:>6.2})", figure / figures[base]);
    format!("{:28}{}\n", condition.to_string(), figures.iter().map(cell).collect::<Vec<_>>().concat())
}

fn medians<C>(condition: &C, designs: &[Design<C>]) -> Vec<Cost> {
    let mut costs = vec![Vec::new(); designs.len()];
    for _ in 0..ROUNDS {
        for ((_, measure), costs) in designs.iter().zip(&mut costs) {
            costs.push(measure(condition));
        }
    }
    let median = |costs: &Vec<Cost>, figure: fn(&Cost) -> f64| {
        let mut figures: Vec<f64> = costs.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    costs
        .iter()
        .map(|costs| Cost { wall: median(costs, |cost| cost.wall), cpu: median(costs, |cost| cost.cpu) })
        .collect()
}
