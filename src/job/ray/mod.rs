//! What a job on a Ray cluster sends there: files of the user's own, the runtime environment, and variables. The
//! connection to the cluster is not here.

mod files;
mod imports;
mod kept;
mod runtime_env;
mod variables;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tempfile::TempDir;

use self::files::{Choosing, Files};
use self::imports::{Place, above_packages};
use self::kept::Kept;
pub(super) use self::variables::as_here;
use self::variables::variables;
use super::error::{ErrorKind, Explain as _, JobError};
use super::paths::JobPaths;
use super::spec::{JobSpec, PredictorSpec, RayAddress, WorkerCount, file_of};
use super::telling::Tell;
use crate::bridge::Description;
use crate::bridge::python::predictor::PredictorObject;
use crate::environment::temporary_directory;
use crate::fs::directory_of;
use crate::observe::Level;
use crate::secret::Secrets;

/// The directory that saved programs are sent in.
const PROGRAMS: &str = "saved_program";

/// What is sent to a cluster, and how it is found there. The copies of the files are removed when it is dropped.
pub(crate) struct Sent {
    /// Ray's runtime environment.
    pub(crate) runtime_env: Map<String, Value>,
    /// The predictor, with the paths that its files have on a node.
    pub(crate) predictor: PredictorSpec,
    /// Variables that are set in the actors, which Ray must not be told.
    pub(crate) variables: Vec<(String, String)>,
    /// The SPEC or the name of the object, as it is here.
    named: String,
    files: Files,
    /// Where files are that were not chosen here, but are in a directory that the user named.
    directory: PathBuf,
    _copies: Option<TempDir>,
}

impl Sent {
    /// Chooses the files that the predictor of a job needs, tells how many and how large they are, and copies them. `job`
    /// names the files that the job writes. Returns `None` if the job makes its calls on this machine. May block.
    ///
    /// # Errors
    ///
    /// Fails if the options do not fit together, if a variable is not set, if the runtime environment or a file cannot
    /// be read, or if the files are too large.
    pub(crate) fn of(
        spec: &JobSpec,
        object: Option<&PredictorObject>,
        job: Option<&JobPaths>,
        tell: &Tell,
    ) -> Result<Option<Self>, JobError> {
        if spec.ray.ray == RayAddress::None {
            return Ok(None);
        }
        let refused = |text: String| Err(JobError::new(ErrorKind::Usage, text));
        if spec.workers.workers != WorkerCount::InProcess {
            return refused("`--ray` cannot be used with `--workers`".to_owned());
        }
        if spec.predictor.bridge != "python" {
            return refused(format!(
                "the bridge `{}` cannot make its calls on a Ray cluster",
                spec.predictor.bridge
            ));
        }
        let (sent, note) = Self::pack(spec, object, job)?;
        tell(Level::Note, &note);
        Ok(Some(sent))
    }

    /// The same, with what there is to tell.
    fn pack(
        spec: &JobSpec,
        object: Option<&PredictorObject>,
        job: Option<&JobPaths>,
    ) -> Result<(Self, String), JobError> {
        let variables = variables(&spec.ray.ray_env, spec.predictor.env_file.as_deref())?;
        let python = spec.predictor.python.as_deref();
        let given = spec.ray.ray_runtime_env.as_deref();
        let mut runtime_env =
            given.map(|file| runtime_env::read(file, python)).transpose()?.unwrap_or_default();
        runtime_env::anchor(&mut runtime_env, &spec.directory);
        let named = spec.predictor.predictor.clone();
        if let Some(directory) = runtime_env.get("working_dir") {
            let directory = directory.as_str().unwrap_or_default();
            let note = format!(
                "Ray: the files are those of the `working_dir` `{directory}`; none is sent beside it"
            );
            let below = spec.directory.join(directory);
            let directory = if below.is_dir() { below } else { spec.directory.clone() };
            let predictor = renamed(&spec.predictor, &spec.directory, |file| {
                Some(file.strip_prefix(&directory).ok()?.to_owned())
            });
            let files = Files::default();
            let sent = Self { runtime_env, predictor, variables, named, files, directory, _copies: None };
            return Ok((sent, note));
        }
        let files = chosen(spec, object, job)?;
        let program = spec.predictor.program.as_deref();
        let predictor = renamed(&spec.predictor, &spec.directory, |file| match program {
            Some(program) if program == file => Some(sent_program(program)),
            _ => Some(files.name_of(file)?.to_owned()),
        });
        let mut copies = None;
        let mut note =
            "Ray: no files are sent; what the predictor imports must be installed on the nodes".to_owned();
        if !files.is_empty() {
            let directory = TempDir::with_prefix_in("tokio-asyncio-bridge-", temporary_directory());
            let directory = directory.explain(ErrorKind::Predictor, &temporary_directory(), || {
                "failed to make a directory for the files that are to be sent to the Ray cluster".to_owned()
            })?;
            files.copy_to(directory.path())?;
            let path = directory.path().to_string_lossy().into_owned();
            runtime_env.insert("working_dir".to_owned(), path.into());
            note = format!("Ray: {} of the predictor's own will be sent to the cluster", files.told());
            copies = Some(directory);
        }
        let directory = spec.directory.clone();
        Ok((Self { runtime_env, predictor, variables, named, files, directory, _copies: copies }, note))
    }

    /// Adds the values of the variables to the texts that must not be shown.
    pub(crate) fn hide(&self, secrets: &mut Secrets) {
        for (name, value) in &self.variables {
            secrets.add_named(name, value);
        }
    }

    /// Names the files of a predictor that was loaded on a node, in the working directory `there`, as they are named
    /// here.
    pub(crate) fn name_as_here(&self, description: &mut Description, there: &Path) {
        let here = |file: &Path| {
            let name = file.strip_prefix(there).ok()?;
            Some(self.files.here(name).map_or_else(|| self.directory.join(name), Path::to_owned))
        };
        description.spec.clone_from(&self.named);
        description.source = description.source.take().map(|file| here(&file).unwrap_or(file));
        if let Some(prompt) = &mut description.prompt {
            let named = |(file, sha256): (String, String)| match here(Path::new(&file)) {
                Some(file) => (file.to_string_lossy().into_owned(), sha256),
                None => (file, sha256),
            };
            prompt.sources = std::mem::take(&mut prompt.sources).into_iter().map(named).collect();
        }
    }
}

/// The files of the user's own that the predictor of a job needs.
fn chosen(
    spec: &JobSpec,
    object: Option<&PredictorObject>,
    job: Option<&JobPaths>,
) -> Result<Files, JobError> {
    let JobSpec { predictor, directory, input, .. } = spec;
    let own = [Some(&**input), predictor.env_file.as_deref(), spec.ray.ray_runtime_env.as_deref()];
    let kept = Kept::of(&own.into_iter().flatten().collect::<Vec<_>>(), job);
    let given = [Some(&predictor.predictor).filter(|_| object.is_none()), Some(&predictor.signature)];
    let mut files: Vec<PathBuf> =
        given.into_iter().flatten().filter_map(|text| Some(directory.join(file_of(text)?.0))).collect();
    files.extend(object.map(PredictorObject::files).into_iter().flatten());
    let modules = given.into_iter().flatten().filter_map(|text| module_of(text));
    let mut places: Vec<Place> = Vec::new();
    let above = files.iter().map(|file| above_packages(directory_of(file)).to_owned());
    // The loader looks there for the modules that a SPEC or an object names.
    let here = (object.is_some() || modules.clone().next().is_some()).then(|| directory.clone());
    for directory in above.chain(here) {
        let place = Place { directory, sent_as: PathBuf::new() };
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places.push(Place { directory: directory.join("src"), sent_as: "src".into() });
    let mut choosing = Choosing::new(places, &kept);
    files.iter().try_for_each(|file| choosing.add_file(file))?;
    for module in modules {
        choosing.add_module(module)?;
    }
    if let Some(program) = &predictor.program {
        choosing.add_as(program, &sent_program(program))?;
    }
    choosing.files()
}

/// The module of a text such as `package.module:name`.
fn module_of(text: &str) -> Option<&str> {
    let (module, name) = text.rsplit_once(':').filter(|_| file_of(text).is_none())?;
    let is_name = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '_');
    (is_name(name) && module.split('.').all(is_name)).then_some(module)
}

fn sent_program(program: &Path) -> PathBuf {
    Path::new(PROGRAMS).join(program.file_name().unwrap_or_default())
}

/// The predictor with the names that `name` gives its files, which are relative to `directory`.
fn renamed(
    predictor: &PredictorSpec,
    directory: &Path,
    name: impl Fn(&Path) -> Option<PathBuf>,
) -> PredictorSpec {
    let mut renamed = predictor.clone();
    for text in [&mut renamed.predictor, &mut renamed.signature] {
        let file = file_of(text).map(|(file, attribute)| (directory.join(file), attribute));
        if let Some((file, attribute)) = file
            && let Some(file) = name(&file)
        {
            *text = format!("{}:{attribute}", file.display());
        }
    }
    if let Some(program) = &mut renamed.program
        && let Some(name) = name(program)
    {
        *program = name;
    }
    renamed
}
