//! Finds a directory by the name that a provider has made of its path, e.g. `-home-me-app` for
//! `/home/me/app`: a user has renamed the directory together with its sessions, whose records still
//! name the old one. The name leaves open where a path is divided, so the disk is searched from the
//! root: at each step only the directories are entered whose path can be the beginning of the name.
//! Knows no provider and no home.

use std::fs;
use std::path::{Path, PathBuf};

use sessd_proto::Fault;

use super::directories::Directories;
use super::gate::CHECK_TIMEOUT;

/// The most directories that one search enters.
const ENTERED_MAX: usize = 200;

impl Directories {
    /// Returns the directory whose path `scope_of` turns into `scope`; `None` if there is none, or
    /// more than one.
    ///
    /// # Errors
    /// Fails if a lookup panics.
    pub(crate) async fn by_scope(
        &self,
        scope: &str,
        scope_of: fn(&str) -> String,
    ) -> Result<Option<String>, Fault> {
        let mut found = Vec::new();
        let mut next = vec![PathBuf::from("/")];
        let mut entered = 0;
        while let Some(dir) = next.pop() {
            entered += 1;
            if entered > ENTERED_MAX {
                return Ok(None);
            }
            let (asked, wanted) = (dir.clone(), scope.to_owned());
            let look = move || below(&asked, &wanted, scope_of);
            // A disk that does not answer has nothing to find.
            let below = self.pass(&dir, CHECK_TIMEOUT, look).await?.unwrap_or_default();
            for dir in below {
                match scope_of(&dir) == scope {
                    true => found.push(dir),
                    false => next.push(dir.into()),
                }
            }
        }
        Ok(found.pop().filter(|_| found.is_empty()))
    }
}

/// Returns the directories in `dir` whose path can be the beginning of the scope.
fn below(dir: &Path, scope: &str, scope_of: fn(&str) -> String) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let is_dir = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    let path = |entry: fs::DirEntry| entry.path().into_os_string().into_string().ok();
    let leads = |path: &String| {
        let rest = scope.strip_prefix(&*scope_of(path));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(&scope_of("/")))
    };
    entries.filter(is_dir).filter_map(path).filter(leads).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dashes(path: &str) -> String {
        path.replace(['/', '.', '_'], "-")
    }

    #[tokio::test]
    async fn directory_is_found_by_its_name_unless_two_have_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("a-b/c.d")).unwrap();
        let wanted = root.join("a-b/c.d").to_str().unwrap().to_owned();
        let directories = Directories::default();
        let find = async |path: &str| directories.by_scope(&dashes(path), dashes).await.unwrap();
        assert_eq!(find(&wanted).await, Some(wanted.clone()));
        assert_eq!(find(&format!("{wanted}/none")).await, None);
        fs::create_dir_all(root.join("a/b/c_d")).unwrap();
        assert_eq!(find(&wanted).await, None);
    }
}
