//! The types of a predictor's parameters, by which values are checked and converted: see `typed.py`.

use std::path::Path;
use std::sync::Arc;

use pyo3::prelude::*;

use super::helpers;
use crate::input::{Kind, Misfit, TypedValue, Types};
use crate::row::Value;

/// The parameters that are annotated with a type.
#[derive(Debug, Default)]
pub(crate) struct ParameterTypes(Vec<ParameterType>);

#[derive(Debug)]
struct ParameterType {
    parameter: Arc<str>,
    kind: Arc<Kind>,
    /// The `Typed` of `typed.py`.
    typed: Py<PyAny>,
}

/// Makes values of one type.
#[derive(Debug)]
pub(super) struct Maker {
    text: Py<PyAny>,
    json: Py<PyAny>,
}

impl Maker {
    pub(super) fn make<'py>(&self, py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
        match value {
            Value::Text(text) => self.text.bind(py).call1((text,)),
            Value::Json(raw) => self.json.bind(py).call1((raw.get(),)),
        }
    }
}

impl ParameterTypes {
    pub(super) fn of(types: &Bound<'_, PyAny>) -> PyResult<Self> {
        let types: Vec<(String, Bound<'_, PyAny>)> = types.extract()?;
        let of = |(parameter, typed): (String, Bound<'_, PyAny>)| {
            let kind = Kind {
                name: typed.getattr("name")?.extract()?,
                takes_null: typed.getattr("takes_null")?.extract()?,
                takes_blank: typed.getattr("takes_blank")?.extract()?,
            };
            Ok(ParameterType { parameter: parameter.into(), kind: kind.into(), typed: typed.unbind() })
        };
        Ok(Self(types.into_iter().map(of).collect::<PyResult<_>>()?))
    }

    /// Whether no parameter has a type.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The parameter's type, if it has one.
    pub(crate) fn kind(&self, parameter: &str) -> Option<Arc<Kind>> {
        self.find(parameter).map(|found| Arc::clone(&found.kind))
    }

    /// Makes the parameter's values. None if it has no type.
    pub(super) fn maker(&self, py: Python<'_>, parameter: &str) -> PyResult<Option<Maker>> {
        let Some(found) = self.find(parameter) else { return Ok(None) };
        let method = |name| Ok::<_, PyErr>(found.typed.bind(py).getattr(name)?.unbind());
        Ok(Some(Maker { text: method("text")?, json: method("json")? }))
    }

    fn find(&self, parameter: &str) -> Option<&ParameterType> {
        self.0.iter().find(|known| &*known.parameter == parameter)
    }

    fn misfits(&self, py: Python<'_>, batch: &[TypedValue]) -> PyResult<Vec<Misfit>> {
        let mut found = Vec::new();
        for parameter in &self.0 {
            let own: Vec<_> = batch.iter().filter(|value| value.parameter == parameter.parameter).collect();
            if own.is_empty() {
                continue;
            }
            let values: Vec<_> = own
                .iter()
                .map(|value| match &value.value {
                    Value::Text(text) => (text.as_str(), false),
                    Value::Json(raw) => (raw.get(), true),
                })
                .collect();
            let misfits: Vec<(usize, String)> =
                parameter.typed.bind(py).call_method1("misfits", (values,))?.extract()?;
            found.extend(misfits.into_iter().map(|(place, reason)| Misfit {
                line: own[place].line,
                parameter: Arc::clone(&parameter.parameter),
                value: own[place].value.clone(),
                kind: Arc::clone(&parameter.kind),
                reason,
            }));
        }
        Ok(found)
    }
}

impl Types for ParameterTypes {
    fn check(
        &self,
        directory: &Path,
        batches: &mut (dyn Iterator<Item = Vec<TypedValue>> + Send),
        told: &mut dyn FnMut(Misfit) -> bool,
    ) -> Result<(), String> {
        // One attachment for the whole file.
        let checked = Python::attach(|py| {
            for parameter in &self.0 {
                parameter.typed.bind(py).call_method1("look_in", (directory,))?;
            }
            while let Some(batch) = py.detach(|| batches.next()) {
                if !self.misfits(py, &batch)?.into_iter().all(&mut *told) {
                    break;
                }
            }
            Ok::<_, PyErr>(())
        });
        checked.map_err(|error| {
            let explained = Python::attach(|py| {
                let loader = helpers::module(py, "loader")?;
                loader.call_method1("explain", (error.value(py),))?.extract::<String>()
            });
            explained.unwrap_or_else(|_| error.to_string())
        })
    }
}
