//! Links a program without shared libraries where that is possible: loading two of them takes
//! longer than most commands of `sessctl`. Used by build scripts; knows no package.
//!
//! The flag `crt-static` would do the same, but Cargo passes it to procedural macros too, which
//! cannot be built with it. So the compiler's linker is told where each library is: the names in
//! its arguments lead to scripts that name the archives of the C compiler. Where one of them is
//! missing (some distributions have them in a package of their own), nothing is changed.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The libraries that the standard library names in the linker's arguments, with the archives that
/// take their place.
const LIBRARIES: [(&str, &[&str]); 7] = [
    ("libgcc_s.a", &["libgcc_eh.a"]),
    ("libutil.a", &["libutil.a"]),
    ("librt.a", &["librt.a"]),
    ("libpthread.a", &["libpthread.a"]),
    ("libm.a", &["libm.a"]),
    ("libdl.a", &["libdl.a"]),
    ("libc.a", &["libc.a", "libgcc_eh.a", "libgcc.a"]),
];

/// Links a program of the package that is being built.
pub(crate) fn statically(program: &str) {
    println!("cargo::rerun-if-changed=build.rs");
    let set = |name: &str| env::var(name).unwrap_or_default();
    let is_native = set("HOST") == set("TARGET");
    let is_gnu = set("CARGO_CFG_TARGET_OS") == "linux" && set("CARGO_CFG_TARGET_ENV") == "gnu";
    let is_static = set("CARGO_CFG_TARGET_FEATURE").split(',').any(|it| it == "crt-static");
    if !is_native || !is_gnu || is_static || write_scripts(Path::new(&set("OUT_DIR"))).is_none() {
        return;
    }
    // Position-independent, so that its addresses are as hard to guess as before.
    for argument in [&format!("-L{}", set("OUT_DIR")), "-static-pie"] {
        println!("cargo::rustc-link-arg-bin={program}={argument}");
    }
}

/// Writes a script for each library; `None` if an archive is missing.
fn write_scripts(folder: &Path) -> Option<()> {
    for (name, archives) in LIBRARIES {
        let found: Option<Vec<String>> = archives.iter().map(|archive| find(archive)).collect();
        fs::write(folder.join(name), format!("GROUP({})\n", found?.join(" "))).ok()?;
    }
    Some(())
}

/// Returns the path of an archive of the C compiler, which prints the bare name if it has none.
fn find(archive: &str) -> Option<String> {
    let printed = Command::new("cc").arg(format!("-print-file-name={archive}")).output().ok()?;
    let path = String::from_utf8(printed.stdout).ok()?.trim().to_owned();
    Path::new(&path).is_absolute().then(|| format!("\"{path}\""))
}
