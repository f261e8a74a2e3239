//! Links the binaries to the libpython that `pyo3` was built for.
//!
//! Without the run path nothing fails: the loader silently binds another libpython of the same minor version.

fn main() {
    pyo3_build_config::add_libpython_rpath_link_args();
    println!("cargo:rerun-if-changed=build.rs");
}
