//! Takes the prompts and the source files of a loaded predictor from the interpreter.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pyo3::prelude::*;

use super::helpers;
use super::object::Target;
use crate::fs::{sha256, sha256_of};
use crate::prompt::{Parts, Prompt, Text};
use crate::secret::Secrets;

/// Files by their names, with the SHA-256 of each. One that cannot be read is left out.
///
/// Hashed here, since Python's `hashlib` loads OpenSSL.
pub(super) fn hashed(files: Vec<(String, PathBuf)>) -> BTreeMap<String, String> {
    files.into_iter().filter_map(|(name, path)| Some((name, sha256(&path).ok()?))).collect()
}

/// The prompts of a DSPy module (`None` for any other predictor), the predictor's own code, and the files it was loaded
/// from: `source`, and the modules of the user's own that are imported by now, or that an object leads to.
///
/// Secrets are masked before a text is hashed, so that nothing recorded depends on them.
pub(super) fn prompt(
    requested: &Target,
    target: &Bound<'_, PyAny>,
    source: Option<&str>,
    module: &Bound<'_, PyAny>,
    secrets: &Secrets,
) -> PyResult<Prompt> {
    let py = module.py();
    let sources = helpers::module(py, "sources")?;
    let (object, origin) = match requested {
        Target::Object(object) => (Some(target), object.origin()),
        Target::Spec(_) => (None, None),
    };
    let hashes = match origin {
        Some(origin) => origin.sources.clone(),
        None => hashed(sources.call_method1("loaded", (source, object))?.extract()?),
    };
    let text = |text: String| {
        let masked = secrets.mask(&text);
        Text::new(sha256_of(masked.as_bytes()), &masked)
    };
    let code = match origin {
        Some(origin) => origin.code.clone(),
        None => sources.call_method1("code", (target,))?.extract::<Option<String>>()?,
    };
    let code = code.map(|code| text(code).sha256);
    let mut prompt = Prompt { sources: hashes, code, ..Prompt::default() };
    if let (Target::Object(object), None, Some(code)) = (requested, source, &prompt.code) {
        prompt.sources.insert(object.name().to_owned(), code.clone());
    }
    if module.is_none() {
        return Ok(prompt);
    }
    let predictors: Vec<(String, (String, String, String))> =
        helpers::module(py, "dspy_prompt")?.call_method1("prompts", (module,))?.extract()?;
    for (name, (signature, instructions, demos)) in predictors {
        let parts =
            Parts { signature: text(signature), instructions: text(instructions), demos: text(demos) };
        prompt.predictors.insert(name, parts);
    }
    Ok(prompt)
}
