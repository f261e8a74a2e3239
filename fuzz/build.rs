//! Links the targets to the libpython that `pyo3` was built for, as the program's own `build.rs` does.

fn main() {
    pyo3_build_config::add_libpython_rpath_link_args();
    println!("cargo:rerun-if-changed=build.rs");
}
