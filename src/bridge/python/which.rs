//! Chooses the Python executable, and checks that it fits the libpython that is linked in.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::environment;

/// Run by the executable in a process of its own: `python3` may be a shim, and `CPython` accepts a path that does not
/// exist without an error.
const ASK: &str = "import sys
print(sys.executable)
print('%d.%d' % sys.version_info[:2])
print(*sys.builtin_module_names)";

/// Why a Python executable cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PythonError {
    /// There is no Python at the path that was asked for.
    #[error("failed to run `{}`: {reason}\nhint: {hint}", .python.display())]
    NotFound {
        /// The path.
        python: PathBuf,
        /// The reason.
        reason: String,
        /// The remedy.
        hint: &'static str,
    },
    /// The virtual environment belongs to another Python version than the one linked in.
    #[error(
        "`{}` is Python {found}, this program is linked to libpython {linked}\nhint: make the virtual environment with Python {linked}, or build again with `PYO3_PYTHON={}`",
        .python.display(), .python.display()
    )]
    Version {
        /// The executable.
        python: PathBuf,
        /// Its version, `major.minor`.
        found: String,
        /// The version linked in.
        linked: String,
    },
    /// Its version fits, but its standard library belongs to another build.
    #[error(
        "`{}` is another build of Python {version} than `{}`, which this program is linked to: it brings no `{module}` \
         that could be loaded\nhint: {remedy}build again with `PYO3_PYTHON={}`",
        .python.display(), .library.display(), .python.display()
    )]
    Build {
        /// The executable.
        python: PathBuf,
        /// The version of both, `major.minor`.
        version: String,
        /// The library that is linked in.
        library: PathBuf,
        /// A module that only the executable has built in.
        module: String,
        /// What else can be done, for the hint.
        remedy: String,
    },
}

impl PythonError {
    /// The executable, if it can be run.
    pub fn executable(&self) -> Option<&Path> {
        match self {
            Self::NotFound { .. } => None,
            Self::Version { python, .. } | Self::Build { python, .. } => Some(python),
        }
    }
}

/// The interpreter to start. It is the first of: the option, `$VIRTUAL_ENV`, `.venv` in this directory or one above it,
/// `python3` on the path. If that last one does not fit, it is the one that the linked library belongs to.
pub fn choose(option: Option<&Path>) -> PathBuf {
    if let Some(python) = option {
        return python.to_owned();
    }
    // Whether it exists is not checked: an environment that was activated and is gone must be reported.
    if let Some(environment) =
        environment::variable("VIRTUAL_ENV").filter(|environment| !environment.is_empty())
    {
        return PathBuf::from(environment).join("bin/python");
    }
    let here = std::env::current_dir().unwrap_or_default();
    let local = here.ancestors().map(|directory| directory.join(".venv/bin/python"));
    local.into_iter().find(|python| python.exists()).unwrap_or_else(|| {
        let python = PathBuf::from("python3");
        if fitting(&python).is_ok() { python } else { of_library().unwrap_or(python) }
    })
}

/// The executable of a Python that fits, as that Python reports it.
pub(super) fn fitting(python: &Path) -> Result<PathBuf, PythonError> {
    let not_found = |reason: String| PythonError::NotFound {
        python: python.to_owned(),
        reason,
        hint: "give the virtual environment's interpreter with `--python PATH`, or run `make setup`",
    };
    let mut command = Command::new(python);
    command.args(["-I", "-S", "-c", ASK]);
    let output = environment::output(&mut command).map_err(|error| not_found(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let (true, Some(executable), Some(found)) = (output.status.success(), lines.next(), lines.next()) else {
        return Err(not_found(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    };
    let (executable, found, linked) = (PathBuf::from(executable), found.to_owned(), linked_version());
    if found != linked {
        return Err(PythonError::Version { python: executable, found, linked });
    }
    // A module that one build has built in, another loads from its standard library: Debian's has no file for `math`.
    let within = raw::built_in();
    match lines.next().unwrap_or_default().split(' ').find(|name| !within.contains(*name)) {
        Some(module) if !module.is_empty() => {
            let remedy =
                |python: PathBuf| format!("make the virtual environment with `{}`, or ", python.display());
            Err(PythonError::Build {
                python: executable,
                version: linked,
                module: module.to_owned(),
                library: library().unwrap_or_else(|| PathBuf::from("libpython")),
                remedy: of_library().map(remedy).unwrap_or_default(),
            })
        }
        _ => Ok(executable),
    }
}

/// The version of the libpython this program is linked to, `major.minor`.
pub fn linked_version() -> String {
    let version = raw::linked_version();
    version.splitn(3, '.').take(2).collect::<Vec<_>>().join(".")
}

/// The file of the linked libpython. None if the system does not tell, or there is no such file.
fn library() -> Option<PathBuf> {
    let maps = std::fs::read("/proc/self/maps").ok()?;
    let paths = maps.split(|byte| *byte == b'\n').filter_map(|line| {
        let path = &line[line.iter().position(|byte| *byte == b'/')?..];
        Some(Path::new(std::ffi::OsStr::from_bytes(path)))
    });
    let is_it =
        |path: &&Path| path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"libpython3"));
    paths.into_iter().find(is_it).map(Path::to_owned)
}

/// The interpreter that the linked library was installed with. It is in `bin`, beside or above the library's directory.
fn of_library() -> Option<PathBuf> {
    let (library, name) = (library()?, format!("bin/python{}", linked_version()));
    let python = library.ancestors().skip(2).map(|directory| directory.join(&name));
    python.into_iter().find(|python| python.exists())
}

#[allow(unsafe_code)]
mod raw {
    //! Asks the linked library about itself before the interpreter runs.

    use std::ffi::CStr;

    use pyo3::ffi;

    use std::collections::BTreeSet;

    pub(super) fn linked_version() -> String {
        // SAFETY: `Py_GetVersion` may be called before initialization and returns a static string.
        let version = unsafe { CStr::from_ptr(ffi::Py_GetVersion()) };
        version.to_string_lossy().into_owned()
    }

    /// The modules that are built in.
    pub(super) fn built_in() -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        // SAFETY: the table is static, ends with an entry without a name, and is only read; nobody here extends it.
        unsafe {
            let mut entry = ffi::PyImport_Inittab.cast_const();
            while !(*entry).name.is_null() {
                names.insert(CStr::from_ptr((*entry).name).to_string_lossy().into_owned());
                entry = entry.add(1);
            }
        }
        names
    }
}
