//! Links the binaries to the libpython that `pyo3` was built for, and compiles the Python files of the bridge for it.
//!
//! Without the run path nothing fails: the loader silently binds another libpython of the same minor version.

use std::path::Path;
use std::process::Command;
use std::{env, fs, io};

const FOLDER: &str = "src/bridge/python";
/// Compiles the Python files of one folder into another.
const COMPILE: &str = "
import pathlib, py_compile, sys
for file in pathlib.Path(sys.argv[1]).glob('*.py'):
    py_compile.compile(
        file, f'{sys.argv[2]}/{file.stem}.pyc', f'_tokio_asyncio_bridge/{file.name}', doraise=True,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
";

fn main() -> io::Result<()> {
    pyo3_build_config::add_libpython_rpath_link_args();
    println!("cargo:rerun-if-changed=build.rs");
    // With the list of the files. The folder itself also changes when Python writes its caches there.
    println!("cargo:rerun-if-changed={FOLDER}/helpers.rs");
    let Some(out) = env::var_os("OUT_DIR") else { return Err(io::ErrorKind::NotFound.into()) };
    compile(Path::new(&out))
}

/// Compiles the Python files, so that the program need not do it at each start. An empty file stands for one that was
/// not compiled: a build for another machine may have no Python to run.
fn compile(out: &Path) -> io::Result<()> {
    for file in fs::read_dir(FOLDER)? {
        let file = file?.path();
        if let Some(name) = file.file_stem().filter(|_| file.extension().is_some_and(|kind| kind == "py")) {
            println!("cargo:rerun-if-changed={}", file.display());
            fs::write(out.join(name).with_extension("pyc"), "")?;
        }
    }
    if let Some(python) = pyo3_build_config::get().executable() {
        let compiled = Command::new(python).args(["-I", "-c", COMPILE, FOLDER]).arg(out).status();
        if !compiled.is_ok_and(|status| status.success()) {
            println!("cargo:warning=`{python}` did not compile the files of {FOLDER}: starts take longer");
        }
    }
    Ok(())
}
