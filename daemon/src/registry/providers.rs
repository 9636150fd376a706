//! The `providers` call: programs, homes and capabilities of every provider.

use std::path::Path;

use futures::future::try_join_all;
use sessd_proto::Fault;
use sessd_proto::provider::{HomeState, ProviderInfo, ProvidersResponse};

use super::Registry;
use super::homes::programs::Program;
use crate::providers::{self, Provider};
use crate::store::sessions;

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
                capabilities: provider.capabilities(program.number()),
                version: program.version,
                program: program.path.map(|path| path.to_string_lossy().into_owned()),
                homes: own.map(|known| self.homes.info(known)).collect(),
                sessions: count.map_or(0, |(_, count)| *count),
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

    /// Finds the program of each provider.
    async fn find_programs(&self) -> Result<Vec<Program>, Fault> {
        let find = |provider: &&'static dyn Provider| self.homes.programs.find(*provider, None);
        try_join_all(providers::ALL.iter().map(find)).await
    }
}
