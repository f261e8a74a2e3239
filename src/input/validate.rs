//! Reads a whole file before the first paid call and refuses whatever is wrong with it. Not for keeping its rows.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use super::arguments::ArgumentReader;
use super::binding::{Binding, Wanted};
use super::error::{Fault, InputError, Unfit};
use super::jsonl::entries;
use super::records::{Header, Record, Records};
use super::source::{Format, Source};
use super::types::{Checking, Misfit, Types};
use crate::fs::Hashing;
use crate::policy::rate::length;
use crate::row::{RowHash, Value};

/// How many faults beyond the first are told.
const FURTHER: usize = 4;
/// How many bytes are searched for them.
const SEARCHED: u64 = 64 << 20;

/// How many characters of a value are told.
const SHOWN: usize = 60;

/// How many bytes are looked at before it is known what the predictor takes.
const GLANCE: u64 = 16 << 20;

/// What is known of a file that may be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Validated {
    /// Data records in the file, but for the empty ones at its end.
    pub rows: u64,
    /// Records at the end of the file in which every cell is empty: no rows.
    pub empty: u64,
    /// The ids to be run: the selection, cut at the end of the file.
    pub selected: Range<u64>,
    /// SHA-256 of the file's bytes, in lowercase hexadecimal.
    pub sha256: String,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// How its rows become arguments.
    pub binding: Binding,
    /// Hash of the header record; CSV only.
    pub header_hash: Option<RowHash>,
    /// Selected rows that fail without a call: the question is blank or null, or an argument is no text.
    pub unaskable: u64,
    /// Bytes of text in the arguments of the selected rows.
    pub argument_bytes: u64,
    /// What the user should know and need not mend.
    pub warnings: Vec<Warning>,
}

/// Something odd that does not stop a run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// The selection is empty, or lies beyond the file.
    #[error("no row is selected: the input has {rows} row{}", if *rows == 1 { "" } else { "s" })]
    NothingSelected {
        /// Data records in the file.
        rows: u64,
    },
    /// The file ends in records of which every cell is empty, as spreadsheets write them.
    #[error("{rows} row{} at the end of the input {} no value in any cell: skipped", if *rows == 1 { "" } else { "s" }, if *rows == 1 { "has" } else { "have" })]
    EmptyEnd {
        /// How many there are.
        rows: u64,
    },
    /// A column's name is that of an argument which another column gives.
    #[error("the column `{column}` is not passed: the argument of that name is taken from `{from}`")]
    ColumnHidden {
        /// The column.
        column: String,
        /// The column the argument is taken from.
        from: String,
    },
}

/// Streams the whole file: refuses it, or tells how to run it. Arguments are checked in the selected rows only,
/// everything else in all.
///
/// # Errors
///
/// Fails with the first fault of the file, where the columns do not fit what is wanted, or where the file cannot be
/// read.
pub fn validate(source: &Source, wanted: &Wanted, selection: Range<u64>) -> Result<Validated, InputError> {
    walk(source, wanted, selection, None, None)
}

/// The same, and every value of a parameter with a type is checked to be one, on another thread meanwhile.
///
/// # Errors
///
/// As [`validate`], and with the first value that is none of its type.
pub fn validate_typed(
    source: &Source,
    wanted: &Wanted,
    selection: Range<u64>,
    types: &dyn Types,
) -> Result<Validated, InputError> {
    if wanted.parameters.iter().all(|parameter| parameter.kind.is_none()) {
        return validate(source, wanted, selection);
    }
    let directory = source.at.parent().unwrap_or(&source.at);
    std::thread::scope(|scope| {
        let checking = Checking::start(scope, types, directory, 1 + FURTHER);
        walk(source, wanted, selection, None, Some(checking))
    })
}

/// Refuses what is wrong with the beginning of a file whatever the predictor takes: in milliseconds, before Python starts.
///
/// # Errors
///
/// Fails with the fault that was found.
pub fn glance(source: &Source) -> Result<(), InputError> {
    walk(source, &Wanted::default(), 0..0, Some(GLANCE), None).map(drop)
}

/// `stop` is where to end the search, in bytes; a fault sets it.
fn walk(
    source: &Source,
    wanted: &Wanted,
    selection: Range<u64>,
    mut stop: Option<u64>,
    checking: Option<Checking<'_>>,
) -> Result<Validated, InputError> {
    let reader = Hashing::new(source.open()?);
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
    // The types are checked behind the reading.
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

/// How rows become arguments, once it is known: from the header (CSV), or the first selected object (JSONL).
enum Plan {
    Unbound,
    Failed,
    Bound(Binding, ArgumentReader),
}

struct Checker<'a> {
    source: &'a Source,
    wanted: &'a Wanted,
    selection: Range<u64>,
    plan: Plan,
    /// Up to the last record with a value.
    seen: Seen,
    /// The empty records behind it, which are rows only if another one follows.
    end: Seen,
    /// None where no parameter has a type.
    checking: Option<Checking<'a>>,
    misfits: Vec<Misfit>,
}

/// What was seen of some records.
#[derive(Default)]
struct Seen {
    records: u64,
    unaskable: u64,
    argument_bytes: u64,
}

impl Checker<'_> {
    fn bind(&mut self, columns: &[String], header: Option<&Header>) -> Result<(), Fault> {
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

    fn check(&mut self, record: &Record<'_>) -> Result<(), InputError> {
        self.end.records += 1;
        let checked = if self.selection.contains(&record.id) {
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

    fn check_selected(&mut self, record: &Record<'_>) -> Result<(), Fault> {
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

    /// What was found amiss with types so far.
    fn told_misfits(&mut self) -> Vec<InputError> {
        let misfits = std::mem::take(&mut self.misfits);
        misfits.into_iter().map(|misfit| self.misfit(misfit)).collect()
    }

    /// Waits for the check of the types.
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

    fn finish(self, records: Records<Hashing<File>>) -> Result<Validated, InputError> {
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
        let selected = self.selection.start.min(rows)..self.selection.end.min(rows);
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

/// The beginning of a value, on one line.
fn shown(value: &str) -> String {
    let mut shown: String = value.chars().take(SHOWN).collect();
    if shown.len() < value.len() {
        shown.push('…');
    }
    shown.replace(['\n', '\r'], " ")
}

impl Warning {
    /// For a column that a `**row` predictor would get, were its name not another column's argument.
    fn hidden(binding: &Binding, column: &str) -> Option<Self> {
        let taken = binding.arguments.iter().any(|bound| &*bound.column == column && !bound.extra);
        let bound = binding.arguments.iter().find(|bound| &*bound.parameter == column)?;
        (binding.takes_all && !taken && &*bound.column != column)
            .then(|| Self::ColumnHidden { column: column.to_owned(), from: bound.column.to_string() })
    }
}
