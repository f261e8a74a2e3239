//! Reads a whole file before the first call is paid for, and refuses it if anything is wrong with it.

use std::fs::File;
use std::sync::Arc;

use super::arguments::ArgumentReader;
use super::binding::{Binding, Wanted};
use super::error::InputError;
use super::fault::{Fault, Unfit, plural};
use super::jsonl::entries;
use super::records::{CsvHeader, RawRecord, Records};
use super::source::{Format, Source};
use super::types::{Checking, Misfit, Types};
use crate::fs::{Hashing, Stoppable};
use crate::policy::rate::length;
use crate::row::{RowHash, Value};
use crate::selection::Rows;

/// How many faults are reported beyond the first.
const FURTHER: usize = 4;
/// How many bytes after the first fault are searched for them.
const SEARCHED: u64 = 64 << 20;

/// How many characters of a value are shown.
const SHOWN: usize = 60;

/// How many bytes [`glance`] reads.
const GLANCE: u64 = 16 << 20;

/// What validation found out about a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Validated {
    /// Data records in the file, without the blank ones at its end.
    pub rows: u64,
    /// Blank records at the end of the file, which are not rows.
    pub empty: u64,
    /// The selected rows: the selection, cut off at the end of the file.
    pub selected: Rows,
    /// SHA-256 of the file's bytes, in lowercase hexadecimal.
    pub sha256: String,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// How the columns become arguments.
    pub binding: Binding,
    /// Hash of the header record; `None` for JSONL.
    pub header_hash: Option<RowHash>,
    /// Selected rows that fail without a call, because the question is blank or null or an argument is not valid text.
    pub unaskable: u64,
    /// Bytes of text in the arguments of the selected rows.
    pub argument_bytes: u64,
    /// What the user should know but need not mend.
    pub warnings: Vec<Warning>,
}

/// An oddity that does not prevent a run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// The selection is empty, or beyond the end of the file.
    #[error("no row is selected: the input has {rows} row{}", plural(*rows))]
    NothingSelected {
        /// Data records in the file.
        rows: u64,
    },
    /// The file ends with blank records, as spreadsheets write them.
    #[error("{rows} row{} at the end of the input {} no value in any cell: skipped", plural(*rows), if *rows == 1 { "has" } else { "have" })]
    EmptyEnd {
        /// How many there are.
        rows: u64,
    },
    /// A column has the name of an argument that is taken from another column.
    #[error("the column `{column}` is not passed: the argument of that name is taken from `{from}`")]
    ColumnHidden {
        /// The column.
        column: String,
        /// The column from which the argument is taken.
        from: String,
    },
}

/// Reads the whole file and checks it: the arguments in the selected rows, everything else in all rows.
///
/// # Errors
///
/// Fails if the file cannot be read, is malformed, or lacks a column that is wanted. The error lists the first faults.
pub fn validate(
    source: &Source,
    wanted: &Wanted,
    selection: impl Into<Rows>,
) -> Result<Validated, InputError> {
    validate_until(source, wanted, selection, None, &|| false)
}

/// As [`validate`]. With `types`, it also checks every value of a parameter that has a type, on another thread at the
/// same time. Once `stopped` returns true, it soon fails.
///
/// # Errors
///
/// As [`validate`], and if a value cannot be converted to the type of its parameter.
pub fn validate_until(
    source: &Source,
    wanted: &Wanted,
    selection: impl Into<Rows>,
    types: Option<&dyn Types>,
    stopped: &dyn Fn() -> bool,
) -> Result<Validated, InputError> {
    let types = types.filter(|_| wanted.parameters.iter().any(|parameter| parameter.kind.is_some()));
    let Some(types) = types else { return walk(source, wanted, selection.into(), None, None, stopped) };
    let directory = source.at.parent().unwrap_or(&source.at);
    std::thread::scope(|scope| {
        let checking = Checking::start(scope, types, directory, 1 + FURTHER);
        walk(source, wanted, selection.into(), None, Some(checking), stopped)
    })
}

/// Checks the beginning of a file for faults that do not depend on the predictor. Takes milliseconds, so that a faulty
/// file is refused before Python starts.
///
/// # Errors
///
/// Fails if the file cannot be read or its beginning is malformed.
pub(crate) fn glance(source: &Source) -> Result<(), InputError> {
    walk(source, &Wanted::default(), (0..0).into(), Some(GLANCE), None, &|| false).map(drop)
}

/// Reads the file up to the position `stop`, in bytes. The first fault sets `stop` if it is not set.
fn walk(
    source: &Source,
    wanted: &Wanted,
    selection: Rows,
    mut stop: Option<u64>,
    checking: Option<Checking<'_>>,
    stopped: &dyn Fn() -> bool,
) -> Result<Validated, InputError> {
    let reader = Hashing::new(Stoppable { reader: source.open()?, stopped });
    let (mut records, header_fault) = Records::start(source, reader)?;
    let mut checker = Checker {
        source,
        wanted,
        selection,
        plan: Plan::Unbound,
        seen: Seen::default(),
        end: Seen::default(),
        checking,
        misfits: Vec::new(),
    };
    let bound = records.header().map_or(Ok(()), |header| {
        let refuse = |fault: Fault| InputError::new(source, fault.in_header(header.line));
        checker.bind(&header.names, Some(header)).map_err(refuse)
    });
    let mut faults: Vec<_> = header_fault.or(bound.err()).into_iter().collect();
    if !faults.is_empty() {
        stop.get_or_insert(SEARCHED);
    }
    loop {
        let result = match records.next() {
            Ok(Some(record)) => checker.check(&record),
            Ok(None) => break,
            Err(error) => Err(error),
        };
        if result.is_err() || !checker.misfits.is_empty() {
            stop.get_or_insert(records.position() + SEARCHED);
            faults.extend(result.err().into_iter().chain(checker.told_misfits()));
        }
        if stop.is_some_and(|stop| records.position() > stop) || faults.len() > FURTHER {
            break;
        }
    }
    faults.extend(checker.finish_checking());
    // The check of the types lags behind the reading.
    faults.sort_by_key(InputError::line);
    let first = faults.into_iter().take(1 + FURTHER).reduce(|mut first, further| {
        first.add(further);
        first
    });
    match first {
        Some(refusal) => Err(refusal),
        None => checker.finish(records),
    }
}

/// How rows become arguments. Known from the header of a CSV file, or from the first selected object of a JSONL file.
enum Plan {
    Unbound,
    Failed,
    Bound(Binding, ArgumentReader),
}

struct Checker<'a> {
    source: &'a Source,
    wanted: &'a Wanted,
    selection: Rows,
    plan: Plan,
    /// Totals up to the last record that is not blank.
    seen: Seen,
    /// Totals of the blank records after it, which are rows only if a record that is not blank follows.
    end: Seen,
    /// `None` if no parameter has a type.
    checking: Option<Checking<'a>>,
    misfits: Vec<Misfit>,
}

/// Totals of some records.
#[derive(Default)]
struct Seen {
    records: u64,
    unaskable: u64,
    argument_bytes: u64,
}

impl Checker<'_> {
    fn bind(&mut self, columns: &[String], header: Option<&CsvHeader>) -> Result<(), Fault> {
        self.plan = Plan::Failed;
        let binding = Binding::new(self.wanted, columns, header.is_none())?;
        let arguments = ArgumentReader::new(&binding, header, self.source)?;
        if let Some(checking) = &mut self.checking {
            let typed = binding.arguments.iter().filter(|bound| bound.kind.is_some());
            checking.bind(typed.map(|bound| Arc::clone(&bound.parameter)).collect());
        }
        self.plan = Plan::Bound(binding, arguments);
        Ok(())
    }

    fn check(&mut self, record: &RawRecord<'_>) -> Result<(), InputError> {
        self.end.records += 1;
        let checked = if self.selection.contains(record.id) {
            self.check_selected(record)
        } else if self.source.format == Format::Jsonl {
            entries(record.raw).map(drop)
        } else {
            Ok(())
        };
        if !self.source.is_empty(record) {
            let end = std::mem::take(&mut self.end);
            self.seen.records += end.records;
            self.seen.unaskable += end.unaskable;
            self.seen.argument_bytes += end.argument_bytes;
        }
        checked.map_err(|fault| InputError::new(self.source, fault.on_line(record.line)))
    }

    fn check_selected(&mut self, record: &RawRecord<'_>) -> Result<(), Fault> {
        let raw = record.raw;
        if matches!(self.plan, Plan::Unbound) {
            let keys: Vec<_> = entries(raw)?.into_iter().map(|(key, _)| key.into_owned()).collect();
            self.bind(&keys, None)?;
        }
        match &mut self.plan {
            Plan::Bound(_, arguments) => match arguments.read(raw)? {
                Ok(arguments) => {
                    self.end.argument_bytes += length(&arguments);
                    if let Some(checking) = &mut self.checking {
                        self.misfits = checking.take(record.line, arguments);
                    }
                }
                Err(_) => self.end.unaskable += 1,
            },
            _ if self.source.format == Format::Jsonl => drop(entries(raw)?),
            _ => {}
        }
        Ok(())
    }

    /// The misfits found so far, as errors.
    fn told_misfits(&mut self) -> Vec<InputError> {
        let misfits = std::mem::take(&mut self.misfits);
        misfits.into_iter().map(|misfit| self.misfit(misfit)).collect()
    }

    /// Waits until the types are checked, and returns the remaining misfits as errors.
    fn finish_checking(&mut self) -> Vec<InputError> {
        match self.checking.take().map_or(Ok(Vec::new()), Checking::finish) {
            Ok(misfits) => misfits.into_iter().map(|misfit| self.misfit(misfit)).collect(),
            Err(reason) => vec![InputError::new(self.source, Fault::Types(reason))],
        }
    }

    fn misfit(&self, misfit: Misfit) -> InputError {
        let Misfit { line, parameter, value, kind, reason } = misfit;
        let bound = match &self.plan {
            Plan::Bound(binding, _) => binding.arguments.iter().find(|bound| bound.parameter == parameter),
            _ => None,
        };
        let column = bound.map_or(&parameter, |bound| &bound.column).to_string();
        let value = match &value {
            Value::Text(text) => shown(text),
            Value::Json(raw) => shown(raw.get()),
        };
        let unfit = Unfit { column, value, kind: kind.name.clone(), reason };
        InputError::new(self.source, Fault::Misfit(unfit.into()).on_line(line))
    }

    fn finish(self, records: Records<Hashing<Stoppable<'_, File>>>) -> Result<Validated, InputError> {
        let refuse = |fault: Fault| Err(InputError::new(self.source, fault));
        let header = records.header().cloned();
        let (sha256, bytes) = records.into_inner().finish();
        let binding = match self.plan {
            Plan::Bound(binding, arguments) => match arguments.unseen() {
                Some(column) => return refuse(Fault::NamedNowhere(column.to_string())),
                None => binding,
            },
            _ if self.seen.records == 0 => return refuse(Fault::Empty(self.source.format)),
            _ => Binding::default(),
        };
        let mut warnings = Vec::new();
        let (rows, empty) = (self.seen.records, self.end.records);
        let selected = self.selection.up_to(rows);
        if selected.is_empty() {
            warnings.push(Warning::NothingSelected { rows });
        }
        if empty > 0 {
            warnings.push(Warning::EmptyEnd { rows: empty });
        }
        let columns = header.iter().flat_map(|header| &header.names);
        warnings.extend(columns.filter_map(|column| Warning::hidden(&binding, column)));
        Ok(Validated {
            rows,
            empty,
            selected,
            sha256,
            bytes,
            binding,
            header_hash: header.map(|header| RowHash::of(&header.raw)),
            unaskable: self.seen.unaskable,
            argument_bytes: self.seen.argument_bytes,
            warnings,
        })
    }
}

/// The beginning of a value, as one line.
fn shown(value: &str) -> String {
    let mut shown: String = value.chars().take(SHOWN).collect();
    if shown.len() < value.len() {
        shown.push('…');
    }
    shown.replace(['\n', '\r'], " ")
}

impl Warning {
    /// Warns of a column that would be passed to `**row` if its name were not that of an argument from another column.
    fn hidden(binding: &Binding, column: &str) -> Option<Self> {
        let taken = binding.arguments.iter().any(|bound| &*bound.column == column && !bound.extra);
        let bound = binding.arguments.iter().find(|bound| &*bound.parameter == column)?;
        (binding.takes_all && !taken && &*bound.column != column)
            .then(|| Self::ColumnHidden { column: column.to_owned(), from: bound.column.to_string() })
    }
}
