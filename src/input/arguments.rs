//! Makes the arguments of a call from one record, as the binding says.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::binding::{Binding, Bound, Presence};
use super::csv::fields;
use super::fault::Fault;
use super::jsonl::{entries, text};
use super::records::CsvHeader;
use super::source::Source;
use crate::error::CallError;
use crate::row::{Arguments, Value};

/// Reads arguments from records. Validation and the run share it, so the run can read whatever validation accepted.
pub(super) enum ArgumentReader {
    Csv {
        delimiter: u8,
        /// For each argument its parameter, the position of its column, and the binding of a named parameter.
        columns: Vec<(Arc<str>, usize, Option<Bound>)>,
        question: Option<usize>,
        record: csv::StringRecord,
    },
    Jsonl {
        binding: Binding,
        /// Columns that the user named and no row has had yet.
        unseen: Vec<Arc<str>>,
    },
}

impl ArgumentReader {
    /// Refuses a header in which a column that the predictor uses occurs more than once.
    pub(super) fn new(binding: &Binding, header: Option<&CsvHeader>, source: &Source) -> Result<Self, Fault> {
        let Some(header) = header else {
            let named = binding.arguments.iter().filter(|bound| bound.presence == Presence::SomeRow);
            let unseen = named.map(|bound| &bound.column).chain(&binding.id_column).cloned().collect();
            return Ok(Self::Jsonl { binding: binding.clone(), unseen });
        };
        let names = header.names.iter().map(String::as_str);
        refuse_duplicates(names.clone().filter(|name| binding.uses(name)))?;
        let position = |column: &str| header.names.iter().position(|name| name == column);
        let bound = binding.arguments.iter();
        let mut columns: Vec<_> = bound
            .filter_map(|bound| {
                Some((Arc::clone(&bound.parameter), position(&bound.column)?, Some(bound.clone())))
            })
            .collect();
        let others = names.enumerate().filter(|(_, name)| binding.passes(name));
        columns.extend(others.map(|(index, name)| (Arc::from(name), index, None)));
        let question = binding.question.as_deref().and_then(position);
        Ok(Self::Csv { delimiter: source.delimiter, columns, question, record: csv::StringRecord::new() })
    }

    /// The arguments of a record, or the error with which its row fails without a call. The outer error refuses the
    /// file.
    pub(super) fn read(&mut self, raw: &str) -> Result<Result<Arguments, CallError>, Fault> {
        match self {
            Self::Csv { delimiter, columns, question, record } => {
                fields(raw, *delimiter, record);
                if question.and_then(|index| record.get(index)).is_some_and(is_blank) {
                    return Ok(Err(blank()));
                }
                let value = |index: usize| Value::Text(record.get(index).unwrap_or_default().to_owned());
                let argument = |(name, index, bound): &(Arc<str>, usize, Option<Bound>)| {
                    let value = fitting(bound.as_ref(), value(*index), true)?;
                    Ok(value.map(|value| (Arc::clone(name), value)))
                };
                Ok(columns.iter().filter_map(|column| argument(column).transpose()).collect())
            }
            Self::Jsonl { binding, unseen } => {
                let entries = entries(raw)?;
                unseen.retain(|column| !entries.iter().any(|(key, _)| *key == **column));
                read_entries(binding, &entries)
            }
        }
    }

    /// A column that the user named and no row has had so far.
    pub(super) fn unseen(&self) -> Option<&Arc<str>> {
        match self {
            Self::Csv { .. } => None,
            Self::Jsonl { unseen, .. } => unseen.first(),
        }
    }
}

fn read_entries(
    binding: &Binding,
    entries: &[(Cow<'_, str>, &RawValue)],
) -> Result<Result<Arguments, CallError>, Fault> {
    refuse_duplicates(entries.iter().map(|(key, _)| &**key).filter(|key| binding.uses(key)))?;
    let find = |column: &str| entries.iter().find(|(key, _)| key == column).map(|(_, value)| *value);
    let mut chosen = Vec::with_capacity(entries.len());
    for bound in &binding.arguments {
        match find(&bound.column) {
            Some(value) => chosen.push((Arc::clone(&bound.parameter), value, Some(bound))),
            None if bound.presence == Presence::EveryRow => {
                return Err(Fault::MissingKey(bound.column.to_string()));
            }
            None => {}
        }
    }
    let others = entries.iter().filter(|(key, _)| binding.passes(key));
    chosen.extend(others.map(|(key, value)| (Arc::from(&**key), *value, None)));
    let question = binding.question.as_deref().and_then(find).map(RawValue::get);
    if question
        .is_some_and(|raw| raw == "null" || (is_string(raw) && text(raw).is_some_and(|text| is_blank(&text))))
    {
        return Ok(Err(blank()));
    }
    let argument = |(name, raw, bound): (Arc<str>, &RawValue, Option<&Bound>)| {
        let value = fitting(bound, value(&name, raw)?, false)?;
        Ok(value.map(|value| (name, value)))
    };
    Ok(chosen.into_iter().filter_map(|chosen| argument(chosen).transpose()).collect())
}

/// What a parameter with a type is given for a blank or null value: null if the type allows it, nothing if the
/// parameter has a default; otherwise the row fails. All other values pass unchanged.
fn fitting(bound: Option<&Bound>, value: Value, csv: bool) -> Result<Option<Value>, CallError> {
    let Some((bound, kind)) = bound.and_then(|bound| Some((bound, bound.kind.as_ref()?))) else {
        return Ok(Some(value));
    };
    let (null, blank) = match &value {
        Value::Text(text) => (false, is_blank(text)),
        Value::Json(raw) => (raw.get() == "null", false),
    };
    // CSV has no way to write null other than a blank field.
    let keeps = kind.takes_blank && !(csv && kind.takes_null);
    match (null, blank) {
        (false, false) => Ok(Some(value)),
        (true, _) if kind.takes_null => Ok(Some(value)),
        (_, true) if keeps => Ok(Some(value)),
        (_, true) if kind.takes_null => Ok(Some(Value::Json(RawValue::NULL.to_owned()))),
        _ if bound.presence != Presence::EveryRow => Ok(None),
        _ => Err(CallError::Input(format!(
            "`{}` is blank, which is not a valid `{}`",
            bound.column, kind.name
        ))),
    }
}

fn value(name: &str, raw: &RawValue) -> Result<Value, CallError> {
    if !is_string(raw.get()) {
        return Ok(Value::Json(raw.to_owned()));
    }
    let no_text =
        || CallError::Input(format!("`{name}` is not valid text: it escapes half a surrogate pair"));
    Ok(Value::Text(text(raw.get()).ok_or_else(no_text)?.into_owned()))
}

fn is_string(raw: &str) -> bool {
    raw.starts_with('"')
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

fn blank() -> CallError {
    CallError::Input("the question is blank".to_owned())
}

fn refuse_duplicates<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), Fault> {
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    match names.chunk_by(|a, b| a == b).find(|same| same.len() > 1) {
        Some(same) => Err(Fault::DuplicateColumn { column: same[0].to_owned(), count: same.len() }),
        None => Ok(()),
    }
}
