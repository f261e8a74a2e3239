//! Which rows are asked for: a shard of a file, the rows of one session, and those of all sessions of a job.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One of N slices of a file: every N-th row, from row K on. Rows that are appended to the file move no row to another
/// shard. The default is the whole file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    number: u64,
    of: u64,
}

impl Shard {
    /// The one shard of a file that is not divided.
    pub const WHOLE: Self = Self { number: 0, of: 1 };

    /// Shard `number` of `of`, counted from 0.
    ///
    /// # Errors
    ///
    /// Fails if there is no such shard. The text says which there are.
    pub fn new(number: u64, of: u64) -> Result<Self, String> {
        match of.checked_sub(1) {
            None => Err("a file has at least one shard".to_owned()),
            Some(last) if number > last => {
                let which = if last == 0 {
                    "is only shard 0/1".to_owned()
                } else {
                    format!("are shards 0/{of} to {last}/{of}")
                };
                Err(format!("there {which}"))
            }
            Some(_) => Ok(Self { number, of }),
        }
    }

    /// K, counted from 0.
    pub fn number(self) -> u64 {
        self.number
    }

    /// N.
    pub fn of(self) -> u64 {
        self.of
    }

    /// Whether it is the whole file.
    pub fn is_whole(&self) -> bool {
        self.of == 1
    }

    /// `None` if it is the whole file.
    pub fn divided(self) -> Option<Self> {
        Some(self).filter(|shard| !shard.is_whole())
    }

    /// The place of a row among the rows of the shard, counted from 0; `None` if another shard has the row.
    pub fn place(self, row: u64) -> Option<u64> {
        (row % self.of == self.number).then_some(row / self.of)
    }

    /// The row at a place.
    pub fn row(self, place: u64) -> u64 {
        place.saturating_mul(self.of).saturating_add(self.number)
    }

    /// How many rows of the shard are before this one.
    fn before(self, row: u64) -> u64 {
        row.saturating_sub(self.number).div_ceil(self.of)
    }

    /// The places of a range of rows.
    fn places(self, rows: &Range<u64>) -> Range<u64> {
        self.before(rows.start)..self.before(rows.end.max(rows.start))
    }

    /// The rows from the first of these places to the last, including those of other shards between them.
    fn hull(self, places: &Range<u64>) -> Range<u64> {
        let start = self.row(places.start);
        start..if places.is_empty() { start } else { self.row(places.end - 1).saturating_add(1) }
    }
}

impl Default for Shard {
    fn default() -> Self {
        Self::WHOLE
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
        let (number, of) = numbers.ok_or("expected `K/N`, K counted from 0, such as `0/4`")?;
        Self::new(number, of)
    }
}

impl Serialize for Shard {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Shard {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The rows of one session: those of a range that are in its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// The first row of the range.
    pub start: u64,
    /// The row after the last one of the range.
    pub end: u64,
    /// The shard.
    #[serde(default, skip_serializing_if = "Shard::is_whole")]
    pub shard: Shard,
}

impl Rows {
    /// The rows of a range that are in a shard.
    pub fn new(range: Range<u64>, shard: Shard) -> Self {
        Self { start: range.start, end: range.end, shard }
    }

    /// Number of rows.
    pub fn len(&self) -> u64 {
        let places = self.places();
        places.end - places.start
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.places().is_empty()
    }

    /// Whether a row is among them.
    pub fn contains(&self, row: u64) -> bool {
        (self.start..self.end).contains(&row) && self.shard.place(row).is_some()
    }

    /// The rows, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u64> + use<> {
        let shard = self.shard;
        self.places().map(move |place| shard.row(place))
    }

    /// Their places among the rows of the shard.
    pub fn places(&self) -> Range<u64> {
        self.shard.places(&(self.start..self.end))
    }

    /// The rows before `end`.
    #[must_use]
    pub fn up_to(self, end: u64) -> Self {
        Self { start: self.start.min(end), end: self.end.min(end), ..self }
    }

    /// The first of the rows, as many as `rows`.
    #[must_use]
    pub fn first(self, rows: u64) -> Self {
        let places = self.places();
        let end = places.end.min(places.start.saturating_add(rows));
        self.up_to(self.shard.hull(&(places.start..end)).end.max(self.start))
    }
}

impl From<Range<u64>> for Rows {
    fn from(range: Range<u64>) -> Self {
        Self::new(range, Shard::WHOLE)
    }
}

/// A set of rows of one shard, kept as ascending ranges of places that neither touch nor overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    shard: Shard,
    places: Vec<Range<u64>>,
}

impl Selection {
    /// Adds rows. They must be of the same shard, unless there are none yet.
    pub fn cover(&mut self, rows: impl Into<Rows>) {
        let rows = rows.into();
        debug_assert!(self.takes(&rows), "{rows:?} are of another shard than {self:?}");
        if self.is_empty() {
            self.shard = rows.shard;
        }
        let range = rows.places();
        if range.is_empty() {
            return;
        }
        let touches = |other: &Range<u64>| other.start <= range.end && range.start <= other.end;
        let (mut touching, mut ranges): (Vec<_>, Vec<_>) = self.places.drain(..).partition(touches);
        touching.push(range);
        let start = touching.iter().map(|range| range.start).min().unwrap_or_default();
        let end = touching.iter().map(|range| range.end).max().unwrap_or_default();
        ranges.push(start..end);
        ranges.sort_unstable_by_key(|range| range.start);
        self.places = ranges;
    }

    /// Whether rows can be added: they are of the same shard, or there are none yet.
    pub fn takes(&self, rows: &Rows) -> bool {
        self.is_empty() || self.shard == rows.shard
    }

    /// Whether a row is in the set.
    pub fn contains(&self, row: u64) -> bool {
        let Some(place) = self.shard.place(row) else { return false };
        let behind = self.places.partition_point(|range| range.end <= place);
        self.places.get(behind).is_some_and(|range| range.contains(&place))
    }

    /// The shard of the rows.
    pub fn shard(&self) -> Shard {
        self.shard
    }

    /// The places from the first row to the last, including all places between them.
    pub fn places(&self) -> Range<u64> {
        let start = self.places.first().map_or(0, |range| range.start);
        start..self.places.last().map_or(start, |range| range.end)
    }

    /// The rows of the shard from the first row to the last, including all between them.
    pub fn hull(&self) -> Rows {
        Rows::new(self.shard.hull(&self.places()), self.shard)
    }

    /// Number of rows.
    pub fn len(&self) -> u64 {
        self.places.iter().map(|range| range.end - range.start).sum()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The rows, ascending.
    pub fn rows(&self) -> impl Iterator<Item = u64> + '_ {
        self.places.iter().cloned().flatten().map(|place| self.shard.row(place))
    }
}

impl<R: Into<Rows>> From<R> for Selection {
    fn from(rows: R) -> Self {
        let mut selection = Self::default();
        selection.cover(rows);
        selection
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_that_touch_become_one_and_others_stay_apart() {
        let mut selection = Selection::from(10..20);
        for range in [0..5, 30..40, 5..5, 18..31] {
            selection.cover(range);
        }
        assert_eq!(selection.places, [0..5, 10..40]);
        selection.cover(5..10);
        assert_eq!((selection.hull(), selection.len()), ((0..40).into(), 40));
    }

    #[test]
    fn what_lies_between_is_not_among_them() {
        let mut selection = Selection::from(0..2);
        selection.cover(4..6);
        let among: Vec<u64> = (0..9).filter(|row| selection.contains(*row)).collect();
        assert_eq!(among, [0, 1, 4, 5]);
        assert_eq!(selection.rows().collect::<Vec<_>>(), among);
        assert_eq!((selection.hull(), selection.len()), ((0..6).into(), 4));
        assert!(Selection::default().is_empty() && Selection::default().hull().is_empty());
    }

    #[test]
    fn a_shard_that_does_not_exist_is_refused_with_those_that_do() {
        let refused =
            ["4/4", "1/1", "0/0", "1", "-1/4", "a/4"].map(|text| text.parse::<Shard>().unwrap_err());
        insta::assert_snapshot!(refused.join("\n"), @r"
        there are shards 0/4 to 3/4
        there is only shard 0/1
        a file has at least one shard
        expected `K/N`, K counted from 0, such as `0/4`
        expected `K/N`, K counted from 0, such as `0/4`
        expected `K/N`, K counted from 0, such as `0/4`
        ");
        assert_eq!("0/1".parse(), Ok(Shard::WHOLE));
    }

    #[test]
    fn the_rows_of_a_file_read_in_the_journal_as_before_there_were_shards() {
        let json = |rows: Rows| serde_json::to_string(&rows).unwrap();
        assert_eq!(json((2..5).into()), r#"{"start":2,"end":5}"#);
        let shard = Rows::new(2..5, Shard::new(1, 4).unwrap());
        assert_eq!(json(shard), r#"{"start":2,"end":5,"shard":"1/4"}"#);
        assert_eq!(serde_json::from_str::<Rows>(&json(shard)).unwrap(), shard);
    }

    fn shards() -> impl Strategy<Value = Shard> {
        (1..9_u64).prop_flat_map(|of| (0..of).prop_map(move |number| Shard::new(number, of).unwrap()))
    }

    proptest! {
        #[test]
        fn each_row_is_in_one_shard_and_stays_there_when_rows_are_appended(
            of in 1..9_u64, start in 0..20_u64, rows in 0..40_u64, appended in 0..40_u64,
        ) {
            let shards: Vec<_> = (0..of).map(|number| Shard::new(number, of).unwrap()).collect();
            let has = |end| move |shard: &Shard| Rows::new(start..end, *shard).iter().collect::<Vec<_>>();
            let before: Vec<_> = shards.iter().map(has(start + rows)).collect();
            let after: Vec<_> = shards.iter().map(has(start + rows + appended)).collect();
            let mut all = before.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (start..start + rows).collect::<Vec<_>>());
            for (before, after) in before.iter().zip(&after) {
                prop_assert!(after.starts_with(before));
            }
        }

        #[test]
        fn rows_are_counted_found_and_cut_as_they_are_listed(
            shard in shards(), start in 0..20_u64, length in 0..40_u64, end in 0..60_u64, few in 0..9_u64,
        ) {
            let rows = Rows::new(start..start + length, shard);
            let listed: Vec<_> = rows.iter().collect();
            prop_assert_eq!(rows.len(), listed.len() as u64);
            prop_assert_eq!(rows.is_empty(), listed.is_empty());
            prop_assert_eq!((0..80).filter(|row| rows.contains(*row)).collect::<Vec<_>>(), listed.clone());
            prop_assert!(listed.iter().all(|row| shard.row(shard.place(*row).unwrap()) == *row));
            let before: Vec<_> = listed.iter().copied().filter(|row| *row < end).collect();
            prop_assert_eq!(rows.up_to(end).iter().collect::<Vec<_>>(), before);
            let first: Vec<_> = listed.iter().copied().take(few as usize).collect();
            prop_assert_eq!(rows.first(few).iter().collect::<Vec<_>>(), first);
            let selection = Selection::from(rows);
            prop_assert_eq!(selection.rows().collect::<Vec<_>>(), listed.clone());
            prop_assert_eq!(selection.hull().iter().collect::<Vec<_>>(), listed);
        }
    }

    #[test]
    fn rows_without_an_end_do_not_overflow() {
        let rows = Rows::new(0..u64::MAX, Shard::new(3, 4).unwrap());
        assert_eq!((rows.up_to(8).len(), Selection::from(rows).hull().start), (2, 3));
        assert!(rows.contains(u64::MAX - 4) && !rows.is_empty());
    }
}
