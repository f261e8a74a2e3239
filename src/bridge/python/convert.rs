//! Converts Python values and exceptions to answers and errors, on the event loop's thread. Every failure is a
//! [`CallError`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyString, PyType};
use serde_json::value::RawValue;

use super::helpers;
use crate::bridge::Nulled;
use crate::error::{CallError, Failure, FailureKind, Unanswered};
use crate::outcome::Answer;
use crate::row::Value;
use crate::secret::Secrets;
use crate::usage::Usage;

/// The longest wait that a server may ask for, in seconds. More than a day is taken for junk.
const LONGEST_RETRY_AFTER_S: f64 = 86_400.0;

/// The Python functions that conversion uses, looked up once.
#[derive(Debug)]
pub(in crate::bridge) struct Converter {
    fields: Py<PyAny>,
    /// A value with what its call used.
    told: Py<PyType>,
    escaped: Py<PyAny>,
    not_an_answer: Py<PyType>,
    failure: Py<PyAny>,
    core: Py<PyAny>,
    fault: Py<PyAny>,
    request_id: Py<PyAny>,
    usage: Py<PyAny>,
    message: Py<PyAny>,
    raised: Py<PyAny>,
    answer: Arc<str>,
    secrets: Secrets,
    nulled: Arc<NulledCount>,
}

/// Counts the numbers in answers that became null because JSON cannot hold them (NaN, the infinities).
#[derive(Debug, Default)]
pub(in crate::bridge) struct NulledCount(Mutex<Option<Nulled>>);

impl NulledCount {
    fn add(&self, numbers: u64, row: u64) {
        let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = count.get_or_insert(Nulled { numbers: 0, first_row: row });
        count.numbers += numbers;
        count.first_row = row.min(count.first_row);
    }

    /// The numbers counted so far.
    pub(super) fn get(&self) -> Option<Nulled> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Converter {
    pub(in crate::bridge) fn new(
        py: Python<'_>,
        secrets: Secrets,
        nulled: Arc<NulledCount>,
    ) -> PyResult<Self> {
        let (results, traces) = (helpers::module(py, "results")?, helpers::module(py, "traces")?);
        let failure = helpers::module(py, "failure")?;
        Ok(Self {
            fields: results.getattr("fields")?.unbind(),
            told: results.getattr("Told")?.cast_into::<PyType>()?.unbind(),
            escaped: results.getattr("escaped")?.unbind(),
            not_an_answer: results.getattr("NotAnAnswer")?.cast_into::<PyType>()?.unbind(),
            failure: failure.getattr("failure")?.unbind(),
            core: failure.getattr("core")?.unbind(),
            fault: failure.getattr("fault_of")?.unbind(),
            request_id: helpers::module(py, "reply")?.getattr("request_id")?.unbind(),
            usage: results.getattr("usage")?.unbind(),
            message: traces.getattr("reasons")?.unbind(),
            raised: traces.getattr("raised")?.unbind(),
            answer: "answer".into(),
            secrets,
            nulled,
        })
    }

    /// The answer that a returned value makes for the row.
    pub(in crate::bridge) fn answer(&self, value: &Bound<'_, PyAny>, row: u64) -> Result<Answer, CallError> {
        let text = match value.cast_exact::<PyString>() {
            Ok(text) => self.text(text),
            Err(_) => return self.structured(value, row),
        };
        match text {
            Ok(text) => Ok(Answer {
                fields: vec![(Arc::clone(&self.answer), Value::Text(text))],
                ..Answer::default()
            }),
            Err(error) => Err(self.error(&error, value.py())),
        }
    }

    /// What a returned value that is kept as it is tells of its call, and the value without that.
    pub(super) fn kept<'py>(&self, value: Bound<'py, PyAny>) -> (Bound<'py, PyAny>, Answer) {
        // The common values that tell nothing, for asking costs more than the rest of the call.
        if value.is_none()
            || value.is_exact_instance_of::<PyString>()
            || value.is_exact_instance_of::<PyDict>()
            || value.is_exact_instance_of::<PyFloat>()
            || value.is_exact_instance_of::<PyInt>()
            || value.is_exact_instance_of::<PyBool>()
        {
            return (value, Answer::default());
        }
        let answer = self.told(Vec::new(), &value);
        let is_told = value.is_instance(self.told.bind(value.py())).unwrap_or(false);
        let inner = if is_told { value.getattr("value").ok() } else { None };
        (inner.unwrap_or(value), answer)
    }

    /// The string. Lone surrogates, which UTF-8 cannot hold, are escaped, so that a paid answer is never lost.
    fn text(&self, text: &Bound<'_, PyString>) -> PyResult<String> {
        match text.to_str() {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => self.escaped.bind(text.py()).call1((text,))?.extract(),
        }
    }

    fn structured(&self, value: &Bound<'_, PyAny>, row: u64) -> Result<Answer, CallError> {
        let py = value.py();
        let columns: PyResult<(Vec<Column>, u64)> =
            self.fields.bind(py).call1((value,)).and_then(|columns| columns.extract());
        let (columns, nulled) = columns.map_err(|error| {
            if error.is_instance(py, self.not_an_answer.bind(py)) {
                CallError::Output(self.secrets.mask(&self.message_of(&error, py)).into_owned())
            } else {
                self.error(&error, py)
            }
        })?;
        let field = |(name, text, is_json): Column| {
            let value = if is_json {
                RawValue::from_string(text)
                    .map(Value::Json)
                    .map_err(|error| CallError::Output(error.to_string()))?
            } else {
                Value::Text(text)
            };
            Ok((name.into(), value))
        };
        let fields = columns.into_iter().map(field).collect::<Result<_, CallError>>()?;
        if nulled > 0 {
            self.nulled.add(nulled, row);
        }
        Ok(self.told(fields, value))
    }

    /// The answer, with what the value tells about its requests.
    fn told(&self, fields: Vec<(Arc<str>, Value)>, value: &Bound<'_, PyAny>) -> Answer {
        let (usage, told) = self.usage_of(value).unzip();
        let [finish_reason, request_id] = told.unwrap_or_default();
        Answer { fields, usage, finish_reason, request_id, ..Answer::default() }
    }

    /// Tokens, the last finish reason and the last request's id, if the value (a prediction or an exception) tells them
    /// and they can be read.
    fn usage_of(&self, value: &Bound<'_, PyAny>) -> Option<(Usage, [Option<Arc<str>>; 2])> {
        type Told = (u64, u64, u64, Option<f64>, Option<String>, Option<String>);
        let told = self.usage.bind(value.py()).call1((value,)).ok()?;
        let (input, output, calls, cost_usd, finish_reason, request_id) =
            told.extract::<Option<Told>>().ok()??;
        // One cost that is not finite would make the sum of all costs meaningless, and `--max-cost` with it.
        let cost_usd = cost_usd.filter(|cost| cost.is_finite() && *cost >= 0.0);
        Some((
            Usage { input, output, calls, cost_usd },
            [finish_reason, request_id].map(|text| text.map(Arc::from)),
        ))
    }

    fn message_of(&self, error: &PyErr, py: Python<'_>) -> String {
        let message = self.message.bind(py).call1((error.value(py),)).and_then(|text| text.extract());
        message.unwrap_or_else(|_| "<its text cannot be read>".to_owned())
    }

    /// The error for an exception that left the predictor.
    pub(in crate::bridge) fn error(&self, error: &PyErr, py: Python<'_>) -> CallError {
        let Carried { kind, status, retry_after, unanswered } = self.carried(error, py);
        // `value` would lack the traceback: before Python 3.12 an exception caught here has to be given it.
        let raised = error.clone_ref(py).into_value(py);
        // An exception that only wraps another tells where it was raised, and nothing else.
        let core =
            self.core.bind(py).call1((&raised,)).map_or_else(|_| error.clone_ref(py), PyErr::from_value);
        let traceback = self.raised.bind(py).call1((&raised, core.value(py)));
        let traceback: Option<String> = traceback.ok().and_then(|text| text.extract().ok());
        let fault = self.fault.bind(py).call1((error.value(py),));
        let fault: Option<(String, String)> = fault.ok().and_then(|fault| fault.extract().ok());
        let (class, message) = fault.unwrap_or_else(|| {
            let class = core.get_type(py).name();
            let class = class.map_or_else(|_| "Exception".to_owned(), |name| name.to_string());
            (class, self.message_of(&core, py))
        });
        let own = self.request_id.bind(py).call1((error.value(py),));
        let own = own.ok().and_then(|id| id.extract::<Option<String>>().ok()?);
        let (usage, told) = self.usage_of(error.value(py).as_any()).unzip();
        let [_, last] = told.unwrap_or_default();
        // An error that is about no request is about the last reply.
        let last = last.filter(|_| status.is_none() && unanswered.is_none());
        let request_id = own.map(Arc::from).or(last);
        let mut message = self.secrets.mask(&message).into_owned();
        // Not every library says the status: DSPy's text is the server's.
        if let Some(status) = status.filter(|status| !message.contains(&status.to_string())) {
            message += &format!(" (HTTP {status})");
        }
        CallError::Predictor(Box::new(Failure {
            status,
            retry_after,
            usage,
            unanswered,
            request_id: request_id.map(|id| self.secrets.mask(&id).into()),
            traceback: traceback.map(|text| self.secrets.mask(&text).into_owned()),
            ..Failure::new(class, kind, message)
        }))
    }

    /// What the exception carries, see `failure.py` and `reply.py`.
    fn carried(&self, error: &PyErr, py: Python<'_>) -> Carried {
        type Raw = (String, Option<u16>, Option<f64>, Option<String>);
        let told = self.failure.bind(py).call1((error.value(py),));
        let told = told.and_then(|told| told.extract::<Raw>());
        let Ok((kind, status, retry_after, unanswered)) = told else { return Carried::default() };
        let kind = match kind.as_str() {
            "permanent" => FailureKind::Permanent,
            "unavailable" => FailureKind::Unavailable,
            "throttled" => FailureKind::Throttled,
            "doubtful" => FailureKind::Doubtful,
            "forbidden" => FailureKind::Forbidden,
            "fatal" => FailureKind::Fatal,
            _ => FailureKind::Transient,
        };
        let unanswered = match unanswered.as_deref() {
            Some("timed out") => Some(Unanswered::TimedOut),
            Some(_) => Some(Unanswered::CutOff),
            None => None,
        };
        let retry_after =
            retry_after.filter(|seconds| *seconds > 0.0).map(|seconds| seconds.min(LONGEST_RETRY_AFTER_S));
        Carried { kind, status, retry_after: retry_after.map(Duration::from_secs_f64), unanswered }
    }
}

/// The name of a field, its text, and whether that is JSON.
type Column = (String, String, bool);

/// What an exception carries.
struct Carried {
    kind: FailureKind,
    status: Option<u16>,
    retry_after: Option<Duration>,
    unanswered: Option<Unanswered>,
}

impl Default for Carried {
    fn default() -> Self {
        Self { kind: FailureKind::Transient, status: None, retry_after: None, unanswered: None }
    }
}
