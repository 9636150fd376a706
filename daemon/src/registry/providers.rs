//! The `providers` call: programs, homes and capabilities of every provider.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sessd_proto::provider::{HomeState, ProviderInfo, ProvidersResponse};
use sessd_proto::{Environment, Fault};

use super::Registry;
use super::homes::gate::LIVE_TIMEOUT;
use crate::providers::{self, Provider};
use crate::store::sessions;

/// A provider's program as the daemon finds it, and its version.
#[derive(Default)]
struct Program {
    path: Option<PathBuf>,
    version: Option<String>,
}

impl Registry {
    /// Returns every provider with its program, homes, number of sessions and capabilities.
    ///
    /// # Errors
    /// Fails if the registry cannot be read.
    pub(crate) async fn providers(&self) -> Result<ProvidersResponse, Fault> {
        let (_, programs) =
            tokio::join!(self.discovery.wait_for_first_sweep(), self.find_programs());
        let programs = programs?;
        let counts = self.store.read_slowly(sessions::count_by_provider).await?;
        let homes = self.homes.known().await?;
        let info = |(provider, program): (&&dyn Provider, Program)| {
            let own = homes.iter().filter(|known| known.provider.id() == provider.id());
            let count = counts.iter().find(|(name, _)| name == provider.id());
            ProviderInfo {
                name: provider.id().to_owned(),
                version: program.version,
                program: program.path.map(|path| path.to_string_lossy().into_owned()),
                homes: own.map(|known| self.homes.info(known)).collect(),
                sessions: count.map_or(0, |(_, count)| *count),
                capabilities: provider.capabilities(),
            }
        };
        let mut infos: Vec<ProviderInfo> = providers::ALL.iter().zip(programs).map(info).collect();
        for home in infos.iter_mut().flat_map(|info| &mut info.homes) {
            // Without a store yet, it is a home all the same.
            if home.state == HomeState::Missing && self.homes.exists(Path::new(&home.path)).await? {
                home.state = HomeState::Ok;
                home.detail = Some("it has no sessions yet".to_owned());
            }
        }
        Ok(ProvidersResponse { providers: infos })
    }

    /// Finds the program of each provider; finds none if a disk on PATH does not answer.
    async fn find_programs(&self) -> Result<Vec<Program>, Fault> {
        let (configured, env) = (self.config.programs.clone(), self.env.all.only(["PATH"]));
        let look = move || {
            let of = |provider: &&dyn Provider| {
                let path = match configured.get(provider.id()) {
                    Some(configured) => configured.is_file().then(|| configured.clone()),
                    None => find_program(provider.program(), &env),
                };
                Program { version: path.as_deref().and_then(package_version), path }
            };
            providers::ALL.iter().map(of).collect::<Vec<_>>()
        };
        let found = self.programs.pass(LIVE_TIMEOUT, look).await?;
        Ok(found.unwrap_or_else(|_| providers::ALL.iter().map(|_| Program::default()).collect()))
    }
}

/// Returns the first executable file of this name on PATH.
fn find_program(name: &str, env: &Environment) -> Option<PathBuf> {
    if name.contains('/') {
        return Path::new(name).canonicalize().ok();
    }
    let is_program =
        |path: &PathBuf| path.metadata().is_ok_and(|m| m.is_file() && m.mode() & 0o111 != 0);
    std::env::split_paths(env.get("PATH")?).map(|dir| dir.join(name)).find(is_program)
}

/// Reads the version from the `package.json` above a program. The program is not run: even a bare
/// `--version` of some of them writes into the home.
fn package_version(program: &Path) -> Option<String> {
    let real = program.canonicalize().ok()?;
    let is_named = |value: &serde_json::Value| value["name"].is_string();
    let package = real.ancestors().skip(1).take(4).find_map(|dir| {
        let text = std::fs::read(dir.join("package.json")).ok()?;
        serde_json::from_slice::<serde_json::Value>(&text).ok().filter(is_named)
    })?;
    Some(package["version"].as_str()?.to_owned())
}
